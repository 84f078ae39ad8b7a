"""Two hundred clients that ask for the same thousand texts at once, of which none is cached."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from bench import data
from bench.machine import log
from bench.proxy.client import ask_all, request, rows
from bench.proxy.servers import Running, nearcache, provider
from bench.report import Judged, Report, Table

__all__ = ["judge_cold"]

_CLIENTS, _TEXTS, _SIZE = 200, 1000, 1536
_SLOW = 0.1  # seconds the provider takes for an answer, however large


def judge_cold(report: Report, *, quick: bool) -> None:
    """Count what the provider is asked for, however the clients cut their thousand texts."""
    clients = 50 if quick else _CLIENTS
    table = Table(
        f"Cold: {clients} clients ask for the same {_TEXTS} texts at once, {_SIZE}-d, base64; "
        f"the provider takes {_SLOW * 1000:.0f} ms",
        ["each client asks", "seconds", "texts at the provider", "most times", "calls",
         "mean batch", "most memory of the proxy, MB"],
    )  # fmt: skip
    texts = list(data.passages(_TEXTS))
    for name, cut in _WAYS.items():
        log(f"proxy: cold, {name}")
        with provider(_SIZE, _SLOW) as upstream, nearcache(upstream) as server:
            row, times, batch = _crowd(upstream, server, texts, clients, cut)
        table.rows.append([name, *row])
        report.judged += [
            Judged(f"most often that the provider saw one text: {name}", 1, times, "times"),
            Judged(f"mean batch: {name}", 64, batch, "texts", at_least=True),
        ]
    report.tables.append(table)


def _crowd(
    upstream: Running,
    server: Running,
    texts: list[str],
    clients: int,
    cut: Callable[[list[str], random.Random], list[list[str]]],
) -> tuple[list[object], int, float]:
    crowds = [cut(texts, random.Random(number)) for number in range(clients)]
    messages = [[request(server, part) for part in parts] for parts in crowds]
    began = time.perf_counter()
    answers = asyncio.run(ask_all(server, messages))
    took = time.perf_counter() - began - 0.2
    _compare(crowds, answers)
    counts = upstream.ask("/counts")
    batch = counts["inputs"] / counts["calls"]
    row: list[object] = [took, counts["inputs"], counts["most_times"], counts["calls"], batch]
    return [*row, server.most_bytes / 1e6], counts["most_times"], batch


def _compare(crowds: Sequence[Sequence[list[str]]], answers: Sequence[Sequence[bytes]]) -> None:
    """Everybody has the same vector of a text; the first client's are looked at in full."""
    right: dict[str, str] = {}
    for parts, bodies in list(zip(crowds, answers, strict=True))[:20]:
        for part, body in zip(parts, bodies, strict=True):
            for text, row in zip(part, rows(body), strict=True):
                assert right.setdefault(text, row) == row, "two vectors of one text"


def _whole(texts: list[str], _: random.Random) -> list[list[str]]:
    return [texts]


def _parts(size: int) -> Callable[[list[str], random.Random], list[list[str]]]:
    def cut(texts: list[str], dice: random.Random) -> list[list[str]]:
        order = dice.sample(texts, len(texts))
        return [order[at : at + size] for at in range(0, len(order), size)]

    return cut


_WAYS = {
    "once, for all": _whole,
    "for 100 at a time, in an order of its own": _parts(100),
    "for 5 at a time, in an order of its own": _parts(5),
}
