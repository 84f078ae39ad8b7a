"""Warm batches from Redis with the near tier off, and the bytes of a value there."""

from contextlib import ExitStack

import redis

from bench import data, limits, others, ours, seed
from bench.machine import log, one_core
from bench.report import Judged, Report, Table, timings
from bench.servers import valkey
from bench.timing import race

__all__ = ["run"]

TITLE = "Warm Redis batch of 1000 → matrix, near tier off"
_SIZE, _HELD = 1000, 2000
_ROOM = {"float32": 6144 + 64, "float16": 3072 + 64, "int8": 1536 + 72}


def run(*, quick: bool) -> Report:
    """Race Redis batches at 384-d and 1536-d against redis-py's MGET, the seed and the peers."""
    report = Report("redis_store", TITLE, quick)
    rounds = 9 if quick else 25
    for dimension in (384, 1536):
        with valkey() as port:
            _race(report, port, dimension, rounds)
    with valkey() as port:
        _sizes(report, port)
    report.notes.append(
        "A Valkey server on loopback, on another core. The limit knows its keys beforehand and "
        "stores bare rows; nearcache hashes the texts, verifies a checksum per value and checks "
        "what was forgotten in the same round trip."
    )
    return report


def _race(report: Report, port: int, dimension: int, rounds: int) -> None:
    log(f"redis_store: {dimension}-d")
    texts = list(data.passages(_HELD))
    matrix = data.vectors(_HELD, dimension)
    with ExitStack() as stack:
        client = stack.enter_context(redis.Redis("127.0.0.1", port))
        limit = limits.mget(client, matrix)
        old = seed.in_redis(client, texts, matrix)
        mine = ours.from_store(stack, texts, matrix, lambda _: f"redis://127.0.0.1:{port}/0")
        contestants = [limit, *mine, old]
        contestants += [
            others.langchain_redis(client, texts, matrix),
            others.redisvl_cache(client, texts, matrix),
            others.litellm_redis(port, texts, matrix),
        ]
        with one_core():
            found = race(contestants, data.sampler(texts, matrix, _SIZE), rounds)
    title = f"{dimension}-d, {rounds} rounds"
    report.tables.append(timings(title, found, _SIZE, limit.name))
    at = {name: timing.median for name, timing in found.items()}
    slower = max(at[mine[0].name], at[mine[1].name])
    if dimension == 1536:
        report.judged += [
            Judged("Redis batch against redis-py's MGET", 1.6, slower / at[limit.name]),
            Judged("Redis batch against the seed's GETs", 40, at[old.name] / slower, at_least=True),
        ]


def _sizes(report: Report, port: int) -> None:
    texts = list(data.passages(10))
    matrix = data.vectors(10, 1536)
    table = Table("Bytes of one 1536-d value", ["precision", "STRLEN", "MEMORY USAGE with key"])
    with redis.Redis("127.0.0.1", port) as client:
        for precision, room in _ROOM.items():
            client.flushall()
            url = f"redis://127.0.0.1:{port}/0"
            ours.filled(texts, matrix, url, precision=precision).close()
            keys = values(client, list(client.scan_iter(count=1000)))
            size = max(client.strlen(key) for key in keys)
            table.rows.append([precision, size, max(client.memory_usage(key) for key in keys)])
            report.judged.append(Judged(f"STRLEN of a {precision} value", room, size, "bytes"))
    report.tables.append(table)


def values(client: redis.Redis, keys: list[bytes]) -> list[bytes]:
    """Return those of ``keys`` that hold a string long enough to be a vector."""
    strings = [key for key in keys if client.type(key) == b"string"]
    return [key for key in strings if client.strlen(key) > 384]
