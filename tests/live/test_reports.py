"""What several processes say of themselves, on real stores: it adds up, and the dead are silent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from acl import denied, grant
from clusters import Cluster
from embedders import until
from nearcache import EmbeddingCache, NearCache, Options
from nearcache.engine.build import open_store
from nearcache.keys import DIRECTORY, board_of
from nearcache.metrics.report import of_process, read

SCRIPT = Path(__file__).resolve().parent.parent / "report_process.py"
COUNT = 7


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return request.getfixturevalue("one_server").url


@pytest.fixture
def opened():
    """Stores to look with."""
    made = []

    def start(url):
        made.append(open_store(url, Options())[0])
        return made[-1]

    yield start
    for store in made:
        store.close()


@pytest.fixture
def process():
    """Processes that report, ended at the end of the test."""
    started = []

    def start(url, seconds=0.2, namespace="live"):
        command = [sys.executable, "-W", "error", SCRIPT, url, seconds, namespace, COUNT]
        running = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(running)
        assert running.stdout.readline() == "ready\n"
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


def value_cache(report):
    return next(cache for cache in report.caches if cache.kind == "NearCache")


def test_the_figures_of_three_processes_add_up_exactly(url, process, opened):
    running = [process(url) for _ in range(3)]
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
        assert one.stdout.readline() == "again\n"
    store = opened(url)
    until(lambda: len(read(store).workers) == 3)
    until(lambda: value_cache(read(store)).stats.hits + COUNT == 6 * COUNT)
    report = read(store)
    stats = value_cache(report).stats
    assert (stats.loads, stats.misses, stats.saved_loads) == (COUNT, COUNT, 5 * COUNT)
    assert stats.entries_near == 3 * COUNT
    assert {worker.pid for worker in report.workers} == {one.pid for one in running}
    each = [c.stats for w in report.workers for c in w.caches if c.kind == "NearCache"]
    assert len(each) == 3
    assert stats.near_hits == sum(s.near_hits for s in each)
    until(lambda: sum(m.asked for m in value_cache(read(store)).minutes) == 6 * COUNT)


def test_one_that_is_killed_disappears_and_one_that_ends_does_so_at_once(url, process, opened):
    killed, ended, stays = (process(url) for _ in range(3))
    store = opened(url)
    until(lambda: len(read(store).workers) == 3)
    ended.communicate("")
    assert {w.pid for w in read(store).workers} == {killed.pid, stays.pid}
    os.kill(killed.pid, signal.SIGKILL)
    until(lambda: any(not worker.alive for worker in read(store).workers))
    (late,) = [worker for worker in read(store).workers if not worker.alive]
    assert late.pid == killed.pid
    until(lambda: {w.pid for w in read(store).workers} == {stays.pid})


def test_a_namespace_is_read_alone_and_all_are_found(url, process, opened):
    process(url, namespace="one")
    process(url, namespace="two/with a slash")
    store = opened(url)
    until(lambda: len(read(store).workers) == 2)
    assert {cache.namespace for cache in read(store).caches} == {"one", "two/with a slash"}
    assert {cache.namespace for cache in read(store, "one").caches} == {"one"}
    assert read(store, "three").workers == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside threads is the point
def test_a_forked_child_reports_as_itself_and_from_zero(url, opened):
    store = opened(url)
    with NearCache(url, namespace="forked", options=Options(report=0.1)) as cache:
        for n in range(10):
            cache.get_or_load(f"k{n}", lambda: 1)
        until(lambda: len(read(store).workers) == 1)
        to_child, go = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                cache.get_or_load("of the child", lambda: 2)
                os.read(to_child, 1)
                status = 0
            finally:
                os._exit(status)
        try:
            until(lambda: len(read(store).workers) == 2)
            mine, theirs = sorted(read(store).workers, key=lambda worker: worker.pid != os.getpid())
            assert (mine.pid, theirs.pid) == (os.getpid(), child)
            assert mine.caches[0].stats.loads == 10
            assert theirs.caches[0].stats.loads == 1
        finally:
            os.write(go, b"x")
            _, status = os.waitpid(child, 0)
        assert status == 0


def test_a_server_that_comes_back_empty_is_told_again(own_server, opened):
    server = own_server()
    store = opened(server.url)
    with NearCache(server.url, namespace="empty", options=Options(report=0.1)) as cache:
        cache.put("a", 1)
        until(lambda: len(read(store, "empty").workers) == 1)
        server.flush()
        until(lambda: len(read(store, "empty").workers) == 1)
        assert cache.get_stats().store_errors == 0


def test_a_user_who_may_not_report_has_a_cache_like_any_other(one_server, caplog):
    url = grant(one_server, "resetkeys", "~nc1:{mine:*", "~nc1:{mine}*", "~nc1:{mine/*")
    caplog.set_level("INFO", logger="nearcache")
    with NearCache(url, namespace="mine", options=Options(report=0.1)) as cache:
        assert cache.get_or_load("a", lambda: 1) == 1
        until(lambda: denied(one_server))
        cache.put("b", 2)
        assert cache.get("b") == 2
        until(lambda: "do not report" in caplog.text)
        stats = cache.get_stats()
        assert (stats.store_errors, stats.breaker) == (0, "closed")
    assert denied(one_server) == {board_of("mine").decode()}
    assert caplog.text.count("do not report") == 1


def test_without_the_directory_a_namespace_that_is_named_is_read(one_server, opened):
    url = grant(one_server, "resetkeys", "~nc1:{mine:*", "~nc1:{mine}*", "~nc1:{mine!}*")
    store = opened(url)
    with NearCache(url, namespace="mine", options=Options(report=0.1)) as cache:
        cache.put("a", 1)
        until(lambda: len(read(store, "mine").workers) == 1)
        until(lambda: DIRECTORY.decode() in denied(one_server))
        assert denied(one_server) <= {DIRECTORY.decode()}


def test_a_cluster_is_reported_to_like_one_server(opened):
    with Cluster(replicas=0) as cluster:
        url = cluster.url
        store = opened(url)
        options = Options(report=0.1)
        with (
            NearCache(url, namespace="here", options=options) as values,
            EmbeddingCache(url, namespace="there", options=options) as vectors,
        ):
            values.put("a", 1)
            vectors.put("a", [1.0], "m")
            until(lambda: len(read(store).caches) == 2)
            assert [cache.namespace for cache in read(store).caches] == ["here", "there"]
            assert len(read(store).workers) == 1
        assert read(store).workers == ()


def test_of_this_process_nothing_has_to_be_asked():
    with NearCache(namespace="alone") as cache, cache.view("seen") as seen:
        cache.get_or_load("a", lambda: 1)
        seen.get_or_load("a", lambda: 1)
        found = [c for c in of_process().caches if c.namespace == "alone"]
        assert [(c.stats.loads, c.views, c.links) for c in found] == [(2, 1, {"none": 1})]
