"""The contract of a store, as tests: ``nearcache.stores.base`` in full sentences.

Subclass :class:`StoreContract` and give it the fixture ``handles``: a function that returns one
more store object for the same place (or, for a store in memory, the same object again). Times are
the store's own, so waiting means watching the store's clock.
"""

import os
import time

import pytest

from nearcache.entry import SEALED, SIGNED
from nearcache.stores.base import HELD, LOG_LENGTH, SKIPPED, TAKEN, WRITTEN
from nearcache.testing import mark_of, stored_entry
from nearcache.testing.contracts.boards import BoardContract
from nearcache.testing.contracts.sizes import SizeContract
from nearcache.testing.contracts.store_parts import (
    GROUPS,
    LOG,
    LONG,
    MARK,
    NEW,
    OLD,
    SHORT,
    at_once,
    eventually,
    forked,
    store_time,
    while_it_lives,
)
from nearcache.testing.contracts.stores_mutable import MutableContract
from nearcache.testing.contracts.stores_scan import ScanContract
from nearcache.testing.contracts.streams import StreamContract

__all__ = [
    "GROUPS",
    "LOG",
    "LONG",
    "MARK",
    "NEW",
    "OLD",
    "SHORT",
    "StoreContract",
    "at_once",
    "eventually",
    "forked",
    "store_time",
    "while_it_lives",
]


