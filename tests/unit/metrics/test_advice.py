"""What ``nearcache advise`` predicts is what then really happens, within two points."""

import json
import os
import statistics
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nearcache import ConfigError, EmbeddingCache, NearCache
from nearcache.cli.app import app
from nearcache.metrics.advice import Keys, of_keys, of_report, picture, read_keys, simulate
from nearcache.metrics.advice.keys import mixed
from nearcache.metrics.report import of_process
from nearcache.near.pick import native
from nearcache.near.policies.base import NAMES
from nearcache.near.replay import hits
from reports import report

DATA = Path(os.environ.get("NEARCACHE_DATA") or Path(__file__).parents[4] / "shared" / "data")
POINTS = 0.02


def trace(name, count=10_000):
    """Requests of one kind, none of which any setting here was chosen by."""
    rng = np.random.default_rng(len(name))
    at = np.arange(count)
    popular = np.minimum(rng.zipf(1.15, count), 30_000)
    return {
        "popular": popular,
        "drifting": popular + at // 500 * 20,
        "scanned": np.where(at % 1000 >= 850, 1_000_000 + at, popular),
        "looping": np.where(at % 3 == 0, 50_000 + at // 3 % 500, popular),
    }[name]


def keys_of(numbers, **more):
    return Keys(mixed(numbers.astype(np.uint64)), **more)


def really(numbers, size, policy):
    """Replay requests against a real cache; chance has a say in "adaptive", so thrice."""
    ratios = []
    for salt in ("a", "b", "c") if policy == "adaptive" else ("a",):
        with NearCache(namespace="replay", max_entries=size, policy=policy, ttl=None) as cache:
            for number in numbers.tolist():
                key = f"{salt}{number}"
                if cache.get(key) is None:
                    cache.put(key, True)
            stats = cache.get_stats()
            ratios.append(stats.near_hits / len(numbers))
    return statistics.median(ratios)


@pytest.mark.parametrize("name", ["popular", "drifting", "scanned", "looping"])
def test_sizes_and_policies_hit_what_was_predicted(name):
    numbers = trace(name)
    advice = of_keys(keys_of(numbers), entries=300, curve=False).caches[0]
    for choice in (*advice.sizes[2:4], *advice.policies):
        if choice.policy in ("adaptive", "lru", "s3fifo"):
            real = really(numbers, choice.entries, choice.policy)
            assert choice.hit_ratio == pytest.approx(real, abs=POINTS), choice


@pytest.mark.parametrize("name", ["popular", "drifting", "scanned"])
def test_a_share_of_the_keys_is_enough_to_predict(name, monkeypatch):
    monkeypatch.setattr(simulate, "_REQUESTS", 10_000)
    monkeypatch.setattr(simulate, "_ENTRIES", 1000)
    numbers = trace(name, 40_000)
    assert simulate.share_for(keys_of(numbers), 4000) < 0.5
    guess = simulate.hit_ratio(keys_of(numbers), "lru", 4000)
    assert guess == pytest.approx(really(numbers, 4000, "lru"), abs=POINTS)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}; NEARCACHE_DATA names it")
@pytest.mark.parametrize(
    "file", ["lirs_2_pools.trace.gz", "lirs_multi3.trace.gz", "mooncake_synthetic_trace.jsonl.gz"]
)
def test_traces_of_real_caches_hit_what_was_predicted(file):
    keys = read_keys(DATA / file)
    size = keys.distinct // 10
    keys = replace(keys, hashes=keys.hashes[:20_000])
    advice = of_keys(keys, entries=size, policies=("s3fifo",), curve=False).caches[0]
    for choice in (advice.sizes[3], *advice.policies):
        real = really(keys.hashes, choice.entries, choice.policy)
        assert choice.hit_ratio == pytest.approx(real, abs=POINTS), choice


