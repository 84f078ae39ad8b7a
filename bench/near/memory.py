"""Memory per entry near: growth of the resident set of a fresh process."""

import json
import subprocess
import sys
from typing import Any

from bench.machine import log
from bench.near.tiers import CORES
from bench.report import Judged, Report, Table

__all__ = ["run"]

TITLE = "Memory per entry, in memory"
_BYTES = {"float32": 4, "float16": 2, "int8": 1}
_GOALS = {"float32": 1.06, "int8": 0.29}
_PEERS = {"seed": "seed, list[float]", "langchain": "LangChain, in memory"}


def run(*, quick: bool) -> Report:
    """Weigh rows and objects of both cores, then whole caches, the seed and LangChain."""
    report = Report("near.memory", TITLE, quick)
    entries, whole = (10_000, 5_000) if quick else (100_000, 50_000)
    _rows(report, entries)
    _objects(report, entries)
    for dimension in (384, 1536):
        _caches(report, dimension, whole)
    report.notes.append(
        "Growth of the resident set after both sides gave free memory back, in a fresh process per "
        "row. Texts of 500 characters, made for the cache and held by nobody else; `bytes` is "
        "without them where they are kept (`sys.getsizeof` of each, subtracted). × raw is against "
        "the bare float32 row. `counted` is what nearcache counts against `max_bytes`, texts "
        "included where it keeps them, and `counted ÷ grown` compares it with the whole growth."
    )
    return report


def _measured(*what: object) -> dict[str, Any]:
    log(f"near.memory: {' '.join(map(str, what))}")
    command = [sys.executable, "-m", "bench.near.resident", *map(str, what)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _cells(found: dict[str, Any], entries: int) -> tuple[float, float, float]:
    """Return bytes per entry: without texts, with them, as counted."""
    whole = found["grown"] / entries
    return whole - found["text"] / entries, whole, found["counted"] / entries


def _rows(report: Report, entries: int, dimension: int = 384) -> None:
    columns = ["", "bytes", "× raw float32", "with text", "counted", "counted ÷ grown"]
    table = Table(f"Rows of {dimension}-d in the near tier, {entries} entries, per entry", columns)
    for core in CORES:
        for kind in _BYTES:
            found = _measured(f"{core}-{kind}", dimension, entries)
            bare, whole, counted = _cells(found, entries)
            raw = bare / (4 * dimension)
            table.rows.append([f"{core}, {kind}", bare, raw, whole, counted, counted / whole])
            if kind in _GOALS:
                what = f"{core} row, {kind}, without text, against raw float32"
                report.judged.append(Judged(what, _GOALS[kind], raw))
            _judge_counted(report, f"{core} rows, {kind}", counted / whole)
    report.tables.append(table)


def _objects(report: Report, entries: int) -> None:
    columns = ["", "grown", "key and value", "tier's own", "counted", "counted ÷ grown"]
    table = Table(f"Objects: str keys, values of bytes, {entries} entries, per entry", columns)
    for core in CORES:
        for kind in ("objects", "objects-ttl"):
            found = _measured(f"{core}-{kind}", 200, entries)
            bare, whole, counted = _cells(found, entries)
            name = f"{core}, {'with' if 'ttl' in kind else 'without'} a limited life"
            table.rows.append([name, whole, whole - bare, bare, counted, counted / whole])
            _judge_counted(report, name.replace(",", " objects,"), counted / whole)
    report.tables.append(table)


def _caches(report: Report, dimension: int, entries: int) -> None:
    columns = ["", "bytes", "× raw float32", "with text", "counted", "counted ÷ grown"]
    table = Table(f"Whole caches at {dimension}-d, {entries} entries, per entry", columns)
    for kind in (*_BYTES, *_PEERS):
        found = _measured(kind, dimension, entries)
        bare, whole, counted = _cells(found, entries)
        name = _PEERS.get(kind, f"EmbeddingCache, {kind}")
        row = [name, bare, bare / (4 * dimension), whole]
        table.rows.append([*row, counted, counted / whole] if counted else [*row, "–", "–"])
        if counted:
            _judge_counted(report, f"bytes_near, {kind}, {dimension}-d", counted / whole)
    report.tables.append(table)


def _judge_counted(report: Report, what: str, ratio: float) -> None:
    report.judged.append(Judged(f"{what}: counted, off what it takes", 0.10, abs(ratio - 1), ""))
