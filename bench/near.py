"""Warm batches from near: 1000 texts of 500 characters, 384-d, out of 50,000 rows."""

from bench import data, limits, others, ours, seed
from bench.machine import log, one_core
from bench.report import Judged, Report, timings
from bench.timing import race

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
    cache = ours.filled([text[:1] + text[1:] for text in texts], matrix, max_entries=count)
    call = ours.wrapped(cache, "nearcache, embed(texts)")
    plain = ours.get_batch(cache, "nearcache, get_batch")
    contestants = [limit, call, plain, old, langchain, others.litellm_memory(texts, matrix)]
    with cache, one_core():
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
