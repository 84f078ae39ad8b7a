"""Warm batches: 1000 texts of 500 characters, 384-d, out of 50,000 rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench import data, limits, others, ours, seed
from bench.machine import log, one_core
from bench.near.tiers import CORES, SHELF, default_policy, fill_rows, vector_tier
from bench.report import Judged, Report, timings
from bench.timing import Contestant, Matrix, Sample, race
from nearcache import EmbeddingCache

__all__ = ["run", "tier_rows"]

TITLE = "Warm near batch of 1000 new str objects → (1000, 384)"
_SIZE, _DIMENSION = 1000, 384
_OFF = {"float32": 0.0, "float16": 1e-3, "int8": 5e-3}  # of unit rows, at most
_TIER = "tier, {}, {}"


def run(*, quick: bool) -> Report:
    """Race the near tier against its limit, the seed and the in-memory peers."""
    report = Report("near.batch", TITLE, quick)
    count, rounds = (5_000, 9) if quick else (50_000, 31)
    texts = list(data.passages(count))
    matrix = data.vectors(count, _DIMENSION)
    log(f"near.batch: {count} rows for every contestant")
    limit = limits.gather(matrix)
    old = seed.in_memory(texts, matrix)
    langchain = others.langchain_memory(texts, matrix)
    caches = [_filled(texts, matrix) for _ in range(2)]  # each call its own: no row is warm
    call = _generate_batch(caches[0])
    plain = ours.get_batch(caches[1], "nearcache, get_batch")
    contestants = [limit, call, plain, *_tiers(texts, matrix), old, langchain]
    contestants.append(seed.with_its_entries(texts, matrix))
    contestants.append(others.litellm_memory(texts, matrix))
    with caches[0], caches[1], one_core():
        found = race(contestants, data.sampler(texts, matrix, _SIZE), rounds)
    report.tables.append(timings(f"{count} rows, {rounds} rounds", found, _SIZE, limit.name))
    at = {name: timing.median for name, timing in found.items()}
    _judge(report, at, limit.name, {"call": call.name, "seed": old.name, "peer": langchain.name})
    report.notes.append(
        "The limit copies the same random rows (`take`) and hashes every text once; all others "
        "find the rows by text. `tier` is `get_all` of the near tier itself, native or pure, at a "
        f"precision; the policy is a cache's default ({default_policy()}). float16 and int8 rows "
        "come out as float32 and are compared within their precision, all others bit for bit. "
        "generate_batch is what `cache.wrap(…)` gives, on the core this process runs."
    )
    return report


def _generate_batch(cache: EmbeddingCache) -> Contestant:
    name = "nearcache, generate_batch"
    generate = cache.wrap(ours.no_model, model=ours.MODEL).generate_batch
    return Contestant(name, lambda sample: generate(sample.texts))


def _tiers(texts: list[str], matrix: Matrix) -> Iterator[Contestant]:
    for core in CORES:
        for precision in _OFF:
            yield tier_rows(_TIER.format(core, precision), core, precision, texts, matrix)


def tier_rows(
    name: str, core: str, precision: str, texts: list[str], matrix: Matrix, **options: Any
) -> Contestant:
    """Return ``get_all`` of a tier filled with the rows; one batch is compared at once."""
    tier = vector_tier(core, precision, len(texts), **options)
    fill_rows(tier, precision, [text[:1] + text[1:] for text in texts], matrix)
    get_all = tier.get_all

    def get(sample: Sample) -> Matrix:
        return get_all(SHELF, sample.texts)

    rows = get_all(SHELF, texts[:_SIZE])
    if rows is None or np.abs(rows - matrix[:_SIZE]).max() > _OFF[precision]:
        msg = f"{name} returns other rows than were put"
        raise ArithmeticError(msg)
    return Contestant(name, get, answers=precision == "float32")


def _judge(report: Report, at: dict[str, float], limit: str, names: dict[str, str]) -> None:
    def judge(what: str, target: float, one: str, other: str, **more: Any) -> None:
        report.judged.append(Judged(what, target, at[one] / at[other], **more))

    call, old = names["call"], names["seed"]
    if "native" in CORES:
        rows, small = (_TIER.format("native", kind) for kind in ("float32", "int8"))
        judge("native batch against its limit", 1.5, rows, limit)
        judge("native batch against the seed's way", 30, old, rows, at_least=True)
        judge("native int8 rows against float32 rows", 1.0, small, rows)
        judge("generate_batch against the limit", 2.0, call, limit)
    judge("generate_batch against LangChain", 10, names["peer"], call, at_least=True)
    judge("pure batch against the limit", 4.0, _TIER.format("pure", "float32"), limit)


def _filled(texts: list[str], matrix: Matrix) -> EmbeddingCache:
    keys = [text[:1] + text[1:] for text in texts]  # str objects that only the cache has
    return ours.filled(keys, matrix, max_entries=len(keys))
