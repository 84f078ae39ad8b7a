"""Whatever bytes a store gives back: the right vector or a miss, and never an exception."""

import sqlite3

import numpy as np
import pytest

from embedders import M, Model, same, vector, vectors
from nearcache import EmbeddingCache, MemoryStore

TEXTS = [f"t{n}" for n in range(40)]
HEAD = 32


@pytest.fixture
def filled(make, face):
    """A store with TEXTS in it, and a cache without a near tier before it."""
    store = MemoryStore()
    make(face, store).put_batch(TEXTS, vectors(TEXTS), M)
    return store, make(face, store, max_entries=0)


def check(cache, *, hits):
    """Every answer is right or a miss; a load repairs what is missing."""
    rows, found = cache.get_batch(TEXTS, M)
    for row, there, right in zip(rows, found, vectors(TEXTS), strict=True):
        assert same(row, right) if there else np.isnan(row).all()
    assert found.sum() == hits
    model = Model()
    assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
    assert sum(model.times.values()) == len(TEXTS) - hits
    assert cache.get_batch(TEXTS, M)[1].all()


@pytest.mark.parametrize("at", range(HEAD + 8 * 4))
def test_a_flipped_bit_anywhere_is_never_an_answer(filled, at):
    store, cache = filled
    store.edit(lambda key, value: value[:at] + bytes([value[at] ^ 1 << at % 8]) + value[at + 1 :])
    check(cache, hits=0)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 8, 31, 32, 33, 40, 63])
def test_a_truncated_entry_is_a_counted_miss(filled, length):
    store, cache = filled
    store.edit(lambda key, value: value[:length])
    check(cache, hits=0)
    assert cache.get_stats().corrupt == len(TEXTS)


