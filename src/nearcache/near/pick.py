"""Which implementation of the near tier this process runs: the native core, or pure Python.

Both stand behind one contract (``near_rows`` and ``near_objects`` in
``nearcache.testing.contracts``). The native one is used where it was built; ``NEARCACHE_PURE=1`` in
the environment forces the other.
"""

import logging
import os
from importlib import import_module
from typing import Any

from nearcache.near.objects import ObjectTier
from nearcache.near.policies.base import Policy
from nearcache.near.vectors import VectorTier

__all__ = [
    "NATIVE_POLICIES",
    "ObjectTier",
    "VectorTier",
    "core",
    "native",
    "object_tier",
    "vector_tier",
]


_log = logging.getLogger("nearcache")


def _load() -> tuple[Any, str]:
    if os.environ.get("NEARCACHE_PURE", "") not in ("", "0"):
        return None, "NEARCACHE_PURE is set"
    try:
        return import_module("nearcache.near._native"), ""
    except ImportError as error:
        _log.warning(
            "nearcache runs its pure Python near tier, for the native core is not there (%s); "
            "see `nearcache doctor`",
            error,
        )
        return None, f"the native core is not there: {error}"


native, _why_not = _load()
NATIVE_POLICIES: tuple[str, ...] = () if native is None else native.POLICIES


def core() -> tuple[str, str]:
    """Return ("native", "") or ("pure", why)."""
    return ("pure", _why_not) if native is None else ("native", "")


def vector_tier(*, policy: str | Policy, **options: Any) -> VectorTier:
    """Make the near tier for rows. A policy object of the user's own runs in pure Python."""
    return _make("VectorTier", VectorTier, policy, options)  # type: ignore[no-any-return]


def object_tier(*, policy: str | Policy, **options: Any) -> ObjectTier:
    """Make the near tier for any value. A policy object of the user's own runs in pure Python."""
    return _make("ObjectTier", ObjectTier, policy, options)  # type: ignore[no-any-return]


def _make(name: str, pure: Any, policy: str | Policy, options: dict[str, Any]) -> Any:
    kind = getattr(native, name) if policy in NATIVE_POLICIES else pure
    return kind(policy=policy, **options)
