"""The contract of a store that names what it has, a page at a time, and lets values live on."""

import pytest

from nearcache.errors import StoreError
from nearcache.stores.base import HELD, MOST_SCANNED, TAKEN, WRITTEN
from nearcache.testing.contracts.store_parts import GROUPS, LOG, LONG, SHORT, while_it_lives
from nearcache.testing.contracts.stores_mutable import ABSENT, ONE, TWO, V1, there

START = (b"nc1:{a:", b"}:k:t")
"""How the names of these tests begin: tuples, in the namespace "a"."""


def name(key: bytes, bucket: bytes = b"3f", space: bytes = b"a") -> bytes:
    """The stored name of a tuple."""
    return b"nc1:{%b:%b}:k:t%b." % (space, bucket, key)


def keep(store, names, ttl=None, stored=ONE):
    """Keep a value under each name."""
    store.write(names, [stored] * len(names), ttl, LOG, [b""] * len(names))


def pages(store, start=START, count=10, **options):
    """Scan to the end; what each call gave."""
    cursor = None
    while cursor != 0:
        cursor, names = store.scan(start, cursor or 0, count, **options)
        yield names


def scan(store, start=START, count=10, **options):
    """All that a scan names, once each."""
    return sorted({one for page in pages(store, start, count, **options) for one in page})


