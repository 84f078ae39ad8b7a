"""Why a key would be a hit or a miss: what its store says of it, in sentences.

Nothing is written, nothing is counted and nobody's use of the key is noted. A store tells what it
has; the near copies of other processes cannot be seen in it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nearcache.caches.stored import (
    Entry,
    Name,
    entry_of,
    name_of,
    readable,
    shown_space,
    space_of,
)
from nearcache.coherence.epochs import stamp
from nearcache.coherence.groups import digest_of_group
from nearcache.errors import ConfigError, StoreError
from nearcache.keys import EmbeddingModel, Key, ModelKeys, ValueKeys, check_key, content_digest
from nearcache.stores.base import TOKEN_BYTES, Store, lease_of

__all__ = ["Explanation", "Tag", "explain_key", "explain_text", "explain_vector", "with_near"]

_ELSEWHERE = "Near copies of other processes"
_NOBODY = bytes(TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class Tag:
    """A group that a value belongs to. state: "valid", "forgotten", or "unknown" to the store."""

    name: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a store says of one key, and what a ``get`` would answer from it.

    outcome: "hit", "stale" (expired, kept to stand in), "miss", or "unknown" (the store does not
    answer). ``why`` is one sentence, ``sentences`` are all there is to say.

    Units: seconds (``seconds_left`` None for no limit, or no entry), bytes as stored.
    """

    key: str
    name: str
    namespace: str
    kind: str
    outcome: str
    why: str
    in_store: bool = False
    size: int | None = None
    codec: str | None = None
    dimensions: int | None = None
    signed: bool = False
    sealed: bool = False
    seconds_left: float | None = None
    stale_seconds_left: float | None = None
    tags: tuple[Tag, ...] = ()
    loading: bool | None = None
    sentences: tuple[str, ...] = ()
    near: dict[str, object] | None = None
    """What near of this process knows of it, where a cache was asked and not a store alone."""
    entry: Entry | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can carry; no value."""
        figures = {name: getattr(self, name) for name in self.__slots__ if name != "entry"}
        return {
            **figures,
            "tags": [asdict(tag) for tag in self.tags],
            "sentences": list(self.sentences),
        }

    def value(self) -> Any:
        """Return the stored value, if it is text or JSON.

        Raises: ValueError for what only the program that wrote it can read, LookupError where there
        is nothing.
        """
        if self.entry is None or self.entry.state != "ok":
            msg = "there is no value to show"
            raise LookupError(msg)
        return readable(self.entry)


def explain_key(
    store: Store, namespace: str, key: Key, *, view: tuple[str, ...] = (), tags: Sequence[str] = ()
) -> Explanation:
    """Say what a store has of a value's key. ``tags``: names to recognise its groups by.

    Raises: ConfigError for what is no key or namespace.
    """
    from nearcache.caches.hot_loaders import implied_tags, user_tags  # whose caches import this

    keys = ValueKeys(space_of(namespace, view))
    name = name_of(keys.name(check_key(key)))
    assert name is not None, "made of a key"
    told = _Told(store, name)
    if told.entry is None or told.entry.state != "ok":
        return told.without_entry()
    known = {_group(keys, stored): tag for tag in tags for stored in (tag, *user_tags([tag]))}
    if isinstance(key, tuple) and 2 <= len(key) <= 3:
        known |= {_group(keys, tag): _plain(tag) for tag in implied_tags(tuple(map(str, key)))}
    groups = [keys.groups[0], *(keys.group(digest) for digest, _ in told.entry.groups)]
    tokens = [told.entry.everything, *(token for _, token in told.entry.groups)]
    epochs = told.epochs(groups)
    found = [
        Tag(
            "everything"
            if group == keys.groups[0]
            else known.get(group) or group.rpartition(b":")[2].decode("ascii"),
            "unknown" if not epoch else "valid" if epoch == token else "forgotten",
        )
        for group, token, epoch in zip(groups, tokens, epochs, strict=True)
    ]
    return told.with_entry(tuple(found))


def explain_text(
    store: Store,
    namespace: str,
    text: str,
    model: str | EmbeddingModel,
    *,
    view: tuple[str, ...] = (),
) -> Explanation:
    """Say what a store has of a text's vector. Raises: ConfigError for what names no model."""
    if not isinstance(text, str):
        msg = f"a text is a str, not {type(text).__name__}"
        raise ConfigError(msg)
    return explain_vector(store, namespace, content_digest(text), model, view=view)


def explain_vector(
    store: Store,
    namespace: str,
    digest: bytes,
    model: str | EmbeddingModel,
    *,
    view: tuple[str, ...] = (),
) -> Explanation:
    """Say what a store has of a content digest's vector."""
    keys = ModelKeys(space_of(namespace, view), EmbeddingModel.of(model).identity)
    name = name_of(keys.values([digest])[0])
    assert name is not None, "made of a digest"
    told = _Told(store, name)
    if told.entry is None or told.entry.state != "ok":
        return told.without_entry()
    epochs = told.epochs(keys.groups)
    valid = all(epochs) and stamp(epochs) == told.entry.stamp
    state = "valid" if valid else "forgotten" if all(epochs) else "unknown"
    return told.with_entry((Tag("everything, or the model", state),))


def with_near(
    near: dict[str, object] | None, told: Explanation | None, *, servable: bool, **names: Any
) -> Explanation:
    """Join what near of this process has with what its store told; ``told`` None for no store."""
    if told is None:
        told = Explanation(
            **names, outcome="miss", why="There is no store, and near has nothing.", sentences=()
        )
    rest = tuple(line for line in told.sentences if not line.startswith(_ELSEWHERE))
    if near is None:
        return replace(told, sentences=("Near has nothing of it.", *rest))
    if not servable:
        line = "Near has a copy that may not be served: it is expired, forgotten, or not verified."
        return replace(told, near=near, sentences=(line, *rest))
    why = "It is near, and may be served."
    return replace(told, outcome="hit", why=why, near=near, sentences=(why, *rest))


