"""``nearcache bench``: what a hit takes on this machine, with this store; some seconds."""

import os
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from nearcache.cli.asking import AsJson, StoreUrl, failing_well, print_json

__all__ = ["bench"]

_TEXTS, _DIMENSIONS, _BATCH = 2000, 384, 1000
_ROUNDS = 7
_LIFE = 120.0  # seconds: a store forgets at once, but gives memory back at the end of a life


def bench(
    *,
    store: StoreUrl = None,
    namespace: Annotated[
        str, typer.Option(help="A namespace of its own, which is forgotten at the end.")
    ] = "nearcache-bench",
    as_json: AsJson = False,
) -> None:
    """Measure a near hit, a store hit and a batch of 1000 of each, here and with this store.

    Without a store only the near tier is measured. The figure is the median of seven rounds; what
    else runs on the machine slows it.
    """
    with failing_well("bench"):
        found = _measured(store or None, namespace)
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{found['dimensions']} dimensions, {found['core']} core, "
        f"{found['store'] or 'no store'}; median of {_ROUNDS} rounds"
    )
    for row in found["rows"]:
        typer.echo(
            f"  {row['name']:<24} {_time(row['seconds']):>10}  {row['per_second']:>13,.0f} texts/s"
        )
    if found["ratio"] is not None:
        typer.echo(f"  A near hit is {found['ratio']:,.0f} times as fast as a store hit.")


def _measured(url: str | None, namespace: str) -> dict[str, Any]:
    import numpy as np

    from nearcache import EmbeddingCache, Options
    from nearcache.near.pick import core

    texts = [f"bench {os.getpid()} {i}" for i in range(_TEXTS)]
    vectors = np.random.default_rng(1).standard_normal((_TEXTS, _DIMENSIONS)).astype(np.float32)
    options = Options(on_store_error="raise", report=0)
    with EmbeddingCache(url, namespace=namespace, ttl=_LIFE, options=options) as cache:
        cache.put_batch(texts, vectors, "bench")
        one, many = texts[0], texts[:_BATCH]
        rows = [
            _row("near hit", 1, lambda: cache.get(one, "bench")),
            _row(f"near batch of {_BATCH}", _BATCH, lambda: cache.get_batch(many, "bench")),
        ]
        ratio = None
        if url is not None:
            with EmbeddingCache(url, namespace=namespace, max_entries=0, options=options) as far:
                rows += [
                    _row("store hit", 1, lambda: far.get(one, "bench")),
                    _row(f"store batch of {_BATCH}", _BATCH, lambda: far.get_batch(many, "bench")),
                ]
            ratio = rows[2]["seconds"] / rows[0]["seconds"]
        where = cache._tiers.engine.store
        cache.clear()
        return {
            "store": None if where is None else where.address,
            "core": core()[0],
            "dimensions": _DIMENSIONS,
            "rows": rows,
            "ratio": ratio,
        }


def _row(name: str, texts: int, call: Callable[[], object]) -> dict[str, Any]:
    """Time a call: as often as a round of a tenth of a second has room for."""
    call()
    began = time.perf_counter()
    call()
    once = max(time.perf_counter() - began, 1e-7)
    times = max(1, min(100_000, int(0.1 / once)))
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            call()
        rounds.append((time.perf_counter() - began) / times)
    seconds = statistics.median(rounds)
    return {"name": name, "texts": texts, "seconds": seconds, "per_second": texts / seconds}


def _time(seconds: float) -> str:
    for unit, scale in (("ns", 1e9), ("µs", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s"
