"""Texts and vectors: real text where the data folder is at hand, our own where it is not."""

import csv
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.timing import Sample

__all__ = ["fake_vector", "folder", "passages", "sampler", "search_log", "source", "vectors"]

_WORDS = (
    "order refund balance card payment address email exchange parcel account store window "
    "delivery customer question agent answer number price item size colour return reason "
    "transfer currency limit holiday market river teacher engine library winter morning"
).split()


def folder() -> Path:
    """Return the data folder: NEARCACHE_DATA, or ../shared/data beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("NEARCACHE_DATA") or beside)


def source() -> str:
    """Return a line that says which texts the benchmarks use."""
    return _corpus()[1]


@cache
def _corpus() -> tuple[str, str]:
    dialogues = folder() / "tau_retail_few_shot.jsonl.gz"
    questions = folder() / "banking77_train.csv"
    if not (dialogues.exists() and questions.exists()):
        return _made_up(1_200_000), "texts made up from 41 words (no data folder found)"
    parts = []
    with gzip.open(dialogues, "rt", encoding="utf-8") as lines:
        parts.extend(json.loads(line)["messages_display"] for line in lines)
    with questions.open(encoding="utf-8", newline="") as rows:
        parts.extend(row["text"] for row in csv.DictReader(rows))
    text = "\n".join(parts).encode("ascii", "ignore").decode("ascii")
    return text, "real text: tau-bench retail dialogues and banking77 customer questions"


def _made_up(length: int) -> str:
    rng = np.random.default_rng(41)
    words = [_WORDS[i] for i in rng.integers(len(_WORDS), size=length // 5)]
    return " ".join(words)[:length]


def passages(count: int, size: int = 500) -> Iterator[str]:
    """Yield ``count`` distinct new str objects of exactly ``size`` ASCII characters.

    Consecutive cuts of the corpus; where it is too short for that they overlap.
    """
    text = _corpus()[0]
    step = (len(text) - size) // count
    if step < 1:
        msg = f"the corpus of {len(text)} characters has no {count} passages"
        raise ValueError(msg)
    repeated = _repeated(text, step, count, size)
    for number in range(count):
        passage = text[number * step : number * step + size]
        # a stretch of the corpus that came before is made another text
        yield f"{number:08d} " + passage[9:] if number in repeated else passage


def _repeated(text: str, step: int, count: int, size: int) -> set[int]:
    """Return the numbers of the cuts that equal an earlier one."""
    seen: set[int] = set()
    repeated = set()
    for number in range(count):
        cut = hash(text[number * step : number * step + size])
        if cut in seen:
            repeated.add(number)
        seen.add(cut)
    return repeated


def vectors(count: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    """Return unit rows of noise: nothing about them is easy to compress or to print."""
    matrix = np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix


def fake_vector(text: str, dimension: int = 384) -> NDArray[np.float32]:
    """Return the vector of a pretended model: the same text always gives the same bits."""
    rng = np.random.default_rng(zlib.crc32(text.encode("utf-8", "surrogatepass")))
    return rng.standard_normal(dimension, dtype=np.float32)


def sampler(
    texts: list[str], matrix: NDArray[np.float32], size: int = 1000
) -> Callable[[], Sample]:
    """Return a function that draws ``size`` different rows at random, others at every call."""
    rng = np.random.default_rng(7)

    def draw() -> Sample:
        index = rng.permutation(len(texts))[:size]
        return Sample([texts[i] for i in index], index, matrix[index])

    return draw


def search_log() -> tuple[list[str], int, str]:
    """Return a search log's queries in order of time, the number of blank ones, its name."""
    log = folder() / "excite-small.log"
    if not log.exists():
        rng = np.random.default_rng(3)
        ranks = np.minimum(rng.zipf(1.3, size=4_000), 5_000)
        return [f"query {rank}" for rank in ranks], 0, "made-up Zipf log (no data folder found)"
    rows = [line.split("\t") for line in log.read_text("latin-1").splitlines()]
    rows.sort(key=lambda row: row[1])  # stable: rows of one second keep their order
    queries = [row[2] for row in rows]
    kept = [query for query in queries if query.strip()]
    return kept, len(queries) - len(kept), "excite-small.log (a real search log of 1997)"
