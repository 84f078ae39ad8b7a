"""Many processes load the same keys at once; then one of them dies while it loads.

``python -m bench.coherence.loads URL FOLDER NUMBER LEASE HANG`` is one of the processes. It says
that it is ready with a file, waits for ``go``, loads all keys in an order of its own, leaves a line
in ``asked`` for each load, and its time in ``done<NUMBER>``. HANG: its first load never ends.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.machine import log
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_PROCESSES, _KEYS = 8, 100
_LOAD = 0.01  # seconds
_LEASE = 2.0
_HANG = 60.0


def measure(report: Report, *, quick: bool) -> None:
    """Count loads, and how long everybody waited, on every server (on one when quick)."""
    from servers import KINDS, Server

    table = Table(
        f"{_KEYS} keys loaded by {_PROCESSES} processes at once, {1000 * _LOAD:g} ms a load",
        ["server", "loads", "all are done after, s", "one killed while loading: loads", "s"],
    )
    most, latest = 0, 0.0
    for kind in KINDS[: 1 if quick else None]:
        log(f"coherence: loads on {kind}")
        with Server(kind) as server:
            loads, seconds = _together(server.url, hang=False)
        with Server(kind) as server:
            loads_then, seconds_then = _together(server.url, hang=True)
        table.rows.append([kind, loads, seconds, loads_then, seconds_then])
        most, latest = max(most, loads), max(latest, seconds_then - seconds)
    report.tables.append(table)
    goal = f"loads of {_KEYS} keys by {_PROCESSES} processes at once"
    report.judged.append(Judged(goal, _KEYS, most, "loads"))
    goal = f"delay of the others by one that was killed, lease {_LEASE:g} s"
    report.judged.append(Judged(goal, _LEASE, max(0.0, latest), "s"))


def _together(url: str, *, hang: bool) -> tuple[int, float]:
    """Return the loads of all processes, and the seconds until the last was done."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        command = [sys.executable, "-m", "bench.coherence.loads", url, str(folder)]
        processes = [
            subprocess.Popen(
                [*command, str(number), str(_LEASE), str(int(hang and number == 0))],
            )
            for number in range(_PROCESSES)
        ]
        try:
            _wait(lambda: len(list(folder.glob("ready*"))) == _PROCESSES, processes)
            (folder / "go").touch()
            start = time.monotonic()
            alive = processes
            if hang:
                _wait((folder / "inside").exists, processes)
                processes[0].kill()
                start = time.monotonic()
                alive = processes[1:]
            for process in alive:
                if process.wait(_HANG):
                    raise RuntimeError("a loading process failed")
        finally:
            for process in processes:
                process.kill()
                process.wait()
        done = [float(path.read_text()) for path in folder.glob("done*")]
        return len((folder / "asked").read_text().splitlines()), max(done) - start


def _wait(done: Callable[[], bool], processes: "Sequence[subprocess.Popen[bytes]]") -> None:
    end = time.monotonic() + _HANG
    while not done():
        if time.monotonic() > end or any(process.poll() for process in processes):
            raise TimeoutError("the processes do not start")
        time.sleep(0.001)


def _load_all(url: str, folder: Path, number: int, lease: float, hang: bool) -> None:
    from nearcache import NearCache, Options

    keys = [f"key {key}" for key in range(_KEYS)]
    random.Random(number).shuffle(keys)
    with NearCache(url, namespace="loads", ttl=None, options=Options(lease=lease)) as cache:
        (folder / f"ready{number}").touch()
        while not (folder / "go").exists():
            time.sleep(0.001)
        for key in keys:

            def load(key: str = key) -> str:
                with (folder / "asked").open("a", encoding="utf-8") as asked:
                    asked.write(f"{key}\n")
                if hang:
                    (folder / "inside").touch()
                    time.sleep(_HANG)
                time.sleep(_LOAD)
                return f"value of {key}"

            if cache.get_or_load(key, load) != f"value of {key}":
                raise ArithmeticError("not what was loaded")
    (folder / f"done{number}").write_text(repr(time.monotonic()))


if __name__ == "__main__":
    _load_all(
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        float(sys.argv[4]),
        sys.argv[5] == "1",
    )
