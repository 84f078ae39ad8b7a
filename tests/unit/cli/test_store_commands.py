"""``keys``, ``get`` and ``invalidate``: looking into a store, and forgetting in it."""

import json
import sqlite3
from contextlib import nullcontext
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from embedders import until
from nearcache import (
    EmbeddingCache,
    HotMemoryCache,
    MemoryKey,
    MemoryStore,
    NearCache,
    Options,
)
from nearcache.caches.stored import key_of


@pytest.fixture
def filled(url):
    """A store with a vector, two values with a tag, and a memory."""
    with EmbeddingCache(url) as vectors:
        vectors.put("hello", np.ones(8), "model")
    with NearCache(url, namespace="values", ttl=500) as values:
        values.put("user:1", {"name": "Ada"}, tags=["people"])
        values.put(("a", "ü,)"), [1, 2], ttl=None)
        values.view("tenant").put("inner", 7)
    with HotMemoryCache(url) as hot:
        hot.put(MemoryKey("episodic", "7", "ada"), "met Bob")
    return url


def document(result, status=0):
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


# -- keys


def test_keys_are_told_as_their_users_wrote_them(command, filled):
    found = document(command("keys", "--store", filled, "--json"))
    by_key = {row["key"]: row for row in found["keys"]}
    hello = EmbeddingCache.hash_content("hello")
    assert set(by_key) == {"user:1", '["a", "ü,)"]', "inner", hello, '["episodic", "7", "ada"]'}
    assert by_key[hello]["kind"] == "vector"
    assert (by_key[hello]["codec"], by_key[hello]["dimensions"]) == ("float32", 8)
    assert by_key["inner"]["namespace"] == "values / tenant"
    assert 400 < by_key["user:1"]["seconds_left"] <= 500
    assert by_key['["a", "ü,)"]']["seconds_left"] is None
    assert not found["has_more"]


def test_keys_of_a_namespace_a_model_a_pattern(command, filled):
    def keys(*options):
        return [
            r["key"]
            for r in document(command("keys", "--store", filled, "--json", *options))["keys"]
        ]

    assert set(keys("--namespace", "values")) == {"user:1", '["a", "ü,)"]'}
    assert keys("--model", "model") == [EmbeddingCache.hash_content("hello")]
    assert keys("--model", "other") == []
    assert keys("user:*") == ["user:1"]


def pages(command, url, *options):
    """The keys of each page, until there is no more."""
    cursor = 0
    while cursor is not None:
        asked = ("keys", "--store", url, "--json", "--cursor", cursor, *options)
        found = document(command(*asked))
        yield [row["key"] for row in found["keys"]]
        cursor = found["cursor"]
        assert found["has_more"] is (cursor is not None)


@pytest.fixture(params=["sqlite", "redis"])
def filled_place(request, url, one_server):
    """The URL of a store of each kind with 300 keys of a namespace, among others' keys."""
    place = url if request.param == "sqlite" else one_server.url
    with NearCache(place, namespace="many") as many, NearCache(place, namespace="others") as others:
        many.put_batch({f"key {i}": i for i in range(300)})
        others.put_batch({f"key {i}": i for i in range(100)})
    return place


@pytest.mark.parametrize("limit", [7, 100, 1000])
def test_keys_come_a_page_at_a_time_and_none_is_left_out(command, filled_place, limit):
    found = list(pages(command, filled_place, "--namespace", "many", "--limit", limit))
    assert all(len(page) == limit for page in found[:-1])
    assert len(found[-1]) <= limit
    assert sorted(chain(*found)) == sorted(f"key {i}" for i in range(300))


class WholeStore(MemoryStore):
    """A store that gives all its names at once, however few are asked for."""

    def scan(self, start, cursor, count, *, leases=False):
        return super().scan(start, cursor, 1000, leases=leases)


def test_a_page_holds_no_more_than_its_limit_whatever_a_store_gives_at_once(command, monkeypatch):
    store = WholeStore()
    monkeypatch.setattr("nearcache.cli.keys.opened", lambda _: nullcontext(store))
    with NearCache(store, namespace="n") as cache:
        cache.put_batch({f"key {i}": i for i in range(10)})
    found = list(pages(command, "memory://", "--limit", 3))
    assert [len(page) for page in found] == [3, 3, 3, 1]
    assert sorted(chain(*found)) == [f"key {i}" for i in range(10)]


def test_a_pattern_that_matches_few_takes_few_trips(command, monkeypatch):
    counts = []
    store = MemoryStore()
    monkeypatch.setattr("nearcache.cli.keys.opened", lambda _: nullcontext(store))
    scan = store.scan
    monkeypatch.setattr(
        store, "scan", lambda *asked, **more: counts.append(asked[2]) or scan(*asked, **more)
    )
    with NearCache(store, namespace="n", options=Options(max_batch=10_000)) as cache:
        cache.put_batch({f"key {i}": i for i in range(5000)})
    assert not any(pages(command, "memory://", "--limit", 1, "nothing*"))
    assert len(counts) <= 6


