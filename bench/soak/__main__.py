"""``python -m bench.soak``: the long forms of what the suite tests for seconds.

``--minutes`` of mixed load, ``--kills`` of SQLite writers, ``--damages`` of SQLite files; 0 leaves
one out. ``--forget`` forgets large groups. Writes ``soak.md``, ``sqlite-kills.md``, ``forget.md``
into ``bench/results``, but for ``--short``. Exit status 1: a goal was missed.
"""

import argparse
import sys
from pathlib import Path

from bench.soak import forget, kills, load

_RESULTS = Path(__file__).parent.parent / "results"


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--damages", type=int, default=600)
    parser.add_argument("--forget", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--short", action="store_true", help="half a minute; writes nothing")
    given = parser.parse_args()
    if given.short:
        given.minutes, given.kills, given.damages = 0.25, 20, 30
    reports = []
    if given.kills or given.damages:  # first: it forks, and nothing else runs yet
        reports.append(kills.run(kills=given.kills, damages=given.damages, quick=given.short))
    if given.forget:
        reports.append(forget.run(quick=given.short))
    if given.minutes:
        reports.append(load.run(minutes=given.minutes, quick=given.short))
    missed = 0
    for report in reports:
        if not given.short:
            report.write(_RESULTS)
        sys.stdout.write(report.markdown() + "\n")
        missed += sum(not judged.met for judged in report.judged)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
