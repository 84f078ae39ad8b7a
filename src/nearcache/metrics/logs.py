"""What happens in caches, as structured log records: fields, not sentences to take apart.

Never in a record: keys, texts, values, messages of errors. What comes often is told seldom: of each
kind of event so many a second, with how many were left out since.
"""

import json
import logging
import math
import weakref
from collections.abc import Callable, Collection, Sequence
from time import gmtime, monotonic, strftime
from typing import Any

from nearcache.clock import Clock
from nearcache.engine.engine import Engine, watch_engines
from nearcache.errors import ConfigError
from nearcache.metrics.observed import engines_of

__all__ = ["EVENTS", "JSONLines", "Logged", "log_events"]

EVENTS: dict[str, int] = {
    "load": logging.INFO,
    "invalidate": logging.INFO,
    "evict": logging.DEBUG,
    "store_error": logging.WARNING,
    "breaker": logging.WARNING,
    "link": logging.WARNING,
    "hit": logging.DEBUG,
    "miss": logging.DEBUG,
}
"""The events of a cache, and the level of each; good news of a breaker or link is INFO."""

_DEFAULT = ("load", "invalidate", "evict", "store_error", "breaker", "link")
_GOOD = {"breaker": "closed", "link": "tracking"}
_OURS = "nearcache_"


def log_events(
    *caches: Any,
    events: Collection[str] = _DEFAULT,
    logger: logging.Logger | None = None,
    per_second: float = 5.0,
) -> "Logged":
    """Log what happens in these caches; without any, in all there are and will be.

    events: which; "hit" and "miss" have to be asked for, and cost every hit a call.
    logger: by default "nearcache.events".
    per_second: records of each kind of event at most, so many at once; ``math.inf`` for all.
    Raises: ConfigError for what is no cache, no event, no rate.

    Fields of a record: ``nearcache_event``, ``nearcache_namespace``, ``nearcache_kind``,
    ``nearcache_count`` (of values), ``nearcache_state``, ``nearcache_operation``,
    ``nearcache_error`` (its type), ``nearcache_tier`` and ``nearcache_left_out``.
    """
    if isinstance(events, str) or not set(events) <= EVENTS.keys():
        msg = f"events are some of {', '.join(EVENTS)}; not {events!r}"
        raise ConfigError(msg)
    if isinstance(per_second, bool) or not isinstance(per_second, (int, float)):
        msg = f"per_second is a number, not {per_second!r}"
        raise ConfigError(msg)
    if math.isnan(per_second) or per_second <= 0:
        msg = f"per_second is more than 0, not {per_second!r}; leave events out to hear of less"
        raise ConfigError(msg)
    log = logging.getLogger("nearcache.events") if logger is None else logger
    return Logged(caches, frozenset(events), log, per_second)


class Logged:
    """Caches whose events are logged, until ``stop``. Thread-safe."""

    def __init__(
        self,
        caches: Sequence[Any],
        events: frozenset[str],
        logger: logging.Logger,
        per_second: float,
        clock: Clock = monotonic,
    ) -> None:
        self._only = weakref.WeakSet(engines_of(caches)) if caches else None
        self._events = events
        self._logger = logger
        self._rates = {name: _Rate(per_second, clock) for name in events}
        self._ends: weakref.WeakKeyDictionary[Engine, Callable[[], None]]
        self._ends = weakref.WeakKeyDictionary()
        self._end = watch_engines(self._take)

    def stop(self) -> None:
        """Log nothing more. May be called again."""
        self._end()
        for end in list(self._ends.values()):
            end()
        self._ends.clear()

    def _take(self, engine: Engine) -> None:
        if self._only is not None and all(engine.near is not one.near for one in self._only):
            return  # neither one of these, nor a view of one
        known = weakref.ref(engine)

        def hear(name: str, subject: object, detail: object) -> None:
            of = known()
            if of is not None and name in self._events:
                self._log(of, name, subject, detail)

        self._ends[engine] = engine.events.subscribe(hear, hits="hit" in self._events)

    def _log(self, engine: Engine, name: str, subject: object, detail: object) -> None:
        level = EVENTS[name]
        if name in _GOOD and _GOOD[name] in (subject, detail):
            level = logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        left_out = self._rates[name].turn()
        if left_out is None:
            return
        told = _told(name, subject, detail)
        if left_out:
            told["left_out"] = left_out
        shown = " ".join(f"{field}={value}" for field, value in told.items())
        fields = {
            "event": name,
            "namespace": engine.namespace,
            "kind": engine.kind,
            **told,
        }
        self._logger.log(
            level,
            "%s %s %s",
            name,
            _in_one_line(engine.namespace),
            shown,
            extra={_OURS + field: value for field, value in fields.items()},
        )


def _in_one_line(text: str) -> str:
    """Return a name as it is, but that no part of it passes for a record of its own."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _told(name: str, subject: object, detail: object) -> dict[str, Any]:
    """Return what may be told of an event."""
    if name == "store_error":
        return {"operation": subject, "error": type(detail).__name__}
    if name == "breaker":
        return {"state": detail}
    if name == "link":
        return {"state": subject}
    if name == "hit":
        return {"tier": subject, "count": detail}
    return {"count": detail}


class _Rate:
    """So many a second, and as many at once. Two threads may at worst let one more through."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._clock = clock
        self._left, self._at = self._most, clock()
        self._left_out = 0

    def turn(self) -> int | None:
        """Return how many were left out before this one, or None: it is left out, too."""
        now = self._clock()
        passed, self._at = now - self._at, now
        self._left = min(self._most, self._left + passed * self._per_second)
        if not self._left >= 1:
            self._left_out += 1
            return None
        self._left -= 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class JSONLines(logging.Formatter):
    """Formats each record as one line of JSON, with the fields of ``log_events`` where it has any.

    They are time (UTC), level, logger, message, and event, namespace, kind, count, …
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        at = strftime("%Y-%m-%dT%H:%M:%S", gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name.startswith(_OURS):
                line[name.removeprefix(_OURS)] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
