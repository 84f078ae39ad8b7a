"""dogpile.cache: its own generic tests of a backend, and what we say beside them.

``_GenericMutexTestSuite`` is not among them: it tests locks between processes, which a backend may
leave out, and this one does (``get_mutex`` is None); dogpile's own lock is used then.
"""

import json
import threading
import time
from typing import ClassVar

import dogpile.cache.api
import dogpile.cache.region
import dogpile.lock
import pytest
from dogpile.cache import CacheRegion, make_region
from dogpile.cache.api import NO_VALUE
from dogpile.testing import fixtures
from dogpile.testing.fixtures import _GenericBackendTestSuite, _GenericSerializerTestSuite

from embedders import until
from nearcache import ConfigError, Options
from nearcache.integrations.dogpile import NearCacheBackend


class Hurried:
    """A clock that only sleeping moves, and a tenth of the sleep is slept.

    With the real one the suite takes 60 s, and a busy machine makes values expire too early.
    """

    def __init__(self):
        self._now, self._lock = time.time(), threading.Lock()

    def time(self):
        return self._now

    def sleep(self, seconds):
        time.sleep(seconds / 10)
        with self._lock:
            self._now += seconds


@pytest.fixture(autouse=True)
def _by_a_clock_of_its_own(monkeypatch):
    clock = Hurried()
    for module in (fixtures, dogpile.cache.api, dogpile.cache.region, dogpile.lock):
        monkeypatch.setattr(module, "time", clock)


@pytest.fixture(autouse=True)
def _backends_end(monkeypatch):
    """Close what the suite makes: it never does."""
    made = []
    init = NearCacheBackend.__init__

    def remember(self, arguments):
        init(self, arguments)
        made.append(self)

    monkeypatch.setattr(NearCacheBackend, "__init__", remember)
    yield
    for backend in made:
        backend.cache.close()


class Suite(_GenericBackendTestSuite):
    backend = "nearcache"
    config_args: ClassVar = {"arguments": {"store": None}}


class TestNearOnly(Suite):
    """Without a store, values pickled by dogpile, as it does by default."""


class TestInSQLite(_GenericSerializerTestSuite, Suite):
    """With a file, values as JSON."""

    @pytest.fixture(autouse=True)
    def _in_file(self, monkeypatch, tmp_path):
        given = {"arguments": {"store": f"sqlite:///{tmp_path / 'dogpile.db'}"}}
        monkeypatch.setattr(type(self), "config_args", given)


class TestOnServer(_GenericSerializerTestSuite, Suite):
    """With a server, values as JSON."""

    @pytest.fixture(autouse=True)
    def _on_server(self, monkeypatch, one_server):
        given = {"arguments": {"store": one_server.url}}
        monkeypatch.setattr(type(self), "config_args", given)


# -- ours ----------------------------------------------------------------------------------------


def region(store, **arguments):
    made = make_region(serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    return made.configure("nearcache", arguments={"store": store, **arguments})


def test_two_processes_share_what_was_made(shared):
    first, second = region(shared), region(shared)
    assert first.get_or_create("key", lambda: [1, 2]) == [1, 2]
    assert second.get_or_create("key", lambda: pytest.fail("it is there")) == [1, 2]
    second.delete("key")
    until(lambda: first.get("key") is NO_VALUE)


def test_many_keys_are_one_round_trip(one_server):
    first, second = region(one_server.url), region(one_server.url)
    keys = [str(n) for n in range(100)]
    first.set_multi(dict.fromkeys(keys, "value"))
    with one_server.client() as client:
        before = client.info("commandstats")
        assert second.get_multi(keys) == ["value"] * 100
        after = client.info("commandstats")
    reads = [
        after[name]["calls"] - before.get(name, {"calls": 0})["calls"]
        for name in after
        if name in ("cmdstat_get", "cmdstat_mget", "cmdstat_evalsha", "cmdstat_fcall")
    ]
    assert sum(reads) < 10, after


def test_a_function_is_cached_by_its_arguments(shared):
    cached = region(shared)
    made = []

    @cached.cache_on_arguments()
    def load(number):
        made.append(number)
        return number * 2

    assert [load(1), load(2), load(1)] == [2, 4, 2]
    load.invalidate(1)
    assert [load(1), made] == [2, [1, 2, 1]]


def test_namespaces_are_apart(shared):
    first, second = region(shared), region(shared, namespace="other")
    first.set("key", 1)
    assert second.get("key") is NO_VALUE


@pytest.mark.parametrize("key", ["", "x" * 100_000, "é" * 30_000, "\ud800"], ids=len)
def test_a_key_may_be_anything(shared, key):
    cached, other = region(shared), region(shared)
    cached.set(key, 1)
    assert [cached.get(key), other.get(key + "x"), other.get_multi([key, "k"])] == [
        1,
        NO_VALUE,
        [1, NO_VALUE],
    ]
    cached.delete(key)
    cached.set_multi({key: 2})
    cached.delete_multi([key])
    assert cached.get(key) is NO_VALUE


def test_bad_arguments_are_refused_when_a_region_is_configured():
    with pytest.raises(ConfigError, match="unknown store scheme"):
        region("mysql://localhost")
    with pytest.raises(ConfigError, match="ttl"):
        region(None, ttl=-1)


@pytest.mark.impatient
def test_a_store_that_is_down_is_a_miss():
    cached = region("redis://127.0.0.1:1", options=Options(store_timeout=0.2))
    assert cached.get_or_create("key", lambda: 1) == 1
    assert cached.get_multi(["a", "b"]) == [NO_VALUE, NO_VALUE]
    cached.delete("key")


def test_a_region_of_the_programs_own_kind_is_taken():
    assert isinstance(region(None), CacheRegion)
