"""Model calls: how often one text is paid for when many ask at once."""

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import redis

from bench import data
from bench.asides import Counting, Embed, embedders
from bench.machine import log
from bench.report import Judged, Report, Table
from bench.servers import valkey
from bench.worker import TEXTS
from nearcache import EmbeddingCache

__all__ = ["run"]

TITLE = "Model calls: one per distinct text"
_PROCESSES = 8


def run(*, quick: bool) -> Report:
    """Count model calls under threads, tasks and processes, and those of the peers."""
    report = Report("calls", TITLE, quick)
    rounds = 2 if quick else 10
    with valkey() as port, tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        log("calls: threads and tasks")
        worst = max(_two_faces() for _ in range(rounds))
        report.judged.append(Judged("50 threads + 50 tasks, one text", 1, worst, "calls"))
        for name, url in _stores(port, folder):
            log(f"calls: {_PROCESSES} processes, {name}")
            asked, wall = _processes(url, folder)
            what = f"{_PROCESSES} processes on one {name}: most often asked text"
            report.judged.append(Judged(what, 1, max(asked.values()), "times"))
            distinct = f"{_PROCESSES} processes on one {name}: texts asked, of {len(TEXTS)}"
            report.judged.append(Judged(distinct, len(TEXTS), asked.total(), "texts"))
            report.notes.append(f"{name}: the last process was done {wall:.2f} s after the start.")
        with redis.Redis("127.0.0.1", port) as client:
            report.tables.append(_peers(client, folder))
    report.notes.append(
        f"The model takes 50 ms a call. Threads and tasks: the worst of {rounds} rounds, through "
        "the two faces of one cache. Processes start together and embed the same 50 texts, each "
        "in its own order; every row is compared with what the model returns."
    )
    return report


def _stores(port: int, folder: Path) -> list[tuple[str, str]]:
    return [
        ("Redis", f"redis://127.0.0.1:{port}/0"),
        ("SQLite file", f"sqlite:///{folder}/calls.db"),
    ]


def _two_faces() -> int:
    """Return the calls of 50 threads and 50 tasks that ask for one text at once."""
    model, text = Counting(), "one text"
    barrier = threading.Barrier(51)
    rows: list[object] = []
    with EmbeddingCache(None) as cache:
        embed = cache.wrap(model, model="m")

        def ask() -> None:
            barrier.wait()
            rows.append(embed([text])[0])

        async def ask_all() -> None:
            aembed = cache.as_async().wrap(model, model="m")
            await asyncio.to_thread(barrier.wait)
            rows.extend(
                got[0] for got in await asyncio.gather(*(aembed([text]) for _ in range(50)))
            )

        threads = [threading.Thread(target=ask) for _ in range(50)]
        for thread in threads:
            thread.start()
        asyncio.run(ask_all())
        for thread in threads:
            thread.join()
    right = data.fake_vector(text)
    if len(rows) != 100 or not all(np.array_equal(row, right) for row in rows):
        msg = "a caller did not get the model's row"
        raise ArithmeticError(msg)
    return model.calls


def _processes(url: str, folder: Path) -> tuple[Counter[str], float]:
    """Return how often each text reached a model, and the seconds until the last was done."""
    command = [sys.executable, "-m", "bench.worker", url]
    with tempfile.TemporaryDirectory(dir=folder) as made:
        shared = Path(made)
        workers = [
            subprocess.Popen([*command, str(shared), str(number)]) for number in range(_PROCESSES)
        ]
        end = time.monotonic() + 60
        while len(list(shared.glob("ready*"))) < _PROCESSES and time.monotonic() < end:
            time.sleep(0.01)
        start = time.monotonic()
        (shared / "go").touch()
        codes = [worker.wait(60) for worker in workers]
        wall = time.monotonic() - start
        if any(codes):
            msg = f"a worker failed: {codes}"
            raise RuntimeError(msg)
        return Counter((shared / "asked").read_text(encoding="utf-8").splitlines()), wall


def _peers(client: redis.Redis, folder: Path) -> Table:
    columns = ["", "20 threads, one new text: calls", "[a, a, b, a]: texts to the model"]
    table = Table("Peers in front of the same model", columns)
    ways: dict[str, Callable[[Counting], Embed]] = {"nearcache": _nearcache}
    for name, put_before in (ways | embedders(client, folder)).items():
        log(f"calls: {name}")
        alone = Counting()
        put_before(alone)(["a", "a", "b", "a"])
        table.rows.append([name, _twenty(put_before), alone.texts])
    return table


def _nearcache(model: Counting) -> Embed:
    return EmbeddingCache(None).wrap(model, model="m")


def _twenty(put_before: Callable[[Counting], Embed]) -> int:
    model = Counting()
    embed = put_before(model)
    barrier = threading.Barrier(20)

    def ask() -> None:
        barrier.wait()
        embed(["one text"])

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return model.calls
