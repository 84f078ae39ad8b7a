"""Prometheus' text form: families of samples, each name once."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["CONTENT_TYPE", "Family", "buckets", "exposed"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, Mapping[str, str], float]  # what follows the family's name, labels, value
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_ESCAPES_OF_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass(slots=True)
class Family:
    """All samples of one name, as it is written: a counter's ends with ``_total``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    samples: list[Sample] = field(default_factory=list)

    def add(self, value: float, labels: Mapping[str, str] | None = None, suffix: str = "") -> None:
        """Add one sample."""
        self.samples.append((suffix, labels or {}, value))


def exposed(families: Iterable[Family]) -> str:
    """Return families as Prometheus reads them; those without samples are left out."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.about.translate(_ESCAPES_OF_HELP)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines += [
            f"{family.name}{suffix}{_labels(labels)} {_number(value)}"
            for suffix, labels, value in family.samples
        ]
    return "".join(f"{line}\n" for line in lines)


def buckets(
    bounds: Sequence[float], counts: Sequence[int], total: float, labels: Mapping[str, str]
) -> list[Sample]:
    """Return the samples of a histogram. ``counts``: one for each bound, one for the rest."""
    samples, running = list[Sample](), 0
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        running += count
        samples.append(("_bucket", {**labels, "le": _number(bound)}, running))
    return [*samples, ("_sum", labels, total), ("_count", labels, running)]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_readable(value).translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}"


def _readable(text: str) -> str:
    """Return a text without what UTF-8 cannot write."""
    return text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if float(value).is_integer() and abs(value) < 2**53:
        return str(int(value))
    return repr(float(value))
