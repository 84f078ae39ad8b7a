"""The demo's five passes: what is embedded, what of it reached the model, and whether it is right.

A pass is verified against what the model returned in the very call that computed a vector: this
model's results differ in the last bits from one batch to another.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from secrets import token_hex
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nearcache import CacheError, EmbeddingCache, Options
from nearcache.cli.model import MODEL, Model

__all__ = ["Meter", "NewProcess", "Pass", "Recorder", "edited", "measured", "open_cache", "run_all"]

Floats = NDArray[np.float32]
Meter = Callable[[str, int], AbstractContextManager[Callable[[int, int], None]]]
"""Shows the progress of a pass: takes its name and size, gives what hears (done, in all)."""

_HOUR = 3600.0
_TWICE = 400
"""Texts that are embedded twice: enough to measure, and half as long as the first pass at most."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass took, and how many of its vectors are not the model's."""

    name: str
    texts: int
    model_calls: int
    seconds: float
    differing: int

    @property
    def texts_per_second(self) -> float:
        """Texts answered in a second."""
        return self.texts / self.seconds


class NewProcess(Protocol):
    """Embeds texts in another process; see ``fresh_process.embed``."""

    def __call__(
        self, name: str, url: str, namespace: str, view: str, texts: list[str], expected: Floats
    ) -> Pass:
        """Run one pass there."""
        ...


class Recorder:
    """A model that counts the texts it was given and keeps what it returned for each."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0
        self.rows: dict[str, Floats] = {}

    def __call__(self, texts: list[str]) -> Floats:
        """Embed. Shapes: (n, d)."""
        self.calls += len(texts)
        rows = self.model(texts)
        self.rows.update(zip(texts, rows.copy(), strict=True))  # a copy: the cache got the original
        return rows

    def expected(self, texts: Sequence[str]) -> Floats:
        """Return the model's own vectors of texts that it was given. Shapes: (n, d)."""
        return np.stack([self.rows[text] for text in texts])

    def differing(self, texts: Sequence[str], vectors: Floats) -> int:
        """Return how many of the vectors are not, to the bit, what the model returned."""
        expected = self.expected(texts)
        if vectors.shape != expected.shape or vectors.dtype != expected.dtype:
            return len(texts)
        bits = [np.ascontiguousarray(matrix).view(np.uint32) for matrix in (vectors, expected)]
        return int((bits[0] != bits[1]).any(axis=1).sum())


def open_cache(url: str, namespace: str, texts: int) -> EmbeddingCache:
    """Return a cache whose near tier holds that many texts, and whose store forgets them soon."""
    return EmbeddingCache(
        url,
        namespace=namespace,
        max_entries=max(50_000, 4 * texts),
        max_bytes=max(256 * 2**20, texts * 2**15),
        ttl=_HOUR + texts,  # a second for each text: a slow machine's last pass finds them still
        # Small batches, so that the bar moves: this model is as fast with them. A store that is
        # not there would make a demo of nothing.
        options=Options(max_batch=64, on_store_error="raise"),
    )


def measured(
    name: str,
    cache: EmbeddingCache,
    recorder: Recorder,
    texts: Sequence[str],
    meter: Meter | None = None,
) -> Pass:
    """Embed texts through a cache, by the clock, and compare every vector with the model's."""
    texts = [f"{text} "[:-1] for text in texts]  # new objects, as a program that reads them has
    before = recorder.calls
    with nullcontext() if meter is None else meter(name, len(texts)) as tell:
        embed = cache.wrap(recorder, model=MODEL, progress=tell)
        start = perf_counter()
        vectors = embed(texts)
        seconds = perf_counter() - start
    calls = recorder.calls - before
    return Pass(name, len(texts), calls, seconds, recorder.differing(texts, vectors))


def run_all(
    texts: list[str],
    model: Model,
    url: str,
    namespace: str,
    meter: Meter,
    new_process: NewProcess,
) -> tuple[list[Pass], int]:
    """Run the five passes, forget in the store what they wrote; return them and the dimension.

    Raises: StoreError when the store fails, ConfigError when its URL is wrong.
    """
    # Views that nobody else can name: whatever is in the user's namespace, the first pass is cold,
    # and forgetting everything at the end forgets nothing of theirs.
    run = token_hex(4)
    cache = open_cache(url, namespace, len(texts))
    whole, part = cache.view(f"{run}-all"), cache.view(f"{run}-twice")
    try:
        recorder = Recorder(model)
        passes = [
            measured("cold", whole, recorder, texts, meter),
            measured("warm near", whole, recorder, texts, meter),
        ]
        name = "new process, warm store"
        with meter(name, len(texts)):
            expected = recorder.expected(texts)
            passes.append(new_process(name, url, namespace, f"{run}-all", texts, expected))
        passes.append(
            measured("1 % of passages edited", whole, recorder, edited(texts), meter),
        )
        distinct = list(dict.fromkeys(texts))
        some = distinct[:: max(1, len(distinct) // _TWICE)][:_TWICE]
        passes.append(
            measured("every passage twice", part, Recorder(model), some + some, meter),
        )
        return passes, expected.shape[1]
    finally:
        with suppress(CacheError):  # the store is gone; entries end by themselves within the hour
            whole.clear()
            part.clear()
        cache.close()


def edited(texts: list[str]) -> list[str]:
    """Return the texts with one word changed in one of every hundred, at least in one."""
    result = list(texts)
    known = set(texts)
    count = max(1, round(len(texts) / 100))
    for number in range(count):
        at = (2 * number + 1) * len(texts) // (2 * count)  # evenly over the whole
        words = list(re.finditer(r"\w+", texts[at]))
        middle = words[len(words) // 2]
        text = texts[at][: middle.start()] + "edited" + texts[at][middle.end() :]
        while text in known:  # there is such a text already: it would be no edit
            text += " edited"
        result[at] = text
        known.add(text)
    return result
