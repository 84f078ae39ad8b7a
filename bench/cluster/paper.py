"""Up to a thousand workers and a hundred nodes, on paper, from what was measured beside it.

A worker is a process that reads 100 values a second, nine of ten from its near tier, and writes
one. Every worker listens to every node; each write is told to all workers. The share of a node
follows from the real slots of the 64 buckets of a namespace.
"""

import statistics

from bench.cluster.fan_out import FAN
from bench.cluster.operations import COSTS
from bench.report import Report, Table

__all__ = ["Load", "measure"]

_READS, _MISSES, _WRITES = 100.0, 0.1, 1.0  # per second and worker; misses: a share of the reads
_PINGS = 2.0  # per second, link and node: six per link_timeout of 3 s
_BUCKETS = 64
_SLOTS = 16384


class Load:
    """What a second costs: of one node of ``nodes``, and of one worker of ``workers``."""

    def __init__(self, workers: int, nodes: int) -> None:
        get, put = COSTS["get, in the store", 3], COSTS["put", 3]
        writes = workers * _WRITES / nodes
        misses = workers * _READS * _MISSES / nodes
        self.requests = misses + writes + workers * _PINGS
        self.pushes = writes * workers
        asked = misses * get.server + writes * put.server + workers * _PINGS * FAN["ping"]
        self.node = asked + self.pushes * FAN["push"]
        self.node_at_best = asked + self.pushes * FAN["push in a pipeline"]
        self.bytes_out = self.pushes * FAN["bytes per push"] + misses * get.received
        self.memory = workers * FAN["memory per link"]
        self.heard = workers * _WRITES
        a_node_more = max(0.0, FAN["heard from 3"] - FAN["heard from 1"]) / 2
        wake = FAN["heard from 1"] + (nodes - 1) * a_node_more
        # a thread that is late finds several pushes at once: it cannot take more than a core
        self.worker = min(1.0, self.heard * wake)
        self.sockets = workers * 2


def measure(report: Report, *, quick: bool) -> None:
    """Reckon."""
    del quick
    if not COSTS or not FAN:
        message = "the paper part needs the operations and fan_out parts before it"
        raise RuntimeError(message)
    table = Table(
        f"On paper: a worker reads {_READS:.0f} and writes {_WRITES:.0f} values a second, "
        f"{100 * _MISSES:.0f} % of its reads reach the store",
        [
            "workers",
            "nodes",
            "requests/s at a node",
            "pushes/s from a node",
            "MB/s from a node",
            "% of a node's core",
            "… if writes come in bunches",
            "MB for links at a node",
            "pushes/s heard by a worker",
            "% of a worker's core for them",
        ],
    )
    for workers in (10, 100, 1000):
        for nodes in (1, 3, 10, 30, 100):
            load = Load(workers, nodes)
            row = [load.requests, load.pushes, load.bytes_out / 1e6, 100 * load.node]
            row += [100 * load.node_at_best]
            row += [load.memory / 2**20, load.heard, 100 * load.worker]
            table.rows.append([workers, nodes, *row])
    report.tables.append(table)
    report.tables.append(_balance())


def _balance() -> Table:
    """Return how evenly the buckets of a namespace lie on nodes, over two hundred namespaces."""
    table = Table(
        f"On paper: {_BUCKETS} buckets of a namespace on nodes with equal slots, 200 namespaces",
        [
            "nodes",
            "nodes that hold any (median)",
            "share of the fullest node against an even one (median)",
            "worst",
            "… with 1,024 buckets (median)",
        ],
    )
    for nodes in (1, 3, 10, 30, 100):
        found = [_shares(f"space-{n}", nodes, _BUCKETS) for n in range(200)]
        finer = [_shares(f"space-{n}", nodes, 1024) for n in range(20)]
        fullest = [max(counts) * nodes / _BUCKETS for counts in found]
        table.rows.append(
            [
                nodes,
                statistics.median(sum(count > 0 for count in counts) for counts in found),
                statistics.median(fullest),
                max(fullest),
                statistics.median(max(counts) * nodes / 1024 for counts in finer),
            ]
        )
    return table


def _shares(space: str, nodes: int, buckets: int) -> list[int]:
    from nearcache.stores.redis.topology import slot_of

    counts = [0] * nodes
    for bucket in range(buckets):
        counts[slot_of(f"nc1:{{{space}:{bucket:02x}}}".encode()) * nodes // _SLOTS] += 1
    return counts