class StoreContract(MutableContract, ScanContract, StreamContract, BoardContract, SizeContract):
    """What every store does. ``shared``: its data is seen by other processes."""

    shared = True

    @pytest.fixture
    def store(self, handles):
        return handles()

    def pass_time(self, store, seconds: float) -> None:
        """Return once the store's own time has moved on by ``seconds``, and two milliseconds.

        A server that counts whole milliseconds lets a key live to the end of its last one.
        """
        end = store_time(store) + seconds + 0.002
        eventually(lambda: store_time(store) > end)

    # -- fetch -----------------------------------------------------------------------------------

    def test_what_was_written_is_fetched_in_the_order_asked(self, store):
        store.write([b"a", b"b"], [OLD, NEW], None, LOG, [b"", b""])
        assert store.fetch([b"b", b"missing", b"a"], GROUPS).values == [NEW, None, OLD]

    def test_a_key_asked_for_twice_is_answered_twice(self, store):
        store.write([b"a"], [OLD], None, LOG, [b""])
        assert store.fetch([b"a", b"a"], GROUPS).values == [OLD, OLD]

    def test_an_absent_epoch_is_created_and_stays(self, store, handles):
        first = store.fetch([], GROUPS).epochs
        assert store.fetch([b"a"], GROUPS).epochs == first
        assert handles().fetch([], GROUPS).epochs == first

    def test_every_group_has_an_epoch_of_its_own(self, store):
        one, two = store.fetch([], GROUPS).epochs
        assert one
        assert one != two
        assert store.fetch([], GROUPS[::-1]).epochs == [two, one]

    def test_an_absent_epoch_beside_a_present_one_is_created_alone(self, store):
        (one,) = store.fetch([], GROUPS[:1]).epochs
        assert store.fetch([], GROUPS).epochs[0] == one

    def test_threads_that_create_an_epoch_at_once_agree(self, handles):
        for round_ in range(5):
            groups = [b"raced-%d-%d" % (round_, i) for i in range(3)]
            seen = at_once(8, lambda _, g=groups: tuple(handles().fetch([], g).epochs))
            assert len(set(seen)) == 1

    def test_a_fetch_says_when_in_the_stores_time_and_in_ours(self, store):
        before = time.monotonic()
        one, two = store.fetch([b"a"], GROUPS), store.fetch([b"a"], GROUPS)
        assert one.now <= two.now
        assert before <= one.sent <= two.sent <= time.monotonic()

    def test_the_stores_time_never_goes_back(self, store):
        times = [store.now() for _ in range(50)]
        assert times == sorted(times)

    # -- lives -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("ttl", [SHORT, 0.101])
    @pytest.mark.parametrize("way", ["write", "fill"])
    def test_an_entry_lives_its_ttl_to_the_millisecond(self, store, way, ttl):
        if way == "fill":
            store.lease([b"a"], b"token", LONG, MARK)
        before = store_time(store)
        if way == "fill":
            store.fill([b"a"], [OLD], b"token", MARK, ttl)
        else:
            store.write([b"a"], [OLD], ttl, LOG, [b""])
        after = store_time(store)
        while (got := store.fetch([b"a"], GROUPS)).values[0] is not None:
            assert got.now < after + ttl + 0.002
            self.pass_time(store, 0.003)
        assert store_time(store) >= before + ttl

    def test_an_expired_entry_is_absent_for_everybody(self, store):
        store.write([b"a", b"b"], [OLD, OLD], SHORT, LOG, [b"", b""])
        self.pass_time(store, SHORT)
        assert store.fetch([b"a"], GROUPS).values == [None]
        assert store.lease([b"a"], b"token", LONG, MARK) == [TAKEN]
        assert store.forget([b"b"], LOG, []) == 0

    def test_a_later_write_without_limit_takes_the_limit_away(self, store):
        store.write([b"a"], [OLD], SHORT, LOG, [b""])
        store.write([b"a"], [OLD], None, LOG, [b""])
        self.pass_time(store, SHORT)
        assert store.fetch([b"a"], GROUPS).values == [OLD]

    def test_a_later_write_with_a_limit_sets_it(self, store):
        store.write([b"a"], [OLD], None, LOG, [b""])
        store.write([b"a"], [OLD], SHORT, LOG, [b""])
        self.pass_time(store, SHORT)
        assert store.fetch([b"a"], GROUPS).values == [None]

    @pytest.mark.parametrize("way", ["write", "fill"])
    def test_the_values_of_a_batch_may_have_lives_of_their_own(self, store, way):
        keys, lives = [b"a", b"b", b"c"], [LONG, SHORT, 2 * LONG]
        if way == "fill":
            store.lease(keys, b"token", LONG, MARK)
            assert store.fill(keys, [OLD] * 3, b"token", MARK, lives) == [WRITTEN] * 3
        else:
            store.write(keys, [OLD] * 3, lives, LOG, [b""] * 3)
        self.pass_time(store, SHORT)
        assert store.fetch(keys, GROUPS).values == [OLD, None, OLD]

    def test_purge_deletes_what_has_expired_and_nothing_else(self, store):
        store.write([b"dead", b"dying"], [OLD, OLD], SHORT, LOG, [b"", b""])
        store.write([b"bounded"], [OLD], LONG, LOG, [b""])
        store.write([b"endless"], [OLD], None, LOG, [b""])
        self.pass_time(store, SHORT)
        assert store.purge() in (2, 0)  # 0 where the server does it by itself
        assert store.purge() == 0
        assert store.fetch([b"dead", b"bounded", b"endless"], GROUPS).values == [None, OLD, OLD]

    # -- lease -----------------------------------------------------------------------------------

    def test_a_free_key_is_taken_once(self, store, handles):
        assert store.lease([b"a"], b"mine", LONG, MARK) == [TAKEN]
        assert handles().lease([b"a", b"b"], b"yours", LONG, MARK) == [HELD, TAKEN]

    def test_a_key_with_a_valid_value_is_answered_with_it(self, store):
        store.write([b"a"], [OLD], None, LOG, [b""])
        assert store.lease([b"b", b"a"], b"token", LONG, MARK) == [TAKEN, OLD]

    @pytest.mark.parametrize(
        "better",
        [
            pytest.param(stored_entry(b"x", kind=4), id="wider"),
            pytest.param(stored_entry(b"x"), id="other bytes"),
            pytest.param(stored_entry(b"x" * 10_000), id="long"),
            pytest.param(stored_entry(b""), id="a head alone"),
        ],
    )
    def test_what_the_mark_accepts_is_a_value(self, store, better):
        store.write([b"a"], [better], None, LOG, [b""])
        assert store.lease([b"a"], b"token", LONG, MARK) == [better]

    @pytest.mark.parametrize(
        "worse",
        [
            pytest.param(stored_entry(b"x", kind=2), id="narrower"),
            pytest.param(stored_entry(b"x", kind=2 | SIGNED), id="narrower, and signed"),
            pytest.param(stored_entry(b"x", kind=2 | SEALED | SIGNED), id="narrower, and sealed"),
            pytest.param(stored_entry(b"x", size=5), id="of another size"),
            pytest.param(stored_entry(b"x", size=4 + 256), id="of a size alike in one byte"),
            pytest.param(stored_entry(b"x", stamp=b"forgott."), id="of a forgotten group"),
            pytest.param(b"XX" + OLD[2:], id="of another magic"),
            pytest.param(OLD[:2] + b"\2" + OLD[3:], id="of another version"),
            pytest.param(OLD[:20], id="cut in its head"),
            pytest.param(b"", id="empty"),
            pytest.param(b'{"a": 1}', id="of somebody else"),
        ],
    )
    def test_what_the_mark_refuses_is_leased_and_overwritten(self, store, worse):
        store.write([b"a"], [worse], None, LOG, [b""])
        assert store.lease([b"a"], b"token", LONG, MARK) == [TAKEN]
        assert store.fetch([b"a"], GROUPS).values == [worse]  # until there is something better
        assert store.fill([b"a"], [NEW], b"token", MARK, None) == [WRITTEN]
        assert store.fetch([b"a"], GROUPS).values == [NEW]

    @pytest.mark.parametrize("lacks", [SIGNED, SEALED])
    def test_what_lacks_a_protection_gives_way_however_precise(self, store, lacks):
        plain = stored_entry(b"x", kind=63 | (SIGNED | SEALED) ^ lacks)
        better = stored_entry(b"y", kind=2 | SIGNED | SEALED)
        mark = mark_of(better)
        store.write([b"a"], [plain], None, LOG, [b""])
        assert store.lease([b"a"], b"token", LONG, mark) == [TAKEN]
        assert store.fill([b"a"], [better], b"token", mark, None) == [WRITTEN]
        assert store.fetch([b"a"], GROUPS).values == [better]

    def test_what_has_more_protection_stands_if_it_is_precise_enough(self, store):
        signed = stored_entry(b"x", kind=3 | SIGNED)
        store.write([b"a"], [signed], None, LOG, [b""])
        assert store.lease([b"a"], b"token", LONG, MARK) == [signed]

    def test_a_mark_of_no_size_accepts_any(self, store):
        entry = stored_entry(b"x", size=77)
        any_size = mark_of(OLD, any_size=True)
        store.write([b"a"], [entry], None, LOG, [b""])
        assert store.lease([b"a"], b"token", LONG, any_size) == [entry]
        assert store.fill([b"a"], [OLD], b"token", any_size, None) == [entry]

    def test_a_lease_ends_by_itself(self, store):
        store.lease([b"a"], b"mine", SHORT, MARK)
        self.pass_time(store, SHORT)
        assert store.lease([b"a"], b"yours", LONG, MARK) == [TAKEN]

    def test_who_lost_its_lease_fills_nothing(self, store):
        store.lease([b"a"], b"mine", SHORT, MARK)
        self.pass_time(store, SHORT)
        assert store.fill([b"a"], [OLD], b"mine", MARK, None) == [SKIPPED]
        assert store.fetch([b"a"], GROUPS).values == [None]

    def test_who_lost_its_lease_to_another_takes_nothing_from_it(self, store):
        store.lease([b"a"], b"mine", SHORT, MARK)
        self.pass_time(store, SHORT)
        store.lease([b"a"], b"yours", LONG, MARK)
        store.release([b"a"], b"mine")
        store.renew([b"a"], b"mine", SHORT)
        assert store.fill([b"a"], [OLD], b"mine", MARK, None) == [SKIPPED]
        self.pass_time(store, SHORT)
        assert store.fill([b"a"], [NEW], b"yours", MARK, None) == [WRITTEN]

    def test_a_renewed_lease_lives_on(self, store):
        def renewed(number):
            keys = [b"a-%d" % number, b"b-%d" % number]
            store.lease(keys, b"mine", 3 * SHORT, MARK)
            store.renew(keys[:1], b"mine", LONG)
            return keys

        keys = while_it_lives(3 * SHORT, renewed)
        self.pass_time(store, 3 * SHORT)
        assert store.lease(keys, b"yours", LONG, MARK) == [HELD, TAKEN]

    def test_a_lease_that_has_ended_cannot_be_renewed(self, store):
        store.lease([b"a"], b"mine", SHORT, MARK)
        self.pass_time(store, SHORT)
        store.renew([b"a", b"never leased"], b"mine", LONG)
        assert store.lease([b"a", b"never leased"], b"yours", LONG, MARK) == [TAKEN, TAKEN]

    def test_a_released_key_is_free(self, store):
        store.lease([b"a", b"b"], b"mine", LONG, MARK)
        store.release([b"a"], b"mine")
        assert store.lease([b"a", b"b"], b"yours", LONG, MARK) == [TAKEN, HELD]

    def test_threads_that_lease_at_once_get_each_key_once(self, handles):
        keys = [b"key-%d" % i for i in range(40)]
        answers = at_once(8, lambda i: handles().lease(keys, b"token-%d" % i, LONG, MARK))
        for of_one_key in zip(*answers, strict=True):
            assert sorted(of_one_key) == [HELD] * 7 + [TAKEN]

    # -- fill ------------------------------------------------------------------------------------

    def test_a_fill_without_a_lease_is_skipped(self, store):
        assert store.fill([b"a"], [OLD], b"token", MARK, None) == [SKIPPED]
        assert store.fetch([b"a"], GROUPS).values == [None]

    def test_a_fill_gives_the_lease_back(self, store):
        store.lease([b"a"], b"mine", LONG, MARK)
        store.fill([b"a"], [OLD], b"mine", MARK, None)
        other = mark_of(stored_entry(stamp=b"another."))
        assert store.lease([b"a"], b"yours", LONG, other) == [TAKEN]

    def test_the_first_writer_wins_and_the_second_gets_its_bytes(self, store):
        store.lease([b"a"], b"mine", SHORT, MARK)
        self.pass_time(store, SHORT)
        store.lease([b"a"], b"yours", LONG, MARK)
        assert store.fill([b"a"], [OLD], b"yours", MARK, None) == [WRITTEN]
        assert store.fill([b"a"], [NEW], b"mine", MARK, None) == [OLD]
        assert store.fetch([b"a"], GROUPS).values == [OLD]

    def test_a_fill_that_lost_to_a_write_gives_its_lease_back(self, store):
        store.lease([b"a"], b"mine", LONG, MARK)
        store.write([b"a"], [OLD], None, LOG, [b""])
        assert store.fill([b"a"], [NEW], b"mine", MARK, None) == [OLD]
        other = mark_of(stored_entry(stamp=b"another."))
        assert store.lease([b"a"], b"yours", LONG, other) == [TAKEN]

    def test_a_fill_is_answered_key_by_key(self, store):
        store.write([b"came"], [OLD], None, LOG, [b""])
        store.lease([b"mine", b"forgotten"], b"token", LONG, MARK)
        store.forget([b"forgotten"], LOG, [])
        answers = store.fill([b"forgotten", b"came", b"mine"], [NEW] * 3, b"token", MARK, None)
        assert answers == [SKIPPED, OLD, WRITTEN]
        assert store.fetch([b"forgotten", b"came", b"mine"], GROUPS).values == [None, OLD, NEW]

    def test_a_fill_is_not_logged(self, store):
        cursor = store.changes(LOG, b"").cursor
        store.lease([b"a"], b"token", LONG, MARK)
        store.fill([b"a"], [OLD], b"token", MARK, None)
        assert store.changes(LOG, cursor).entries == []

    # -- write -----------------------------------------------------------------------------------

    def test_a_write_replaces_whatever_is_there(self, store):
        store.write([b"a"], [stored_entry(b"wide", kind=9)], None, LOG, [b""])
        store.write([b"a"], [NEW], None, LOG, [b""])
        assert store.fetch([b"a"], GROUPS).values == [NEW]

    def test_a_write_ends_the_load_that_is_under_way(self, store):
        store.lease([b"a"], b"mine", LONG, MARK)
        store.write([b"a"], [stored_entry(b"x", stamp=b"another.")], None, LOG, [b""])
        assert store.fill([b"a"], [NEW], b"mine", MARK, None) == [SKIPPED]

    def test_a_write_logs_all_but_what_was_there_already(self, store):
        store.write([b"same", b"changed", b"expired"], [OLD] * 3, None, LOG, [b"1", b"2", b"3"])
        store.write([b"expired"], [OLD], SHORT, LOG, [b"3"])
        self.pass_time(store, SHORT)
        cursor = store.changes(LOG, b"").cursor
        keys = [b"changed", b"new", b"same", b"expired"]
        store.write(keys, [NEW, NEW, OLD, NEW], None, LOG, keys)
        # what the store has lost may still be near elsewhere
        assert store.changes(LOG, cursor).entries == [b"changed", b"new", b"expired"]

    # -- forget ----------------------------------------------------------------------------------

    def test_what_was_forgotten_is_gone_counted_and_logged(self, store):
        store.write([b"a", b"b"], [OLD, OLD], None, LOG, [b"", b""])
        cursor = store.changes(LOG, b"").cursor
        assert store.forget([b"a", b"missing"], LOG, [b"forgot a", b"forgot missing"]) == 1
        assert store.fetch([b"a", b"b"], GROUPS).values == [None, OLD]
        assert store.changes(LOG, cursor).entries == [b"forgot a", b"forgot missing"]

    def test_a_load_that_was_under_way_when_its_key_was_forgotten_fills_nothing(self, store):
        store.lease([b"a"], b"mine", LONG, MARK)
        assert store.forget([b"a"], LOG, [b"forgot a"]) == 0
        assert store.lease([b"a"], b"yours", LONG, MARK) == [TAKEN]
        assert store.fill([b"a"], [OLD], b"mine", MARK, None) == [SKIPPED]
        assert store.fill([b"a"], [NEW], b"yours", MARK, None) == [WRITTEN]

    def test_a_forgotten_group_has_a_new_epoch_and_the_others_keep_theirs(self, store, handles):
        one, two = store.fetch([], GROUPS).epochs
        cursor = store.changes(LOG, b"").cursor
        store.forget_group(GROUPS[0], LOG, b"forgot group-1")
        assert handles().fetch([], GROUPS).epochs == [store.fetch([], GROUPS).epochs[0], two]
        assert store.fetch([], GROUPS).epochs[0] != one
        assert store.changes(LOG, cursor).entries == [b"forgot group-1"]

    def test_epochs_never_repeat(self, store):
        seen = set()
        for _ in range(50):
            store.forget_group(GROUPS[0], LOG, b"")
            seen.add(store.fetch([], GROUPS).epochs[0])
        assert len(seen) == 50

    def test_a_group_may_be_forgotten_before_it_is_known(self, store):
        store.forget_group(b"unheard of", LOG, b"entry")
        assert len(store.fetch([], [b"unheard of"]).epochs) == 1

    def test_a_corrupt_entry_is_dropped_unless_it_has_changed(self, store):
        store.write([b"bad", b"healed"], [b"garbage", NEW], None, LOG, [b"", b""])
        cursor = store.changes(LOG, b"").cursor
        store.drop_corrupt([b"bad", b"healed", b"gone"], [b"garbage"] * 3)
        assert store.fetch([b"bad", b"healed"], GROUPS).values == [None, NEW]
        assert store.changes(LOG, cursor).entries == []

    # -- the log ---------------------------------------------------------------------------------

    def test_an_empty_cursor_starts_at_the_end(self, store):
        store.forget([b"a"], LOG, [b"earlier"])
        start = store.changes(LOG, b"")
        assert start.entries == []
        assert start.cursor

    def test_the_log_is_read_in_order_and_once(self, store, handles):
        cursor = store.changes(LOG, b"").cursor
        store.forget([b"a"], LOG, [b"1", b"2"])
        handles().forget([b"a"], LOG, [b"3"])
        first = store.changes(LOG, cursor)
        assert first.entries == [b"1", b"2", b"3"]
        assert store.changes(LOG, first.cursor).entries == []
        store.forget([b"a"], LOG, [b"4"])
        assert store.changes(LOG, first.cursor).entries == [b"4"]

    def test_reading_changes_nothing_for_others(self, store, handles):
        cursor = store.changes(LOG, b"").cursor
        store.forget([b"a"], LOG, [b"1"])
        assert store.changes(LOG, cursor).entries == [b"1"]
        assert handles().changes(LOG, cursor).entries == [b"1"]

    def test_every_log_is_its_own(self, store):
        one, two = store.changes(b"log-1", b"").cursor, store.changes(b"log-2", b"").cursor
        store.forget([b"a"], b"log-1", [b"of one"])
        assert store.changes(b"log-1", one).entries == [b"of one"]
        assert store.changes(b"log-2", two).entries == []

    def test_entries_are_any_bytes(self, store):
        entries = [bytes(range(256)), b"\r\n$-1\r\n", b"\0"]
        cursor = store.changes(LOG, b"").cursor
        store.forget([b"a"], LOG, entries)
        assert store.changes(LOG, cursor).entries == entries

    @pytest.mark.parametrize("begun", [True, False])
    def test_nobody_misses_an_entry_of_a_long_log_without_being_told(self, store, begun):
        if begun:
            store.forget([b"a"], LOG, [b"first"])
        cursor = store.changes(LOG, b"").cursor
        entries = [b"%d" % i for i in range(LOG_LENGTH - 1)]
        store.forget([b"a"], LOG, entries)
        assert store.changes(LOG, cursor).entries == entries
        store.forget([b"a"], LOG, [b"one"] * 2)
        gap = store.changes(LOG, cursor)
        assert gap.entries is None
        store.forget([b"a"], LOG, [b"after the gap"])
        assert store.changes(LOG, gap.cursor).entries == [b"after the gap"]

    # -- sizes and keys --------------------------------------------------------------------------

    def test_a_batch_of_nothing_is_answered_with_nothing(self, store):
        assert store.fetch([], GROUPS).values == []
        assert store.lease([], b"token", LONG, MARK) == []
        assert store.fill([], [], b"token", MARK, None) == []
        assert store.forget([], LOG, []) == 0
        store.write([], [], None, LOG, [])
        store.renew([], b"token", LONG)
        store.release([], b"token")
        store.drop_corrupt([], [])

    def test_a_fetch_of_nothing_at_all_is_answered(self, store):
        assert store.fetch([], []).values == []
        assert store.fetch([b"missing"], []).epochs == []

    def test_a_batch_of_two_thousand_is_one_batch(self, store):
        keys = [b"key-%d" % i for i in range(2000)]
        values = [stored_entry(b"%d" % i * 20) for i in range(2000)]
        cursor = store.changes(LOG, b"").cursor
        assert store.lease(keys, b"token", LONG, MARK) == [TAKEN] * 2000
        store.renew(keys, b"token", LONG)
        assert store.fill(keys, values, b"token", MARK, None) == [WRITTEN] * 2000
        assert store.fetch(keys, GROUPS).values == values
        store.write(keys, values[::-1], LONG, LOG, keys)
        assert store.fetch(keys, GROUPS).values == values[::-1]
        assert store.changes(LOG, cursor).entries == keys
        store.drop_corrupt(keys[:1000], values[:1000])
        store.drop_corrupt(keys[:1000], values[:999:-1])
        assert store.forget(keys, LOG, keys) == 1000
        assert store.fetch(keys, GROUPS).values == [None] * 2000

    def test_a_fetch_may_ask_for_more_than_one_statement_holds(self, store):
        keys = [b"%d" % i for i in range(33_000)]
        store.write(keys[::1000], [OLD] * 33, None, LOG, [b""] * 33)
        values = store.fetch(keys, GROUPS).values
        assert [i for i, value in enumerate(values) if value] == list(range(0, 33_000, 1000))

    def test_keys_are_any_bytes(self, store):
        keys = [b"\0", b"\0\0", b"\xff\xfe", b"a b", b"a\r\nb", b"$3\r\nfoo", b"{x}*[", b"A", b"a"]
        values = [stored_entry(key) for key in keys]
        store.lease(keys, b"\0token\r\n", LONG, MARK)
        store.fill(keys, values, b"\0token\r\n", MARK, None)
        assert store.fetch(keys, GROUPS).values == values
        assert store.forget(keys, LOG, []) == len(keys)

    def test_a_value_of_megabytes_comes_back_whole(self, store):
        value = stored_entry(os.urandom(3 * 2**20))
        store.write([b"a"], [value], None, LOG, [b""])
        assert store.fetch([b"a"], GROUPS).values == [value]

    # -- handles, threads, processes -------------------------------------------------------------

    def test_two_handles_see_one_store(self, store, handles):
        other = handles()
        store.write([b"a"], [OLD], None, LOG, [b""])
        assert other.fetch([b"a"], GROUPS).values == [OLD]
        other.write([b"a"], [NEW], None, LOG, [b""])
        assert store.fetch([b"a"], GROUPS).values == [NEW]
        assert other.forget([b"a"], LOG, []) == 1
        assert store.fetch([b"a"], GROUPS).values == [None]

    def test_two_handles_agree_about_the_time(self, store, handles):
        a, b, c = store_time(store), store_time(handles()), store_time(store)
        assert a <= b <= c

    def test_what_is_stored_outlives_the_handle(self, store, handles):
        store.write([b"a"], [OLD], None, LOG, [b""])
        cursor, epochs = store.changes(LOG, b"").cursor, store.fetch([], GROUPS).epochs
        store.close()
        later = handles()
        later.forget([b"b"], LOG, [b"forgot b"])
        assert later.fetch([b"a"], GROUPS).values == [OLD]
        assert later.fetch([b"a"], GROUPS).epochs == epochs
        assert later.changes(LOG, cursor).entries == [b"forgot b"]

    def test_closing_twice_is_closing_once(self, store):
        store.fetch([b"a"], GROUPS)
        store.close()
        store.close()

    def test_threads_share_a_handle(self, store):
        def work(number):
            own = [b"%d-%d" % (number, i) for i in range(5)]
            values = [stored_entry(key) for key in own]
            for _ in range(10):
                store.write(own, values, None, LOG, own)
                assert store.fetch(own, GROUPS).values == values
                assert store.forget(own[:2], LOG, own[:2]) == 2
                token = b"token-%d" % number
                assert store.lease(own[:2], token, LONG, MARK) == [TAKEN] * 2
                assert store.fill(own[:2], values[:2], token, MARK, None) == [WRITTEN] * 2
            return store.fetch(own, GROUPS).values == values

        assert at_once(6, work) == [True] * 6

    def test_a_fork_goes_on_with_the_handle_it_inherited(self, store):
        store.write([b"a"], [OLD], None, LOG, [b""])
        before = store.fetch([b"a"], GROUPS)

        def child():
            store.reset_after_fork()
            assert store.fetch([b"a"], GROUPS).values == [OLD]
            assert store.fetch([b"a"], GROUPS).epochs == before.epochs
            store.write([b"b"], [NEW], None, LOG, [b""])
            assert store.fetch([b"b"], GROUPS).values == [NEW]

        with forked(child):
            for _ in range(20):  # both talk at once, each on connections of its own
                assert store.fetch([b"a"], GROUPS).values == [OLD]
        if self.shared:
            assert store.fetch([b"b"], GROUPS).values == [NEW]

    def test_its_address_is_a_url(self, store):
        assert "://" in store.address
