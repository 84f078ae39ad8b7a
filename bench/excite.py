"""A real search log replayed in order of time: how many model calls a cache saves."""

import tempfile
from time import perf_counter
from typing import Any

from bench import data
from bench.asides import Counting
from bench.machine import log
from bench.report import Report, Table
from nearcache import EmbeddingCache

__all__ = ["run"]

TITLE = "A search log replayed, one query at a time"


def run(*, quick: bool) -> Report:
    """Replay the log through near tiers of several sizes, with and without a store."""
    queries, blank, name = data.search_log()
    report = Report("excite", TITLE, quick, texts=name)
    if quick:
        queries = queries[:1000]
    distinct = len(set(queries))
    tenth = max(1, distinct // 10)
    columns = ["", "queries", "model calls", "saved", "best possible", "µs per query"]
    table = Table(f"{len(queries)} queries, {distinct} distinct", columns)
    best = f"{1 - distinct / len(queries):.1%}"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ways: list[tuple[str, dict[str, Any]]] = [
            (f"near of {tenth} entries (10 %)", {"max_entries": tenth}),
            ("the same + SQLite", {"max_entries": tenth, "store": f"sqlite:///{folder}/log.db"}),
            ("near of all", {"max_entries": distinct}),
        ]
        for way, settings in ways:
            log(f"excite: {way}")
            calls, seconds = _replay(queries, settings)
            saved = f"{1 - calls / len(queries):.1%}"
            per_query = seconds / len(queries) * 1e6
            table.rows.append([way, len(queries), calls, saved, best, per_query])
    report.tables.append(table)
    report.notes.append(
        f"{blank} blank queries of the log are left out: nobody embeds them. The model is a "
        "pretended one (384-d, deterministic); its own time, about 60 µs a call, is included."
    )
    return report


def _replay(queries: list[str], settings: dict[str, Any]) -> tuple[int, float]:
    model = Counting(delay=0.0)
    with EmbeddingCache(**settings) as cache:
        embed = cache.wrap(model, model="m")
        start = perf_counter()
        for query in queries:
            embed(query)
        return model.texts, perf_counter() - start