class ScanContract:
    """What every store does when it is asked what it has, and told what to keep longer."""

    # -- which names -----------------------------------------------------------------------------

    def test_a_scan_of_nothing_ends_at_once(self, store):
        assert store.scan(START, 0, 10) == (0, [])

    @pytest.mark.parametrize("count", [1, 7, 10_000])
    def test_every_value_is_named_whatever_the_page(self, store, count):
        names = [name(b"%d" % n, b"%02x" % (n % 64)) for n in range(100)]
        keep(store, names)
        assert scan(store, count=count) == sorted(names)

    def test_names_are_of_values_that_begin_so_and_of_no_other(self, store):
        mine = [name(b"x"), name(b""), name(b"x", b"00"), name(b"\n\0\xff*?[]\\")]
        others = [
            name(b"x", space=b"ab"),
            name(b"x", space=b"A"),
            name(b"x", b"3"),
            name(b"x", b"3ff"),
            b"nc1:{a:3f}:k:sx.",
            b"nc1:{a:3f}:v:model:hash",
            b"x" + name(b"x"),
            b"nc1:{a}:k:tx.",
            b"t",
        ]
        keep(store, mine + others)
        assert scan(store) == sorted(mine)
        assert scan(store, (b"nc1:{a:", b"}:k:s")) == [b"nc1:{a:3f}:k:sx."]
        assert scan(store, (b"nc1:{A:", b"}:k:t")) == [name(b"x", space=b"A")]

    @pytest.mark.parametrize(
        "odd", [b"*", b"?", b"[a]", b"[^a]", b"\\", b"\\*", b"]", b"\n", b"\0"]
    )
    def test_no_character_stands_for_others(self, store, odd):
        hit, plain = name(odd + b"1"), name(b"a1")
        keep(store, [hit, plain, name(b"1")])
        assert scan(store, (START[0], START[1] + odd)) == [hit]
        keep(store, [name(b"1", space=odd)])
        assert scan(store, (b"nc1:{%b:" % odd, START[1])) == [name(b"1", space=odd)]

    def test_leases_epochs_and_logs_are_no_values(self, store):
        keep(store, [name(b"x")])
        store.expect([name(b"absent")], ABSENT, LONG)
        store.epochs([b"nc1:{a}:e:*", *GROUPS], None)
        store.forget([], b"nc1:{a}:log", [b"entry"])
        for start in (START, (b"nc1:{a:", b"")):
            assert scan(store, start) == [name(b"x")]

    def test_a_value_that_has_expired_or_was_deleted_is_not_named(self, store):
        keep(store, [name(b"short")], SHORT)
        keep(store, [name(b"long")], LONG)
        keep(store, [name(b"gone")])
        store.revoke([name(b"gone")], LOG)
        self.pass_time(store, SHORT)
        assert scan(store) == [name(b"long")]

    # -- while others write ----------------------------------------------------------------------

    def test_what_stands_all_the_while_is_named_whoever_writes_and_deletes(self, store, handles):
        other = handles()
        stay = [name(b"stay %d" % n) for n in range(200)]
        go = [name(b"go %d" % n) for n in range(200)]
        keep(store, [one for pair in zip(stay, go, strict=True) for one in pair])
        seen = set()
        for number, page in enumerate(pages(store)):
            seen.update(page)
            other.revoke(go[number * 8 : number * 8 + 8], LOG)
            if number < 20:
                keep(other, [name(b"new %d %d" % (number, n)) for n in range(20)])
                keep(other, stay[number * 10 : number * 10 + 10], stored=TWO)
        assert seen >= set(stay)

    def test_a_scan_ends_after_a_flush(self, store):
        if (flush := self.flush(store)) is None:
            return
        keep(store, [name(b"%d" % n) for n in range(100)])
        cursor, _ = store.scan(START, 0, 10)
        flush()
        for _ in range(100):
            if not cursor:
                break
            cursor, names = store.scan(START, cursor, 10)
            assert names == []
        assert cursor == 0

    def test_a_cursor_that_nobody_gave_is_no_harm(self, store):
        keep(store, [name(b"x")])
        for cursor in (1, 2, 12345, 2**63, 2**64 - 1):
            try:
                found = store.scan(START, cursor, 10)[1]
            except StoreError:
                continue
            assert set(found) <= {name(b"x")}

    def test_a_page_is_bounded_whatever_was_asked_for(self, store):
        names = [name(b"%d" % n) for n in range(2 * MOST_SCANNED + 10)]
        keep(store, names)
        sizes = [len(page) for page in pages(store, count=10**9)]
        assert sum(sizes) >= len(names)
        assert max(sizes) <= MOST_SCANNED + 100  # a server ends with a whole slot of its table

    @pytest.mark.parametrize("count", [0, -1])
    def test_a_page_of_nothing_goes_on_nevertheless(self, store, count):
        keep(store, [name(b"%d" % n) for n in range(3)])
        assert len(scan(store, count=count)) == 3

    # -- what is being loaded --------------------------------------------------------------------

    def test_what_is_being_loaded_is_named_if_asked(self, store):
        loading, stands, other = name(b"loading"), name(b"stands"), b"nc1:{a:3f}:k:sx."
        keep(store, [stands])
        assert store.claim([loading, other], [b"", b""], ABSENT, LONG) == [TAKEN, TAKEN]
        assert scan(store) == [stands]
        assert scan(store, leases=True) == [loading, stands]
        assert scan(store, count=1, leases=True) == [loading, stands]
        store.release([loading], ABSENT)
        assert scan(store, leases=True) == [stands]

    def test_a_load_that_nobody_ended_is_not_named_for_ever(self, store):
        store.claim([name(b"x")], [b""], ABSENT, SHORT)
        self.pass_time(store, SHORT)
        assert scan(store, leases=True) == []

    def test_a_load_that_ends_during_the_scan_is_named(self, store, handles):
        """Its lease goes and its value comes: a scan that names neither would let it pass."""
        other = handles()
        filler = [name(b"filler %d" % n) for n in range(100)]
        for ends_after in range(12):
            loading = [name(b"load %d %d" % (ends_after, n)) for n in range(20)]
            keep(store, filler)
            assert store.claim(loading, [b""] * 20, ABSENT, LONG) == [TAKEN] * 20
            seen = set()
            for number, page in enumerate(pages(store, leases=True)):
                seen.update(page)
                if number == ends_after:
                    answers = other.commit(loading, [ONE] * 20, [ABSENT] * 20, None, LOG)
                    assert answers == [WRITTEN] * 20
            assert seen >= {*loading, *filler}
            store.revoke(loading, LOG)

    def test_forgetting_what_a_scan_names_stops_a_load(self, store):
        key = name(b"x")
        store.claim([key], [b""], ABSENT, LONG)
        store.revoke(scan(store, leases=True), LOG)
        assert store.commit([key], [ONE], [ABSENT], None, LOG) != [WRITTEN]
        assert there(store, key) is None

    # -- touch -----------------------------------------------------------------------------------

    def test_a_value_that_is_touched_lives_on(self, store):
        def touched(number):
            keys = [b"a-%d" % number, b"b-%d" % number]
            keep(store, keys, 3 * SHORT)
            store.touch(keys[:1], LONG)
            return keys

        keys = while_it_lives(3 * SHORT, touched)
        self.pass_time(store, 3 * SHORT)
        assert store.look(keys, []).values == [ONE, None]

    def test_a_touch_never_shortens_a_life(self, store):
        keep(store, [b"a"], LONG)
        store.touch([b"a"], SHORT)
        self.pass_time(store, SHORT)
        assert there(store, b"a") == ONE

    def test_a_touch_limits_no_life(self, store):
        keep(store, [b"a"])
        store.touch([b"a"], SHORT)
        self.pass_time(store, SHORT)
        assert there(store, b"a") == ONE

    def test_a_life_is_as_long_as_the_last_touch_says(self, store):
        keep(store, [b"a"], 2 * SHORT)
        store.touch([b"a"], 4 * SHORT)
        self.pass_time(store, 4 * SHORT)
        assert there(store, b"a") is None

    def test_a_touch_brings_nothing_back(self, store):
        keep(store, [b"expired"], SHORT)
        self.pass_time(store, SHORT)
        store.touch([b"expired", b"absent"], LONG)
        assert store.look([b"expired", b"absent"], []).values == [None, None]
        store.touch([], LONG)

    def test_a_touch_changes_no_version_and_ends_no_lease(self, store):
        keep(store, [b"a"], LONG / 2)
        store.claim([b"a"], [V1], ABSENT, LONG)
        store.touch([b"a"], LONG)
        assert store.claim([b"a"], [V1], b"another token 16", LONG) == [HELD]
        assert store.commit([b"a"], [TWO], [V1], None, LOG) == [WRITTEN]

    def test_a_touch_leaves_alone_what_has_nine_tenths_of_its_life(self, store):
        def touched(number):
            key = b"a-%d" % number
            keep(store, [key], 15 * SHORT)
            store.touch([key], 16 * SHORT)  # fifteen sixteenths are left: nothing is written
            return key

        key = while_it_lives(SHORT / 2, touched)
        self.pass_time(store, 15 * SHORT)
        assert there(store, key) is None

    def test_thousands_of_values_are_touched_at_once(self, store):
        keys = [b"%d" % n for n in range(3000)]
        keep(store, keys, LONG / 2)
        store.touch(keys, LONG)
        assert store.look(keys, []).values == [ONE] * 3000
