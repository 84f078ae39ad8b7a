"""Is it healthy? Questions about an installation and a store, each with its cure.

``checks`` asks this installation and this process, ``store_checks`` a store; ``nearcache doctor``
prints both. Programs may ask, too: nothing here needs the command line's packages.
"""

from nearcache.metrics.health.check import Check
from nearcache.metrics.health.installation import checks
from nearcache.metrics.health.store import store_checks

__all__ = ["Check", "checks", "store_checks"]
