"""A batch of 1000 vectors of 1536 dimensions from three nodes, near tier off."""

import hashlib
from contextlib import ExitStack

import numpy as np
from redis.cluster import ClusterNode, RedisCluster

from bench import data, limits, ours
from bench.machine import log, one_core, other_core
from bench.report import Judged, Report, timings
from bench.timing import Contestant, Matrix, Sample, race

__all__ = ["measure"]

_SIZE, _HELD, _DIMENSION = 1000, 2000, 1536
_BUCKETS = 64


def measure(report: Report, *, quick: bool) -> None:
    """Race ours against redis-py's ``mget_nonatomic``, its pipeline, and buckets by hand."""
    from clusters import Cluster
    from nearcache.stores.redis.cluster import ClusterStore
    from servers import Server

    log("cluster: a batch from three nodes")
    rounds = 7 if quick else 25
    texts = list(data.passages(_HELD))
    matrix = data.vectors(_HELD, _DIMENSION)
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(replicas=0))
        single = stack.enter_context(Server())
        for node in (*cluster.nodes, single):
            other_core(node.pid)
        start = [ClusterNode("127.0.0.1", node.port) for node in cluster.nodes]
        client = stack.enter_context(RedisCluster(startup_nodes=start))
        nonatomic = _nonatomic(client, matrix)
        store = ClusterStore(cluster.url, timeout=20.0)  # a busy machine is not what is measured
        stack.callback(store.close)
        mine = ours.from_store(stack, texts, matrix, lambda _: store)
        alone = stack.enter_context(single.client())
        contestants = [
            nonatomic,
            *mine,
            _pipeline(client, matrix),
            _buckets(client, matrix),
            limits.mget(alone, matrix),
        ]
        with one_core():
            found = race(contestants, data.sampler(texts, matrix, _SIZE), rounds)
    title = f"{_SIZE} × {_DIMENSION}-d from a cluster of three, {rounds} rounds"
    report.tables.append(timings(title, found, _SIZE, nonatomic.name))
    at = {name: timing.median for name, timing in found.items()}
    for contestant in mine:
        goal = f"{contestant.name} against redis-py's mget_nonatomic"
        report.judged.append(Judged(goal, 0.5, at[contestant.name] / at[nonatomic.name]))
    report.notes.append(
        "Three Valkey nodes share one core, the client has the other. redis-py knows its keys "
        "beforehand, stores bare rows under keys without hash tags and has nothing to verify; "
        "nearcache hashes the texts, checks each value's sum and reads what was forgotten in the "
        "same request. `limit: redis-py MGET` is one server that is no cluster."
    )


def _names(count: int, form: str) -> list[bytes]:
    digests = [hashlib.sha256(n.to_bytes(8, "little")).hexdigest() for n in range(count)]
    return [
        form.format(bucket=int(digest[:2], 16) % _BUCKETS, digest=digest).encode()
        for digest in digests
    ]


def _filled(client: RedisCluster, matrix: Matrix, form: str) -> list[bytes]:
    keys = _names(len(matrix), form)
    client.mset_nonatomic({key: row.tobytes() for key, row in zip(keys, matrix, strict=True)})
    return keys


def _matrix(rows: list[bytes], dimension: int) -> Matrix:
    return np.frombuffer(b"".join(rows), dtype=np.float32).reshape(-1, dimension)


def _nonatomic(client: RedisCluster, matrix: Matrix) -> Contestant:
    keys = _filled(client, matrix, "peer:{digest}")

    def get(sample: Sample) -> Matrix:
        rows = client.mget_nonatomic([keys[i] for i in sample.index])
        return _matrix(rows, matrix.shape[1])

    return Contestant("redis-py mget_nonatomic, keys without tags", get)


def _pipeline(client: RedisCluster, matrix: Matrix) -> Contestant:
    keys = _names(len(matrix), "peer:{digest}")

    def get(sample: Sample) -> Matrix:
        with client.pipeline() as pipe:
            for i in sample.index:
                pipe.get(keys[i])
            return _matrix(pipe.execute(), matrix.shape[1])

    return Contestant("redis-py pipeline of GETs", get)


def _buckets(client: RedisCluster, matrix: Matrix) -> Contestant:
    keys = _filled(client, matrix, "peer:{{ns:{bucket:02x}}}:{digest}")

    def get(sample: Sample) -> Matrix:
        rows = client.mget_nonatomic([keys[i] for i in sample.index])
        return _matrix(rows, matrix.shape[1])

    return Contestant("redis-py mget_nonatomic, 64 hash tags", get)
