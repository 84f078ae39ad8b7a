"""A rolling upgrade: two releases with different formats share one store, and both are right.

What another release wrote and this one cannot read is a miss. It is left where it is, for those who
can, until somebody here has a value to put in its place. Forgetting works across releases, whoever
wrote what is forgotten. A memory that is a record is never passed off as absent.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedders import until
from near_fixtures import linked
from nearcache import (
    MISSING,
    AccessTier,
    AgentCredentials,
    EmbeddingCache,
    NearCache,
    ShortTermMemory,
    UnknownFormat,
)
from nearcache.entry import MAGIC

ANN = AgentCredentials("ann", AccessTier.CONTRIBUTOR)
ROW = [1.0, 2.0, 3.0]


class NextRelease:
    """The other release: ``other("cache", "get", "key")``."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("next_release.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()


@pytest.fixture(params=["redis", "sqlite"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'x.db'}"
    return request.getfixturevalue("one_server").url


@pytest.fixture(scope="module")
def next_release():
    other = NextRelease()
    yield other
    other.end()


@pytest.fixture
def other(next_release, url):
    next_release("store", "use", url)
    yield next_release
    next_release("store", "leave")


@pytest.fixture
def cache(url):
    with NearCache(url, namespace="app") as cache:
        linked(cache)
        yield cache


@pytest.fixture
def vectors(url):
    with EmbeddingCache(url, max_entries=0) as vectors:
        yield vectors


def formats(server) -> set[bytes]:
    """The first three bytes of every value on a server."""
    with server.client() as client:
        names = [*client.keys("*:k:*."), *client.keys("*:v:*")]
        return {client.getrange(name, 0, 2) for name in names}


def test_the_other_process_is_another_release(next_release, one_server):
    next_release("store", "use", one_server.url)
    other = next_release
    other("cache", "put", "key", 1)
    other("vectors", "put", "text", ROW)
    assert formats(one_server) == {MAGIC + b"\x02"}


def test_what_the_next_release_wrote_is_a_miss_and_left_alone(other, cache, vectors):
    other("cache", "put", "key", "new")
    other("vectors", "put", "text", ROW)
    assert cache.get("key", MISSING) is MISSING
    assert vectors.get("text", "m") is None
    assert cache.get_stats().corrupt == vectors.get_stats().corrupt == 0
    assert other("cache", "get", "key") == "new"
    assert other("vectors", "get", "text") == ROW


def test_what_this_release_wrote_is_read_by_the_next(other, cache):
    cache.put("key", "old")
    assert other("cache", "get", "key") == "old"
    assert other("cache", "corrupt") == 0


def test_a_load_puts_what_both_can_read_in_its_place(other, cache):
    other("cache", "put", "key", "new")
    assert cache.get_or_load("key", lambda: "loaded") == "loaded"
    until(lambda: other("cache", "load", "key", "not asked") == "loaded")
    assert cache.get_or_load("key", lambda: "not asked") == "loaded"


def test_a_vector_is_paid_for_once_more_and_not_again(other, vectors):
    assert other("vectors", "load", "text", ROW) == ROW
    calls = []

    def model(texts):
        calls.append(texts)
        return np.array([ROW] * len(texts), "f4")

    embed = vectors.wrap(model, "m")
    for _ in range(3):
        assert np.asarray(embed("text")).ravel().tolist() == ROW
    assert len(calls) == 1


def test_a_new_value_of_the_other_release_ends_what_was_near(other, cache):
    cache.put("key", "old")
    assert cache.get("key") == "old"
    other("cache", "put", "key", "new")
    until(lambda: cache.get("key", MISSING) is MISSING)
    cache.put("key", "newer")
    until(lambda: other("cache", "get", "key") == "newer")


def test_either_forgets_what_the_other_wrote(other, cache):
    other("cache", "put", "key", "new")
    cache.invalidate("key")
    until(lambda: other("cache", "get", "key") == "nothing")
    other("cache", "put", "tagged", "new", ["t"])
    cache.invalidate_by_tag("t")
    until(lambda: other("cache", "get", "tagged") == "nothing")
    cache.put("mine", "old", tags=["t"])
    other("cache", "tag", "t")
    until(lambda: cache.get("mine", MISSING) is MISSING)
    cache.put("mine", "old")
    other("cache", "clear")
    until(lambda: cache.get("mine", MISSING) is MISSING)


def test_an_update_across_releases_loses_nothing_that_can_be_read(other, cache):
    cache.put("count", 1)
    assert other("cache", "add", "count") == 2
    # this release cannot read it: the value counts as evicted, as any may be in a cache
    until(lambda: cache.get("count", MISSING) is MISSING)
    assert cache.update("count", lambda value: (value or 0) + 1) == 1
    assert other("cache", "add", "count") == 2


def test_a_record_that_cannot_be_read_is_no_absence(other, url):
    assert other("memory", "stash", "plan", {"step": 1})
    with ShortTermMemory(url) as memory:
        with pytest.raises(UnknownFormat):
            memory.retrieve("plan", ANN)
        with pytest.raises(UnknownFormat):
            memory.update("plan", lambda value: {"step": 2}, ANN)
        assert other("memory", "retrieve", "plan") == {"step": 1}
        assert memory.stash("plan", {"step": 3}, ANN)
        assert memory.retrieve("plan", ANN) == {"step": 3}
        until(lambda: other("memory", "retrieve", "plan") == {"step": 3})


def test_both_at_work_are_right_and_neither_fails(other, cache):
    """The source changes and is announced; whoever asks afterwards gets the new value."""
    for number in range(30):
        key, mine_first = f"k{number % 3}", number % 4 < 2

        def mine(key=key, number=number):
            return cache.get_or_load(key, lambda: number) == number

        def theirs(key=key, number=number):
            return other("cache", "load", key, number) == number

        if number % 2:
            cache.invalidate(key)
        else:
            other("cache", "invalidate", key)
        for reads_it in (mine, theirs) if mine_first else (theirs, mine):
            until(reads_it)


def test_names_of_another_layout_are_not_touched(one_server):
    """A release may have to lay out keys anew: its names begin with nc2, and are not ours."""
    with one_server.client() as client:
        names = [b"nc2:{app:00}:k:skey.", b"nc2:{app}:e:*", b"nc2:{app}:log", b"nc1x:{app}:log"]
        for name in names:
            client.set(name, b"theirs")
        with (
            NearCache(one_server.url, namespace="app") as cache,
            EmbeddingCache(one_server.url, namespace="app") as vectors,
        ):
            cache.put("key", 1)
            cache.invalidate("key")
            cache.clear()
            cache.cleanup_expired()
            vectors.clear()
        assert client.mget(names) == [b"theirs"] * len(names)
