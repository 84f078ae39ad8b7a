"""A process with a RetrievalCache that does what it is told, a JSON line at a time.

``python retrieval_process.py obey URL HOW``. Each order is answered by one line; a load asks
back in between for what the database has, and waits. A process that is *deaf* drops no list: the
lie that its test must find out.
"""

import json
import sys
from typing import Any

from nearcache.caches.memory_key import MemoryKey
from nearcache.caches.retrieval import RetrievalCache
from processes import perform
from retrieval_fixtures import hears


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def told() -> dict[str, Any]:
    return json.loads(sys.stdin.readline())


def obey(url: str, how: str) -> None:
    """Do what the test says until it says no more."""
    with RetrievalCache(url) as cache:
        hears(cache)
        say({"ready": True})
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "stats":
                say(cache.get_stats().to_dict())
            elif order["do"] in ("get", "load", "put"):
                say({"answer": read(cache, **order)})
            else:
                if how != "deaf":
                    forget(cache, **order)
                say({"done": True})


def read(
    cache: RetrievalCache, do: str, query: Any, scope: str | None, found: Any = None
) -> list[Any] | None:
    """Ask for a list, load it where it is not there, or put what the test found."""

    def load() -> tuple[list[Any], list[str]]:
        say({"asks": True})
        now = told()
        return now["results"], now["ids"]

    if do == "get":
        return cache.get(query, scope)
    if do == "put":
        cache.put(query, found["results"], memory_ids=found["ids"], scope=scope)
        return found["results"]
    return cache.get_or_load(query, load, scope)


def forget(cache: RetrievalCache, do: str, of: Any) -> None:
    """Say that something changed, or that something is no longer wanted."""
    if do == "clear":
        cache.clear()
    elif do == "invalidate_by_scope":
        cache.invalidate_by_scope(of)
    else:
        getattr(cache, do)(of if isinstance(of, str) else MemoryKey(*of))


if __name__ == "__main__":
    perform(globals())
