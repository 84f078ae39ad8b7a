"""Coherent near copies: what they cost, how fast a change is everywhere, and whether they lie.

The history checker is the suite's own (``tests/live/history``), so the suite's folder is put on the
path here; the servers are the suite's, too.
"""

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[2] / "tests")
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)
