"""Everybody side by side: 2,000 texts of 500 characters, one full warm batch."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import redis

from bench import data, limits, others, ours, seed
from bench.machine import log, one_core
from bench.redis_store import values
from bench.report import Report, Table
from bench.servers import valkey
from bench.timing import Contestant, Matrix, Sample, Timing, race

__all__ = ["run"]

TITLE = "2,000 warm texts of 500 characters, one full batch → matrix"
_DIMENSIONS = (384, 1536)


def run(*, quick: bool) -> Report:
    """Race every cache at both dimensions and weigh its entries in Redis."""
    report = Report("peers", TITLE, quick)
    count, rounds = (200, 9) if quick else (2000, 15)
    found: dict[int, dict[str, Timing]] = {}
    weights: dict[int, dict[str, int]] = {}
    for dimension in _DIMENSIONS:
        log(f"peers: {count} texts, {dimension}-d")
        found[dimension], weights[dimension] = _race(dimension, count, rounds)
    table = Table(
        f"{count} texts, {rounds} rounds",
        [
            "",
            *(f"µs per text, {d}-d" for d in _DIMENSIONS),
            *(f"Redis B, {d}-d" for d in _DIMENSIONS),
        ],
    )
    for name in sorted(found[1536], key=lambda name: found[1536][name].median):
        times = [found[d][name].median / count * 1e6 for d in _DIMENSIONS]
        table.rows.append([name, *times, *(weights[d].get(name, "") for d in _DIMENSIONS)])
    report.tables.append(table)
    report.notes.append(
        "Every contestant ends with the same (n, d) float32 matrix, compared bit for bit before "
        "the clock. Redis bytes: MEMORY USAGE of one entry with its key. LiteLLM's Redis row "
        "empties its memory before each call. The limits know their keys beforehand."
    )
    return report


def _race(dimension: int, count: int, rounds: int) -> tuple[dict[str, Timing], dict[str, int]]:
    texts = list(data.passages(count))
    matrix = data.vectors(count, dimension)
    index = np.arange(count)
    weights: dict[str, int] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        port = stack.enter_context(valkey())
        client = stack.enter_context(redis.Redis("127.0.0.1", port))
        url = f"redis://127.0.0.1:{port}/0"
        contestants = _in_process(stack, folder, texts, matrix)
        for fill in (
            lambda: limits.mget(client, matrix),
            lambda: seed.in_redis(client, texts, matrix),
            lambda: others.langchain_redis(client, texts, matrix),
            lambda: others.redisvl_cache(client, texts, matrix),
            lambda: others.litellm_redis(port, texts, matrix),
            lambda: ours.wrapped(
                stack.enter_context(ours.filled(texts, matrix, url, max_entries=0)),
                "nearcache, Redis",
            ),
        ):
            _weigh(fill, client, contestants, weights)
        with one_core():
            times = race(contestants, lambda: Sample(texts, index, matrix), rounds)
    return times, weights


def _weigh(
    fill: Callable[[], Contestant],
    client: redis.Redis,
    contestants: list[Contestant],
    weights: dict[str, int],
) -> None:
    """Fill one Redis cache and note the bytes that an entry of it takes there."""
    before = set(client.scan_iter(count=1000))
    contestant = fill()
    new = [key for key in client.scan_iter(count=1000) if key not in before]
    large = [key for key in new if client.type(key) == b"hash"] or values(client, new)
    weights[contestant.name] = max(client.memory_usage(key) for key in large)
    contestants.append(contestant)


def _in_process(
    stack: ExitStack, folder: Path, texts: list[str], matrix: Matrix
) -> list[Contestant]:
    near = stack.enter_context(ours.filled(texts, matrix))
    sqlite = f"sqlite:///{folder}/ours.db"
    disk = stack.enter_context(ours.filled(texts, matrix, sqlite, max_entries=0))
    connection, keys = limits.sqlite_file(folder / "limit.db", matrix)
    stack.callback(connection.close)
    return [
        limits.gather(matrix),
        limits.select_each(connection, keys, matrix.shape[1]),
        ours.wrapped(near, "nearcache, near"),
        ours.wrapped(disk, "nearcache, SQLite"),
        seed.in_memory(texts, matrix),
        others.langchain_memory(texts, matrix),
        others.langchain_file(folder, texts, matrix),
        others.litellm_memory(texts, matrix),
        others.disk_cache(folder, texts, matrix),
    ]
