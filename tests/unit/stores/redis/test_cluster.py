"""The cluster's store beyond the contract: redirections, nodes that fail, clocks, scans."""

import pickle
import threading
from contextlib import contextmanager, suppress

import pytest

from clusters import Cluster, heard, slot_of
from embedders import until
from nearcache.errors import ConfigError, StoreError, StoreTimeout, StoreUnavailable
from nearcache.stores.base import TAKEN, WRITTEN
from nearcache.stores.redis.clock import Reading
from nearcache.stores.redis.cluster import ClusterStore
from nearcache.stores.redis.store import RedisStore
from nearcache.testing import stored_entry
from nearcache.testing.contracts.stores import LOG, LONG, MARK, NEW, OLD

TOKEN = b"sixteen bytes ok"
KEYS = [b"nc1:{ns:%02x}:k:key." % bucket for bucket in range(64)]
VALUES = [stored_entry(key) for key in KEYS]
GROUP = b"nc1:{ns}:e:*"
START = (b"nc1:{ns:", b"}:k:")


def test_whenever_a_stream_is_closed_a_read_that_waits_ends(store):
    """Its last words were lost to a read that was just beginning to wait, one time in fifteen."""
    for _ in range(40):
        stream = store.stream()
        stream.open([b"nc1:{ns:"], 5.0)
        began, ended = threading.Event(), threading.Event()

        def wait(stream=stream, began=began, ended=ended):
            with suppress(StoreUnavailable):
                while True:
                    began.set()
                    stream.read(60)
            ended.set()

        threading.Thread(target=wait, daemon=True).start()
        assert began.wait(5)
        stream.close()
        assert ended.wait(10)


@pytest.fixture(scope="module")
def made():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(made):
    """The cluster, whole: what a test began there has ended."""
    made.until_sound()
    return made


@pytest.fixture
def store(cluster):
    for node in cluster.primaries:
        node.flush()
    store = ClusterStore(cluster.url, timeout=5.0)
    yield store
    store.close()


def write(store, keys=KEYS, values=VALUES):
    store.write(keys, values, None, LOG, [b"e"] * len(keys))


def on(node, cluster, keys=KEYS):
    """Return those keys that lie on a node."""
    slots = set(cluster.slots_of(node))
    return [key for key in keys if slot_of(key) in slots]


# -- where keys are ------------------------------------------------------------------------------


def test_a_batch_over_all_nodes_is_one_call(store, cluster):
    write(store)
    assert all(on(node, cluster) for node in cluster.primaries)
    assert store.fetch(KEYS, [GROUP]).values == VALUES
    assert store.look(KEYS, [GROUP]).values == VALUES
    assert [store.look([key], []).values for key in KEYS] == [[value] for value in VALUES]
    assert store.heads(KEYS, []).values == [value[:24] for value in VALUES]


@pytest.mark.parametrize(
    "name", [b"", b"a", b"{", b"}", b"{}a", b"}{a}b", b"{{a}}", b"a{b", b"{a}}"]
)
def test_names_are_asked_for_together_only_where_they_share_a_slot(store, name):
    names = [name, name + b"1", name + b"}2", b"{a}", b"{a}b", b"}{a}", KEYS[0], KEYS[0] + b"x"]
    parts = store._together(names)
    assert sorted(position for part in parts for position in part) == list(range(8))
    assert all(len({slot_of(names[position]) for position in part}) == 1 for part in parts)
    assert any(6 in part and 7 in part for part in parts)


def test_all_nodes_are_asked_before_the_first_answers(store):
    write(store)
    order = []

    def noted(word, call):
        def noting(*arguments, **options):
            order.append(word)
            return call(*arguments, **options)

        return noting

    for node in store._nodes.values():
        node.send = noted("send", node.send)
        node.receive_next = noted("receive", node.receive_next)
    assert store.fetch(KEYS, []).values == VALUES
    assert order[:4] == ["send"] * 3 + ["receive"]


