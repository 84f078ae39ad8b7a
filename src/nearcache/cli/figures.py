"""What the demo reports: one document for the table, the JSON and the page."""

import os
import platform
from dataclasses import dataclass
from typing import Any

from nearcache.cli.passes import Pass

__all__ = ["NOTES", "Report", "counted", "rate", "saved", "seconds", "times"]

NOTES = (
    "model calls: texts that reached the model, which was in memory before the first of them.",
    "new process: the seconds of its one call, with nothing near; starting Python is not counted.",
    "saved seconds: texts × the cold pass's seconds per model call, less the seconds taken.",
)
"""What a reader has to know about the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run of the demo: what was embedded, where it was kept, and its passes, cold first."""

    version: str
    model: str
    dimension: int
    corpus: str
    cut_short: bool
    texts: int
    distinct_texts: int
    store: str
    namespace: str
    model_load_seconds: float
    passes: list[Pass]

    @property
    def differing(self) -> int:
        """Vectors, over all passes, that were not the model's to the bit."""
        return sum(each.differing for each in self.passes)

    @property
    def verified(self) -> bool:
        """Whether every vector was the model's to the bit."""
        return not self.differing

    def speedup(self, each: Pass) -> float:
        """Return a pass's texts per second over the cold pass's."""
        return each.texts_per_second / self.passes[0].texts_per_second

    def saved_seconds(self, each: Pass) -> float:
        """Return what the texts would have cost had each reached the model, less what they did.

        The price of a text is the cold pass's, writing to both tiers included.
        """
        cold = self.passes[0]
        return each.texts * cold.seconds / cold.model_calls - each.seconds

    def verdict(self) -> str:
        """Return the sentence on whether the vectors were right."""
        if self.verified:
            return "verified: every cached vector equals the model's to the bit"
        parts = ", ".join(
            f"{each.differing} of {each.texts} in “{each.name}”"
            for each in self.passes
            if each.differing
        )
        return f"NOT verified: vectors that differ from the model's: {parts}"

    def facts(self) -> dict[str, str]:
        """Return what was run, for people: by what it is about."""
        first = "the first " if self.cut_short else ""
        return {
            "text": f"{first}{self.texts:,} passage{'s' * (self.texts != 1)} "
            f"({self.distinct_texts:,} distinct) of {self.corpus}",
            "model": f"{self.model}, {self.dimension} dimensions",
            "store": self.store,
            "machine": f"Python {platform.python_version()}, {_cores()}",
        }

    def to_json(self) -> dict[str, Any]:
        """Return the whole as what JSON can hold."""
        return {
            "nearcache": self.version,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}, {_cores()}",
            "model": self.model,
            "dimension": self.dimension,
            "corpus": self.corpus,
            "texts": self.texts,
            "distinct_texts": self.distinct_texts,
            "store": self.store,
            "namespace": self.namespace,
            "model_load_seconds": self.model_load_seconds,
            "verified": self.verified,
            "passes": [
                {
                    "name": each.name,
                    "texts": each.texts,
                    "model_calls": each.model_calls,
                    "seconds": each.seconds,
                    "texts_per_second": each.texts_per_second,
                    "speedup": self.speedup(each),
                    "saved_seconds": self.saved_seconds(each),
                    "differing": each.differing,
                }
                for each in self.passes
            ],
        }


def _cores() -> str:
    count = os.cpu_count() or 1
    return f"{count} core{'s' * (count != 1)}"


def counted(number: float) -> str:
    """Return a whole number for people: 2,000."""
    return f"{number:,.0f}"


def rate(number: float) -> str:
    """Return texts per second for people; below ten with what follows the point."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"


def seconds(number: float) -> str:
    """Return seconds for people: about three digits that count."""
    after = 1 if number >= 10 else 2 if number >= 1 else 4 if number >= 0.001 else 6
    return f"{number:.{after}f}"


def saved(number: float) -> str:
    """Return saved seconds for people: tenths, and nothing saved is no minus nothing."""
    return f"{round(number, 1) + 0.0:,.1f}"


def times(number: float) -> str:
    """Return a factor for people: 2.0 ×, 3,210 ×."""
    return f"{number:.1f} ×" if number < 100 else f"{number:,.0f} ×"
