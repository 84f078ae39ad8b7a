"""A process of its own with a HotMemoryCache: ``python hot_process.py TASK URL FOLDER …``.

FOLDER is where the processes of a test meet, as ``embedding_process.py`` says.
"""

import asyncio
import os
import sys
from pathlib import Path

from embedders import until
from embedding_process import Meeting
from hot_fixtures import A, linked
from nearcache.caches.hot import HotMemoryCache

_HANG = 60.0


def follow(url: str, folder: str, face: str, *values: str) -> None:
    """Hold A near; expect it to become each of these values, "-" for none; say so each time."""
    cache = HotMemoryCache(url)

    def get() -> object:
        return cache.get(A) if face == "sync" else asyncio.run(cache.as_async().get(A))

    linked(cache)
    Meeting(folder).start_together()
    for number, value in enumerate(values):
        until(lambda value=value: get() == (None if value == "-" else value), _HANG)
        (Path(folder) / f"saw-{number}-{os.getpid()}").touch()
    cache.close()


def forget(url: str, folder: str, how: str, *arguments: str) -> None:
    """Call one of the cache's methods, and end."""
    with HotMemoryCache(url) as cache:
        getattr(cache, how)(*arguments)


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    globals()[task](*arguments)
