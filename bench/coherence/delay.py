"""How long after a write the old value is still read in another process.

``python -m bench.coherence.delay URL PAGE WRITES PAUSE`` is that process: it reads one near copy
over and over, with a pause between two reads, and notes when it first saw each version.
"""

import mmap
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.machine import log
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_KEY = "the key"
_NAMESPACE = "delay"
_HANG = 60.0
_PATIENT = 10.0  # a spinning process leaves its own threads little time: no store is slow here
_PAUSES = (("0.2 ms between its reads", 0.0002), ("reading without a pause", 0.0))


def measure(report: Report, *, quick: bool) -> None:
    """Write thousands of versions to each server; judge the 99th of a hundred delays."""
    from servers import KINDS, Server

    writes = 200 if quick else 2500
    table = Table(
        f"A write until it is seen in another process, {writes} writes, ms",
        ["server", "the other process", "p50 from the call", "p99", "worst", "p50 from the return"],
    )
    for kind in KINDS:
        for what, pause in _PAUSES:
            log(f"coherence: delay on {kind}, {what}")
            with Server(kind) as server:
                calls, returns = _delays(server.url, writes, pause)
            p50, p99 = _percentile(calls, 0.5), _percentile(calls, 0.99)
            row = [p50, p99, calls[-1], _percentile(returns, 0.5)]
            table.rows.append([kind, what, *(1000 * x for x in row)])
            if pause:
                goal = f"write → gone elsewhere, {kind}: p99"
                report.judged.append(Judged(goal, 5.0, 1000 * p99, "ms"))
    report.tables.append(table)
    report.notes.append(
        "Delays: one process puts, another reads a near copy of the same key; from the call of "
        "`put` (which is two round trips of its own) until a read that shows the new value has "
        "returned. A process that only reads, without a pause, keeps Python's lock: its link "
        "hears news when the interpreter takes the lock away, every 5 ms "
        "(`sys.setswitchinterval`)."
    )


def _percentile(of: list[float], share: float) -> float:
    return of[min(len(of) - 1, int(share * len(of)))]


def _page(path: Path, slots: int) -> Any:
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8 * slots)).cast("d")


def _delays(url: str, writes: int, pause: float) -> tuple[list[float], list[float]]:
    """Return the sorted delays from each put's call, and from its return."""
    from nearcache import NearCache, Options, RedisStore

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "page"
        path.write_bytes(bytes(8 * (writes + 2)))
        page = _page(path, writes + 2)
        command = [sys.executable, "-m", "bench.coherence.delay", url, str(path)]
        reader = subprocess.Popen([*command, str(writes), repr(pause)])
        store = RedisStore(url, timeout=_PATIENT)
        options = Options(on_store_error="raise")
        calls, returns = [], []
        try:
            with NearCache(store, namespace=_NAMESPACE, ttl=None, options=options) as cache:
                cache.put(_KEY, 0)
                _until(page, 0, reader)
                for version in range(1, writes + 1):
                    time.sleep(random.random() * 0.002)
                    called = time.monotonic()
                    cache.put(_KEY, version)
                    returned = time.monotonic()
                    seen = _until(page, version, reader)
                    calls.append(seen - called)
                    returns.append(seen - returned)
            if reader.wait(_HANG):
                raise RuntimeError("the reading process failed")
        finally:
            reader.kill()
            reader.wait()
            store.close()
    return sorted(calls), sorted(returns)


def _until(page: Any, slot: int, reader: "subprocess.Popen[bytes]") -> float:
    end = time.monotonic() + _HANG
    while not page[slot]:
        if time.monotonic() > end or reader.poll() is not None:
            raise RuntimeError(f"version {slot} was never seen")
        time.sleep(0.0001)
    return page[slot]


def _read(url: str, path: Path, writes: int, pause: float) -> None:
    from nearcache import NearCache, RedisStore

    page = _page(path, writes + 2)
    store = RedisStore(url, timeout=_PATIENT)
    with NearCache(store, namespace=_NAMESPACE, ttl=None) as cache:
        seen = -1
        end = time.monotonic() + _HANG + writes
        while seen < writes and time.monotonic() < end:
            value = cache.get(_KEY)
            if value is not None and value != seen:
                page[value] = time.monotonic()
                seen = value
            if pause:
                time.sleep(pause)
    store.close()


if __name__ == "__main__":
    _read(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
