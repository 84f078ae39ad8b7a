"""What one question about health brought."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer; ``cure`` says what to do where it is not "ok"."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""
