"""What each operation costs a store: requests, commands, bytes and time, on one node and three.

The nodes count for themselves: reads from sockets (one per request that fits a packet), commands,
bytes in and out. What the counting costs is measured, and taken off.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.machine import log, one_core, other_core
from bench.report import Report, Table

__all__ = ["COSTS", "Cost", "measure"]

_BATCH = 1000
_VALUE = "a value of one hundred characters " * 3
_COUNTERS = ("total_reads_processed", "total_commands_processed")
_BYTES = ("total_net_input_bytes", "total_net_output_bytes")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call costs: requests, nodes asked, commands, bytes in and out, seconds here, and
    processor seconds of all nodes."""

    requests: float
    nodes: float
    commands: float
    sent: float
    received: float
    seconds: float
    server: float


COSTS: dict[tuple[str, int], Cost] = {}
"""By operation and number of nodes; 0 nodes is a server that is no cluster."""


def measure(report: Report, *, quick: bool) -> None:
    """Count and time every operation on a single server, a cluster of one, and one of three."""
    from clusters import Cluster, Node

    count = 40 if quick else 400
    for nodes in (0, 1, 3):
        with ExitStack() as stack:
            if nodes:
                cluster = stack.enter_context(Cluster(primaries=nodes, replicas=0))
                url, servers = cluster.url, cluster.nodes
            else:
                server = stack.enter_context(Node())
                url, servers = server.url, [server]
            for each in servers:
                other_core(each.pid)
            log(f"cluster: operations on {nodes or 'a server that is no cluster'}")
            with one_core():
                _all(url, servers, nodes, count)
    table = Table(
        "What a call costs, a server that is no cluster → a cluster of one → of three",
        ["", "requests", "commands", "bytes to", "bytes from", "µs", "µs of the servers"],
    )
    for name in dict.fromkeys(name for name, _ in COSTS):
        costs = [COSTS[name, nodes] for nodes in (0, 1, 3)]
        table.rows.append(
            [
                name,
                _arrows([cost.requests for cost in costs], "{:.1f}"),
                _arrows([cost.commands for cost in costs], "{:.0f}"),
                _arrows([cost.sent for cost in costs], "{:,.0f}"),
                _arrows([cost.received for cost in costs], "{:,.0f}"),
                _arrows([1e6 * cost.seconds for cost in costs], "{:,.0f}"),
                _arrows([1e6 * cost.server for cost in costs], "{:,.0f}"),
            ]
        )
    report.tables.append(table)
    report.notes.append(
        f"A call: the mean over {count} calls (batches: {max(5, count // 10)}); µs: the median. "
        "Requests are the nodes' own count of reads from sockets, so a large request counts more "
        "than once; what nodes and links cost at rest is taken off. A batch is of "
        f"{_BATCH} keys; vectors have 384 dimensions."
    )


def _arrows(numbers: Sequence[float], form: str) -> str:
    return " → ".join(form.format(number) for number in numbers)


