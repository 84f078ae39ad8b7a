"""The contract of a store's stream of changes."""

import threading
import time
import warnings

import pytest

from nearcache.errors import StoreUnavailable
from nearcache.stores.base import EVERYTHING, PONG, WRITTEN, Changed, Message, Stream
from nearcache.testing.contracts.store_parts import LOG, LONG, forked
from nearcache.testing.contracts.stores_mutable import ABSENT, ONE, TWO, V1, put

OPEN_SECONDS = 10.0
PREFIXES = (b"nc1:{ns:", b"nc1:{ns}:e:")
KEY, KEY_2, GROUP = b"nc1:{ns:00}:k:a", b"nc1:{ns:01}:k:b", b"nc1:{ns}:e:*"


def hear(stream: Stream) -> list[Message]:
    """What the stream says up to the answer to a ping that is sent now."""
    stream.ping()
    heard: list[Message] = []
    end = time.monotonic() + 20
    while PONG not in heard:
        assert time.monotonic() < end, f"no answer to a ping; heard {heard}"
        heard += stream.read(1.0)
    assert heard[-1] is PONG
    return heard[:-1]


def names(stream, *among: bytes) -> list[bytes]:
    """The names told up to the answer to a ping that is sent now; those of interest, in order."""
    told = [name for news in hear(stream) if isinstance(news, Changed) for name in news.names]
    return [name for name in told if name in among]


def commit(store, key, stored, token=ABSENT) -> None:
    """Write a value as a writer does."""
    (expected,) = store.expect([key], token, LONG)
    assert store.commit([key], [stored], [expected], None, LOG) == [WRITTEN]


