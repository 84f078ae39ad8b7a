"""Snapshots of workers that never were, as real ones write them to their store."""

import json
import math
import time

from nearcache.engine.snapshot import FORMAT
from nearcache.histogram import BOUNDS
from nearcache.keys import DIRECTORY, board_of
from nearcache.stats import Stats
from nearcache.stores.base import Store

__all__ = ["seed"]

_KINDS = (("docs", "EmbeddingCache"), ("agents", "HotMemoryCache"), ("search", "RetrievalCache"))
_LIFE = 3600.0


def seed(store: Store, workers: int) -> int:
    """Write ``workers`` snapshots of three caches each; return their bytes in all."""
    size = 0
    for namespace, kind in _KINDS:
        store.report(DIRECTORY, namespace.encode(), b"", _LIFE)
        for number in range(workers):
            said = json.dumps(_snapshot(number, namespace, kind), separators=(",", ":")).encode()
            store.report(board_of(namespace), b"%04d" % number, said, _LIFE)
            size += len(said)
    return size


def _snapshot(number: int, namespace: str, kind: str) -> dict[str, object]:
    now = time.time()
    return {
        "format": FORMAT,
        "id": f"{number:04d}",
        "host": f"web-{number % 4}",
        "pid": 4000 + number,
        "program": "app:main",
        "version": "0.1.0",
        "python": "3.11.9",
        "core": "native",
        "started": now - 7200 - number,
        "at": now,
        "stored_at": None,
        "every": 5.0,
        "caches": [_cache(number, namespace, kind, int(now // 60))],
    }


def _cache(number: int, namespace: str, kind: str, minute: int) -> dict[str, object]:
    hour = [_minute(minute - 59 + i, number) for i in range(60)]
    near, far, misses = (sum(row[column] for row in hour) for column in (1, 2, 4))
    stats = Stats(near_hits=near, far_hits=far, misses=misses, loads=misses, saved_loads=near + far)
    return {
        "namespace": namespace,
        "kind": kind,
        "policy": "adaptive",
        "max_entries": 50_000,
        "max_bytes": 2**28,
        "ttl": 300.0,
        "stats": {**stats.to_dict(), "breaker": "closed"},
        "link": {"state": "tracking", "since": None, "reason": ""},
        "latency": {
            name: {"counts": [number + i for i in range(len(BOUNDS) + 1)], "total": 12.5}
            for name in ("near", "store", "load", "link")
        },
        "minutes": hour,
        "curve": [[1000 * i, 0.9 * (1 - math.exp(-i / 9))] for i in range(32)],
        "hottest": [[f'["episodic","m{i}"]', 1000 - i] for i in range(10)],
        "views": 0,
    }


def _minute(minute: int, salt: int) -> list[float]:
    wave = math.sin(minute / 9)
    near, far, misses = 400 + int(200 * wave) + salt, 90 + salt, 60 - int(30 * wave)
    return [minute, near, far, 0, misses, 5, misses, 0.05 * misses, near + far, 10.0, 0]
