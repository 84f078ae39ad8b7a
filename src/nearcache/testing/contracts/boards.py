"""The boards of a store, as tests: what processes say of themselves, each for a while."""

from nearcache.stores.base import Changed
from nearcache.testing.contracts.store_parts import LONG, SHORT, at_once, eventually, forked

BOARD, OTHER_BOARD = b"nc1:{board!}:reports", b"nc1:{other!}:reports"
PREFIX = b"nc1:{board:"


class BoardContract:
    """What every store's boards do."""

    def test_a_board_that_nobody_wrote_on_is_empty(self, store):
        assert store.reports(BOARD) == {}

    def test_what_is_said_can_be_read_by_others(self, store, handles):
        store.report(BOARD, b"one", b"\0 anything \xff", LONG)
        store.report(BOARD, b"two", b"", LONG)
        assert handles().reports(BOARD) == {b"one": b"\0 anything \xff", b"two": b""}

    def test_who_speaks_again_replaces_what_it_said(self, store):
        store.report(BOARD, b"one", b"1", LONG)
        store.report(BOARD, b"one", b"2", LONG)
        assert store.reports(BOARD) == {b"one": b"2"}

    def test_boards_are_apart(self, store):
        store.report(BOARD, b"one", b"1", LONG)
        store.report(OTHER_BOARD, b"one", b"2", LONG)
        assert store.reports(BOARD) == {b"one": b"1"}
        assert store.reports(OTHER_BOARD) == {b"one": b"2"}

    def test_what_has_ended_is_gone_and_the_rest_stays(self, store):
        store.report(BOARD, b"short", b"1", SHORT)
        store.report(BOARD, b"long", b"2", LONG)
        self.pass_time(store, SHORT)
        assert store.reports(BOARD) == {b"long": b"2"}

    def test_a_short_life_ends_no_longer_one(self, store):
        store.report(BOARD, b"long", b"2", LONG)
        store.report(BOARD, b"short", b"1", SHORT)
        self.pass_time(store, SHORT)
        store.report(BOARD, b"third", b"3", SHORT)
        assert store.reports(BOARD).keys() >= {b"long"}
        self.pass_time(store, SHORT)
        assert store.reports(BOARD) == {b"long": b"2"}

    def test_who_speaks_again_lives_on(self, store):
        store.report(BOARD, b"one", b"1", SHORT)
        store.report(BOARD, b"one", b"2", LONG)
        self.pass_time(store, SHORT)
        assert store.reports(BOARD) == {b"one": b"2"}

    def test_no_seconds_take_it_down(self, store):
        store.report(BOARD, b"one", b"1", LONG)
        store.report(BOARD, b"two", b"2", LONG)
        store.report(BOARD, b"one", b"", 0)
        assert store.reports(BOARD) == {b"two": b"2"}
        store.report(BOARD, b"never said", b"", 0)
        assert store.reports(BOARD) == {b"two": b"2"}

    def test_a_board_holds_a_thousand(self, store):
        for number in range(1000):
            store.report(BOARD, b"%d" % number, b"x" * 100, LONG)
        assert len(store.reports(BOARD)) == 1000

    def test_many_speak_at_once(self, store):
        at_once(8, lambda n: [store.report(BOARD, b"%d" % n, b"%d" % i, LONG) for i in range(20)])
        assert store.reports(BOARD) == {b"%d" % n: b"19" for n in range(8)}

    def test_nobody_is_told_and_no_value_comes_of_it(self, store):
        store.report(BOARD, b"one", b"1", LONG)
        stream = store.stream()
        try:
            stream.open([PREFIX], 5.0)
            store.report(BOARD, b"one", b"2", LONG)
            stream.ping()
            heard = []
            eventually(lambda: heard.extend(stream.read(0.5)) or heard)
        finally:
            stream.close()
        named = [name for one in heard if isinstance(one, Changed) for name in one.names]
        assert not [name for name in named if b"report" in name]
        assert store.scan((PREFIX, b"}:k:"), 0, 1000)[1] == []

    def test_a_fork_speaks_for_itself(self, store, handles):
        store.report(BOARD, b"parent", b"1", LONG)

        def work():
            store.reset_after_fork()
            store.report(BOARD, b"child", b"2", LONG)
            assert store.reports(BOARD) == {b"parent": b"1", b"child": b"2"}

        with forked(work):
            pass
        if self.shared:
            assert store.reports(BOARD).keys() == {b"parent", b"child"}
