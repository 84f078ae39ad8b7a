"""One of several processes that embed the same texts at once, started by :mod:`bench.calls`.

``python -m bench.worker URL FOLDER NUMBER`` says it is ready with a file, waits for ``go``, and
appends every text that reaches its model to the file ``asked``.
"""

import random
import sys
import time
from pathlib import Path

import numpy as np

from bench import data
from bench.timing import Matrix
from nearcache import EmbeddingCache

TEXTS = [f"text number {number}" for number in range(50)]
DELAY = 0.05


def main(url: str, folder: Path, number: int) -> None:
    """Embed all texts in an order of our own and check every row."""

    def model(texts: list[str]) -> Matrix:
        with (folder / "asked").open("a", encoding="utf-8") as asked:
            asked.write("".join(text + "\n" for text in texts))
        time.sleep(DELAY)
        return np.stack([data.fake_vector(text) for text in texts])

    texts = list(TEXTS)
    random.Random(number).shuffle(texts)
    with EmbeddingCache(url, namespace="calls") as cache:
        embed = cache.wrap(model, model="m")
        (folder / f"ready{number}").touch()
        while not (folder / "go").exists():
            time.sleep(0.001)
        got = embed(texts)
    if not np.array_equal(got, np.stack([data.fake_vector(text) for text in texts])):
        msg = "a row is not what the model returned"
        raise ArithmeticError(msg)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
