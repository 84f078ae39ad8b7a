"""Which implementation of the near tier this process runs.

Today there is one, in pure Python and numpy. A native core will stand behind the same contract
(``tests/contract/near_rows.py``) and be chosen here.
"""

from nearcache.near.vectors import VectorTier

__all__ = ["VectorTier"]
