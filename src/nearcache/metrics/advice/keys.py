"""What was asked for, in order, as hashes: of all keys, or of a share of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearcache.near.replay import mixed

__all__ = ["Hashes", "Keys", "mixed"]

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """A sequence of requests.

    share: of the keys that were recorded, chosen by their hash; all requests for a key that was
    chosen are there. times: Unix times, None where nobody knows. size, policy, ttl: of the cache
    that was asked, None where nobody knows.
    """

    hashes: Hashes
    times: NDArray[np.float64] | None = None
    share: float = 1.0
    name: str = ""
    size: int | None = None
    policy: str | None = None
    ttl: float | None = None
    asked: int | None = None
    """All requests, those for keys that were not recorded too; None where nobody counted them."""

    @property
    def requests(self) -> int:
        """How many there were in all, those that were not recorded too."""
        return round(len(self.hashes) / self.share) if self.asked is None else self.asked

    @property
    def distinct(self) -> int:
        """How many keys there were in all; an estimate."""
        return round(len(np.unique(self.hashes)) / self.share)

    @property
    def per_day(self) -> float | None:
        """Requests a day, None where no time is known."""
        if self.times is None or len(self.times) < 2:
            return None
        seconds = float(self.times.max() - self.times.min())
        return 86_400 * self.requests / seconds if seconds >= 1 else None

    def sampled(self, share: float) -> NDArray[np.bool_]:
        """Say which requests belong to a share of the keys that are here."""
        if share >= 1:
            return np.ones(len(self.hashes), np.bool_)
        # other bits than those a recorder chose by
        bits = mixed(self.hashes ^ np.uint64(0x5851F42D4C957F2D)) >> np.uint64(11)
        return bits < np.uint64(int(share * 2**53))
