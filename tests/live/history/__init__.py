"""A history checker: many processes read and write one cache while links and servers break.

Every key has one writer, which numbers its versions; every read is compared, where it is made, with
what that writer had completed by then. ``check(Plan(...))`` gives a :class:`Findings`.

========== ==================================================================
board      what all processes share: versions, when each was completed, the source of truth
caches     the caches that can be checked, each behind the same two faces
readers    reads, each checked
writers    writes, each recorded
worker     one process
faults     the nemesis
groups     the nemeses of clusters and of Sentinel groups
run        the whole, and what was found
========== ==================================================================
"""

from live.history.run import Findings, Plan, check

__all__ = ["Findings", "Plan", "check"]