def test_a_slot_that_has_moved_is_found(store, cluster):
    write(store)
    one, two, _ = cluster.primaries
    key = on(one, cluster)[0]
    cluster.move_slots([slot_of(key)], to=two)
    assert store.fetch(KEYS, []).values == VALUES
    cluster.move_slots([slot_of(key)], to=one)
    assert store.look([key], []).values == [VALUES[KEYS.index(key)]]
    cluster.move_slots([slot_of(key)], to=two)
    store.forget([key], LOG, [b"e"])
    assert store.fetch([key], []).values == [None]
    cluster.move_slots([slot_of(key)], to=one)


@contextmanager
def half_moved(store, cluster):
    """Yield keys of one slot of which half have moved to another node."""
    one, two, _ = cluster.primaries
    bucket = int(on(one, cluster)[0][8:10], 16)
    keys = [b"nc1:{ns:%02x}:k:%d." % (bucket, number) for number in range(20)]
    values = [stored_entry(key) for key in keys]
    write(store, keys, values)
    slot = slot_of(keys[0])
    with cluster.half_moved(slot, two):
        yield keys, values
    cluster.move_slots([slot], to=one)


def test_while_a_slot_moves_all_of_its_values_are_read(store, cluster):
    with half_moved(store, cluster) as (keys, values):
        assert store.fetch(keys, [GROUP]).values == values
        assert [store.look([key], []).values for key in keys] == [[value] for value in values]
        assert store.fetch([*KEYS, *keys], []).values[-20:] == values
        assert store.heads(keys, [GROUP]).values == [value[:24] for value in values]


def test_while_a_slot_moves_what_is_forgotten_is_gone(store, cluster):
    with half_moved(store, cluster) as (keys, _):
        assert store.forget(keys, LOG, [b"e"] * 20) == 20
        assert store.fetch(keys, []).values == [None] * 20


def test_a_script_waits_for_a_slot_that_moves_and_says_that_it_is_over(store, cluster):
    brief = ClusterStore(cluster.url, timeout=1.0)
    with half_moved(store, cluster) as (keys, _):
        with pytest.raises(StoreError, match="moving slots") as caught:
            brief.lease(keys, TOKEN, LONG, MARK)
        assert not isinstance(caught.value, StoreUnavailable)  # all others still answer
        assert caught.value.is_over
    assert brief.lease([b"nc1:{ns:00}:k:new."], TOKEN, LONG, MARK) == [TAKEN]
    brief.close()


def test_a_script_goes_on_when_the_slot_has_moved(cluster):
    store = ClusterStore(cluster.url, timeout=20.0)
    answers = []
    with half_moved(store, cluster) as (keys, _):
        waiting = threading.Event()

        def lease():
            waiting.set()
            answers.extend(store.lease([keys[0], keys[0] + b"x"], TOKEN, LONG, MARK))

        thread = threading.Thread(target=lease)
        thread.start()
        waiting.wait()
    thread.join()
    assert len(answers) == 2
    assert answers[1] is TAKEN
    store.close()


def test_a_plain_store_says_that_it_is_one_node_of_a_cluster(cluster):
    one = cluster.primaries[0]
    store = RedisStore(f"redis://127.0.0.1:{one.port}/0")
    elsewhere = next(key for key in KEYS if key not in on(one, cluster))
    with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
        store.look([elsewhere], [])
    store.close()


# -- nodes that fail -----------------------------------------------------------------------------


def test_while_one_node_hangs_the_store_is_not_whole(store, cluster):
    write(store)
    store = ClusterStore(cluster.url, timeout=0.2)
    until(lambda: works(store))
    one = cluster.primaries[0]
    one.pause()
    try:
        with pytest.raises(StoreTimeout) as caught:
            store.fetch(KEYS, [])
        assert not caught.value.is_over
        with pytest.raises(StoreUnavailable):
            store.fetch([], [])  # so one finds out whether it answers again
    finally:
        one.resume()
    until(lambda: works(store))
    store.close()


def works(store):
    try:
        return store.fetch(KEYS, []).values == VALUES
    except StoreError:
        return False


def test_a_primary_that_died_is_replaced_by_its_replica():
    with Cluster() as cluster:
        store = ClusterStore(cluster.url, timeout=2.0)
        write(store)
        cluster.until_replicated()
        old = cluster.kill_primary(1)
        cluster.until_replaced(old)
        until(lambda: works(store))
        store.close()


