"""Options of a cache, checked once when they are made."""

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from types import EllipsisType
from typing import Any, Literal

from nearcache.errors import ConfigError

__all__ = [
    "FOR_EVER",
    "Options",
    "check_count",
    "check_staleness",
    "check_ttl",
    "effective_ttl",
    "jittered",
]


_SHORTEST_KEY = 16  # bytes
_REPORT = 5.0  # seconds
FOR_EVER = 100 * 365.25 * 86400  # what is longer is no limit: no server could count it


def _default_report() -> float:
    """Return what the environment says; what is no number says nothing."""
    try:
        seconds = float(os.environ.get("NEARCACHE_REPORT", ""))
    except ValueError:
        return _REPORT
    return seconds if 0 <= seconds < math.inf else _REPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Rarely needed settings; the defaults suit most programs.

    stale_while_revalidate: seconds after the end of its ttl that a value is still the answer of
        get_or_load, at once, while it is loaded anew behind it. When an old answer now beats a new
        one later.
    fail_safe: seconds after the end of its ttl that a value is still the answer of get_or_load when
        the loader fails; never one that was forgotten. When the source breaks more often than
        answers change.
    negative_ttl: seconds that "there is nothing", a loader's MISSING, is remembered; 0 asks each
        time. When many ask for what does not exist.
    sliding: a ttl counts from the last read, by any process, instead of from the write; the end
        comes between ttl and 1.25 ttl after it. When what is used must stay, as sessions do.
    early_refresh: fraction of the ttl, in [0, 1), before whose end a get_or_load answers at once
        and loads anew behind it; the moment is drawn at random within it. When nobody must ever
        wait for a popular value.
    loader_soft_timeout: seconds after which get_or_load answers with the expired value that
        ``fail_safe`` kept, while the load goes on. When a slow source must not slow its callers.
    loader_timeout: seconds after which get_or_load raises LoadTimeout (or answers with what
        ``fail_safe`` kept); the load goes on, and what it brings is kept. When waiting is worse
        than an error.
    jitter: fraction of the ttl, in [0, 1), by which lives are shortened at random. When many
        entries are written at once and must not all expire at once.
    max_batch: texts per loader call. When the model has a limit or memory is tight.
    max_concurrency: loader calls under way at once for an async loader. When a provider limits it.
    lease: seconds another process waits for a load that stopped answering. When loads are slow to
        die.
    store_timeout: seconds before the store counts as unavailable; ``"auto"`` follows measured
        round trips, at least 50 ms. When the store is far away.
    on_store_error: ``"degrade"`` counts a failing store as a miss, ``"raise"`` raises. When a
        missing store must stop the program.
    link_timeout: seconds after which a change in another process holds here at the latest. When
        what changed must be seen sooner.
    serve_unverified: seconds longer than ``link_timeout`` that a near copy of a value that may
        change is served while the store cannot be heard. When an old answer beats a slow one.
    report: seconds between two snapshots of its statistics that the process writes to the store,
        for ``nearcache stats``, ``top`` and the dashboard; 0 writes none. The default is 5, or the
        environment's NEARCACHE_REPORT. When the store's keeper wants nothing but values there.
    signing_key: secret bytes, 16 or more, that every stored entry is signed with; or several such
        keys, of which the first signs and any verifies. What none of them signed is loaded anew.
        When others can write to the store.
    """

    stale_while_revalidate: float = 0.0
    fail_safe: float = 0.0
    negative_ttl: float = 0.0
    sliding: bool = False
    early_refresh: float = 0.0
    jitter: float = 0.0
    loader_soft_timeout: float | None = None
    loader_timeout: float | None = None
    max_batch: int = 256
    max_concurrency: int = 8
    lease: float = 10.0
    store_timeout: float | Literal["auto"] = "auto"
    on_store_error: Literal["degrade", "raise"] = "degrade"
    link_timeout: float = 3.0
    serve_unverified: float = 0.0
    report: float = field(default_factory=_default_report)
    signing_key: bytes | Sequence[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("stale_while_revalidate", "fail_safe", "negative_ttl"):
            _check_number(name, getattr(self, name), least=0.0)
        for name in ("jitter", "early_refresh"):
            _check_number(name, getattr(self, name), least=0.0)
            if getattr(self, name) >= 1:
                msg = f"{name} is a fraction of the ttl in [0, 1), not {getattr(self, name)!r}"
                raise ConfigError(msg)
        self._check_sliding()
        self._check_timeouts()
        check_count("max_batch", self.max_batch, least=1)
        check_count("max_concurrency", self.max_concurrency, least=1)
        _check_number("lease", self.lease, least=0.1)
        _check_number("link_timeout", self.link_timeout, least=0.0)
        _check_number("serve_unverified", self.serve_unverified, least=0.0)
        _check_number("report", self.report, least=0.0)
        if self.store_timeout != "auto":
            _check_number("store_timeout", self.store_timeout, least=0.001)
        if self.on_store_error not in ("degrade", "raise"):
            msg = f'on_store_error is "degrade" or "raise", not {self.on_store_error!r}'
            raise ConfigError(msg)
        object.__setattr__(self, "signing_key", _check_keys(self.signing_key))

    @property
    def signing_keys(self) -> tuple[bytes, ...]:
        """The keys of ``signing_key``, however many."""
        keys = self.signing_key
        assert keys is None or isinstance(keys, tuple), "checked when it was made"
        return keys or ()

    def _check_sliding(self) -> None:
        if not isinstance(self.sliding, bool):
            msg = f"sliding is True or False, not {self.sliding!r}"
            raise ConfigError(msg)
        if self.sliding and (self.stale_while_revalidate or self.fail_safe or self.early_refresh):
            msg = (
                "a sliding life does not end while it is used, so there is nothing to load anew: "
                "leave out stale_while_revalidate, fail_safe and early_refresh, or sliding"
            )
            raise ConfigError(msg)

    def _check_timeouts(self) -> None:
        for name in ("loader_soft_timeout", "loader_timeout"):
            if getattr(self, name) is not None:
                _check_number(name, getattr(self, name), least=0.001)
        if self.loader_soft_timeout is None:
            return
        if not self.fail_safe:
            msg = "loader_soft_timeout answers with what fail_safe keeps: give fail_safe, too"
            raise ConfigError(msg)
        if self.loader_timeout is not None and self.loader_timeout < self.loader_soft_timeout:
            msg = "loader_soft_timeout is not longer than loader_timeout"
            raise ConfigError(msg)


def _check_keys(given: object) -> tuple[bytes, ...] | None:
    """Return signing keys, if they are any; what is said of others does not show them."""
    if given is None:
        return None
    keys = (given,) if isinstance(given, bytes) else given
    if isinstance(keys, str) or not isinstance(keys, Sequence) or not keys:
        msg = f"signing_key is bytes, or a list of them, not {type(given).__name__}"
        raise ConfigError(msg)
    for key in keys:
        if not isinstance(key, bytes):
            msg = f"a signing_key is bytes, as secrets.token_bytes(32) is, not {type(key).__name__}"
            raise ConfigError(msg)
        if len(key) < _SHORTEST_KEY:
            msg = f"a signing_key has at least {_SHORTEST_KEY} bytes, not {len(key)}"
            raise ConfigError(msg)
    return tuple(keys)


def _check_number(name: str, value: object, *, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"{name} is a number of at least {least}, not {value!r}"
        raise ConfigError(msg)
    if not math.isfinite(value) or value < least:
        msg = f"{name} is a finite number of at least {least}, not {value!r}"
        raise ConfigError(msg)


def check_count(name: str, value: object, *, least: int) -> int:
    """Return ``value`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        msg = f"{name} is a whole number of at least {least}, not {value!r}"
        raise ConfigError(msg)
    return int(value)


def check_ttl(ttl: object) -> float | None:
    """Return a ttl in seconds, or None for no limit; 0 means "do not store"."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, Real) or _is_nan(ttl) or ttl < 0:
        msg = f"ttl is seconds (0 stores nothing) or None for no limit, not {ttl!r}"
        raise ConfigError(msg)
    seconds: Any = ttl
    return None if seconds > FOR_EVER else float(seconds)


def _is_nan(number: Real) -> bool:
    return number != number  # noqa: PLR0124  an int may be too large for math.isnan


def check_staleness(seconds: object) -> float | None:
    """Return how many seconds an answer may be behind, or None for what the cache promises."""
    if seconds is None:
        return None
    _check_number("max_staleness", seconds, least=0.0)
    return float(seconds)  # type: ignore[arg-type]


def effective_ttl(ttl: float | EllipsisType | None, default: float | None) -> float | None:
    """Return the life of one write: the call's ttl, else the cache's."""
    return default if ttl is ... else check_ttl(ttl)


def jittered(ttl: float, jitter: float) -> float:
    """Return a ttl shortened at random by up to the fraction ``jitter``."""
    return ttl * (1 - jitter * random.random()) if jitter else ttl  # noqa: S311  spreads expiry