class _Told:
    """What a store answered about one name, being put into words."""

    def __init__(self, store: Store, name: Name) -> None:
        self._store, self._name = store, name
        self._trouble: str | None = None
        self._now = 0.0
        self.entry: Entry | None = None
        try:
            found = store.look([name.raw, lease_of(name.raw)], [])
        except StoreError as error:
            self._trouble = str(error)
            return
        data, lease = found.values
        self._now = found.now
        self._loading: bool | None = lease is not None
        if data is not None:
            self.entry = entry_of(name, data)
        elif lease is None and store.address.startswith(("sqlite", "memory")):
            # they keep leases apart, and tell of one to who asks what a write would replace
            try:
                self._loading = bool(store.expect([name.raw], _NOBODY, 0.0)[0])
            except StoreError:
                self._loading = None

    def epochs(self, groups: Sequence[bytes]) -> list[bytes]:
        """Return the tokens that groups have now; b"" where the store has none."""
        try:
            return self._store.look([], groups).epochs
        except StoreError as error:
            self._trouble = str(error)
            return [b""] * len(groups)

    def without_entry(self) -> Explanation:
        """Explain a name that nothing can be read under."""
        if self._trouble is not None:
            return self._said("unknown", f"The store does not answer: {self._trouble.rstrip('.')}.")
        if self.entry is None:
            why = "The store has nothing under this key: never put, expired, evicted or forgotten."
            return self._said("miss", why)
        if self.entry.state == "corrupt":
            why = "What is stored there does not verify (damaged, or written by another program)."
        else:
            why = "Another release of nearcache, or another program, wrote what is stored there."
        return self._said("miss", why)

    def with_entry(self, tags: tuple[Tag, ...]) -> Explanation:
        """Explain a name with an entry whose groups are known."""
        entry = self.entry
        assert entry is not None, "who calls has one"
        if self._trouble is not None:
            return self._said(
                "unknown", f"The store does not answer: {self._trouble.rstrip('.')}.", tags
            )
        gone = [tag.name for tag in tags if tag.state == "forgotten"]
        if gone:
            what = ", ".join(gone)
            why = f"It is there, but was forgotten since it was written: {what} was invalidated."
            return self._said("miss", why, tags)
        lost = [tag.name for tag in tags if tag.state == "unknown"]
        if lost:
            why = (
                "It is there, but the store has lost the epoch of "
                f"{', '.join(lost)}, so nobody knows whether it was invalidated."
            )
            return self._said("miss", why, tags)
        if entry.expiry and entry.expiry <= self._now:
            if entry.dead_at and entry.dead_at <= self._now:
                return self._said("miss", "It has expired.", tags)
            why = (
                "It has expired, and is kept to stand in while it is loaded anew or if that fails."
            )
            return self._said("stale", why, tags)
        if entry.codec == "absence":
            why = "What is remembered is that there is nothing (negative_ttl)."
            return self._said("hit", why, tags)
        return self._said("hit", "It is in the store and valid.", tags)

    def _said(self, outcome: str, why: str, tags: tuple[Tag, ...] = ()) -> Explanation:
        entry, name = self.entry, self._name
        loading = None if self._trouble is not None else self._loading
        left = entry.expiry - self._now if entry and entry.expiry else None
        stale = entry.dead_at - self._now if entry and entry.dead_at else None
        lines = [why]
        if entry is not None:
            lines.append(_of_entry(entry))
            if entry.state == "ok":
                lines.append(_of_life(left))
        if tags and any(tag.name != "everything" for tag in tags):
            lines.append("Groups: " + ", ".join(f"{tag.name} ({tag.state})" for tag in tags) + ".")
        if loading and entry is None:
            lines.append("Somebody is loading or writing it just now.")
        lines.append(f"{_ELSEWHERE} cannot be seen from here.")
        return Explanation(
            key=name.shown,
            name=name.raw.decode("utf-8", "backslashreplace"),
            namespace=shown_space(name.namespace, name.view),
            kind=name.kind,
            outcome=outcome,
            why=why,
            in_store=entry is not None,
            size=None if entry is None else entry.size,
            codec=None if entry is None else entry.codec or None,
            dimensions=None if entry is None else entry.dimensions or None,
            signed=entry is not None and entry.signed,
            sealed=entry is not None and entry.sealed,
            seconds_left=left,
            stale_seconds_left=stale,
            tags=tags,
            loading=loading,
            sentences=tuple(lines),
            entry=entry,
        )


def _group(keys: ValueKeys, tag: str) -> bytes:
    return keys.group(digest_of_group(tag.encode("utf-8", "surrogatepass")))


def _plain(tag: str) -> str:
    """Return a tag that a memory's key implies in words."""
    kind, _, rest = tag.partition(":")
    return {"m": f"type {rest}", "s": f"scope {rest}", "n": "no scope"}[kind]


def _of_entry(entry: Entry) -> str:
    what = f"{entry.size:,} bytes as stored"
    if entry.codec:
        what += f", {entry.codec}"
    if entry.dimensions:
        what += f" of {entry.dimensions} dimensions"
    if entry.sealed:
        what += ", sealed by a codec of the user's"
    if entry.signed:
        what += ", signed (whether the signature is good only who has the key can tell)"
    return what + "."


def _of_life(left: float | None) -> str:
    if left is None:
        return "It has no end of life: it stays until it is evicted or forgotten."
    if left <= 0:
        return f"Its life ended {-left:,.0f} s ago."
    return f"It lives {left:,.0f} s more."
