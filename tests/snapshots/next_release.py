"""The next release of nearcache, in a process of its own: ``python next_release.py``.

Its entries have version 2, laid out as those of version 1 are. As releases must, it reads what the
one before wrote. It does what it is told, a JSON list ``[cache, method, *arguments]`` per line, and
prints what came of it; ``["store", "use", url]`` comes first, and again for another store.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

import nearcache

PACKAGE = Path(nearcache.__file__).parent


def module(name: str) -> ModuleType:
    """A module of ours, loaded once more."""
    path = PACKAGE.joinpath(*name.split(".")[1:]).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def become_the_next_release() -> None:
    """Import everything anew, with another version of entries."""
    from nearcache.codecs.values import decode_value as decode_old

    errors = sys.modules["nearcache.errors"]
    for name in [name for name in sys.modules if name.partition(".")[0] == "nearcache"]:
        del sys.modules[name]
    sys.modules["nearcache.errors"] = errors  # one tree of errors, whoever reads
    module("nearcache.entry").VERSION = 2

    import nearcache.codecs.values as envelopes

    decode_new = envelopes.decode_value

    def decode(data, name, *arguments, **more):
        decoding = decode_old if data[:3] == b"nC\x01" else decode_new
        return decoding(data, name, *arguments, **more)

    for one in list(sys.modules.values()):
        if getattr(one, "decode_value", None) is decode_new:
            one.decode_value = decode


def main() -> None:
    become_the_next_release()
    tasks: dict = {}
    ends: list = []

    def use(url: str) -> None:
        while ends:
            ends.pop()()
        tasks.update(tasks_of(url, ends))

    tasks["store"] = {"use": use, "leave": lambda: [ends.pop()() for _ in list(ends)] and None}
    import nearcache as new

    for line in sys.stdin:
        thing, method, *arguments = json.loads(line)
        try:
            answer = tasks[thing][method](*arguments)
        except new.CacheError as error:
            answer = type(error).__name__
        print(json.dumps(answer), flush=True)


def tasks_of(url: str, ends: list) -> dict:
    import nearcache as new

    ann = new.AgentCredentials("ann", new.AccessTier.CONTRIBUTOR)
    cache = new.NearCache(url, namespace="app")
    memory = new.ShortTermMemory(url)
    vectors = new.EmbeddingCache(url)
    ends += [cache.close, memory.close, vectors.close]
    return {
        "cache": {
            "get": lambda key: cache.get(key, "nothing"),
            "put": lambda key, value, tags=(): cache.put(key, value, 60.0, tags),
            "load": lambda key, value: cache.get_or_load(key, lambda: value),
            "add": lambda key: cache.update(key, lambda value: (value or 0) + 1),
            "invalidate": cache.invalidate,
            "tag": cache.invalidate_by_tag,
            "clear": lambda: cache.clear() * 0,
            "corrupt": lambda: cache.get_stats().corrupt,
        },
        "memory": {
            "stash": lambda key, value: memory.stash(key, value, ann),
            "retrieve": lambda key: memory.retrieve(key, ann),
        },
        "vectors": {
            "put": lambda text, row: vectors.put(text, np.array(row, "f4"), "m"),
            "get": lambda text: _listed(vectors.get(text, "m")),
            "load": lambda text, row: _listed(
                vectors.wrap(lambda _: np.array([row], "f4"), "m")(text)
            ),
            "corrupt": lambda: vectors.get_stats().corrupt,
        },
    }


def _listed(row) -> list[float] | None:
    return None if row is None else np.asarray(row).ravel().tolist()


if __name__ == "__main__":
    main()
