"""A store in this process that is interrupted: no change goes unsaid, no name is lost."""

import pytest

from interrupting import interrupted_at
from nearcache import MemoryStore
from nearcache.entry import Mark
from nearcache.stores import memory, memory_names, memory_stream
from nearcache.stores.base import EVERYTHING, lease_of

KEYS = [b"k:00:a", b"k:00:b", b"k:00:c"]
LOG, GROUP, TOKEN = b"log", b"k:00:group", b"t" * 16

MARK = Mark(1, None, bytes(8))

OPERATIONS = {
    "write": lambda s: s.write(KEYS, [b"new"] * 3, None, LOG, [b"e1", b"e2", b"e3"]),
    "put": lambda s: s.put(KEYS, [b"new"] * 3, None, LOG, s.now() + 9, [GROUP]),
    "forget": lambda s: s.forget(KEYS, LOG, [b"e1", b"e2", b"e3"]),
    "revoke": lambda s: s.revoke(KEYS, LOG),
    "forget_group": lambda s: s.forget_group(GROUP, LOG, b"e1"),
    "bump": lambda s: s.bump(GROUP, b"u" * 16, LOG),
    "lease": lambda s: s.lease([b"k:00:n"], TOKEN, 9, MARK),
    "release": lambda s: s.release(KEYS, TOKEN),
    "flush": lambda s: s.flush(),
}


def filled():
    store = MemoryStore()
    stream = store.stream()
    stream.open([b"k:"], 1)
    store.forget_group(GROUP, LOG, b"")
    store.write(KEYS, [b"old"] * 3, None, LOG, [b""] * 3)
    for key in KEYS:
        store._set_lease(key, TOKEN, store.now() + 9)
    stream.read(0)
    return store, stream


def state(store):
    leases = {lease_of(key): held for key, (held, _) in store._leases.items()}
    return {**store._values, **store._epochs, **leases}


@pytest.mark.parametrize("name", OPERATIONS)
def test_interrupted_at_any_moment_it_has_said_what_it_changed(name):
    moment = 0
    while True:
        store, stream = filled()
        before, logged = state(store), len(store._logs[LOG])
        more = interrupted_at(
            moment, lambda store=store: OPERATIONS[name](store), memory, memory_names, memory_stream
        )
        after = state(store)
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        heard = stream.read(0)
        if EVERYTHING not in heard:
            assert changed <= {one for message in heard for one in message.names}
        if name in ("write", "forget", "forget_group") and changed & {*KEYS, GROUP}:
            assert len(store._logs[LOG]) > logged
        assert {*store._values} == {*store.scan((b"k:", b":"), 0, 100)[1]}
        store.forget(KEYS, LOG, [])
        store.write(KEYS, [b"x"] * 3, None, LOG, [b""] * 3)
        assert {*KEYS} <= {*store.scan((b"k:", b":"), 0, 100)[1]}
        if not more:
            break
        moment += 1
    assert moment > 3