def test_a_recorded_cache_tells_of_other_sizes(tmp_path):
    numbers = trace("popular", 20_000)
    with EmbeddingCache(max_entries=500, policy="lru") as cache:
        cache.put("0", np.ones(4), "m")  # its model is known from here on
        with cache.admin.record(tmp_path / "keys.log", share=0.5):
            for number in numbers.tolist():
                if cache.get(str(number), "m") is None:
                    cache.put(str(number), np.ones(4), "m")
    keys = read_keys(tmp_path / "keys.log")
    assert keys.requests == 20_000
    assert (keys.size, keys.policy, keys.share) == (500, "lru", 0.5)
    advice = of_keys(keys, curve=False).caches[0]
    assert advice.hit_ratio == pytest.approx(really(numbers, 500, "lru"), abs=POINTS)
    twice = next(choice for choice in advice.sizes if choice.entries == 1000)
    assert twice.hit_ratio == pytest.approx(really(numbers, 1000, "lru"), abs=POINTS)


def test_a_batch_is_recorded_once_and_no_text_is_in_the_log(tmp_path):
    with EmbeddingCache() as cache:
        embed = cache.wrap(lambda texts: np.ones((len(texts), 4), np.float32), "m")
        embed(["known"])
        near = cache._tiers.engine.near
        with cache.admin.record(tmp_path / "keys.log", share=1.0) as log:
            embed(["known", "new"])
            embed(["known", "new"])
            with pytest.raises(ConfigError, match="already"):
                cache.admin.record(tmp_path / "other.log")
        assert cache._tiers.engine.near is near
        log.close()
    data = (tmp_path / "keys.log").read_bytes()
    assert read_keys(tmp_path / "keys.log").requests == 4
    assert b"known" not in data
    assert EmbeddingCache.hash_content("known").encode() not in data


def test_a_log_is_no_larger_than_it_may_be(tmp_path):
    with EmbeddingCache() as cache:
        cache.put("x", np.ones(4), "m")
        with cache.admin.record(tmp_path / "keys.log", share=1.0, most=160):
            for _ in range(5000):
                cache.get("x", "m")
    assert (tmp_path / "keys.log").stat().st_size < 400


def test_the_ttl_is_told_to_matter_or_not():
    numbers = trace("popular", 20_000)
    times = np.arange(20_000) * 10.0
    keys = keys_of(numbers, times=times)
    short = of_keys(keys, entries=2000, ttl=600, policies=(), curve=False).caches[0]
    assert short.ttl_costs > 0.05
    assert any("costs" in sentence for sentence in short.sentences)
    long = of_keys(keys, entries=2000, ttl=1e9, policies=(), curve=False).caches[0]
    assert any("never matters" in sentence for sentence in long.sentences)
    assert long.per_day == pytest.approx(8640, rel=0.01)
    twice = long.sizes[-1]
    assert twice.spared_per_day == pytest.approx(8640 * (twice.hit_ratio - long.hit_ratio), rel=0.1)


def test_a_report_is_advised_on_cache_by_cache():
    advice = of_report(report(5))
    assert advice.caches
    for cache in advice.caches:
        present = next(choice for choice in cache.sizes if choice.entries == cache.entries)
        assert present.hit_ratio == pytest.approx(cache.hit_ratio)
        assert all(0 <= choice.hit_ratio <= 1 for choice in cache.sizes)
    assert any("Estimated for LRU" in note for note in advice.notes)
    json.dumps(advice.to_dict())


needs_a_trail = pytest.mark.skipif(native is None, reason="the pure tier of values has no trail")


def of_running(numbers, size, policy):
    """What is advised to a cache that was asked for these keys."""
    with NearCache(namespace="running", max_entries=size, policy=policy) as cache:
        for number in numbers.tolist():
            cache.get_or_load(str(number), lambda: True)
        found = of_report(of_process()).caches
    return next(each for each in found if each.name.startswith("running"))


@needs_a_trail
def test_a_running_lru_cache_is_told_of_within_two_points():
    numbers = trace("popular", 20_000)
    advice = of_running(numbers, 1000, "lru")
    assert advice.method == "simulated"
    for choice in advice.sizes:
        assert choice.hit_ratio == pytest.approx(really(numbers, choice.entries, "lru"), abs=POINTS)