def test_without_any_node_it_is_unavailable():
    store = ClusterStore("redis+cluster://127.0.0.1:1,127.0.0.1:2", timeout=0.2)
    with pytest.raises(StoreUnavailable):
        store.fetch(KEYS, [])
    with pytest.raises(StoreUnavailable):
        store.stream().open([b"nc1:{ns:"], 0.2)


# -- time ----------------------------------------------------------------------------------------


def test_a_deadline_holds_by_the_clock_of_the_node_that_executes_it(store, cluster):
    store.fetch(KEYS, [])
    for node in store._nodes.values():  # an hour ahead, as far as we can see
        now, sent, received = node.clock.reading or store._time.reading
        node.clock._reading = Reading(now + 3600, sent, received)
    keys, values = on(cluster.primaries[0], cluster)[:1], VALUES[:1]
    assert store.put(keys, values, None, LOG, store.least_now() + 60.0, []) == []
    for node in store._nodes.values():  # an hour behind
        now, sent, received = node.clock.reading or store._time.reading
        node.clock._reading = Reading(now - 7200, sent, received)
    assert store.put(keys, values, None, LOG, store.least_now() + 60.0, []) is None
    assert store.put(keys, values, None, LOG, store.least_now() + 60.0, []) == []  # read anew


def test_a_put_that_is_late_on_one_node_alone_is_under_way(store, cluster):
    store.fetch(KEYS, [])
    node = store.node(("127.0.0.1", cluster.primaries[0].port))
    store.put(KEYS, VALUES, None, LOG, store.least_now() + 5.0, [])
    now, sent, received = node.clock.reading
    node.clock._reading = Reading(now - 7200, sent, received)
    with pytest.raises(StoreTimeout, match="too late for some"):
        store.put(KEYS, VALUES, None, LOG, store.least_now() + 5.0, [])


def test_a_put_whose_time_is_over_does_nothing_anywhere(store):
    assert store.put(KEYS, VALUES, None, LOG, store.least_now() - 1.0, []) is None
    assert store.look(KEYS, []).values == [None] * 64


# -- scans ---------------------------------------------------------------------------------------


def scanned(store, step=lambda: None):
    cursor, names = 0, []
    while True:
        cursor, page = store.scan(START, cursor, 10)
        names += page
        if not cursor:
            return names
        step()


def test_a_scan_goes_through_every_node(store):
    write(store)
    assert sorted(scanned(store)) == sorted(KEYS)


def test_a_scan_sees_what_moves_between_its_steps(store, cluster):
    """From a node that is yet to come to one that is done, it would be seen on neither."""
    write(store)
    order = sorted(cluster.primaries, key=lambda node: ("127.0.0.1", node.port))
    first, last = order[0], order[-1]
    slots = [slot_of(key) for key in on(last, cluster)]
    steps = []

    def step():
        if len(steps) == 4:  # some way into it
            cluster.move_slots(slots, to=first)
        steps.append(1)

    try:
        assert set(scanned(store, step)) == set(KEYS)
        assert len(steps) > 4
    finally:
        cluster.move_slots(slots, to=last)


def test_while_slots_move_nobody_says_what_stands(store, cluster):
    with half_moved(store, cluster), pytest.raises(StoreError, match="moving slots"):
        scanned(store)


# -- news ----------------------------------------------------------------------------------------


def test_news_comes_from_every_node_before_the_pong(store):
    stream = store.stream()
    stream.open([b"nc1:{ns"], 5.0)
    store.put(KEYS, VALUES, None, LOG, store.least_now() + 5.0, [])
    store.bump(GROUP, TOKEN, LOG)
    assert {*KEYS, GROUP} <= heard(stream)
    store.revoke(KEYS[:1], LOG)
    assert KEYS[0] in heard(stream)
    stream.close()


