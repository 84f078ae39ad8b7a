"""Leases are renewed as long as their block runs, and not a moment longer."""

from embedders import until
from interrupting import Interrupted, interrupted_at
from nearcache.coherence import leases
from nearcache.coherence.leases import LeaseKeeper


def test_a_lease_is_renewed_until_its_block_ends():
    renewed = []
    keeper = LeaseKeeper(lambda *given: renewed.append(given), 0.03)
    with keeper.holding([b"key"], b"token"):
        until(lambda: len(renewed) > 1)
    assert renewed[0] == ([b"key"], b"token", 0.03)
    until(lambda: keeper._thread is None)


def test_ctrl_c_at_any_moment_ends_the_renewing_although_its_traceback_is_kept():
    """As a notebook keeps that of the last error."""
    kept = []

    def holds():
        try:
            with keeper.holding([b"key"], b"token"):
                pass
        except Interrupted as error:
            kept.append(error)
            raise

    moment, more = 0, True
    while more:
        keeper = LeaseKeeper(lambda *_: None, 0.003)
        more = interrupted_at(moment, holds, leases)
        until(lambda keeper=keeper: keeper._thread is None or not keeper._held, 5.0)
        moment += 1
    assert len(kept) > 5
