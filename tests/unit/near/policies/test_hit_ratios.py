"""How often each policy hits on real traces, against libCacheSim's own figures.

The traces and ``oracle_hit_ratios.jsonl`` (libcachesim 0.3.5) lie in the folder that NEARCACHE_DATA
names. Without them, a trace of our own and what plain simulators made of it.
"""

import gzip
import json
import lzma
import os
from array import array
from functools import cache
from pathlib import Path

import pytest

from nearcache.near.policies.base import by_name

DATA = Path(os.environ.get("NEARCACHE_DATA") or Path(__file__).parents[5] / "shared" / "data")
ORACLE = DATA / "oracle_hit_ratios.jsonl"
FILES = {
    "2_pools.trace.gz": "lirs_2_pools.trace.gz",
    "sprite.trace.gz": "lirs_sprite.trace.gz",
    "lirs_multi3.trace.gz": "lirs_multi3.trace.gz",
    "lirs_scan.trace.gz": "lirs_scan.trace.gz",
    "web07.trace.xz": "cache2k_web07.trace.xz",
    "synthetic_trace.jsonl": "mooncake_synthetic_trace.jsonl.gz",
}


@cache
def trace(name: str) -> list[int]:
    path = DATA / FILES[name]
    data = (lzma if path.suffix == ".xz" else gzip).open(path).read()
    if path.suffix == ".xz":  # cache2k: big-endian 32-bit numbers
        numbers = array("i", data)
        numbers.byteswap()
        return numbers.tolist()
    if name.endswith("jsonl"):  # Mooncake: blocks of requests
        return [key for line in data.splitlines() for key in json.loads(line)["hash_ids"]]
    return [int(line) for line in data.split() if line != b"*"]


def rows() -> list[dict]:
    if not ORACLE.exists():
        return []
    lines = map(json.loads, ORACLE.read_text("utf-8").splitlines())
    return [row for row in lines if row["trace"] in FILES and (DATA / FILES[row["trace"]]).exists()]


# (name, libCacheSim's name, how far from its figure): LRU, FIFO and SIEVE leave nothing open; in
# S3-FIFO we look for a ghost after the eviction, and its place stays taken when it comes back
POLICIES = [("lru", "LRU", 6e-5), ("fifo", "FIFO", 6e-5), ("sieve", "Sieve", 6e-5)]
POLICIES += [("s3fifo", "S3FIFO", 0.01)]


@pytest.mark.skipif(not rows(), reason=f"no traces in {DATA}: see the small trace below")
@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['trace']}-{row['size']}")
@pytest.mark.parametrize("name,its_name,tolerance", POLICIES, ids=[p[0] for p in POLICIES])
def test_as_often_as_libcachesim(hit_ratio, name, its_name, tolerance, row):
    ratio = hit_ratio(by_name(name, 0), trace(row["trace"]), row["size"])
    assert ratio == pytest.approx(row[its_name], abs=tolerance)


@pytest.mark.skipif(not rows(), reason=f"no traces in {DATA}: see the small trace below")
@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['trace']}-{row['size']}")
def test_adaptive_is_never_far_below_lru(hit_ratio, row):
    ratio = hit_ratio(by_name("adaptive", 0), trace(row["trace"]), row["size"])
    assert ratio > row["LRU"] - 0.005


def small_trace() -> list[int]:
    """Popular keys, a drift, and a scan now and then."""
    keys, x = [], 1
    for at in range(20_000):
        x = (x * 1103515245 + 12345) % 2**31
        popular = int(500 * (x / 2**31) ** 4)
        keys.append(10_000 + at if at % 1000 > 900 else popular + at // 4000 * 40)
    return keys


PLAIN = {
    "adaptive": 10730,
    "lru": 9481,
    "lfu": 9705,
    "fifo": 8935,
    "random": 8777,
    "sieve": 10201,
    "s3fifo": 10680,
}


@pytest.mark.parametrize("name,hits", PLAIN.items())
def test_as_often_as_a_plain_simulator(hit_ratio, name, hits):
    # the figures are those of the models in test_base.py
    assert round(hit_ratio(by_name(name, 11), small_trace(), 100) * 20_000) == hits
