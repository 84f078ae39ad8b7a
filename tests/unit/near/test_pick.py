"""Which core runs: the native one where it is, pure Python where it is not or is not wanted."""

import copy
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from nearcache import ConfigError, EmbeddingCache
from nearcache.near import objects, pick, vectors
from nearcache.near.policies.base import NAMES
from nearcache.near.policies.fifo import FIFO

WHICH = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s")
{before}
from nearcache.near import pick
print(*pick.core(), type(pick.vector_tier(policy="lru", dtype="float32", scaled=False,
    max_entries=1, max_bytes=1, clock=float)).__module__, sep="|")
"""


def which(before="", **env):
    done = subprocess.run(
        [sys.executable, "-c", WHICH.format(before=before)],
        env={**os.environ, "NEARCACHE_PURE": "", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().split("|"), done.stderr


@pytest.mark.skipif(pick.native is None, reason="the native core is not built")
def test_the_native_core_runs_where_it_is():
    (kind, why, module), logged = which()
    assert (kind, why, module) == ("native", "", "nearcache.near._native")
    assert logged == ""


@pytest.mark.parametrize("value", ["1", "yes"])
def test_pure_python_can_be_forced_in_silence(value):
    (kind, why, module), logged = which(NEARCACHE_PURE=value)
    assert (kind, module) == ("pure", "nearcache.near.vectors")
    assert "NEARCACHE_PURE" in why
    assert logged == ""


def test_a_missing_core_is_said_once():
    missing = "import sys; sys.modules['nearcache.near._native'] = None"
    (kind, why, module), logged = which(before=missing)
    assert (kind, module) == ("pure", "nearcache.near.vectors")
    assert "not there" in why
    assert logged.count("WARNING") == 1
    assert "nearcache doctor" in logged


@pytest.mark.parametrize("policy", NAMES)
def test_every_policy_serves_a_cache(policy):
    with EmbeddingCache(policy=policy, max_entries=8) as cache:
        embed = cache.wrap(lambda texts: np.array([[len(t), 1] for t in texts]), model="m")
        for size in range(1, 40):
            assert embed(["x" * size]).tolist() == [[size, 1]]
        assert cache.size == 8
        assert cache.get_stats().evictions == 31


def test_an_object_of_the_users_own_decides_in_pure_python():
    options = {"max_entries": 2, "max_bytes": 2**20, "clock": float}
    tier = pick.object_tier(policy=FIFO(), **options)
    assert type(tier) is objects.ObjectTier
    with EmbeddingCache(policy=FIFO(), max_entries=2) as cache:
        assert type(cache._tiers.engine.near) is vectors.VectorTier
        for text in "abc":
            cache.put(text, [1.0], "m")
        assert cache.get("a", "m") is None


def test_an_object_serves_one_cache():
    policy = FIFO()
    with EmbeddingCache(policy=policy) as cache:
        cache.put("a", [1.0], "m")
        with pytest.raises(ConfigError, match="one cache"):
            EmbeddingCache(policy=policy)
        for copying in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="policy object"):
                copying(cache)


class Half(FIFO):
    """A policy that lacks a method."""

    move = None


class Mute(FIFO):
    on_hit = None


@pytest.mark.parametrize("policy", ["best", 3, None, object(), ["lru"], Half(), Mute()])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(ConfigError, match="policy"):
        EmbeddingCache(policy=policy)


def test_the_curve_of_a_cache_is_told():
    with EmbeddingCache(max_entries=50) as cache:
        embed = cache.wrap(lambda texts: np.ones((len(texts), 2)), model="m")
        assert cache.admin.miss_ratio_curve().requests == 0
        for _ in range(20):
            for number in range(40):
                embed([str(number)])
        curve = cache.admin.miss_ratio_curve()
        assert curve.requests == 800
        assert curve.hit_ratio(40) == pytest.approx(0.95, abs=0.01)
        assert curve.hit_ratio(20) == pytest.approx(0, abs=0.01)
