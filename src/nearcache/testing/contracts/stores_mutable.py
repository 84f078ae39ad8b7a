"""The contract of a store for values that change: compare and set, claims, epochs."""

import os
import time

import pytest

from nearcache.stores.base import HELD, TAKEN, WRITTEN, version_of
from nearcache.testing import stored_entry
from nearcache.testing.contracts.store_parts import (
    GROUPS,
    LOG,
    LONG,
    OLD,
    SHORT,
    at_once,
    store_time,
    while_it_lives,
)

V1, V2, V3 = b"version1", b"version2", b"version3"
ABSENT, OTHER, THIRD = b"absence token 01", b"absence token 02", b"absence token 03"


def value(version: bytes, payload: bytes = b"payload") -> bytes:
    """A value that may change, in this version."""
    return stored_entry(payload, kind=17, stamp=version)


ONE, TWO, THREE = value(V1), value(V2), value(V3)

GARBAGE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"x", id="a byte"),
    pytest.param(ONE[:23], id="a head cut short"),
]


def put(store, key, stored, ttl=None):
    """Write a value whatever is there."""
    store.write([key], [stored], ttl, LOG, [b""])


def there(store, key):
    """The value a look finds."""
    return store.look([key], []).values[0]


class MutableContract:
    """What every store does for values that change."""

    # -- look, heads -----------------------------------------------------------------------------

    @pytest.mark.parametrize("keys", [[b"a"], [b"b", b"missing", b"a"], [b"a", b"a"], []])
    def test_a_look_finds_values_in_the_order_asked(self, store, keys):
        put(store, b"a", ONE)
        put(store, b"b", TWO)
        known = {b"a": ONE, b"b": TWO}
        for groups in ([], GROUPS):
            assert store.look(keys, groups).values == [known.get(key) for key in keys]
            heads = [known[key][:24] if key in known else None for key in keys]
            assert store.heads(keys, groups).values == heads

    @pytest.mark.parametrize("method", ["look", "heads"])
    def test_a_look_creates_nothing(self, store, method):
        for keys in ([], [b"a"], [b"a", b"b"]):
            assert getattr(store, method)(keys, GROUPS).epochs == [b"", b""]
        (one,) = store.epochs(GROUPS[:1], None)
        assert getattr(store, method)([b"a"], GROUPS).epochs == [one, b""]
        assert getattr(store, method)([b"a"], GROUPS[::-1]).epochs == [b"", one]

    @pytest.mark.parametrize("method", ["look", "heads"])
    @pytest.mark.parametrize("keys", [[b"a"], [b"a", b"b"]])
    @pytest.mark.parametrize("groups", [[], GROUPS])
    def test_the_time_a_look_tells_is_never_early(self, store, handles, method, keys, groups):
        other = handles()
        started = time.monotonic()
        first = getattr(store, method)(keys, groups)  # when nothing is known of the time yet
        under_way = time.monotonic() - started
        assert first.now <= store_time(other)
        self.pass_time(other, SHORT)
        exact = store_time(other)
        started = time.monotonic()
        second = getattr(store, method)(keys, groups)
        under_way += time.monotonic() - started
        assert second.now >= exact
        assert second.sent >= first.sent
        # an answer that was under way for long is from any moment of that
        assert second.now - first.now == pytest.approx(
            second.sent - first.sent, abs=0.5 + under_way
        )

    @pytest.mark.parametrize("method", ["look", "heads"])
    def test_a_look_does_not_see_what_has_expired(self, store, method):
        put(store, b"a", ONE, SHORT)
        put(store, b"b", ONE)
        self.pass_time(store, SHORT)
        assert getattr(store, method)([b"a"], []).values == [None]
        assert [bool(v) for v in getattr(store, method)([b"a", b"b"], []).values] == [False, True]

    def test_a_look_may_ask_for_thousands(self, store):
        keys = [b"%d" % i for i in range(3000)]
        values = [value(V1, b"%d" % i) for i in range(3000)]
        store.write(keys, values, None, LOG, keys)
        assert store.look(keys, GROUPS).values == values
        assert store.heads(keys, GROUPS).values == [v[:24] for v in values]

    @pytest.mark.parametrize("key", [b"\r\n$-1\r\n", b"\0\xff", b"k" * 300])
    def test_a_look_at_one_key_takes_any_bytes(self, store, key):
        put(store, key, ONE)
        assert there(store, key) == ONE
        assert there(store, key[:-1]) is None

    # -- epochs ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("seconds", [None, LONG])
    def test_an_absent_epoch_is_made_once_and_stays(self, store, handles, seconds):
        epochs = store.epochs(GROUPS, seconds)
        assert [len(epoch) for epoch in epochs] == [16, 16]
        assert epochs[0] != epochs[1]
        assert handles().epochs(GROUPS[::-1], seconds) == epochs[::-1]
        assert store.look([], GROUPS).epochs == epochs
        assert store.fetch([], GROUPS).epochs == epochs
        assert store.epochs([], seconds) == []

    def test_threads_that_make_an_epoch_at_once_agree(self, handles):
        for round_ in range(5):
            groups = [b"mutable-%d-%d" % (round_, i) for i in range(3)]
            seen = at_once(8, lambda _, g=groups: tuple(handles().epochs(g, LONG)))
            assert len(set(seen)) == 1

    @pytest.mark.parametrize("longer", [None, LONG])
    def test_an_epoch_that_would_end_too_soon_lives_on(self, store, longer):
        def prolonged(number):
            groups = [b"group-%d-%d" % (number, i) for i in range(2)]
            return groups, store.epochs(groups, SHORT), store.epochs(groups[:1], longer)

        groups, epochs, again = while_it_lives(SHORT, prolonged)
        assert again == epochs[:1]
        self.pass_time(store, 3 * SHORT)
        assert store.look([], groups[:1]).epochs == epochs[:1]
        # the other may have ended, or not; if it did, its token never comes back
        if store.look([], groups[1:]).epochs == [b""]:
            assert store.epochs(groups[1:], SHORT) != epochs[1:]

    @pytest.mark.parametrize("longer", [None, LONG])
    def test_the_life_of_an_epoch_is_never_made_shorter(self, store, longer):
        epochs = store.epochs(GROUPS, longer)
        assert store.epochs(GROUPS, SHORT) == epochs
        self.pass_time(store, 3 * SHORT)
        assert store.look([], GROUPS).epochs == epochs

    def test_an_epoch_lives_at_least_as_long_as_was_asked(self, store):
        end = store_time(store) + 3 * SHORT
        epochs = store.epochs(GROUPS[1:], 3 * SHORT)  # asking for the time makes the other
        while store.look([], GROUPS[1:]).epochs == epochs and store_time(store) < end:
            self.pass_time(store, 0.005)
        assert store_time(store) >= end - 0.002

    def test_a_bump_changes_one_epoch_for_everybody(self, store, handles):
        _, two = store.epochs(GROUPS, None)
        store.bump(GROUPS[0], ABSENT, LOG)
        assert handles().look([], GROUPS).epochs == [ABSENT, two]
        assert store.epochs(GROUPS, LONG) == [ABSENT, two]

    @pytest.mark.parametrize("before", [None, SHORT, LONG])
    @pytest.mark.parametrize("least", [None, LONG])
    def test_a_bumped_epoch_lives_on(self, store, before, least):
        """A bump that is forgotten while a load runs would let the load's value stand."""
        if before is not None:
            store.epochs(GROUPS, before)
        store.bump(GROUPS[0], ABSENT, LOG, least)
        self.pass_time(store, 3 * SHORT)
        assert store.look([], GROUPS[:1]).epochs == [ABSENT]

    # -- claim -----------------------------------------------------------------------------------

    def test_a_key_without_a_value_is_claimed_once(self, store, handles):
        assert store.claim([b"a"], [b""], ABSENT, LONG) == [TAKEN]
        assert handles().claim([b"a", b"b"], [b"", b""], OTHER, LONG) == [HELD, TAKEN]
        assert store.claim([b"a"], [b""], ABSENT, LONG) == [HELD]

    def test_a_value_that_came_meanwhile_answers_a_claim(self, store):
        put(store, b"a", TWO)
        assert store.claim([b"b", b"a"], [b"", b""], ABSENT, LONG) == [TAKEN, TWO]
        assert store.claim([b"a"], [V1], ABSENT, LONG) == [TWO]

    def test_a_value_the_caller_has_seen_is_claimed_and_stays_until_there_is_another(self, store):
        put(store, b"a", ONE)
        assert store.claim([b"a"], [V1], ABSENT, LONG) == [TAKEN]
        assert store.claim([b"a"], [V1], OTHER, LONG) == [HELD]
        assert there(store, b"a") == ONE
        assert store.commit([b"a"], [TWO], [ABSENT], None, LOG) == [WRITTEN]
        assert there(store, b"a") == TWO

    @pytest.mark.parametrize(
        "garbage",
        [*GARBAGE, pytest.param(b"XX" + ONE[2:], id="of somebody else"),
         pytest.param(ONE[:2] + b"\7" + ONE[3:], id="of another version")],
    )  # fmt: skip
    def test_what_is_no_value_is_claimed_and_replaced(self, store, garbage):
        put(store, b"a", garbage)
        assert store.claim([b"a"], [b""], ABSENT, LONG) == [TAKEN]
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [WRITTEN]
        assert there(store, b"a") == ONE

    def test_a_claim_ends_by_itself(self, store):
        store.claim([b"a"], [b""], ABSENT, SHORT)
        self.pass_time(store, SHORT)
        assert store.claim([b"a"], [b""], OTHER, LONG) == [TAKEN]

    def test_a_claim_can_be_renewed_and_given_back(self, store):
        def renewed(number):
            keys = [b"a-%d" % number, b"b-%d" % number]
            store.claim(keys, [b"", b""], ABSENT, 3 * SHORT)
            store.renew(keys[:1], ABSENT, LONG)
            return keys

        keys = while_it_lives(3 * SHORT, renewed)
        self.pass_time(store, 3 * SHORT)
        assert store.claim(keys, [b"", b""], OTHER, LONG) == [HELD, TAKEN]
        store.release(keys[:1], ABSENT)
        assert store.claim(keys[:1], [b""], OTHER, LONG) == [TAKEN]

    def test_what_is_no_token_holds_no_key(self, store):
        store.claim([b"a"], [b""], b"garbage", LONG)
        assert store.claim([b"a"], [b""], ABSENT, LONG) == [TAKEN]
        store.claim([b"b"], [b""], b"garbage", LONG)
        assert store.expect([b"b"], ABSENT, LONG) == [ABSENT]

    def test_threads_that_claim_at_once_get_each_key_once(self, handles):
        keys, seen = [b"key-%d" % i for i in range(40)], [b""] * 40
        answers = at_once(8, lambda i: handles().claim(keys, seen, b"%16d" % i, LONG))
        for of_one_key in zip(*answers, strict=True):
            assert sorted(of_one_key) == [HELD] * 7 + [TAKEN]

    # -- expect ----------------------------------------------------------------------------------

    def test_what_a_commit_has_to_find_is_the_version_or_a_token_for_its_absence(self, store):
        put(store, b"a", ONE)
        assert store.expect([b"b", b"a"], ABSENT, LONG) == [ABSENT, V1]

    def test_writers_of_an_absent_value_share_one_token(self, store, handles):
        assert store.expect([b"a"], ABSENT, LONG) == [ABSENT]
        assert handles().expect([b"a"], OTHER, LONG) == [ABSENT]

    def test_a_writer_shares_the_token_of_a_load_that_is_under_way(self, store):
        store.claim([b"a"], [b""], ABSENT, LONG)
        assert store.expect([b"a"], OTHER, LONG) == [ABSENT]

    def test_a_writers_token_holds_off_loads(self, store):
        store.expect([b"a"], ABSENT, LONG)
        assert store.claim([b"a"], [b""], OTHER, LONG) == [HELD]

    def test_an_absence_token_ends_by_itself(self, store):
        store.expect([b"a"], ABSENT, SHORT)
        self.pass_time(store, SHORT)
        assert store.expect([b"a"], OTHER, LONG) == [OTHER]
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [OTHER]

    def test_an_expired_value_is_expected_to_be_absent(self, store):
        put(store, b"a", ONE, SHORT)
        self.pass_time(store, SHORT)
        assert store.expect([b"a"], ABSENT, LONG) == [ABSENT]

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_garbage_is_expected_as_absence_and_replaced(self, store, garbage):
        put(store, b"a", garbage)
        assert store.expect([b"a"], ABSENT, LONG) == [ABSENT]
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [WRITTEN]
        assert there(store, b"a") == ONE

    # -- commit ----------------------------------------------------------------------------------

    def test_a_commit_replaces_the_version_it_expects(self, store):
        put(store, b"a", ONE)
        assert store.commit([b"a"], [TWO], [V1], None, LOG) == [WRITTEN]
        assert there(store, b"a") == TWO

    def test_a_commit_puts_a_value_where_it_expects_none(self, store):
        store.expect([b"a"], ABSENT, LONG)
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [WRITTEN]
        assert there(store, b"a") == ONE
        assert store.claim([b"a"], [V1], OTHER, LONG) == [TAKEN]  # its token is gone

    def test_a_commit_that_expects_something_else_changes_nothing_and_is_told(self, store):
        put(store, b"a", TWO)
        assert store.commit([b"a"], [THREE], [V1], None, LOG) == [V2]
        assert store.commit([b"a"], [THREE], [ABSENT], None, LOG, OTHER, LONG) == [V2]
        assert store.commit([b"a"], [THREE], [b""], None, LOG) == [V2]
        assert there(store, b"a") == TWO
        assert store.claim([b"a"], [V2], OTHER, LONG) == [TAKEN]  # and no token was put

    @pytest.mark.parametrize("expected", [V1, ABSENT, b""])
    def test_a_commit_that_finds_nothing_is_told_what_to_expect(self, store, expected):
        assert store.commit([b"a"], [ONE], [expected], None, LOG) == [b""]
        assert store.claim([b"a"], [b""], THIRD, SHORT) == [TAKEN]  # no token was put
        store.release([b"a"], THIRD)
        assert store.commit([b"a"], [ONE], [expected], None, LOG, OTHER, LONG) == [OTHER]
        assert there(store, b"a") is None
        assert store.commit([b"a"], [ONE], [OTHER], None, LOG) == [WRITTEN]

    def test_a_commit_that_finds_another_token_is_told_that(self, store):
        store.claim([b"a"], [b""], ABSENT, LONG)
        assert store.commit([b"a"], [ONE], [V1], None, LOG) == [ABSENT]
        assert store.commit([b"a"], [ONE], [THIRD], None, LOG, OTHER, LONG) == [ABSENT]

    def test_a_commit_that_is_repeated_writes_once(self, store):
        store.expect([b"a"], ABSENT, LONG)
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [WRITTEN]
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [V1]
        assert store.commit([b"a"], [TWO], [V1], None, LOG) == [WRITTEN]
        for expected, late in ((ABSENT, ONE), (V1, TWO)):
            assert store.commit([b"a"], [late], [expected], None, LOG) == [V2]
        assert there(store, b"a") == TWO

    def test_a_late_commit_does_not_bring_back_what_was_revoked(self, store):
        store.expect([b"a"], ABSENT, LONG)
        store.commit([b"a"], [ONE], [ABSENT], None, LOG)
        assert store.revoke([b"a"], LOG) == 1
        for expected in (ABSENT, V1):
            assert store.commit([b"a"], [TWO], [expected], None, LOG) == [b""]
        assert there(store, b"a") is None
        assert store.expect([b"a"], OTHER, LONG) == [OTHER]
        for expected in (ABSENT, V1):
            assert store.commit([b"a"], [TWO], [expected], None, LOG) == [OTHER]
        assert there(store, b"a") is None

    def test_of_writers_that_expect_the_same_version_one_wins_and_the_others_are_told(
        self, handles
    ):
        store = handles()
        for round_ in range(5):
            put(store, b"a", ONE)
            answers = at_once(
                8,
                lambda i, r=round_: handles().commit(
                    [b"a"], [value(b"%d-%6d" % (r, i))], [V1], None, LOG
                )[0],
            )
            (winner,) = [i for i, answer in enumerate(answers) if answer is WRITTEN]
            won = b"%d-%6d" % (round_, winner)
            assert [a for a in answers if a is not WRITTEN] == [won] * 7
            assert version_of(there(store, b"a")) == won

    def test_of_writers_of_an_absent_value_one_wins(self, handles):
        for round_ in range(5):
            key = b"absent-%d" % round_

            def write(i, key=key):
                store = handles()
                (expected,) = store.expect([key], b"%16d" % i, LONG)
                return store.commit([key], [value(b"%8d" % i)], [expected], None, LOG)[0]

            answers = at_once(8, write)
            # who looked after the winner wrote found its version and replaced it: all in order
            assert WRITTEN in answers
            assert version_of(there(handles(), key)) in [b"%8d" % i for i in range(8)]

    def test_a_write_makes_the_load_that_is_under_way_lose(self, store):
        store.claim([b"a"], [b""], ABSENT, LONG)
        (expected,) = store.expect([b"a"], OTHER, LONG)
        assert store.commit([b"a"], [TWO], [expected], None, LOG) == [WRITTEN]
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [V2]
        assert there(store, b"a") == TWO

    def test_a_load_that_commits_first_makes_the_writer_look_again(self, store):
        store.claim([b"a"], [b""], ABSENT, LONG)
        (expected,) = store.expect([b"a"], OTHER, LONG)
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [WRITTEN]
        assert store.commit([b"a"], [TWO], [expected], None, LOG) == [V1]
        assert store.commit([b"a"], [TWO], [V1], None, LOG) == [WRITTEN]

    def test_a_write_over_an_invalid_value_makes_its_load_lose(self, store):
        put(store, b"a", ONE)
        store.claim([b"a"], [V1], ABSENT, LONG)
        assert store.expect([b"a"], OTHER, LONG) == [V1]
        assert store.commit([b"a"], [TWO], [V1], None, LOG) == [WRITTEN]
        assert store.commit([b"a"], [THREE], [ABSENT], None, LOG) == [V2]
        assert there(store, b"a") == TWO

    def test_a_revoke_makes_the_load_that_is_under_way_lose(self, store):
        store.claim([b"a"], [b""], ABSENT, LONG)
        assert store.revoke([b"a"], LOG) == 0
        assert store.claim([b"a"], [b""], OTHER, LONG) == [TAKEN]
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [OTHER]
        assert store.commit([b"a"], [TWO], [OTHER], None, LOG) == [WRITTEN]
        assert there(store, b"a") == TWO

    def test_a_revoke_makes_the_load_of_an_invalid_value_lose(self, store):
        put(store, b"a", ONE)
        store.claim([b"a"], [V1], ABSENT, LONG)
        assert store.revoke([b"a"], LOG) == 1
        assert store.commit([b"a"], [TWO], [ABSENT], None, LOG) == [b""]
        assert there(store, b"a") is None

    def test_a_load_whose_claim_has_ended_loses(self, store):
        store.claim([b"a"], [b""], ABSENT, SHORT)
        self.pass_time(store, SHORT)
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [b""]
        assert there(store, b"a") is None

    def test_a_commit_is_answered_key_by_key(self, store):
        keys = [b"seen", b"changed", b"absent", b"gone"]
        put(store, b"seen", ONE)
        put(store, b"changed", ONE)
        expected = store.expect(keys, ABSENT, LONG)
        put(store, b"changed", TWO)
        store.revoke([b"gone"], LOG)
        answers = store.commit(keys, [THREE] * 4, expected, None, LOG, OTHER, LONG)
        assert answers == [WRITTEN, V2, WRITTEN, OTHER]
        assert store.look(keys, []).values == [THREE, TWO, THREE, None]

    def test_a_committed_value_lives_its_ttl_and_is_absent_afterwards(self, store):
        keys = [b"a", b"b", b"c"]
        expected = store.expect(keys, ABSENT, LONG)
        assert store.commit(keys, [ONE] * 3, expected, [SHORT, LONG, None], LOG) == [WRITTEN] * 3
        self.pass_time(store, SHORT)
        assert store.look(keys, []).values == [None, ONE, ONE]
        assert store.commit(keys, [TWO] * 3, [V1] * 3, SHORT, LOG) == [b"", WRITTEN, WRITTEN]
        self.pass_time(store, SHORT)
        assert store.look(keys, []).values == [None] * 3

    def test_a_batch_of_two_thousand_changing_values_is_one_batch(self, store):
        keys = [b"key-%d" % i for i in range(2000)]
        values = [value(b"%8d" % i) for i in range(2000)]
        assert store.claim(keys[:1000], [b""] * 1000, ABSENT, LONG) == [TAKEN] * 1000
        expected = store.expect(keys, OTHER, LONG)
        assert expected == [ABSENT] * 1000 + [OTHER] * 1000
        assert store.commit(keys, values, expected, LONG, LOG) == [WRITTEN] * 2000
        assert store.expect(keys, THIRD, LONG) == [b"%8d" % i for i in range(2000)]
        assert store.revoke(keys, LOG) == 2000
        assert store.look(keys, []).values == [None] * 2000

    # -- revoke, drop ----------------------------------------------------------------------------

    def test_a_revoke_deletes_and_counts_values_and_leaves_others(self, store):
        put(store, b"a", ONE)
        put(store, b"b", TWO)
        assert store.revoke([b"a", b"missing"], LOG) == 1
        assert store.look([b"a", b"b"], []).values == [None, TWO]
        assert store.revoke([b"a"], LOG) == 0

    def test_a_commit_can_tell_the_epochs_there_are_after_it(self, store):
        (one,) = store.epochs(GROUPS[:1], None)
        expected = store.expect([b"a"], ABSENT, LONG)
        done = store.commit_and_look([b"a"], [ONE], expected, None, LOG, OTHER, LONG, GROUPS)
        assert done == ([WRITTEN], [one, b""])
        store.bump(GROUPS[0], THIRD, LOG)
        done = store.commit_and_look([b"a"], [TWO], [V2], None, LOG, OTHER, LONG, GROUPS)
        assert done == ([V1], [THIRD, b""])

    # -- put -------------------------------------------------------------------------------------

    def test_a_put_writes_over_whatever_is_there(self, store, handles):
        (epoch,) = store.epochs(GROUPS[:1], None)
        put(store, b"a", ONE)
        store.claim([b"b"], [b""], ABSENT, LONG)
        soon = store.least_now() + LONG
        found = store.put([b"a", b"b", b"c"], [TWO, TWO, THREE], None, LOG, soon, GROUPS)
        assert found == [epoch, b""]
        assert handles().look([b"a", b"b", b"c"], []).values == [TWO, TWO, THREE]

    def test_a_put_ends_leases(self, store):
        store.claim([b"a"], [b""], ABSENT, LONG)
        store.put([b"a"], [ONE], None, LOG, store.least_now() + LONG, [])
        assert store.commit([b"a"], [TWO], [ABSENT], None, LOG) == [V1]
        assert store.claim([b"a"], [V1], OTHER, LONG) == [TAKEN]

    def test_what_was_put_lives_as_long_as_was_said(self, store):
        keys, soon = [b"a", b"b"], store.least_now() + LONG
        store.put(keys, [ONE, TWO], [SHORT, None], LOG, soon, [])
        self.pass_time(store, 3 * SHORT)
        assert store.look(keys, []).values == [None, TWO]

    def test_a_put_that_comes_too_late_changes_nothing(self, store):
        """Where a store says how long a put may be under way, later ones are not executed."""
        put(store, b"a", ONE)
        store.claim([b"b"], [b""], ABSENT, LONG)
        late = store.now() - 1.0
        if store.patience():
            assert store.put([b"a", b"b"], [TWO, TWO], None, LOG, late, GROUPS) is None
            assert store.look([b"a", b"b"], []).values == [ONE, None]
            assert store.claim([b"b"], [b""], OTHER, LONG) == [HELD]
        soon = store.least_now() + LONG
        assert store.put([b"a"], [TWO], None, LOG, soon, []) == []

    def test_a_revoke_of_certain_versions_leaves_others(self, store):
        keys = [b"a", b"b", b"c", b"missing"]
        for key, one in zip(keys, (ONE, TWO, THREE), strict=False):
            token = store.expect([key], ABSENT, LONG)
            assert store.commit([key], [one], token, None, LOG) == [WRITTEN]
        assert store.revoke(keys, LOG, [V1, V1 + V2, V1 + V2, bytes(8)]) == 2
        assert store.look(keys, []).values == [None, None, THREE, None]

    def test_a_revoke_of_certain_versions_ends_every_lease(self, store):
        assert store.claim([b"a"], [b""], ABSENT, LONG) == [TAKEN]
        assert store.revoke([b"a"], LOG, [bytes(8)]) == 0
        assert store.commit([b"a"], [ONE], [ABSENT], None, LOG) == [b""]

    def test_a_late_revoke_does_not_delete_what_was_written_since(self, store):
        assert store.commit([b"a"], [ONE], store.expect([b"a"], ABSENT, LONG), None, LOG) == [
            WRITTEN
        ]
        assert store.commit([b"a"], [TWO], [V1], None, LOG) == [WRITTEN]
        assert store.revoke([b"a"], LOG, [V1]) == 0
        assert store.look([b"a"], []).values == [TWO]

    def test_a_revoke_of_what_has_expired_counts_nothing(self, store):
        put(store, b"a", ONE, SHORT)
        self.pass_time(store, SHORT)
        assert store.revoke([b"a"], LOG) == 0

    def test_a_corrupt_value_is_dropped_unless_it_has_changed(self, store):
        put(store, b"a", ONE)
        put(store, b"b", TWO)
        store.drop_corrupt([b"a", b"b"], [ONE, ONE])
        assert store.look([b"a", b"b"], []).values == [None, TWO]

    def test_a_batch_of_no_changing_values_is_answered_with_nothing(self, store):
        assert store.claim([], [], ABSENT, LONG) == []
        assert store.expect([], ABSENT, LONG) == []
        assert store.commit([], [], [], None, LOG) == []
        assert store.revoke([], LOG) == 0
        assert store.look([], []).values == store.heads([], []).values == []

    def test_threads_that_count_lose_no_update(self, handles):
        put(handles(), b"a", value(os.urandom(8), b"0"))

        def add(_):
            store = handles()
            for _ in range(10):
                while True:
                    (stored,) = store.look([b"a"], []).values
                    more = value(os.urandom(8), b"%d" % (int(stored[32:]) + 1))
                    (answer,) = store.commit([b"a"], [more], [version_of(stored)], None, LOG)
                    if answer is WRITTEN:
                        break

        at_once(4, add)
        assert int(there(handles(), b"a")[32:]) == 40

    def test_old_and_new_kinds_of_values_share_a_store(self, store):
        put(store, b"immutable", OLD)
        store.expect([b"a"], ABSENT, LONG)
        store.commit([b"a"], [ONE], [ABSENT], None, LOG)
        assert store.fetch([b"a", b"immutable"], []).values == [ONE, OLD]
        assert store.look([b"a", b"immutable"], []).values == [ONE, OLD]