@needs_a_trail
@pytest.mark.parametrize("name", ["popular", "drifting", "scanned", "looping"])
def test_a_running_cache_of_the_default_policy_is_told_of_within_two_points(name):
    numbers = trace(name)
    advice = of_running(numbers, 300, "adaptive")
    assert advice.method == "simulated"
    for choice in (*advice.sizes, *advice.policies):
        truth = replayed(numbers, choice.entries, choice.policy)
        assert choice.hit_ratio == pytest.approx(truth, abs=POINTS), choice
    assert {choice.policy for choice in advice.policies} == set(NAMES)
    assert any("policy" in sentence.lower() for sentence in advice.sentences)


def replayed(numbers, size, policy):
    """What a cache would hit (tests/unit/near/test_replay.py), for less than ``really`` takes."""
    hashes = mixed(numbers.astype(np.uint64))
    taken = [hits(mixed(hashes ^ np.uint64(salt)), policy, size) for salt in range(9)]
    return statistics.median(taken) / len(numbers)


@needs_a_trail
@pytest.mark.skipif(not DATA.exists(), reason="no folder of traces: made-up ones stand in for them")
@pytest.mark.parametrize("file", ["lirs_multi3.trace.gz", "lirs_loop.trace.gz"])
def test_a_running_cache_is_told_of_traces_of_real_caches(file):
    numbers = np.unique(read_keys(DATA / file).hashes, return_inverse=True)[1][:12_000]
    advice = of_running(numbers, (int(numbers.max()) + 1) // 10, "adaptive")
    assert advice.method == "simulated"
    for choice in (*advice.sizes, *advice.policies):
        truth = replayed(numbers, choice.entries, choice.policy)
        assert choice.hit_ratio == pytest.approx(truth, abs=POINTS), choice


@needs_a_trail
def test_a_cache_that_is_full_of_bytes_is_of_the_size_that_it_has():
    numbers = trace("popular")
    with NearCache(namespace="running", max_bytes=200_000) as cache:
        for number in numbers.tolist():
            cache.get_or_load(str(number), lambda: "x" * 300)
        entries = cache.get_stats().entries_near
        found = of_report(of_process()).caches
    (advice,) = [each for each in found if each.name.startswith("running")]
    assert entries < 600
    assert advice.entries == entries
    assert advice.method == "simulated"


@needs_a_trail
def test_where_entries_leave_before_their_time_what_is_said_is_a_guess():
    with NearCache(namespace="running", max_entries=300) as cache:
        for at, number in enumerate(trace("popular").tolist()):
            cache.get_or_load(str(number), lambda: True)
            if at % 50 == 0:
                cache.clear()
        found = of_report(of_process()).caches
    (advice,) = [each for each in found if each.name.startswith("running")]
    assert advice.method == "guessed"
    assert any("is a guess" in sentence for sentence in advice.sentences)
    assert not advice.policies


def without_its_trail(monkeypatch):
    """What a tier of the user's own is, or a worker of an older release: LRU's curve is left."""
    monkeypatch.setattr("nearcache.engine.snapshot._miniature", lambda _engine: None)


@needs_a_trail
def test_lru_of_which_a_curve_is_all_there_is_is_told_of_within_two_points(monkeypatch):
    without_its_trail(monkeypatch)
    numbers = trace("popular", 20_000)
    advice = of_running(numbers, 1000, "lru")
    assert advice.method == "estimated"
    assert not advice.policies
    for choice in advice.sizes:
        assert choice.hit_ratio == pytest.approx(really(numbers, choice.entries, "lru"), abs=POINTS)


@needs_a_trail
def test_nothing_is_advised_where_the_policy_does_not_hit_what_lru_would(monkeypatch):
    without_its_trail(monkeypatch)
    advice = of_running(np.arange(12_000) % 600, 400, "adaptive")
    assert advice.method == "guessed"
    assert any("is a guess" in sentence for sentence in advice.sentences)
    assert not any("would do" in sentence for sentence in advice.sentences)
    assert advice.wasted_bytes == 0
    ratios = [choice.hit_ratio for choice in advice.sizes]
    assert ratios == sorted(ratios)
    assert ratios[0] < advice.hit_ratio / 2
    assert ratios[-1] <= 0.951  # each key was asked for a first time


@pytest.mark.parametrize(
    "name,text,options,count",
    [
        ("plain.txt", "a\nb\na\n", {}, 3),
        ("rows.log", "u1\t1\tq one\nu2\t2\tq two\n", {"column": 3}, 2),
        ("rows.jsonl", '{"key": "a", "ts": 1}\n{"key": ["b"], "ts": 2}\n', {}, 2),
        ("blocks.jsonl", '{"hash_ids": [1, 2]}\n{"hash_ids": [1]}\n', {}, 3),
        ("P.lis", "10 3 0 0\n11 1 0 1\n", {}, 4),
    ],
)
def test_traces_are_read_in_many_forms(tmp_path, name, text, options, count):
    path = tmp_path / name
    path.write_text(text)
    keys = read_keys(path, **options)
    assert len(keys.hashes) == count
    assert keys.distinct == len(set(keys.hashes.tolist()))


@pytest.mark.parametrize(
    "name,data,options",
    [
        ("empty.txt", b"", {}),
        ("bad.gz", b"no gzip", {}),
        ("bad.jsonl", b'{"nothing": 1}\n', {}),
        ("bad.lis", b"x y\n", {}),
        ("large.lis", b"1 99999999999\n", {}),
        ("far.lis", b"99999999999999999999 1\n", {}),
        ("large.jsonl", b'{"hash_ids": [99999999999999999999]}\n', {}),
        ("deep.jsonl", b'{"key": ' + b"[" * 100_000, {}),
        ("empty.jsonl", b'{"hash_ids": []}\n', {}),
        ("times.jsonl", b'{"key": "a", "time": ' + b"9" * 400 + b"}", {}),
        ("one.txt", b"a\nb\n", {"column": 99}),
        ("t.zst", b"x", {}),
        ("n.bin", b"1234", {"dtype": "float32"}),
        ("n.bin", b"1234", {"dtype": "nonsense"}),
        ("cut.log", b"nearcache-keys 1 {", {}),
    ],
)
def test_what_is_no_trace_is_refused_with_a_sentence(tmp_path, name, data, options):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError):
        read_keys(tmp_path / name, **options)