def _all(url: str, servers: Sequence[Any], nodes: int, count: int) -> None:
    from nearcache import EmbeddingCache, NearCache, Options

    options = Options(on_store_error="raise", store_timeout=20.0, link_timeout=60.0)
    keys = [f"key {n}" for n in range(_BATCH)]
    few = max(5, count // 10)
    with (
        NearCache(url, namespace="a", ttl=None, options=options) as writer,
        NearCache(url, namespace="a", ttl=None, max_entries=0, options=options) as reader,
        EmbeddingCache(url, namespace="v", max_entries=0, options=options) as vectors,
    ):
        rows = np.ones((_BATCH, 384), np.float32)
        numbers = iter(range(10**9))
        meter = _Meter(servers, nodes)

        def warm(operation: Callable[[], object]) -> Callable[[], object]:
            operation()
            operation()
            return operation

        writer.put_batch(dict.fromkeys(keys, _VALUE))
        vectors.put_batch(keys, rows, "m")
        meter.take("get, in the store", warm(lambda: reader.get("key 1")), count)
        meter.take(
            "get_or_load, in nobody's",
            warm(lambda: writer.get_or_load(f"new {next(numbers)}", lambda: _VALUE)),
            count,
        )
        meter.take("put", warm(lambda: writer.put(f"key {next(numbers) % 1000}", _VALUE)), count)
        meter.take("update", warm(lambda: writer.update("key 1", lambda old: _VALUE)), count)
        meter.take("invalidate", warm(lambda: writer.invalidate("key 1")), count)
        meter.take("invalidate_by_tag", warm(lambda: writer.invalidate_by_tag("tag")), count)
        writer.put_batch(dict.fromkeys(keys, _VALUE))
        meter.take("get_batch, in the store", warm(lambda: reader.get_batch(keys)), few)
        meter.take("put_batch", warm(lambda: writer.put_batch(dict.fromkeys(keys, _VALUE))), few)
        meter.take("vectors: get_batch", warm(lambda: vectors.get_batch(keys, "m")), few)
        meter.take("vectors: put_batch", warm(lambda: vectors.put_batch(keys, rows, "m")), few)
        meter.take(
            "vectors: embed, in nobody's",
            warm(lambda: vectors.wrap(lambda texts: rows[: len(texts)], "m")(_new(numbers))),
            few,
        )
        meter.take("vectors: invalidate", warm(lambda: vectors.invalidate("key 1", "m")), count)


def _new(numbers: Any) -> list[str]:
    first = next(numbers)
    return [f"new {first} {n}" for n in range(_BATCH)]


class _Meter:
    """Takes the nodes' counts before and after."""

    def __init__(self, servers: Sequence[Any], nodes: int) -> None:
        self._wires = [server.client(protocol=2) for server in servers]
        self._nodes = nodes
        for wire in self._wires:
            wire.ping()
        self._idle = self._at_rest()
        looks = [self._look() for _ in range(11)]
        self._look_costs = _difference(looks[0], looks[-1], 1 / (len(looks) - 1))

    def _at_rest(self) -> list[dict[str, float]]:
        """Return what a second costs in which nobody asks for anything."""
        before, start = self._look(), time.monotonic()
        time.sleep(2.0)
        passed = time.monotonic() - start
        return _difference(before, self._look(), 1 / passed)

    def _look(self) -> list[dict[str, float]]:
        found = []
        for wire in self._wires:
            info = wire.info("all")
            cpu = info["used_cpu_user"] + info["used_cpu_sys"]
            found.append({name: info[name] for name in (*_COUNTERS, *_BYTES)} | {"cpu": cpu})
        return found

    def take(self, name: str, operation: Callable[[], object], count: int) -> None:
        """Do it so many times; keep the mean of what it cost."""
        before, began = self._look(), time.monotonic()
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            operation()
            seconds.append(time.perf_counter() - start)
        after, passed = self._look(), time.monotonic() - began
        sums = _difference(before, after, 1.0)
        for node, look, idle in zip(sums, self._look_costs, self._idle, strict=True):
            for key in node:
                node[key] = max(0.0, node[key] - look[key] - passed * idle[key])
        total = {key: sum(node[key] for node in sums) / count for key in sums[0]}
        COSTS[name, self._nodes] = Cost(
            requests=total["total_reads_processed"],
            nodes=sum(node["total_commands_processed"] > count / 2 for node in sums),
            commands=total["total_commands_processed"],
            sent=total["total_net_input_bytes"],
            received=total["total_net_output_bytes"],
            seconds=statistics.median(seconds),
            server=total["cpu"],
        )


def _difference(
    before: Sequence[dict[str, float]], after: Sequence[dict[str, float]], share: float
) -> list[dict[str, float]]:
    return [
        {key: share * (then[key] - now[key]) for key in now}
        for now, then in zip(before, after, strict=True)
    ]