@pytest.mark.parametrize("cursor", ["x", "-1", "1.", "1.zz", "", "1" * 5000])
def test_a_cursor_that_no_page_ended_with_is_wrong_usage(command, filled, cursor):
    assert command("keys", "--store", filled, f"--cursor={cursor}").exit_code == 2


KEYS = [
    "plain",
    "two words",
    " ",
    "ü",
    "ü\u202e",
    '"quoted"',
    "[",
    '["a"]',
    ("a",),
    ("a", ("b", b"\xfe")),
    ('["x"]', ""),
    b"bytes",
    "b'bytes'",
    b"\xff\x00",
    '{"bytes": "bytes"}',
    '{"a": 1}',
    "-dash",
    "--store",
    "\ud800",
    "\\ud800",
    "k\x00\x1b[2J",
]


def test_what_is_shown_of_a_key_names_that_key_and_no_other(command, url):
    with NearCache(url, namespace="n") as cache:
        cache.put_batch({key: number for number, key in enumerate(KEYS)})
        at = ("--store", url, "--namespace", "n")
        table = command("keys", *at).stdout.splitlines()[1:]
        shown = [row["key"] for row in document(command("keys", *at, "--json"))["keys"]]
        assert len(set(shown)) == len(KEYS)
        assert all(line.endswith(key) for line, key in zip(table, shown, strict=True))
        for text in shown:
            found = document(command("get", text, *at, "--value", "--json"))
            assert found["key"] == text
            assert key_of(text) == KEYS[found["value"]]
            assert document(command("invalidate", text, *at, "--json"))["was_there"] is True
        until(lambda: not any(cache.get_batch(KEYS)))  # the cache hears of it by its own link


def test_a_string_is_taken_as_it_stands_when_asked(command, url):
    with NearCache(url, namespace="n") as cache:
        cache.put_batch({'["a"]': "text", ("a",): "tuple"})
    asked = ("get", '["a"]', "--store", url, "--namespace", "n", "--value", "--json")
    assert document(command(*asked))["value"] == "tuple"
    assert document(command(*asked, "--literal"))["value"] == "text"


def test_a_key_cannot_write_to_the_terminal(command, url):
    with NearCache(url, namespace="n") as cache:
        cache.put("\x1b[2Jboo", 1)
    assert "\x1b" not in command("keys", "--store", url).stdout


# -- get


def test_get_explains_a_hit(command, filled):
    found = document(
        command(
            "get", "user:1", "--store", filled, "--namespace", "values", "--tag", "people", "--json"
        )
    )
    assert found["outcome"] == "hit"
    assert {"name": "people", "state": "valid"} in found["tags"]
    assert "value" not in found


def test_get_explains_what_was_forgotten_and_by_which_group(command, filled):
    with NearCache(filled, namespace="values") as cache:
        cache.invalidate_by_tag("people")
    asked = ("get", "user:1", "--store", filled, "--namespace", "values", "--tag", "people")
    found = document(command(*asked, "--json"), status=1)
    assert found["outcome"] == "miss"
    assert "people was invalidated" in found["why"]


def test_get_explains_a_memory_by_its_type_and_scope(command, filled):
    with HotMemoryCache(filled) as hot:
        hot.invalidate_by_scope("ada")
    asked = ("get", '["episodic", "7", "ada"]', "--store", filled, "--namespace", "hot", "--json")
    assert "scope ada was invalidated" in document(command(*asked), status=1)["why"]


def test_get_explains_a_text(command, filled):
    asked = ("get", "--text", "hello", "--store", filled, "--json", "--model")
    assert document(command(*asked, "model"))["dimensions"] == 8
    assert "nothing under this key" in document(command(*asked, "other"), status=1)["why"]


def test_get_shows_a_value_only_when_asked(command, filled):
    asked = ("get", "user:1", "--store", filled, "--namespace", "values")
    assert "Ada" not in command(*asked).stdout
    assert document(command(*asked, "--value", "--json"))["value"] == {"name": "Ada"}


def test_get_of_bytes_that_do_not_verify_is_a_miss_that_says_so(command, filled, tmp_path):
    with sqlite3.connect(tmp_path / "embeddings.db") as db:
        db.execute("UPDATE entries SET value = substr(value, 1, length(value) - 1) || x'00'")
    db.close()
    for asked in (("user:1", "--namespace", "values"), ("--text", "hello", "--model", "model")):
        found = document(command("get", *asked, "--store", filled, "--json"), status=1)
        assert "does not verify" in found["why"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("key",),
        ("key", "--text", "x"),
        ("--text", "x"),
        ("key", "--namespace", "n", "--model", "m"),
        ("", "--namespace", "n"),
    ],
)
def test_get_refuses_what_names_nothing(command, filled, words):
    result = command("get", *words, "--store", filled)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("nearcache get: ")


