"""``nearcache keys``: what a store holds, a page at a time."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nearcache.cli.asking import (
    AsJson,
    Namespace,
    StoreUrl,
    failing_well,
    opened,
    print_json,
    unescaped,
)

if TYPE_CHECKING:
    from nearcache.caches.stored import Name
    from nearcache.stores.base import Store

__all__ = ["keys"]

_CURSOR = re.compile(r"(\d{1,100})((?:\.[0-9a-f]{16})*)", re.ASCII)


def keys(
    pattern: Annotated[
        str | None,
        typer.Argument(help="Only keys that match, e.g. 'user:*' ([!a]?* as in a shell)"),
    ] = None,
    *,
    store: StoreUrl = None,
    namespace: Namespace = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only vectors of this model.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Keys at most.")] = 50,
    cursor: Annotated[str, typer.Option(help="Go on where a page ended.")] = "0",
    as_json: AsJson = False,
) -> None:
    """List what is stored: keys as you wrote them, kinds, sizes, remaining lives.

    A vector's key is its model's identity and the hash of its text: texts are not stored. Any other
    key is written so that get and invalidate read it as the same: keys of several parts as JSON
    lists. There is more while a page names a cursor.
    """
    with failing_well("keys"), opened(store) as place:
        begin = Cursor.of(cursor)
        names, following = _page(place, _filter(pattern, model), namespace, limit, begin)
        rows = _described(place, names)
        if as_json:
            end = None if following is None else str(following)
            print_json({"keys": rows, "cursor": end, "has_more": following is not None})
            return
        _show(rows)
        if following is not None:
            typer.echo(f"There is more: --cursor {following}", err=True)
        elif not rows:
            typer.echo("Nothing is stored under such a key.", err=True)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a list goes on: the store's cursor, and what was shown already of the names there.

    Some were where a store gives more names at once than there was room for.
    """

    place: int
    shown: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> "Cursor":
        """Read what ``str`` wrote. Raises: ConfigError."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            from nearcache.errors import ConfigError

            msg = "a cursor is what the page before ended with, or 0"
            raise ConfigError(msg)
        return cls(int(match[1]), tuple(match[2].split(".")[1:]))

    def __str__(self) -> str:
        return ".".join((str(self.place), *self.shown))


def _filter(pattern: str | None, model: str | None) -> "Callable[[Name], bool]":
    from fnmatch import fnmatchcase

    from nearcache.caches.stored import identity_shown
    from nearcache.keys import EmbeddingModel

    wanted = None if model is None else identity_shown(EmbeddingModel.of(model).identity)

    def is_wanted(name: "Name") -> bool:
        if wanted is not None and name.identity != wanted:
            return False
        text = name.key if isinstance(name.key, str) else name.shown
        return pattern is None or fnmatchcase(text, pattern)

    return is_wanted


def _page(
    place: "Store",
    is_wanted: "Callable[[Name], bool]",
    namespace: str | None,
    limit: int,
    cursor: Cursor,
) -> "tuple[list[Name], Cursor | None]":
    """Return some names, and where the list goes on: None at its end.

    A store's cursor is good for the whole of what it gives at once. It is asked for as much as it
    may look at, and for less where it has more to show than there is room.
    """
    from nearcache.caches.stored import name_of
    from nearcache.metrics.health.entries import start_of
    from nearcache.stores.base import MOST_SCANNED

    start, count = start_of(namespace), MOST_SCANNED
    found: dict[bytes, Name] = {}
    while True:
        room = limit - len(found)
        following, names = place.scan(start, cursor.place, count)
        known = [name for raw in dict.fromkeys(names) if (name := name_of(raw)) is not None]
        fresh = [
            name
            for name in known
            if name.raw not in found and is_wanted(name) and _mark(name) not in cursor.shown
        ]
        if len(fresh) <= room:
            found |= {name.raw: name for name in fresh}
            cursor, count = Cursor(following), min(2 * count, MOST_SCANNED)
            if not following or len(found) == limit:
                return list(found.values()), cursor if following else None
        elif count > 1:
            count = max(1, min(count // 2, count * room // len(fresh)))
        else:
            found |= {name.raw: name for name in fresh[:room]}
            shown = (*cursor.shown, *map(_mark, fresh[:room]))
            return list(found.values()), Cursor(cursor.place, shown)


def _mark(name: "Name") -> str:
    return blake2b(name.raw, digest_size=8).hexdigest()


def _described(place: "Store", names: "list[Name]") -> list[dict[str, Any]]:
    from nearcache.caches.stored import entry_of, shown_space

    rows = []
    for at in range(0, len(names), 50):  # values may be large: few at a time
        part = names[at : at + 50]
        fetched = place.look([name.raw for name in part], [])
        for name, data in zip(part, fetched.values, strict=True):
            if data is None:
                continue
            entry = entry_of(name, data)
            rows.append(
                {
                    "key": name.shown,
                    "kind": name.kind,
                    "namespace": shown_space(name.namespace, name.view),
                    "model": name.identity or None,
                    "codec": entry.codec or None,
                    "dimensions": entry.dimensions or None,
                    "state": entry.state,
                    "bytes": entry.size,
                    "seconds_left": entry.expiry - fetched.now if entry.expiry else None,
                }
            )
    return rows


def _show(rows: list[dict[str, Any]]) -> None:
    """Print a table that keeps every key whole: it may be copied into ``get``."""
    if not rows:
        return
    cells = [
        [
            row["namespace"],
            f"{row['kind']} {row['codec'] or row['state']}"
            + (f" {row['dimensions']}" if row["dimensions"] else ""),
            f"{row['bytes']:,}",
            life(row["seconds_left"]),
            row["key"] + (f"  (model {row['model']})" if row["model"] else ""),
        ]
        for row in rows
    ]
    heads = ["namespace", "kind", "bytes", "lives", "key"]
    cells = [[unescaped(cell) for cell in row] for row in cells]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(4)]
    for row in [heads, *cells]:
        left = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        right = [row[2].rjust(widths[2]), row[3].rjust(widths[3])]
        typer.echo("  ".join([*left, *right, row[4]]).rstrip())


def life(seconds: float | None) -> str:
    """Return what is left of a life in a few characters."""
    if seconds is None:
        return "for ever"
    if seconds <= 0:
        return "expired"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
