"""Log entries, epochs and cursors: read as they were written, or as "drop all"; never an error."""

from fuzz.harness import Choices, changed
from nearcache.coherence.epochs import stamp
from nearcache.coherence.forgets import Forget
from nearcache.coherence.groups import digest_of_group
from nearcache.stores.base import begins, lease_of
from nearcache.stores.memory import MemoryStore

__all__ = ["SEEDS", "one"]

SEEDS = [
    b"\x00" + bytes(range(60)),
    b"\x00\x02" + bytes(range(60)),
    b"\x01" + b"*another.",
    b"\x01" + b"mothermod" + bytes(16),
    b"\x01" + b"tothertxt" + bytes(32),
    b"\x02\x02" + bytes(range(40)),
    b"\x03" + bytes(range(24)),
    b"\x04\x01\x01" + bytes(20),
]


def one(data: bytes) -> None:
    choices = Choices(data)
    _ACTS[choices.number(len(_ACTS))](choices)


def _an_entry_comes_back(choices: Choices) -> None:
    kind = choices.number(3)
    model = choices.part(16) if kind else b""
    gone = Forget(model, choices.part(16) if kind == 2 else b"")
    origin, reader = choices.part(8), choices.part(8)
    entry = gone.pack(origin)
    assert Forget.unpack(entry, reader) == (None if origin == reader else gone)
    other = changed(entry, choices)
    found = Forget.unpack(other, reader)
    if other != entry and found is not None and len(other) != len(entry):
        assert found == Forget() or other[0] != entry[0]


def _any_entry_is_read(choices: Choices) -> None:
    entry = choices.rest()
    found = Forget.unpack(entry, b"another.")
    if found is None:  # ours, or one that says nothing
        assert not entry or entry[1:9] == b"another."
    elif found != Forget():
        assert found.pack(entry[1:9]) == entry


def _epochs_have_their_own_stamp(choices: Choices) -> None:
    first = [choices.some(20) for _ in range(choices.number(4))]
    second = [choices.some(20) for _ in range(choices.number(4))]
    assert (stamp(first) == stamp(second)) == (first == second)
    assert len(stamp(first)) == 8


def _a_cursor_is_any_number(choices: Choices) -> None:
    store = MemoryStore()
    store.forget([b"a"], b"log", [b"gone"])
    cursor = store.changes(b"log", b"").cursor
    store.forget([b"a"], b"log", [b"gone"])
    other = b"%d" % choices.number(2**24) if choices.flag() else cursor
    changes = store.changes(b"log", other)
    if other == cursor:
        assert changes.entries == [b"gone"]
    assert store.changes(b"log", changes.cursor).entries == []
    assert changes.entries is None or set(changes.entries) <= {b"gone"}


def _a_name_begins_or_not(choices: Choices) -> None:
    start, name = (choices.some(4), choices.some(4)), choices.rest()
    if begins(name, start):
        assert name[: len(start[0])] == start[0]
        assert not name.endswith(b":lease")
    assert not begins(lease_of(name), start)
    assert len(digest_of_group(name)) == 16


_ACTS = (
    _an_entry_comes_back,
    _any_entry_is_read,
    _epochs_have_their_own_stamp,
    _a_cursor_is_any_number,
    _a_name_begins_or_not,
)