class StreamContract:
    """What every store says of changes."""

    @pytest.fixture
    def listen(self):
        streams = []

        def listen(store, *prefixes: bytes):
            streams.append(store.stream())
            streams[-1].open(prefixes or PREFIXES, OPEN_SECONDS)
            return streams[-1]

        yield listen
        for stream in streams:
            stream.close()

    def test_what_another_changes_is_heard_in_order(self, store, handles, listen):
        stream, other = listen(store), handles()
        commit(other, KEY, ONE)
        other.bump(GROUP, ABSENT, LOG)
        commit(other, KEY_2, ONE)
        other.revoke([KEY], LOG)
        assert names(stream, KEY, KEY_2, GROUP) == [KEY, GROUP, KEY_2, KEY]

    def test_what_the_listener_itself_changes_is_heard(self, store, listen):
        stream = listen(store)
        commit(store, KEY, ONE)
        assert names(stream, KEY) == [KEY]
        store.commit([KEY], [TWO], [V1], None, LOG)
        assert names(stream, KEY) == [KEY]
        store.bump(GROUP, ABSENT, LOG)
        assert names(stream, GROUP) == [GROUP]
        store.drop_corrupt([KEY], [TWO])
        assert names(stream, KEY) == [KEY]
        assert names(stream, KEY, GROUP) == []

    def test_a_revoked_value_is_told(self, store, listen):
        commit(store, KEY, ONE)
        stream = listen(store)
        store.revoke([KEY], LOG)
        assert names(stream, KEY) == [KEY]

    def test_a_commit_that_changes_nothing_tells_of_no_value(self, store, listen):
        commit(store, KEY, ONE)
        stream = listen(store)
        store.commit([KEY], [TWO], [ABSENT], None, LOG)
        assert names(stream, KEY) == []

    def test_only_names_below_the_prefixes_are_told(self, store, listen):
        stream = listen(store)
        beside = [b"nc1:{nt:00}:k:a", b"nc1:{n", b"", b"other", b"xnc1:{ns:00}:k:a"]
        for key in beside:
            put(store, key, ONE)
            store.revoke([key], LOG)
        commit(store, KEY, ONE)
        told = [name for news in hear(stream) for name in news.names]
        assert KEY in told
        assert all(name.startswith(PREFIXES) for name in told)

    def test_what_was_changed_before_is_not_told(self, store, listen):
        commit(store, KEY, ONE)
        stream = listen(store)
        assert names(stream, KEY) == []

    def test_reading_says_nothing(self, store, handles, listen):
        commit(store, KEY, ONE)
        stream = listen(store)
        for _ in range(3):
            store.look([KEY], [GROUP])
            store.heads([KEY, KEY_2], [])
            store.fetch([KEY], [])
        assert names(stream, KEY) == []
        commit(store, KEY_2, ONE)  # a store that notes down what was read does so now
        assert names(stream, KEY, KEY_2) == [KEY_2]

    def test_every_stream_hears_everything(self, store, handles, listen):
        one, two, three = listen(store), listen(store), listen(handles())
        commit(store, KEY, ONE)
        assert [names(stream, KEY) for stream in (one, two, three)] == [[KEY]] * 3

    def test_a_pong_comes_after_every_change_made_before_its_ping(self, store, handles, listen):
        stream, other = listen(store), handles()
        for i in range(30):
            key = b"nc1:{ns:00}:k:%d" % i
            put(other, key, ONE)
            other.revoke([key], LOG)
            assert key in names(stream, key)

    def test_every_ping_is_answered_once(self, store, listen):
        stream = listen(store)
        for _ in range(3):
            stream.ping()
        heard = []
        while heard.count(PONG) < 3:
            heard += stream.read(1.0)
        assert stream.read(0.05) == []
        assert hear(stream) == []

    def test_nothing_is_answered_that_was_not_asked(self, store, listen):
        stream = listen(store)
        assert PONG not in stream.read(0.05)
        stream.watch(b"nc1:{more:")
        assert PONG not in stream.read(0.05)

    def test_one_more_prefix_is_heard_from_the_next_pong_on(self, store, listen):
        stream = listen(store)
        key = b"nc1:{more:00}:k:a"
        commit(store, key, ONE)
        assert names(stream, key) == []
        stream.watch(b"nc1:{more:")
        stream.watch(b"nc1:{more:")  # again is nothing new
        hear(stream)
        store.revoke([key], LOG)
        commit(store, KEY, ONE)
        assert names(stream, key, KEY) == [key, KEY]

    def test_a_read_waits_no_longer_than_it_is_told(self, store, listen):
        stream = listen(store)
        hear(stream)
        started = time.monotonic()
        assert stream.read(0) == []
        assert stream.read(0.02) == []
        assert 0.02 <= time.monotonic() - started < 10

    def test_a_read_that_waits_hears_what_comes(self, store, handles, listen):
        stream, other = listen(store), handles()
        hear(stream)
        heard = []

        def wait():
            while KEY not in heard:
                for news in stream.read(20):
                    heard.extend(news.names)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        commit(other, KEY, ONE)
        thread.join(20)
        assert KEY in heard

    def test_closing_wakes_a_read_that_waits(self, store, listen):
        stream = listen(store)
        hear(stream)
        waiting = threading.Event()
        ended = []

        def wait():
            try:
                while True:
                    waiting.set()
                    stream.read(60)
            except StoreUnavailable:
                ended.append(time.monotonic())

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        waiting.wait()
        stream.close()
        thread.join(20)
        assert ended

    def test_a_stream_that_is_not_open_is_unavailable(self, store, listen):
        unopened, closed = store.stream(), listen(store)
        closed.close()
        for stream in (unopened, closed):
            for call in (
                lambda s=stream: s.read(0),
                lambda s=stream: s.ping(),
                lambda s=stream: s.watch(b"x"),
            ):
                with pytest.raises(StoreUnavailable):
                    call()

    def test_a_stream_may_be_closed_at_any_time_and_again(self, store, listen):
        unopened, stream = store.stream(), listen(store)
        for _ in range(2):
            unopened.close()
            stream.close()
        again = listen(store)
        commit(store, KEY, ONE)
        assert names(again, KEY) == [KEY]

    def test_a_stream_that_was_closed_before_it_is_open_stays_closed(self, store):
        stream = store.stream()
        stream.close()  # by another thread, while the first was about to open it
        for call in (lambda: stream.open(PREFIXES, OPEN_SECONDS), lambda: stream.read(0)):
            with pytest.raises(StoreUnavailable):
                call()

    def test_a_stream_that_nobody_holds_is_let_go(self, store):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _ in range(3):
                store.stream().open(PREFIXES, OPEN_SECONDS)
        commit(store, KEY, ONE)

    def test_a_fork_cannot_hear_and_closing_there_takes_nothing_from_the_parent(
        self, store, listen
    ):
        stream = listen(store)

        def child():
            store.reset_after_fork()
            for call in (lambda: stream.read(0), stream.ping):
                with pytest.raises(StoreUnavailable):
                    call()
            stream.close()
            own = store.stream()
            own.open(PREFIXES, OPEN_SECONDS)
            commit(store, KEY_2, ONE)
            assert names(own, KEY_2) == [KEY_2]
            own.close()

        with forked(child):
            pass
        commit(store, KEY, ONE)
        assert names(stream, KEY) == [KEY]

    def test_a_flush_may_have_changed_anything(self, store, listen):
        if (flush := self.flush(store)) is None:
            return
        commit(store, KEY, ONE)
        stream = listen(store)
        flush()
        assert EVERYTHING in hear(stream)
        assert store.look([KEY], []).values == [None]
        commit(store, KEY, ONE)
        assert names(stream, KEY) == [KEY]

    def flush(self, store):
        """What flushes the store behind everybody's back; None where nothing can."""
        return getattr(store, "flush", None)
