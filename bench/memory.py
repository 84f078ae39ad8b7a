"""Memory per cached row: growth of the resident set of a fresh process at 50,000 entries."""

import json
import subprocess
import sys

from bench.machine import log
from bench.report import Judged, Report, Table

__all__ = ["run"]

TITLE = "Memory per cached row, in memory"
_BYTES = {"float32": 4, "float16": 2, "int8": 1}
_PEERS = ("seed", "langchain")


def run(*, quick: bool) -> Report:
    """Measure nearcache at three precisions and two dimensions, then the seed and LangChain."""
    report = Report("memory", TITLE, quick)
    entries = 5_000 if quick else 50_000
    columns = ["", "raw bytes", "bytes", "× raw", "bytes with text", "text", "max_bytes counts"]
    for dimension in (384, 1536):
        table = Table(f"{dimension}-d, {entries} entries, bytes per entry", columns)
        for kind in (*_BYTES, *_PEERS):
            log(f"memory: {kind}, {dimension}-d")
            _one(report, table, kind, dimension, entries)
        report.tables.append(table)
    report.notes.append(
        "Growth of the resident set after both sides gave free memory back, texts of 500 "
        "characters made for the cache and held by nobody else. nearcache keeps the texts as keys "
        "of its near tier: the column without text subtracts `sys.getsizeof` of each (the seed and "
        "LangChain keep digests only). The last column is what nearcache itself counts against "
        "`max_bytes`, text included."
    )
    return report


def _one(report: Report, table: Table, kind: str, dimension: int, entries: int) -> None:
    command = [sys.executable, "-m", "bench.resident", kind, str(dimension), str(entries)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    raw = dimension * _BYTES.get(kind, 4)
    whole = found["grown"] / entries
    text = found["text"] / entries if found["keeps_text"] else 0.0
    bare = whole - text
    counted = found["counted"] / entries if found["counted"] else "–"
    name = f"nearcache {kind}" if kind in _BYTES else {"seed": "seed, list[float]"}.get(kind)
    name = name or "LangChain, in memory"
    table.rows.append([name, raw, bare, bare / raw, whole, text, counted])
    if kind in _BYTES:
        what = f"near row, {kind}, {dimension}-d, without text"
        report.judged.append(Judged(what, 1.2, bare / raw, "× raw"))