# -- invalidate


def test_invalidate_reaches_a_cache_that_has_it_near(command, one_server):
    with NearCache(one_server.url, namespace="n") as cache:
        cache.put("key", 1)
        assert cache.get("key") == 1
        found = document(
            command("invalidate", "key", "--store", one_server.url, "--namespace", "n", "--json")
        )
        assert found["was_there"] is True
        assert cache.get("key", max_staleness=0) is None


@pytest.mark.parametrize(
    "options,gone",
    [
        (("--model", "model"), {"vector"}),
        (("--text", "hello", "--model", "model"), {"vector"}),
        (("--tag", "people", "--namespace", "values"), {"user"}),
        (("--type", "episodic"), {"memory"}),
        (("--scope", "ada"), {"memory"}),
        (("user:1", "--namespace", "values"), {"user"}),
        (('["a", "ü,)"]', "--namespace", "values"), {"tuple"}),
        (("--all", "--yes", "--namespace", "values"), {"user", "tuple"}),
        (("inner", "--namespace", "values", "--view", "tenant"), {"view"}),
    ],
)
def test_invalidate_forgets_that_and_nothing_else(command, filled, options, gone):
    result = command("invalidate", *options, "--store", filled)
    assert result.exit_code == 0, result.output
    with (
        EmbeddingCache(filled) as vectors,
        NearCache(filled, namespace="values") as values,
        HotMemoryCache(filled) as hot,
    ):
        left = {
            "vector": vectors.get("hello", "model"),
            "user": values.get("user:1"),
            "tuple": values.get(("a", "ü,)")),
            "view": values.view("tenant").get("inner"),
            "memory": hot.get(MemoryKey("episodic", "7", "ada")),
        }
    assert {name for name, value in left.items() if value is None} == gone


def test_invalidate_asks_before_it_forgets_all(command, filled):
    result = command("invalidate", "--all", "--namespace", "values", "--store", filled)
    assert result.exit_code == 2
    assert "--yes" in result.stderr


@pytest.mark.parametrize("answer,status", [("y\n", 0), ("n\n", 1), ("", 1), (None, 130)])
def test_only_yes_forgets_all(command, filled, monkeypatch, answer, status):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            if answer is None:
                raise KeyboardInterrupt
            return answer

    monkeypatch.setattr("nearcache.cli.invalidate.sys", SimpleNamespace(stdin=Terminal()))
    result = command("invalidate", "--all", "--namespace", "values", "--store", filled)
    assert result.exit_code == status
    assert "namespace 'values'? [y/N]" in result.stderr
    with NearCache(filled, namespace="values") as values:
        assert values.contains("user:1") is (status != 0)


@pytest.mark.parametrize("words", [(), ("a", "--tag", "b"), ("--text", "x"), ("key",)])
def test_invalidate_refuses_what_names_nothing_or_two_things(command, filled, words):
    assert command("invalidate", *words, "--store", filled).exit_code == 2


# -- all of them


COMMANDS = [
    ("keys",),
    ("get", "k", "--namespace", "n"),
    ("invalidate", "k", "--namespace", "n"),
    ("advise",),
    ("stats",),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_store_that_is_not_there_is_one_sentence(command, tmp_path, words):
    for store in ("redis://:secret@127.0.0.1:1", f"sqlite:///{tmp_path}/typo.db"):
        result = command(*words, "--store", store)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert "secret" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [*COMMANDS, ("top",), ("dashboard", "--port", "0")])
def test_no_store_and_a_wrong_one_are_wrong_usage(command, words):
    for more in ((), ("--store", "mongo://x"), ("--store", "nonsense"), ("--store", "memory://")):
        result = command(*words, *more)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(command, shell):
    result = command("completion", shell)
    assert result.exit_code == 0
    assert "nearcache" in result.stdout


def test_the_benchmark_measures_each_tier_and_leaves_nothing(command, url, monkeypatch):
    monkeypatch.setattr("nearcache.cli.bench._ROUNDS", 1)
    found = document(command("bench", "--store", url, "--json"))
    assert [row["texts"] for row in found["rows"]] == [1, 1000, 1, 1000]
    assert all(row["seconds"] > 0 for row in found["rows"])
    with EmbeddingCache(url, namespace="nearcache-bench") as cache:
        assert not cache.get_batch([f"bench {i}" for i in range(3)], "bench")[1].any()
