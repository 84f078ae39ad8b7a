"""From bytes on a board to a worker: what others wrote there is checked, never believed."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearcache import EmbeddingCache, MemoryStore, NearCache
from nearcache.engine.engine import live_engines
from nearcache.engine.snapshot import History, Identity
from nearcache.keys import DIRECTORY, board_of
from nearcache.metrics.report import read
from nearcache.metrics.snapshot import Unreadable, joined, worker_of

PLAYED = {
    "policy": "adaptive",
    "size": 10,
    "requests": 2,
    "really": 0.5,
    "others": [["lru", 0.25]],
}


@pytest.fixture
def said():
    """What a process with one cache says, as JSON says it."""
    with NearCache(namespace="docs") as cache:
        cache.get_or_load("a", lambda: 1)
        cache.get("a")
        (engine,) = [e for e in live_engines() if e.namespace == "docs" and not e.closed]
        caches = [History("docs", "NearCache").says([engine], 600.0, whole=True)]
        caches[0].update(curve=[[10, 0.5]], played=PLAYED)  # which not every tier can
        return json.loads(Identity().snapshot(caches, 5.0, 100.0))


def understood(said, now=0.0, store_now=107.0):
    return worker_of(json.dumps(said).encode(), now, store_now)


def test_what_a_process_says_is_read_as_it_was(said):
    found = understood(said)
    (mine,) = found.caches
    assert (mine.namespace, mine.kind, mine.policy) == ("docs", "NearCache", "adaptive")
    assert (mine.stats.near_hits, mine.stats.misses, mine.stats.loads) == (1, 1, 1)
    assert mine.minutes[0].minute == 10
    assert mine.minutes[0].asked == 2
    assert mine.latency["load"].count == 1
    assert mine.link.state == "none"
    assert (mine.curve.policy, mine.curve.really, mine.curve.requests) == ("adaptive", 0.5, 2)
    assert mine.curve.hit_ratio(mine.curve.size) == 0.5
    assert mine.curve.others == {"lru": 0.25}


def test_all_caches_of_a_process_together_take_no_longer_at_a_time(monkeypatch):
    monkeypatch.setattr("nearcache.engine.snapshot._Bit._second", 0.0)  # and what it is, later
    monkeypatch.setattr("nearcache.engine.snapshot._Bit._taken", 0.0)
    plays = []

    class Clock:
        now = 1e9
        time = staticmethod(time.time)

        @classmethod
        def monotonic(cls):
            return cls.now

        @staticmethod
        def thread_time():
            return 0.012 * len(plays)

    def play(_self, _seconds):
        plays.append(1)
        return False

    monkeypatch.setattr("nearcache.engine.snapshot.time", Clock)
    monkeypatch.setattr("nearcache.engine.snapshot.Miniature.play", play)
    with EmbeddingCache(namespace="docs") as cache:
        cache.wrap(lambda texts: [[1.0] for _ in texts], model="ones")(["a"])
        (engine,) = [e for e in live_engines() if e.namespace == "docs" and not e.closed]
        histories = [History("docs", "EmbeddingCache") for _ in range(5)]
        for history in histories:
            history.says([engine], 600.0)
        assert len(plays) == 2
        Clock.now += 1
        for history in histories:
            history.says([engine], 600.0)
        assert len(plays) == 4


def test_a_curve_of_an_older_release_is_of_lru(said):
    del said["caches"][0]["played"]
    curve = understood(said).caches[0].curve
    assert (curve.policy, curve.really, curve.others) == ("lru", None, {})


def test_what_takes_long_to_find_out_is_found_out_bit_by_bit(monkeypatch):
    monkeypatch.setattr("nearcache.engine.snapshot._SLICE", 0.0)
    monkeypatch.setattr("nearcache.engine.snapshot._ALL_SLICES", float("inf"))
    with EmbeddingCache(namespace="docs", max_entries=5) as cache:
        embed = cache.wrap(lambda texts: [[1.0, 2.0] for _ in texts], model="ones")
        for text in "abcabcdefga":
            embed([text])
        (engine,) = [e for e in live_engines() if e.namespace == "docs" and not e.closed]
        history = History("docs", "EmbeddingCache")
        assert history.says([engine], 600.0)["played"] is None
        assert history.says([engine], 600.0)["curve"]  # of LRU, until then
        said = [history.says([engine], 600.0)["played"] for _ in range(100)]
        assert said[0] is None
        assert said[-1] == {**said[-1], "policy": "adaptive", "size": 5, "requests": 11}
        whole = History("docs", "EmbeddingCache").says([engine], 600.0, whole=True)["played"]
        assert whole["requests"] == 11


def test_its_age_is_by_the_stores_clock(said):
    assert understood(said, now=1e9).age == 7.0
    assert understood({**said, "stored_at": None}, now=said["at"] + 3).age == pytest.approx(3)
    assert understood(said, store_now=50.0).age == 0.0


def test_it_holds_no_contents_and_no_arguments(said, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/app/__main__.py", "--password=secret"])
    assert Identity().snapshot([], 5.0, None).count(b"secret") == 0
    assert json.loads(Identity().snapshot([], 5.0, None))["program"] == "app"
    assert "hottest" in said["caches"][0]
    assert said["caches"][0]["hottest"] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s.update(format=2),
        lambda s: s.pop("id"),
        lambda s: s.update(pid="1"),
        lambda s: s.update(pid=True),
        lambda s: s.update(at=-1),
        lambda s: s.update(started=float("nan")),
        lambda s: s.update(at=10**400),
        lambda s: s.update(started=10**18),
        lambda s: s["caches"][0]["link"].update(since=10**12),
        lambda s: s["caches"][0].update(ttl=10**400),
        lambda s: s["caches"][0]["latency"]["near"].update(total=10**400),
        lambda s: s.update(caches={}),
        lambda s: s["caches"][0].pop("stats"),
        lambda s: s["caches"][0]["stats"].update(breaker="broken"),
        lambda s: s["caches"][0]["stats"].update(near_hits=1.5),
        lambda s: s["caches"][0]["stats"].update(near_hits=-1),
        lambda s: s["caches"][0]["stats"].update(near_hits=10**30),
        lambda s: s["caches"][0].update(minutes=[[1, 2]]),
        lambda s: s["caches"][0].update(curve=[[0, 2.0]]),
        lambda s: s["caches"][0].update(curve=[[5, 0.5], [1, 0.6]]),
        lambda s: s["caches"][0].update(played=[1]),
        lambda s: s["caches"][0]["played"].update(really=1.5),
        lambda s: s["caches"][0]["played"].update(others=[["lru", -1]]),
        lambda s: s["caches"][0]["played"].pop("size"),
        lambda s: s["caches"][0]["latency"]["near"].update(counts=[1]),
        lambda s: s["caches"][0].update(hottest=[["a"]]),
        lambda s: s["caches"][0].update(link="tracking"),
    ],
)
def test_what_is_no_snapshot_is_unreadable(said, damage):
    understood(said)
    damage(said)
    with pytest.raises(Unreadable):
        understood(said)


@given(st.binary() | st.text().map(str.encode) | st.just(b"[" * 100_000))
def test_any_bytes_are_a_worker_or_unreadable(document):
    with pytest.raises(Unreadable):
        worker_of(document, 0.0, 0.0)


def test_what_another_release_counts_besides_is_left_out(said):
    said["caches"][0]["stats"]["of_tomorrow"] = 1
    del said["caches"][0]["stats"]["corrupt"]
    assert understood(said).caches[0].stats.corrupt == 0


def test_no_text_steers_a_terminal_or_fills_it(said):
    said["program"] = "\x1b[2J\n" + "x" * 10_000
    said["caches"][0]["hottest"] = [["\x07key", 1]]
    found = understood(said)
    assert found.program.isprintable()
    assert len(found.program) == 200
    assert found.caches[0].hottest == (("\N{REPLACEMENT CHARACTER}key", 1),)


def test_a_worker_that_speaks_twice_is_one(said):
    once, again = understood(said), understood({**said, "id": said["id"], "at": said["at"] + 1})
    other = understood({**said, "id": "other"})
    found = joined([once, again, other])
    assert sorted(worker.id for worker in found) == sorted([said["id"], "other"])
    assert len(next(w for w in found if w.id == said["id"]).caches) == 2


def test_garbage_on_a_board_is_counted_and_the_rest_is_read(said):
    store = MemoryStore()
    store.report(DIRECTORY, b"docs", b"", 60.0)
    store.report(DIRECTORY, b"\xff no namespace", b"", 60.0)
    store.report(board_of("docs"), b"one", json.dumps(said).encode(), 60.0)
    store.report(board_of("docs"), b"two", b"garbage", 60.0)
    found = read(store)
    assert (len(found.workers), found.unreadable) == (1, 1)
    assert read(store, "other").workers == ()
