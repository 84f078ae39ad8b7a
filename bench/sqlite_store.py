"""Warm batches from SQLite with the near tier off."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import data, limits, others, ours
from bench.machine import log, one_core
from bench.report import Judged, Report, timings
from bench.timing import race

__all__ = ["run"]

TITLE = "Warm SQLite batch of 1000 → matrix, near tier off"
_SIZE = 1000


def run(*, quick: bool) -> Report:
    """Race SQLite batches at 384-d and 1536-d against hand-written SELECTs and the peers."""
    report = Report("sqlite_store", TITLE, quick)
    held, rounds = (4_000, 9) if quick else (20_000, 25)
    for dimension in (384, 1536):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            _race(report, Path(folder), dimension, held, rounds)
    report.notes.append(
        "Every contestant has its own file of as many rows, warm in the file cache. The limit "
        "knows its keys beforehand, stores bare rows and reads from memory-mapped pages; the "
        "faster of its two forms counts. LangChain writes one file per text."
    )
    return report


def _race(report: Report, folder: Path, dimension: int, held: int, rounds: int) -> None:
    log(f"sqlite_store: {held} rows of {dimension}-d")
    texts = list(data.passages(held))
    matrix = data.vectors(held, dimension)
    connection, keys = limits.sqlite_file(folder / "limit.db", matrix)
    each = limits.select_each(connection, keys, dimension)
    many = limits.select_in(connection, keys, dimension)
    with ExitStack() as stack:
        stack.callback(connection.close)
        mine = ours.from_store(stack, texts, matrix, lambda name: f"sqlite:///{folder}/{name}.db")
        contestants = [each, many, *mine]
        contestants += [
            others.disk_cache(folder, texts, matrix),
            others.langchain_file(folder, texts, matrix),
        ]
        for path in folder.glob("*.db*"):
            path.read_bytes()  # into the file cache
        with one_core():
            found = race(contestants, data.sampler(texts, matrix, _SIZE), rounds)
    limit = min((each.name, many.name), key=lambda name: found[name].median)
    report.tables.append(
        timings(f"{dimension}-d, {held} rows, {rounds} rounds", found, _SIZE, limit)
    )
    if dimension == 1536:
        slower = max(found[mine[0].name].median, found[mine[1].name].median)
        reached = slower / found[limit].median
        report.judged.append(Judged("SQLite batch against a hand-written SELECT", 1.5, reached))
