"""The native core without memory, and with all the references it took."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest

from nearcache.clock import monotonic
from nearcache.keys import content_digest
from nearcache.near import pick
from nearcache.testing.contracts.near_rows import ROOMY, digests, row_of, rows_of

testcapi = pytest.importorskip("_testcapi", reason="this Python has no way to run out of memory")
pytestmark = pytest.mark.skipif(
    pick.native is None, reason="the native core is not built, or NEARCACHE_PURE is set"
)
M = "model"


def tier(max_entries=10_000, **options):
    return pick.native.VectorTier(
        dtype=np.dtype(np.float32), scaled=False, max_entries=max_entries, max_bytes=ROOMY,
        clock=monotonic, **options,
    )  # fmt: skip


def put(near, texts, shelf=M, expires=0.0):
    ends = np.full(len(texts), expires)
    rows = np.array([ROWS[text] for text in texts], np.float32)
    return near.put(shelf, texts, digests(texts), rows, None, ends)


def starved(call, at):
    """Run a call whose ``at``-th and later allocations fail; say whether it got through."""
    testcapi.set_nomemory(at, 0)
    try:
        call()
    except MemoryError:
        return False
    finally:
        testcapi.remove_mem_hooks()
    return True


TEXTS = [f"t{n}" for n in range(300)]
MORE = [f"u{n}" for n in range(600)]
ALL = rows_of(TEXTS + MORE)
ROWS = dict(zip([*TEXTS, *MORE, "after"], [*ALL, row_of("after")], strict=True))
CALLS = {
    "get_all": lambda near, _: near.get_all(M, TEXTS[:50]),
    "get_some": lambda near, _: near.get_some(M, TEXTS[:50] + MORE[:5]),
    "get_one": lambda near, _: near.get_one(M, "t7"),
    "get_digest": lambda near, names: near.get_digest(M, names["t7"]),
    "put": lambda near, more: near.put(M, *more["put"]),
    "put with a life": lambda near, more: near.put(M, *more["bounded"]),
    "put on another shelf": lambda near, more: near.put("other", *more["put"]),
    "put another dimension": lambda near, more: near.put("other", *more["wider"]),
    "drop": lambda near, names: near.drop(M, [names["t7"], names["t8"]]),
    "drop a shelf": lambda near, _: near.drop_shelves([M]),
    "resize": lambda near, _: near.resize(10, ROOMY),
    "expire": lambda near, _: near.expire(),
    "listing": lambda near, _: near.listing(),
}


@pytest.mark.parametrize("policy", [p for p in pick.NATIVE_POLICIES if p in ("lru", "adaptive")])
@pytest.mark.parametrize("name", CALLS)
def test_without_memory_an_operation_is_refused_or_done(name, policy):
    """At every allocation in turn; whatever happened, no text finds another's row."""
    given = {text: content_digest(text) for text in TEXTS}
    ends, none = np.full(600, monotonic() + 1000), np.zeros(600)
    given["put"] = (MORE, digests(MORE), rows_of(MORE), None, none)
    given["bounded"] = (MORE, digests(MORE), rows_of(MORE), None, ends)
    given["wider"] = (MORE, digests(MORE), rows_of(MORE, 24), None, none)
    for at in [*range(60), *range(60, 3000, 61)]:
        near = tier(policy=policy)
        put(near, TEXTS)
        before = len(near)
        done = starved(lambda near=near: CALLS[name](near, given), at)
        near.check()
        if not done and name.startswith("put"):
            assert len(near) == before, "what could not be kept whole is not kept"
        found, rows = near.get_some(M, TEXTS + MORE)
        assert np.array_equal(np.empty((0, 8)) if rows is None else rows, ALL[found])
        put(near, ["after"])
        assert np.array_equal(near.get_one(M, "after"), row_of("after"))
        if done and at > 20:
            return
    pytest.fail("the operation never got through")


def test_a_million_operations_keep_no_reference_and_no_memory():
    near = tier(max_entries=500)
    texts = [f"text {n}" for n in range(1000)]
    names, rows, none = digests(texts), rows_of(texts), np.zeros(1000)

    def work(rounds):
        for _ in range(rounds):  # 4,000 texts each
            near.put(M, texts, names, rows, None, none)
            near.get_some(M, texts)
            near.get_all(M, texts[500:])
            near.drop(M, names[700:900])
            near.put("other", texts[:50], names[:50], rows[:50], None, none[:50])
            for text in texts[:250]:
                near.get_one(M, text)

    work(10)
    gc.collect()
    counts = [sys.getrefcount(one) for one in (texts[3], names[3], rows, none, M, near)]
    objects = len(gc.get_objects())
    tracemalloc.start()
    work(5)
    while not near.trail()[2]:  # there is nothing more to be taken once it drops what is old
        work(5)
    before = tracemalloc.get_traced_memory()[0]
    work(250)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert [sys.getrefcount(one) for one in (texts[3], names[3], rows, none, M, near)] == counts
    assert len(gc.get_objects()) - objects < 1000  # a leak would be one of thousands
    assert grown < 200_000
    near.check()
