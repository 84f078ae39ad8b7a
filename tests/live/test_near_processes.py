"""NearCache in several processes: one load, one truth, whoever dies."""

import time

import pytest

import near_process
from embedders import until
from near_fixtures import SPACE, linked, settled
from nearcache import NearCache, Options
from processes import calls, finish, process_of, start_together

process = pytest.fixture(process_of(near_process))


def test_eight_processes_at_once_load_each_key_once(process, tmp_path, url):
    processes = [process("load_all", url, 100, face) for face in ["sync", "async"] * 4]
    start_together(tmp_path, processes)
    for one in processes:
        finish(one)
    assert calls(tmp_path) == {f"k{n}": 1 for n in range(100)}


def test_batches_that_overlap_in_several_processes_load_each_key_once(process, tmp_path, url):
    processes = [process("load_batches", url, 100) for _ in range(3)]
    start_together(tmp_path, processes)
    for one in processes:
        finish(one)
    assert calls(tmp_path) == {f"k{n}": 1 for n in range(100)}


def test_each_server_leases_a_load_to_one_process(process, tmp_path, redis_server):
    processes = [process("load_all", redis_server.url, 40, face) for face in ("sync", "async")]
    start_together(tmp_path, processes)
    for one in processes:
        finish(one)
    assert calls(tmp_path) == {f"k{n}": 1 for n in range(40)}


def test_a_process_killed_while_it_loads_delays_the_others_by_its_lease(process, tmp_path, url):
    dying = process("hang", url, 1.0)
    until((tmp_path / "inside").exists, 30)
    dying.kill()
    dying.wait()
    started = time.monotonic()
    with NearCache(url, namespace=SPACE, options=Options(lease=1.0)) as cache:
        assert cache.get("key") is None  # who only reads does not wait
        assert cache.get_or_load("key", lambda: "value") == "value"
    assert time.monotonic() - started < 8.0  # a lease usually lasts for ten


FORGETS = {
    "invalidate": (lambda cache: cache.invalidate("key"), "None"),
    "tag": (lambda cache: cache.invalidate_by_tag("tag"), "None"),
    "clear": (lambda cache: cache.clear(), "None"),
    "put": (lambda cache: cache.put("key", "new"), "new"),
}


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize("forget, left", FORGETS.values(), ids=FORGETS)
def test_what_is_forgotten_during_a_load_elsewhere_is_kept_nowhere(
    process, tmp_path, url, face, forget, left
):
    with NearCache(url, namespace=SPACE) as cache:
        linked(cache)
        loading = process("load_slowly", url, face)
        until((tmp_path / "inside").exists, 30)
        forget(cache)
        (tmp_path / "go on").touch()
        answer, kept = finish(loading)
        assert answer in ("old", left)  # to its own caller at most
        assert kept == left
        assert str(cache.get("key")) == str(cache.get("key", max_staleness=0)) == left


def test_what_one_process_changes_every_process_sees(process, tmp_path, url):
    with NearCache(url, namespace=SPACE) as cache:
        cache.put("key", "one", tags=["tag"])
        values = ["one", "two", "-", "three", "-", "four", "-", "five"]
        processes = [process("follow", url, face, *values) for face in ("sync", "async")]
        start_together(tmp_path, processes)

        def all_saw(number):
            def seen():
                for one in processes:
                    assert one.poll() in (None, 0), one.stderr.read()
                return len(list(tmp_path.glob(f"saw-{number}-*"))) == len(processes)

            until(seen, 30)

        for number, change in enumerate(
            [
                lambda: None,
                lambda: cache.put("key", "two", tags=["tag"]),
                lambda: cache.invalidate_by_tag("tag"),
                lambda: cache.put("key", "three"),
                lambda: cache.invalidate("key"),
                lambda: cache.put_batch({"key": "four"}),
                lambda: cache.clear(),
                lambda: cache.put("key", "five"),
            ]
        ):
            change()
            all_saw(number)
        for one in processes:
            finish(one)


def test_own_writes_are_read_at_once_and_others_never_backwards(process, tmp_path, url):
    processes = [process("write_and_read", url, 60) for _ in range(4)]
    start_together(tmp_path, processes)
    for one in processes:
        finish(one)


def test_what_a_process_had_near_is_gone_before_long_wherever_it_was_changed(
    process, tmp_path, url
):
    """And the other way round: a process that ends takes nothing along."""
    (tmp_path / "go").touch()
    with NearCache(url, namespace=SPACE) as cache:
        cache.put("key", "mine")
        linked(cache)
        settled(cache, "key")
        finish(process("load_all", url, 5, "sync"))
        assert cache.get("key") == "mine"
        assert cache.get_batch([f"k{n}" for n in range(5)]) == [f"value of k{n}" for n in range(5)]