# -- the command and its pictures


def test_the_command_tells_and_draws(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("\n".join(map(str, trace("popular", 5000))))
    options = ["--trace", str(path), "--entries", "200"]
    result = CliRunner().invoke(
        app, ["advise", *options, "--png", f"{tmp_path}/c.png", "--svg", f"{tmp_path}/c.svg"]
    )
    assert result.exit_code == 0, result.output
    assert "200 entries, adaptive: near answers" in result.stdout
    assert (tmp_path / "c.svg").read_text().startswith("<svg")
    found = json.loads(CliRunner().invoke(app, ["advise", *options, "--json"]).stdout)
    assert found["caches"][0]["entries"] == 200
    assert {choice["policy"] for choice in found["caches"][0]["policies"]} >= {"lru", "sieve"}


def test_wrong_usage_is_said(tmp_path):
    for options in (
        ["--log", "a", "--trace", "b"],
        ["--trace", f"{tmp_path}/t", "--policy", "best"],
    ):
        assert CliRunner().invoke(app, ["advise", *options]).exit_code == 2
    assert CliRunner().invoke(app, ["advise", "--trace", f"{tmp_path}/no"]).exit_code == 1


CURVE = [(10, 0.1), (100, 0.4), (1000, 0.71), (10_000, 0.83)]


def test_a_png_is_one_and_shows_the_line():
    data = picture.png(CURVE, 1000)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    size = struct.unpack(">I", data[33:37])[0]
    raw = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(height, -1)
    assert raw.shape[1] == 1 + 3 * width
    colours = {tuple(point) for point in raw[:, 1:].reshape(-1, 3)[::1].tolist()}
    assert {(0x25, 0x63, 0xEB), (0xDC, 0x26, 0x26)} <= colours


@pytest.mark.parametrize("points", [[], [(5, 0.5)], CURVE, [(1, 0.0), (2, 0.0)]])
def test_any_curve_can_be_drawn(points):
    picture.png(points, 7)
    assert "</svg>" in picture.svg(points, 7, "<n> & co")
    for width in (10, 40, 200):
        drawn = picture.terminal(points, 7, width=width)
        assert all(len(line) <= max(width, 40) for line in drawn.splitlines())
