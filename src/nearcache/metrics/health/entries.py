"""A sample of what a store holds: can this release read it, and is all of it of one kind?"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator

from nearcache.caches.stored import Name, entry_of, name_of, shown_space
from nearcache.keys import KeySpace
from nearcache.metrics.health.check import Check
from nearcache.stores.base import Start, Store

__all__ = ["entries", "start_of"]

_SAMPLE = 500
_PAGES = 40  # a server that holds much else is not looked through for ours
_SECONDS = 2.0


def start_of(namespace: str | None) -> Start:
    """Return how the stored names of a namespace, or of all, begin."""
    if namespace is None:
        return b"nc1:{", b""
    return f"nc1:{{{KeySpace(namespace).name}:".encode(), b"}:"


def entries(store: Store, namespace: str | None) -> Iterator[Check]:
    """Say whether a sample of the entries can be read."""
    bad: Counter[str] = Counter()
    codecs: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    where: dict[str, str] = {}
    looked = 0
    for name, data in _sample(store, namespace):
        entry = entry_of(name, data)
        space = shown_space(name.namespace, name.view)
        looked += 1
        if entry.state != "ok":
            bad[entry.state] += 1
            where.setdefault(entry.state, space)
        elif entry.codec not in ("None", "absence"):
            kept = f"{entry.codec} of {entry.dimensions}" if entry.dimensions else entry.codec
            codecs[space, name.identity or "values"][kept] += 1
    if bad["unknown"]:
        detail = f"{bad['unknown']} of {looked} entries looked at were written by another release "
        cure = (
            "Bring all workers to one release, or give each release a namespace of its own: to the "
            "others these entries are misses."
        )
        yield Check("entries", "fail", f"{detail}(namespace {where['unknown']})", cure)
    if bad["corrupt"]:
        detail = f"{bad['corrupt']} of {looked} entries looked at do not verify "
        cure = (
            "They are misses, and are replaced when they are asked for. Look for another program "
            "that writes there, or a disk that fails."
        )
        yield Check("entries", "warn", f"{detail}(namespace {where['corrupt']})", cure)
    for (space, what), kinds in sorted(codecs.items()):
        if len(kinds) > 1:
            thing = "values" if what == "values" else "vectors of one model"
            detail = f"{thing} in namespace {space} are kept as {' and as '.join(sorted(kinds))}"
            cure = (
                "Two programs, or two settings, share one namespace and replace each other's "
                "entries: give codec, precision and model the same settings, or other namespaces."
            )
            yield Check("entries", "fail", detail, cure)
    if not bad and all(len(kinds) <= 1 for kinds in codecs.values()):
        yield Check("entries", "ok", f"{looked} looked at, all can be read")


def _sample(store: Store, namespace: str | None) -> Iterator[tuple[Name, bytes]]:
    cursor, seen, end = 0, 0, time.monotonic() + _SECONDS
    for _ in range(_PAGES):
        cursor, names = store.scan(start_of(namespace), cursor, _SAMPLE)
        known = [name for raw in dict.fromkeys(names) if (name := name_of(raw)) is not None]
        known = known[: _SAMPLE - seen]
        for at in range(0, len(known), 50):
            part = known[at : at + 50]
            found = store.look([name.raw for name in part], []).values
            yield from ((n, data) for n, data in zip(part, found, strict=True) if data is not None)
            if time.monotonic() > end:
                return
        seen += len(known)
        if not cursor or seen >= _SAMPLE or time.monotonic() > end:
            return