def test_a_stream_ends_when_a_replica_takes_over(store, cluster):
    """It listens to who was primary; the new one's news would be missed."""
    stream = store.stream()
    stream.open([b"nc1:{ns"], 5.0)
    heard(stream)
    cluster.failover(0)
    with pytest.raises(StoreUnavailable):
        until(lambda: not heard(stream) and False)
    cluster.until_sound()
    again = store.stream()
    again.open([b"nc1:{ns"], 5.0)
    store.put(KEYS, VALUES, None, LOG, store.least_now() + 5.0, [])
    assert set(KEYS) <= heard(again)
    again.close()


def test_a_stream_ends_when_a_node_joins_and_the_next_listens_to_it_without_slots():
    """Keys of a slot that is moving there change there, before it owns the slot."""
    with Cluster(replicas=0) as cluster:
        store = ClusterStore(cluster.url, timeout=5.0)
        stream = store.stream()
        stream.open([b"nc1:{ns"], 5.0)
        heard(stream)
        node = cluster.join()
        with pytest.raises(StoreUnavailable, match="anew"):
            until(lambda: not heard(stream) and False)
        cluster.until_sound()
        stream = store.stream()
        stream.open([b"nc1:{ns"], 5.0)
        store.put(KEYS[:1], VALUES[:1], None, LOG, store.least_now() + 5.0, [])
        heard(stream)
        with cluster.half_moved(slot_of(KEYS[0]), node):
            moved = b"nc1:{ns:00}:k:new."  # it is nowhere, so it is made where the slot goes
            store._ask([("SET", moved, b"value")], writes=True)
            assert moved in heard(stream)
        stream.close()
        store.close()


def test_a_dead_node_of_the_url_makes_no_put_more_patient(cluster):
    store = ClusterStore("redis+cluster://127.0.0.1:1," + cluster.url.partition("://")[2])
    store.fetch(KEYS, [])
    live = [store.node(address).patience() for address in store.topology.primaries]
    assert store.patience() == max(live)
    store.close()


def test_an_epoch_is_changed_before_the_log_tells_of_it(store):
    asked = []
    ask = store._ask
    store._ask = lambda commands, **options: (
        asked.append(list(commands)),
        ask(commands, **options),
    )[1]
    store.forget_group(GROUP, LOG, b"e")
    assert [[command[0] for command in commands] for commands in asked] == [["SET"], ["XADD"]]


# -- a store like others -------------------------------------------------------------------------


def test_it_is_pickled_by_its_url(store):
    write(store)
    copy = pickle.loads(pickle.dumps(store))
    assert type(copy) is ClusterStore
    assert copy.fetch(KEYS, []).values == VALUES
    copy.close()


def test_what_servers_evict_is_asked_of_all(store, cluster):
    assert not store.may_evict()
    last = cluster.primaries[-1]
    last.ask("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    assert store.may_evict()
    last.ask("CONFIG", "SET", "maxmemory", "0")


def test_a_script_no_node_knows_is_sent_whole(store, cluster):
    for node in cluster.primaries:
        node.ask("SCRIPT", "FLUSH")
    assert store.lease(KEYS, TOKEN, LONG, MARK) == [TAKEN] * 64
    assert store.fill(KEYS, VALUES, TOKEN, MARK, None) == [WRITTEN] * 64
    assert store.write(KEYS[:1], [OLD], None, LOG, [b"e"]) is None
    assert store.look(KEYS[:2], []).values == [OLD, VALUES[1]]
    assert NEW not in VALUES


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://a:1,",
        "redis+cluster://a:port",
        "redis+cluster://a:1,b:2/1",
        "redis+cluster://a:1?nonsense=1",
    ],
)
def test_a_url_that_is_none_is_refused_before_any_effect(url):
    with pytest.raises(ConfigError):
        ClusterStore(url)


def test_no_secret_is_shown():
    store = ClusterStore("rediss+cluster://me:s3cret@a:1,b?client_name=s3cret")
    assert repr(store) == "ClusterStore('rediss+cluster://a:1,b:6379')"
    with pytest.raises(StoreUnavailable) as caught:
        ClusterStore("redis+cluster://me:s3cret@127.0.0.1:1", timeout=0.2).fetch([], [])
    assert "s3cret" not in str(caught.value)
