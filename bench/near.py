"""Warm batches from near: 1000 texts of 500 characters, 384-d, out of 50,000 rows."""

from bench import data, limits, others, ours, seed
from bench.machine import log, one_core
from bench.report import Judged, Report, timings
from bench.timing import Matrix, race
from nearcache import EmbeddingCache

__all__ = ["run"]

TITLE = "Warm near batch of 1000 new str objects → (1000, 384)"
_SIZE, _DIMENSION = 1000, 384


def run(*, quick: bool) -> Report:
    """Race the near tier against its limit, the seed and the in-memory peers."""
    report = Report("near", TITLE, quick)
    count, rounds = (5_000, 9) if quick else (50_000, 31)
    texts = list(data.passages(count))
    matrix = data.vectors(count, _DIMENSION)
    log(f"near: {count} rows for every contestant")
    limit = limits.gather(matrix)
    old = seed.in_memory(texts, matrix)
    langchain = others.langchain_memory(texts, matrix)
    caches = [_filled(texts, matrix) for _ in range(2)]  # each call its own: no row is warm
    call = ours.wrapped(caches[0], "nearcache, embed(texts)")
    plain = ours.get_batch(caches[1], "nearcache, get_batch")
    contestants = [limit, call, plain, old, seed.with_its_entries(texts, matrix), langchain]
    contestants.append(others.litellm_memory(texts, matrix))
    with caches[0], caches[1], one_core():
        found = race(contestants, data.sampler(texts, matrix, _SIZE), rounds)
    report.tables.append(timings(f"{count} rows, {rounds} rounds", found, _SIZE, limit.name))
    at = {name: timing.median for name, timing in found.items()}
    mine = max(at[call.name], at[plain.name])
    report.judged += [
        Judged("near batch against its limit", 4, mine / at[limit.name]),
        Judged("near batch against the seed's way", 8, at[old.name] / mine, at_least=True),
        Judged("near batch against LangChain", 10, at[langchain.name] / mine, at_least=True),
    ]
    report.notes.append(
        "The limit copies the same random rows (`take`) and hashes every text once; all others "
        "find the rows by text. The slower of nearcache's two calls is judged."
    )
    return report


def _filled(texts: list[str], matrix: Matrix) -> EmbeddingCache:
    keys = [text[:1] + text[1:] for text in texts]  # str objects that only the cache has
    return ours.filled(keys, matrix, max_entries=len(keys))