GARBAGE = {
    "nothing": b"",
    "text": b"hello",
    "json": b'{"vector": [0.1, 0.2, 0.3, 0.4], "model": "fake-model", "ttl": 3600}',
    "pickle": b"\x80\x04\x95" + bytes(60),
    "zeros": bytes(64),
    "ones": b"\xff" * 64,
    "a magic and an unknown kind": b"nC\x01" + bytes(61),
    "an unknown kind": b"nC\x01\x63\x08\0\0\0" + bytes(56),
    "a size of four billion": b"nC\x01\x03\xff\xff\xff\xff" + bytes(56),
    "a size of nothing": b"nC\x01\x03\0\0\0\0" + bytes(24),
    "a megabyte": b"x" * 2**20,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_a_counted_miss_and_is_deleted(filled, garbage):
    store, cache = filled
    store.edit(lambda key, value: garbage)
    assert not cache.get_batch(TEXTS, M)[1].any()
    assert cache.get_stats().corrupt == len(TEXTS)
    assert len(store) == 0
    check(cache, hits=0)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_an_entry_of_another_version_is_a_miss_and_left_alone(filled, version):
    """Another release wrote it, and can read it; ours takes its place when there is one."""
    store, cache = filled
    entry = b"nC" + bytes((version,)) + b"\x03\x08\0\0\0" + bytes(56)
    store.edit(lambda key, value: entry)
    assert not cache.get_batch(TEXTS, M)[1].any()
    assert cache.get_stats().corrupt == 0
    assert len(store) == len(TEXTS)
    check(cache, hits=0)


def test_what_is_whole_is_served_beside_garbage(filled):
    store, cache = filled
    numbers = iter(range(len(TEXTS)))
    store.edit(lambda key, value: value[:-1] if next(numbers) % 4 == 0 else value)
    check(cache, hits=30)
    assert cache.get_stats().corrupt == 10


def test_a_longer_entry_is_not_read_as_far_as_it_is_known(filled):
    store, cache = filled
    store.edit(lambda key, value: value + bytes(8))
    check(cache, hits=0)


def test_two_entries_that_were_swapped_are_two_misses(filled):
    store, cache = filled
    values = {}
    store.edit(lambda key, value: values.setdefault(key, value))
    others = dict(
        zip(values, [*list(values.values())[1:], next(iter(values.values()))], strict=True)
    )
    store.edit(lambda key, value: others[key])
    check(cache, hits=0)
    assert cache.get_stats().corrupt == len(TEXTS)


def test_an_entry_of_another_model_under_this_ones_name_is_a_miss(make, face):
    store = MemoryStore()
    cache = make(face, store, max_entries=0)
    cache.put("text", vector("one"), "one")
    cache.put("text", vector("two"), "two")
    values = []
    store.edit(lambda key, value: values.append(value) or value)
    store.edit(lambda key, value: values[1] if value == values[0] else values[0])
    assert cache.get("text", "one") is None
    assert cache.get("text", "two") is None


def test_an_entry_put_back_after_it_was_forgotten_is_a_miss(make, face):
    store = MemoryStore()
    cache = make(face, store, max_entries=0)
    cache.put("text", vector("old"), M)
    values = {}
    store.edit(lambda key, value: values.setdefault(key, value))
    cache.clear()
    cache.put("text", vector("new"), M)
    store.edit(lambda key, value: values[key])
    assert cache.get("text", M) is None


@pytest.mark.parametrize("kind", ["list", "hash", "set", "stream", "string"])
def test_a_key_of_another_type_on_the_server_is_a_miss_and_is_replaced(
    make, face, redis_server, kind
):
    cache = make(face, redis_server.url, max_entries=0)
    cache.put("text", vector("text"), M)
    with redis_server.client() as client:
        (key,) = client.keys("*:v:*")
        client.delete(key)
        {
            "list": lambda: client.rpush(key, "a"),
            "hash": lambda: client.hset(key, "a", "b"),
            "set": lambda: client.sadd(key, "a"),
            "stream": lambda: client.xadd(key, {"a": "b"}),
            "string": lambda: client.set(key, "a"),
        }[kind]()
    assert cache.get("text", M) is None
    assert same(cache.wrap(Model(), M)("text"), vector("text"))
    assert same(cache.get("text", M), vector("text"))


def test_other_things_under_our_names_on_the_server_break_no_call(make, face, one_server):
    """Epochs, log and leases of the wrong type: slower, never wrong, never an exception."""
    cache = make(face, one_server.url, max_entries=0)
    cache.put("text", vector("text"), M)
    with one_server.client() as client:
        for key in client.keys("*"):
            client.delete(key)
            client.rpush(key, "x")
    fresh = make(face, one_server.url, max_entries=0)
    for one in (cache, fresh):
        assert one.get("text", M) is None
        assert same(one.wrap(Model(), M)("text"), vector("text"))
        one.put("text", vector("text"), M)
        one.invalidate("text", M)
        one.clear()


ROWS = {
    "text": "x" * 64,
    "short text": "x",
    "an integer": 7,
    "a float": 0.5,
    "garbage": b"x" * 64,
    "nothing": b"",
}


@pytest.mark.parametrize("value", ROWS.values(), ids=ROWS)
def test_a_row_of_another_type_in_the_file_is_a_miss_and_is_replaced(make, face, tmp_path, value):
    path = tmp_path / "x.db"
    make(face, f"sqlite:///{path}").put("text", vector("text"), M)
    db = sqlite3.connect(path)
    db.execute("UPDATE entries SET value = ?", (value,))
    db.commit()
    db.close()
    cache = make(face, f"sqlite:///{path}", max_entries=0)
    assert cache.get("text", M) is None
    assert same(cache.wrap(Model(), M)("text"), vector("text"))
    assert same(cache.get("text", M), vector("text"))


DAMAGE = {
    "no facts": "DELETE FROM facts",
    "a clock that is none": "UPDATE facts SET value = 'x'",
    "no facts table": "DROP TABLE facts",
    "no entries table": "DROP TABLE entries",
    "no log table": "DROP TABLE log",
    "no epochs": "DELETE FROM epochs",
    "no uses": "DELETE FROM uses",
    "no leases table": "DROP TABLE leases",
    "a later layout": "PRAGMA user_version = 99",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_slower_and_never_felt(make, face, tmp_path, statement):
    path = tmp_path / "x.db"
    one = make(face, f"sqlite:///{path}")
    one.put("text", vector("text"), M)
    one.close()
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()
    cache = make(face, f"sqlite:///{path}", max_entries=0)
    row = cache.get("text", M)
    assert row is None or same(row, vector("text"))
    for _ in range(2):
        assert same(cache.wrap(Model(), M)("text"), vector("text"))
    cache.put("text", vector("text"), M)
    cache.invalidate("text", M)
    cache.clear()
    cache.cleanup_expired()


@pytest.mark.parametrize("size", [0, 100, 4096, 100_000])
def test_a_file_that_is_no_database_is_left_alone_and_never_felt(make, face, tmp_path, size):
    path = tmp_path / "notes.txt"
    content = b"not a database\n" * (size // 15 + 1)
    path.write_bytes(content[:size])
    cache, model = make(face, f"sqlite:///{path}"), Model()
    embed = cache.wrap(model, M)
    for _ in range(2):
        assert same(embed("text"), vector("text"))
    assert len(model.calls) == 1
    cache.close()
    if size:  # an empty file is a new database
        assert path.read_bytes() == content[:size]


def test_another_programs_database_is_left_alone_and_never_felt(make, face, tmp_path):
    path = tmp_path / "theirs.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE entries(a)")
    db.commit()
    before = db.execute("SELECT sql FROM sqlite_master").fetchall()
    cache = make(face, f"sqlite:///{path}")
    assert same(cache.wrap(Model(), M)("text"), vector("text"))
    cache.put("text", vector("text"), M)
    cache.close()
    assert db.execute("SELECT sql FROM sqlite_master").fetchall() == before
    assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    db.close()


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_half_a_database_is_never_felt(make, face, tmp_path, cut):
    path = tmp_path / "x.db"
    texts = [f"t{n}" for n in range(300)]
    with EmbeddingCache(f"sqlite:///{path}") as cache:
        cache.put_batch(texts, vectors(texts, 256), M)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    cache = make(face, f"sqlite:///{path}", max_entries=0)
    rows, found = cache.get_batch(texts, M)
    right = vectors(texts, 256)
    assert all(same(row, wanted) for row, wanted in zip(rows[found], right[found], strict=True))
    assert same(cache.wrap(Model(256), M)(texts), right)
