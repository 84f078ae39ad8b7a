"""Warm answers: ours and LiteLLM's, in turns, each server on the same one core."""

import statistics
import threading
import time
from contextlib import ExitStack

from bench import data
from bench.machine import log
from bench.proxy.client import Wire, request, rows
from bench.proxy.servers import Running, litellm, nearcache, provider
from bench.report import Judged, Report, Table

__all__ = ["judge_warm"]

_SIZE = 1536
_OURS, _THEIRS = "nearcache serve", "LiteLLM proxy"
_ENCODINGS = ("base64", "float")


def judge_warm(report: Report, *, quick: bool) -> None:
    """Time requests of 1 and of 256 texts that are all cached."""
    texts = list(data.passages(256))
    rounds = 3 if quick else 9
    with ExitStack() as stack:
        upstream = stack.enter_context(provider(_SIZE))
        servers = {_OURS: stack.enter_context(nearcache(upstream))}
        other = stack.enter_context(litellm(upstream))
        if other is not None:
            servers[_THEIRS] = other
        right = _ask(upstream, texts)
        for name, server in servers.items():
            _ask(server, texts)
            assert rows(_ask(server, texts)) == rows(right), f"{name} answers something else"
        before = upstream.ask("/counts")["calls"]
        _one(report, servers, texts[0], rounds, 100 if quick else 400)
        _many(report, servers, texts, rounds, quick=quick)
        assert upstream.ask("/counts")["calls"] == before, "an answer was not warm"


def _one(report: Report, servers: dict[str, Running], text: str, rounds: int, calls: int) -> None:
    table = Table(
        f"Warm, one text, {_SIZE}-d, one connection: milliseconds per request",
        ["", "encoding", "p50 (median of rounds)", "best round", "p99", "CPU of the server"],
    )
    for encoding in _ENCODINGS:
        log(f"proxy: one text, {encoding}")
        times: dict[str, list[list[float]]] = {name: [] for name in servers}
        cpu = dict.fromkeys(servers, 0.0)
        for turn in range(rounds):
            for name in _turned(list(servers), turn):
                server = servers[name]
                number = calls if name == _OURS else max(calls // 10, 10)
                message = request(server, [text], encoding)
                with Wire(server) as wire:
                    wire.ask(message)
                    spent = server.cpu_seconds
                    times[name].append([_timed(wire, message) for _ in range(number)])
                    cpu[name] += (server.cpu_seconds - spent) / number
        for name, found in times.items():
            middles = [statistics.median(one) for one in found]
            every = sorted(took for one in found for took in one)
            p99 = every[int(0.99 * (len(every) - 1))]
            median = statistics.median(middles)
            table.rows.append(
                [name, encoding, *(1e3 * x for x in (median, min(middles), p99)),
                 1e3 * cpu[name] / rounds]
            )  # fmt: skip
            if name == _OURS and encoding == "base64":
                report.judged.append(Judged("one text, base64, warm, p50", 3, 1e3 * median, "ms"))
    report.tables.append(table)


def _many(
    report: Report, servers: dict[str, Running], texts: list[str], rounds: int, *, quick: bool
) -> None:
    table = Table(
        f"Warm, {len(texts)} texts, {_SIZE}-d, two connections, the server on one core",
        ["", "encoding", "vectors/s (median of rounds)", "best round", "per CPU second"],
    )
    for encoding in _ENCODINGS:
        log(f"proxy: {len(texts)} texts, {encoding}")
        speed: dict[str, list[float]] = {name: [] for name in servers}
        busy: dict[str, list[float]] = {name: [] for name in servers}
        for turn in range(rounds):
            for name in _turned(list(servers), turn):
                server = servers[name]
                calls = (10 if quick else 60) if name == _OURS else 3
                if encoding == "float":
                    calls = max(calls // 4, 2)
                took, spent = _in_threads(2, server, request(server, texts, encoding), calls)
                vectors = 2 * calls * len(texts)
                speed[name].append(vectors / took)
                busy[name].append(vectors / max(spent, 1e-9))
        medians = {name: statistics.median(found) for name, found in speed.items()}
        for name, found in speed.items():
            table.rows.append(
                [name, encoding, medians[name], max(found), statistics.median(busy[name])]
            )
        if encoding == "base64":
            report.judged.append(
                Judged(
                    "256 texts, base64, warm, one core", 20_000, medians[_OURS], "vectors/s", True
                )
            )
            if _THEIRS in medians:
                ratios = [a / b for a, b in zip(speed[_OURS], speed[_THEIRS], strict=True)]
                report.judged.append(
                    Judged(
                        "256 texts, base64, warm, against LiteLLM's proxy",
                        3, statistics.median(ratios), "×", True,
                    )
                )  # fmt: skip
    report.tables.append(table)


def _in_threads(count: int, server: Running, message: bytes, calls: int) -> tuple[float, float]:
    """Return the seconds that passed, and those that the server worked."""
    start, stop = threading.Barrier(count + 1), threading.Barrier(count + 1)

    def work() -> None:
        with Wire(server) as wire:
            wire.ask(message)
            start.wait()
            for _ in range(calls):
                wire.ask(message)
            stop.wait()

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    start.wait()
    began, worked = time.perf_counter(), server.cpu_seconds
    stop.wait()
    took, spent = time.perf_counter() - began, server.cpu_seconds - worked
    for thread in threads:
        thread.join()
    return took, spent


def _ask(server: Running, texts: list[str]) -> bytes:
    with Wire(server) as wire:
        for encoding in ("float", "base64"):
            answer = bytes(wire.ask(request(server, texts, encoding)))
        return answer


def _timed(wire: Wire, message: bytes) -> float:
    began = time.perf_counter()
    wire.ask(message)
    return time.perf_counter() - began


def _turned(names: list[str], turn: int) -> list[str]:
    at = turn % len(names)
    return [*names[at:], *names[:at]]
