"""A process that uses caches and reports: ``report_process.py URL SECONDS NAMESPACE COUNT``.

It says "ready" when it has asked; then a line on standard input makes it ask again and say "again",
and the end of input ends it.
"""

import sys

import numpy as np

from nearcache import EmbeddingCache, NearCache, Options


def main(url: str, seconds: float, namespace: str, count: int) -> None:
    options = Options(report=seconds)
    with (
        NearCache(url, namespace=namespace, options=options) as values,
        EmbeddingCache(url, namespace=namespace, options=options) as vectors,
    ):

        def ask(answer):
            for n in range(count):
                values.get_or_load(f"k{n}", lambda: 1)
            vectors.wrap(lambda texts: np.ones((len(texts), 4), np.float32), "m")(["a", "b"])
            print(answer, flush=True)

        ask("ready")
        for _ in sys.stdin:
            ask("again")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
