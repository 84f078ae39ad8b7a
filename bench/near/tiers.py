"""The near tiers under measurement, native and pure, made without a cache around them."""

import inspect
from typing import Any

import numpy as np

from bench.timing import Matrix
from nearcache import EmbeddingCache
from nearcache.clock import monotonic
from nearcache.codecs.vectors import by_name
from nearcache.keys import content_digests
from nearcache.near import objects, pick, vectors
from nearcache.near.policies.base import NAMES

__all__ = [
    "CORES",
    "SHELF",
    "best_policy",
    "default_policy",
    "fill_rows",
    "object_tier",
    "vector_tier",
]

ROOM = 2**40
SHELF = ("bench", b"model")

#: The implementations that are here: the native one only where it was built.
CORES = ("pure",) if pick.native is None else ("native", "pure")


def best_policy() -> str:
    """Return the policy that adapts, where there is one."""
    return "adaptive" if "adaptive" in NAMES else "s3fifo"


def default_policy() -> str:
    """Return the policy of a cache whose maker said nothing."""
    return str(inspect.signature(EmbeddingCache).parameters["policy"].default)


def _kind(core: str, name: str, policy: str) -> Any:
    if core == "native":
        if policy not in pick.NATIVE_POLICIES:
            msg = f"the native core has no policy {policy!r}"
            raise LookupError(msg)
        return getattr(pick.native, name)
    return {"ObjectTier": objects.ObjectTier, "VectorTier": vectors.VectorTier}[name]


def object_tier(core: str, policy: str, entries: int, **options: Any) -> Any:
    """Return an empty tier for any value."""
    kind = _kind(core, "ObjectTier", policy)
    options = {"max_bytes": ROOM, "clock": monotonic, "seed": 1, **options}
    return kind(policy=policy, max_entries=entries, **options)


def vector_tier(core: str, precision: str, entries: int, **options: Any) -> Any:
    """Return an empty tier for rows."""
    packed = by_name(precision)
    policy = options.pop("policy", default_policy())
    kind = _kind(core, "VectorTier", policy)
    options = {"max_bytes": ROOM, "clock": monotonic, "seed": 1, **options}
    return kind(
        policy=policy, dtype=packed.dtype, scaled=packed.scaled, max_entries=entries, **options
    )


def fill_rows(
    tier: Any, precision: str, texts: list[str], matrix: Matrix, expires: float = 0.0
) -> None:
    """Put rows, 500 at a time, as a cache does it."""
    pack = by_name(precision).pack
    for start in range(0, len(texts), 500):
        part = texts[start : start + 500]
        packed = pack(matrix[start : start + 500])
        ends = np.full(len(part), expires)
        tier.put(SHELF, part, content_digests(part), packed.data, packed.scale, ends)
