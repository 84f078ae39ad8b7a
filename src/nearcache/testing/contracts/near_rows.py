"""The contract of the near tier for rows, as tests; every implementation runs it.

Subclass :class:`NearRowsContract` with the fixture ``make``: a function of (precision name,
max_entries, max_bytes, clock) that returns a tier. Every row here encodes its own text, so a row
that is torn, stale or another text's does not go unnoticed.
"""

import random
import sqlite3
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from nearcache.codecs.vectors import by_name
from nearcache.keys import content_digest
from nearcache.near.arena import LONGEST_KEY
from nearcache.testing import ManualClock

PRECISIONS = ("float32", "float16", "int8")
SIZE = 8
ROOMY = 2**30
M = ("space", b"model")


def row_of(text: str, size: int = SIZE) -> np.ndarray:
    """The row of a text: small whole numbers, exact at every precision, different in each place."""
    seed = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    row = np.random.default_rng(seed).integers(-126, 127, size).astype(np.float32)
    row[0] = 127  # the int8 scale is then exactly 1
    return row


def rows_of(texts, size: int = SIZE) -> np.ndarray:
    return np.array([row_of(text, size) for text in texts], np.float32).reshape(-1, size)


def same(got, texts, size: int = SIZE) -> bool:
    return got is not None and got.dtype == np.float32 and np.array_equal(got, rows_of(texts, size))


class Near:
    """A tier with shorter calls: texts bring their own rows and hashes."""

    def __init__(self, tier, precision: str, clock) -> None:
        self.tier, self.precision, self.clock = tier, by_name(precision), clock

    def put(self, *texts, shelf=M, ttl=None, size=SIZE, matrix=None):
        matrix = rows_of(texts, size) if matrix is None else matrix
        packed = self.precision.pack(np.asarray(matrix, np.float32))
        ttls = ttl if isinstance(ttl, list) else [ttl] * len(texts)
        expires = np.array([0.0 if t is None else self.clock() + t for t in ttls])
        self.tier.put(shelf, list(texts), digests(texts), packed.data, packed.scale, expires)

    def all(self, *texts, shelf=M):
        return self.tier.get_all(shelf, list(texts))

    def some(self, *texts, shelf=M):
        return self.tier.get_some(shelf, list(texts), digests(texts))

    def one(self, text, shelf=M):
        return self.tier.get_one(shelf, text)

    def by_digest(self, text, shelf=M):
        return self.tier.get_digest(shelf, content_digest(text))

    def drop(self, *texts, shelf=M):
        return self.tier.drop(shelf, digests(texts))

    def has(self, text, shelf=M) -> bool:
        """Without touching it."""
        return self.tier.peek(shelf, content_digest(text)) is not None

    def here(self, texts, shelf=M) -> str:
        return "".join(text for text in texts if self.has(text, shelf))


def digests(texts):
    return [content_digest(text) for text in texts]


class NearRowsContract:
    keeps_texts = True  # or only a name of them: then a text costs nothing, however long

    @pytest.fixture
    def clock(self):
        return ManualClock()

    @pytest.fixture(params=PRECISIONS)
    def precision(self, request):
        return request.param

    @pytest.fixture
    def near_of(self, make, clock):
        """Make a tier; its invariants are checked when the test is over."""
        made = []

        def near(max_entries=100, max_bytes=ROOMY, precision="float32"):
            tier = make(precision, max_entries, max_bytes, clock)
            made.append(tier)
            return Near(tier, precision, clock)

        yield near
        for tier in made:
            tier.check()

    @pytest.fixture
    def near(self, near_of):
        return near_of()

    # -- get -------------------------------------------------------------------------------------

    def test_rows_come_back_in_the_order_asked(self, near_of, precision):
        near = near_of(precision=precision)
        near.put("a", "b", "c")
        assert same(near.all("c", "a", "b"), ["c", "a", "b"])
        assert same(near.all("b"), ["b"])

    def test_a_text_asked_for_twice_is_answered_twice(self, near):
        near.put("a", "b")
        assert same(near.all("a", "b", "a"), ["a", "b", "a"])
        found, rows = near.some("a", "x", "a")
        assert found == [0, 2]
        assert same(rows, ["a", "a"])

    def test_all_is_none_as_soon_as_one_is_missing(self, near):
        near.put("a", "b")
        assert near.all("a", "missing", "b") is None
        assert near.all("a", shelf="unheard of") is None

    def test_some_are_the_positions_that_are_here(self, near_of, precision):
        near = near_of(precision=precision)
        near.put("a", "b", "c")
        found, rows = near.some("x", "c", "y", "a")
        assert found == [1, 3]
        assert same(rows, ["c", "a"])
        assert near.some("x", "y") == ([], None)
        assert near.some("a", shelf="unheard of") == ([], None)

    def test_one_is_a_row_or_none(self, near_of, precision):
        near = near_of(precision=precision)
        near.put("a")
        assert np.array_equal(near.one("a"), row_of("a"))
        assert near.one("a").dtype == np.float32
        assert near.one("b") is None
        assert near.one("a", shelf="unheard of") is None

    def test_a_content_hash_finds_what_its_text_finds(self, near_of, precision):
        near = near_of(precision=precision)
        near.put("a", "b")
        assert np.array_equal(near.by_digest("b"), row_of("b"))
        assert near.by_digest("c") is None
        assert near.by_digest("a", shelf="unheard of") is None

    def test_what_is_no_text_is_not_found(self, near):
        near.put("a")
        for stranger in (None, 1, b"a", ["a"], content_digest("a")):
            assert near.tier.get_all(M, ["a", stranger]) is None

    def test_bytes_equal_to_a_content_hash_are_not_found_as_a_text(self, near):
        long = "x" * (LONGEST_KEY + 1)
        near.put(long, "a")
        digest = content_digest(long)
        assert near.tier.get_all(M, [digest]) is None
        assert near.tier.get_one(M, digest) is None

    def test_texts_that_look_alike_are_different(self, near):
        texts = [
            "a",
            "A",
            "a ",
            " a",
            "a\0",
            "",
            "\0",
            "ä",
            "a\u0308",
            "\ud800",
            "\udfff",
            "ﬁ",
            "fi",
        ]
        near.put(*texts)
        assert same(near.all(*texts), texts)
        assert len(near.tier) == len(texts)

    # -- rows are copies -------------------------------------------------------------------------

    def test_a_returned_row_is_the_callers_own(self, near_of, precision):
        near = near_of(precision=precision)
        near.put("a", "b")
        for got in (near.all("a", "b"), near.some("a", "b")[1], near.one("a"), near.by_digest("a")):
            assert got.flags.writeable
            got[...] = -1
        assert same(near.all("a", "b"), ["a", "b"])

    def test_a_row_that_was_put_can_be_changed_afterwards(self, near_of, precision):
        near = near_of(precision=precision)
        matrix = rows_of(["a"])
        near.put("a", matrix=matrix)
        matrix[...] = -1
        assert same(near.all("a"), ["a"])

    def test_a_returned_row_does_not_change_when_its_slot_is_used_again(self, near_of):
        near = near_of(max_entries=1)
        near.put("a")
        got = [near.all("a"), near.some("a")[1], near.one("a")[None], near.by_digest("a")[None]]
        near.put("b")
        assert all(same(rows, ["a"]) for rows in got)

    def test_every_way_to_a_row_decodes_to_the_codecs_bits(self, near_of, precision):
        near = near_of(precision=precision)
        texts = [f"text {i}" for i in range(50)]
        matrix = np.random.default_rng(5).normal(0, 10, (50, SIZE)).astype(np.float32)
        matrix[3] = 0
        matrix[4] = np.float32(1e-42)  # subnormal
        near.put(*texts, matrix=matrix)
        kept = near.precision.unpack(near.precision.pack(matrix))
        assert near.all(*texts).tobytes() == kept.tobytes()
        assert near.some(*texts)[1].tobytes() == kept.tobytes()
        for text, row in zip(texts, kept, strict=True):
            assert near.one(text).tobytes() == row.tobytes()
            assert near.by_digest(text).tobytes() == row.tobytes()

    # -- put -------------------------------------------------------------------------------------

    def test_overwriting_changes_the_row_and_nothing_else(self, near):
        near.put("a", "b")
        near.put("a", matrix=[row_of("new")])
        assert same(near.all("a", "b"), ["new", "b"])
        assert len(near.tier) == 2

    def test_of_a_text_put_twice_in_one_batch_the_last_row_stands(self, near):
        near.put("a", "b", "a", matrix=rows_of(["old", "b", "new"]))
        assert same(near.all("a", "b"), ["new", "b"])
        assert len(near.tier) == 2

    def test_overwriting_in_a_full_tier_evicts_nobody(self, near_of):
        near = near_of(max_entries=3)
        near.put("a", "b", "c")
        near.put("b")
        near.put("c", "a", "b")
        assert near.here("abc") == "abc"
        assert near.tier.evictions == 0

    def test_a_batch_of_nothing_is_nothing(self, near):
        near.put(matrix=np.empty((0, SIZE)))
        assert len(near.tier) == 0
        assert near.tier.drop(M, []) == 0
        near.put("a")
        assert near.tier.drop(M, []) == 0
        assert near.some() == ([], None)

    # -- who leaves ------------------------------------------------------------------------------

    def test_the_least_recently_put_leaves_first(self, near_of):
        near = near_of(max_entries=3)
        near.put("a", "b", "c")
        for text, left in (("d", "bcd"), ("e", "cde"), ("f", "def")):
            near.put(text)
            assert near.here("abcdef") == left
        assert near.tier.evictions == 3

    @pytest.mark.parametrize(
        "touch",
        [
            pytest.param(lambda near: near.one("a"), id="one"),
            pytest.param(lambda near: near.all("a"), id="all"),
            pytest.param(lambda near: near.some("x", "a"), id="some"),
            pytest.param(lambda near: near.by_digest("a"), id="by digest"),
            pytest.param(lambda near: near.put("a"), id="put"),
        ],
    )
    def test_who_was_used_stays(self, near_of, touch):
        near = near_of(max_entries=3)
        near.put("a", "b", "c")
        touch(near)
        near.put("d")
        assert near.here("abcd") == "acd"

    @pytest.mark.parametrize(
        "look",
        [
            pytest.param(lambda near: near.tier.peek(M, content_digest("a")), id="peek"),
            pytest.param(lambda near: near.tier.listing(), id="listing"),
            pytest.param(lambda near: near.all("a", "missing"), id="a batch that failed"),
        ],
    )
    def test_who_was_only_looked_at_leaves(self, near_of, look):
        near = near_of(max_entries=3)
        near.put("a", "b", "c")
        look(near)
        near.put("d")
        assert near.here("abcd") == "bcd"

    def test_within_a_batch_the_first_is_the_oldest(self, near_of):
        near = near_of(max_entries=4)
        near.put("a", "b", "c", "d")
        near.all("d", "b", "a", "c")
        for text, left in (("e", "abce"), ("f", "acef"), ("g", "cefg"), ("h", "efgh")):
            near.put(text)
            assert near.here("abcdefgh") == left

    def test_of_a_batch_that_asks_twice_the_last_time_counts(self, near_of):
        near = near_of(max_entries=3)
        near.put("a", "b", "c")
        near.all("a", "b", "c", "a")
        near.put("d")
        assert near.here("abcd") == "acd"

    def test_eviction_is_in_exact_order_however_many_there_are(self, near_of):
        near = near_of(max_entries=700)
        texts = [f"t{i}" for i in range(700)]
        near.put(*texts)
        order = texts.copy()
        shuffle = random.Random(3)
        for _ in range(5):
            used = shuffle.sample(order, 200)
            near.all(*used)
            order = [text for text in order if text not in set(used)] + used
        for i in range(700):
            near.put(f"new {i}")
            assert not near.has(order[i])
            assert i == 699 or near.has(order[i + 1])

    def test_a_batch_larger_than_the_tier_leaves_its_end(self, near_of):
        near = near_of(max_entries=3)
        near.put("z")
        near.put(*"abcdefgh")
        assert near.here("zabcdefgh") == "fgh"
        assert same(near.all("f", "g", "h"), ["f", "g", "h"])

    def test_a_batch_larger_than_the_tier_with_texts_that_are_here_already(self, near_of):
        near = near_of(max_entries=3)
        near.put("a", "b", "c")
        near.put(*"bxyzaq")
        assert near.here("abcxyzq") == "azq"
        assert same(near.all("z", "a", "q"), ["z", "a", "q"])

    def test_no_entries_means_nothing_is_kept(self, near_of):
        near = near_of(max_entries=0)
        near.put("a", "b")
        assert len(near.tier) == near.tier.used_bytes == near.tier.evictions == 0
        assert near.all("a") is None
        assert near.some("a") == ([], None)
        assert near.one("a") is None
        assert near.drop("a") == 0

    def test_no_bytes_means_nothing_is_kept(self, near_of):
        near = near_of(max_bytes=0)
        near.put("a", "b")
        assert len(near.tier) == 0

    # -- bytes -----------------------------------------------------------------------------------

    def test_bytes_count_rows_texts_and_index(self, near_of, precision):
        near = near_of(precision=precision)
        near.put("a")
        small = near.tier.used_bytes
        assert small >= near.precision.row_bytes(SIZE) + 40
        near.put("b" * 1000)
        assert near.tier.used_bytes - small >= small + (999 if self.keeps_texts else 0)
        near.drop("a", "b" * 1000)
        assert near.tier.used_bytes == 0

    def test_bytes_are_bounded(self, near_of, precision):
        near = near_of(max_entries=10_000, max_bytes=20_000, precision=precision)
        for i in range(300):
            near.put(f"{i} " + "x" * 200)
            assert near.tier.used_bytes <= 20_000
        assert 0 < near.tier.evictions < 300
        assert near.has("299 " + "x" * 200)

    def test_a_text_that_takes_more_bytes_makes_more_room(self, near_of):
        if not self.keeps_texts:
            pytest.skip("this tier keeps no texts")
        near = near_of(max_bytes=20_000)
        texts = [f"{i:02}" for i in range(50)]
        near.put(*texts)
        near.put("\U0001f600" * 3000)
        assert near.has("\U0001f600" * 3000)
        assert not near.has("00")
        assert near.has("49")

    def test_what_does_not_fit_alone_is_not_kept_and_evicts_nobody(self, near_of):
        near = near_of(max_bytes=2000)
        near.put("a", "b")
        near.put("x", shelf="large", size=1000)
        assert near.here("ab") == "ab"
        assert not near.has("x", "large")
        if self.keeps_texts:
            near.put("c", "y" * 4000, "d")
            assert near.here("abcd") == "abcd"
            assert not near.has("y" * 4000)

    def test_texts_of_every_width_are_counted_and_uncounted_alike(self, near):
        texts = ["ascii" * 9, "ß" * 44, "Ω" * 41, "\U0001f600" * 37, "", "\ud800"]
        near.put(*texts)
        near.put(*reversed(texts))
        near.tier.check()
        near.drop(*texts)
        assert near.tier.used_bytes == 0

    def test_what_python_attaches_to_a_text_later_does_not_change_the_count(self, near):
        text = "größer als ascii " * 20
        near.put(text)
        before = near.tier.used_bytes
        with sqlite3.connect(":memory:") as db:
            db.execute("SELECT ?", (text,))  # caches the UTF-8 form inside the str
        db.close()
        near.tier.check()
        assert near.tier.used_bytes == before
        near.drop(text)
        assert near.tier.used_bytes == 0

    def test_memory_comes_back_when_most_is_gone(self, near_of):
        near = near_of(max_entries=5000)
        texts = [f"t{i}" for i in range(5000)]
        near.put(*texts, size=SIZE)
        before = allocated(near.tier)
        near.drop(*texts[:4900])
        assert allocated(near.tier) < before / 4
        assert same(near.all(*texts[4900:]), texts[4900:])
        near.put("new")
        assert same(near.all("new", *texts[4900:]), ["new", *texts[4900:]])

    def test_the_order_survives_giving_memory_back(self, near_of):
        near = near_of(max_entries=1000)
        texts = [f"t{i}" for i in range(1000)]
        near.put(*texts)
        near.drop(*texts[100:])
        near.all("t0", "t50")
        near.tier.resize(3, ROOMY)
        assert [text for text in texts if near.has(text)] == ["t0", "t50", "t99"]

    # -- long texts ------------------------------------------------------------------------------

    @pytest.mark.parametrize("length", [LONGEST_KEY - 1, LONGEST_KEY, LONGEST_KEY + 1, 10**6])
    @pytest.mark.parametrize("char", ["x", "Ω"])
    def test_long_texts_are_found_with_their_content_hash(self, near, length, char):
        text, other = char * length, char * (length - 1) + "!"
        near.put(text, other)
        found, rows = near.some(text, other)
        assert found == [0, 1]
        assert same(rows, [text, other])
        assert np.array_equal(near.by_digest(text), row_of(text))
        assert near.drop(text) == 1
        assert near.some(text, other)[0] == [1]

    def test_a_long_text_is_not_kept_only_its_hash(self, near):
        near.put("x" * 10**6)
        assert near.tier.used_bytes < 1000

    def test_long_texts_may_need_their_hash(self, near):
        text = "x" * (LONGEST_KEY + 1)
        near.put(text, "a")
        found, rows = near.tier.get_some(M, [text, "a"])
        assert same(rows, [[text, "a"][i] for i in found])
        assert found[-1] == 1
        if self.keeps_texts:
            assert near.one(text) is None
            assert near.all(text) is None
        else:
            assert same(near.all(text, "a"), [text, "a"])

    # -- expiry ----------------------------------------------------------------------------------

    def test_an_entry_is_served_until_its_time_and_not_a_moment_longer(self, near, clock):
        near.put("a", ttl=10)
        clock.advance(9.999)
        assert same(near.all("a"), ["a"])
        clock.advance(0.001)
        assert near.all("a") is None
        assert near.some("a") == ([], None)
        assert near.one("a") is None
        near.put("a", ttl=1)
        clock.advance(1)
        assert near.by_digest("a") is None

    def test_what_has_expired_is_dropped_and_counted_when_it_is_met(self, near, clock):
        near.put("a", "b", "c", ttl=1)
        near.put("d")
        clock.advance(1)
        assert near.some("a", "d")[0] == [1]
        assert near.one("b") is None
        assert near.by_digest("c") is None
        assert near.tier.expirations == 3
        assert len(near.tier) == 1

    def test_overwriting_gives_a_new_life(self, near, clock):
        near.put("longer", "shorter", "endless", "bounded", ttl=[1, 10, 1, None])
        near.put("longer", "shorter", "endless", "bounded", ttl=[10, 1, None, 1])
        clock.advance(1)
        assert near.some("longer", "shorter", "endless", "bounded")[0] == [0, 2]

    def test_expire_drops_all_whose_time_has_come(self, near_of, clock):
        near = near_of(max_entries=5000)
        near.put(*[f"a{i}" for i in range(3000)], ttl=1)
        near.put(*[f"b{i}" for i in range(100)], ttl=2)
        near.put("c", shelf="other", size=5, ttl=1)
        near.put("d")
        assert near.tier.expire() == 0
        clock.advance(1)
        assert near.tier.expire() == 3001
        assert near.tier.expire() == 0
        clock.advance(1)
        assert near.tier.expire() == 100
        assert near.tier.expirations == 3101
        assert len(near.tier) == 1

    def test_expired_entries_leave_before_live_ones(self, near_of, clock):
        near = near_of(max_entries=4)
        near.put("a", "b")
        near.put("x", "y", ttl=1)
        clock.advance(1)
        near.put("c", "d")
        assert near.here("abcdxy") == "abcd"
        assert (near.tier.evictions, near.tier.expirations) == (0, 2)

    def test_expired_entries_of_another_dimension_leave_first_too(self, near_of, clock):
        near = near_of(max_entries=3)
        near.put("x", "y", shelf="other", size=5, ttl=1)
        near.put("a")
        clock.advance(1)
        near.put("b", "c")
        assert near.here("abc") == "abc"
        assert near.tier.evictions == 0

    def test_an_expired_text_that_is_put_again_in_a_full_tier_stays(self, near_of, clock):
        near = near_of(max_entries=2)
        near.put("a", "b", ttl=1)
        clock.advance(2)
        near.put("a", "c", ttl=[1, None])
        assert near.here("abc") == "ac"
        assert same(near.all("a", "c"), ["a", "c"])
        clock.advance(2)
        assert near.tier.expire() == 1
        assert near.here("abc") == "c"

    # -- drop ------------------------------------------------------------------------------------

    def test_drop_forgets_and_counts(self, near):
        near.put("a", "b", "c")
        assert near.drop("a", "x", "c") == 2
        assert near.here("abc") == "b"
        assert near.drop("a") == 0
        assert near.drop("a", shelf="unheard of") == 0

    def test_a_dropped_slot_is_used_again(self, near_of):
        near = near_of(max_entries=2)
        near.put("a", "b")
        near.drop("a")
        near.put("c")
        assert near.here("abc") == "bc"
        assert near.tier.evictions == 0

    def test_a_content_hash_given_twice_is_dropped_once(self, near):
        near.put("a", "b")
        assert near.drop("a", "a") == 1

    def test_whole_shelves_are_dropped(self, near):
        near.put("a", "b", shelf="one")
        near.put("a", shelf="two")
        near.put("a", shelf="three", size=5)
        assert near.tier.drop_shelves(["one", "three", "unheard of"]) == 3
        assert near.all("a", shelf="one") is None
        assert near.all("a", shelf="three") is None
        assert same(near.all("a", shelf="two"), ["a"])
        near.put("c", shelf="one")
        assert near.some("a", "c", shelf="one")[0] == [1]

    def test_dropping_a_shelf_of_the_same_dimension_leaves_the_other_alone(self, near_of):
        near = near_of(max_entries=5000)
        texts = [f"t{i}" for i in range(2000)]
        near.put(*texts, shelf="one")
        near.put(*texts, shelf="two")
        assert near.tier.drop_shelves(["one"]) == 2000
        assert same(near.all(*texts, shelf="two"), texts)

    # -- shelves and dimensions ------------------------------------------------------------------

    def test_shelves_do_not_see_each_other(self, near):
        near.put("a", "b", shelf="one")
        near.put("a", shelf="two", matrix=[row_of("other")])
        assert same(near.all("a", "b", shelf="one"), ["a", "b"])
        assert same(near.all("a", shelf="two"), ["other"])
        assert near.drop("a", shelf="two") == 1
        assert near.one("a", shelf="one") is not None
        assert near.by_digest("b", shelf="two") is None

    def test_all_shelves_and_dimensions_share_one_budget(self, near_of):
        near = near_of(max_entries=4)
        near.put("a", shelf="one", size=3)
        near.put("b", shelf="two", size=300)
        near.put("c", shelf="three", size=300)
        near.put("d", shelf="one", size=3)
        near.one("a", shelf="one")
        near.put("e", "f", shelf="four", size=7)
        assert len(near.tier) == 4
        assert near.here("ad", "one") == "ad"
        assert near.here("b", "two") + near.here("c", "three") == ""
        assert near.here("ef", "four") == "ef"

    def test_the_byte_budget_spans_dimensions(self, near_of):
        near = near_of(max_bytes=20_000)
        near.put(*"abcdefghij", shelf="small", size=4)
        near.put("x", "y", shelf="large", size=2000)
        assert near.tier.used_bytes <= 20_000
        assert near.here("xy", "large") == "xy"
        near.put("z", shelf="large", size=2000)
        assert near.here("abcdefghij", "small") == ""
        assert near.here("xyz", "large") == "yz"

    def test_a_model_that_comes_back_with_another_dimension_starts_anew(self, near):
        near.put("a", "b", size=8)
        near.put("c", size=9)
        assert near.some("a", "b", "c")[0] == [2]
        assert same(near.all("c"), ["c"], size=9)
        assert len(near.tier) == 1

    # -- rare things -----------------------------------------------------------------------------

    def test_a_smaller_tier_keeps_what_was_used_last(self, near):
        near.put("a", "b", "c", "d")
        near.one("a")
        near.tier.resize(2, ROOMY)
        assert near.here("abcd") == "ad"
        near.put("e")
        assert near.here("abcde") == "ae"

    def test_a_tier_with_fewer_bytes_keeps_what_fits(self, near):
        near.put("a", "b", "c")
        near.tier.resize(100, near.tier.used_bytes - 1)
        assert near.here("abc") == "bc"
        near.tier.resize(100, 0)
        assert len(near.tier) == near.tier.used_bytes == 0

    def test_a_tier_of_no_entries_is_empty_and_can_grow_again(self, near):
        near.put("a", "b")
        near.tier.resize(0, ROOMY)
        assert len(near.tier) == 0
        near.put("a")
        assert len(near.tier) == 0
        near.tier.resize(5, ROOMY)
        near.put("a")
        assert same(near.all("a"), ["a"])

    def test_shrinking_lets_expired_entries_go_first(self, near, clock):
        near.put("a", "b")
        near.put("x", "y", ttl=1)
        clock.advance(1)
        near.tier.resize(2, ROOMY)
        assert near.here("abxy") == "ab"
        assert near.tier.evictions == 0

    def test_peek_says_when_a_life_ends_and_what_it_costs(self, near_of, clock, precision):
        near = near_of(precision=precision)
        near.put("a", ttl=5)
        near.put("b")
        expiry, cost = near.tier.peek(M, content_digest("a"))
        assert expiry == clock() + 5
        assert cost >= near.precision.row_bytes(SIZE)
        assert near.tier.peek(M, content_digest("b"))[0] == 0
        assert near.tier.peek(M, content_digest("c")) is None
        assert near.tier.peek("unheard of", content_digest("a")) is None

    def test_the_listing_names_every_entry_once(self, near):
        long = "x" * 5000
        near.put("a", "b", long, shelf="one")
        near.put("a", shelf="two", size=5)
        near.drop("b", shelf="one")
        assert sorted(near.tier.listing()) == sorted(
            [
                (name, content_digest(t).hex())
                for name, t in [("one", "a"), ("one", long), ("two", "a")]
            ]
        )

    # -- hostile texts ---------------------------------------------------------------------------

    def test_a_text_of_a_subclass_is_kept_as_a_plain_copy(self, near):
        class Odd(str):
            __slots__ = ()
            hashes = 0

            def __hash__(self):
                Odd.hashes += 1
                return str.__hash__(self)

        near.put(Odd("a"), "b")
        before = Odd.hashes
        assert same(near.all("a", "b"), ["a", "b"])
        near.tier.listing()
        near.drop("a")
        assert Odd.hashes == before

    def test_a_text_that_equals_everything_finds_no_others_row(self, near):
        class Chameleon(str):
            __slots__ = ()

            def __eq__(self, other):
                return True

            def __hash__(self):
                return hash("a")

        near.put("a", "b")
        near.put(Chameleon("z"))
        near.tier.check()
        assert same(near.all("a", "b"), ["a", "b"])

    def test_a_text_whose_own_hash_raises_harms_nobody(self, near):
        class Broken(str):
            __slots__ = ()

            def __hash__(self):
                raise RuntimeError("no hash")

        near.put("a")
        for call in (near.all, near.some, near.put):
            with suppress(RuntimeError):  # who takes the plain text inside never meets it
                call("a", "c", Broken("b"))
        near.tier.check()
        assert same(near.all("a"), ["a"])
        near.put("d")
        assert same(near.all("a", "d"), ["a", "d"])
        for text in "bc":
            got = near.one(text)
            assert got is None or np.array_equal(got, row_of(text))

    @pytest.mark.parametrize("act", ["drop", "put", "drop shelf", "expire", "resize"])
    @pytest.mark.parametrize("call", ["all", "some", "put", "one"])
    def test_a_text_that_calls_the_tier_while_it_is_looked_up_gets_no_wrong_row(
        self, near_of, clock, act, call
    ):
        near = near_of(max_entries=2000)
        texts = [f"t{i}" for i in range(2000)]

        def interfere():
            if act == "drop":
                near.drop(*texts[:1900])
            elif act == "put":
                near.put(*[f"new {i}" for i in range(2000)])
            elif act == "drop shelf":
                near.tier.drop_shelves([M])
                near.put("new")
            elif act == "expire":
                near.tier.expire()
            else:
                near.tier.resize(20, ROOMY)

        class Caller(str):
            __slots__ = ()
            armed = True

            def __hash__(self):
                if Caller.armed:
                    Caller.armed = False
                    interfere()
                return str.__hash__(self)

        near.put(*texts, ttl=[1] * 1900 + [None] * 100)
        clock.advance(1 if act == "expire" else 0)
        asked = ["t1990", "t1995", Caller("t1999"), "t1991"]
        if call == "all":
            got = near.all(*asked)
            assert got is None or same(got, asked)
        elif call == "some":
            found, rows = near.some(*asked)
            assert not found or same(rows, [asked[i] for i in found])
        elif call == "one":
            got = near.one(asked[2])
            assert got is None or np.array_equal(got, row_of(asked[2]))
        else:
            near.put(*asked)
        near.tier.check()
        for text in [*texts, "new", *[f"new {i}" for i in range(2000)]]:
            got = near.one(text)
            assert got is None or np.array_equal(got, row_of(text)), text

    @pytest.mark.parametrize("act", ["drop", "put", "drop shelf", "resize"])
    @pytest.mark.parametrize("call", ["all", "some", "put"])
    def test_whoever_calls_the_tier_in_the_middle_of_an_operation_does_no_harm(
        self, near_of, act, call
    ):
        """A finaliser may run in any allocation; here the call comes from the arguments."""
        near = near_of(max_entries=2000)
        texts = [f"t{i}" for i in range(2000)]
        near.put(*texts)
        calls = {
            "drop": lambda: near.drop(*texts[:1900]),
            "put": lambda: near.put(*[f"new {i}" for i in range(2000)]),
            "drop shelf": lambda: near.tier.drop_shelves([M]),
            "resize": lambda: near.tier.resize(20, ROOMY),
        }
        asked = ["t1990", "t1995", "t1999", "t1991"]
        interfered = []

        class Interfering(list):
            def interfere(self, at):
                if at == 2 and not interfered:
                    interfered.append(True)
                    calls[act]()

            def __iter__(self):
                for at, item in enumerate(list.__iter__(self)):
                    self.interfere(at)
                    yield item

            def __getitem__(self, at):
                self.interfere(at)
                return list.__getitem__(self, at)

        names, hashes = Interfering(asked), Interfering(digests(asked))
        if call == "all":
            got = near.tier.get_all(M, names)
            assert got is None or same(got, asked)
        elif call == "some":
            found, rows = near.tier.get_some(M, names, hashes)
            assert not found or same(rows, [asked[i] for i in found])
        else:
            packed = near.precision.pack(rows_of(asked))
            near.tier.put(M, names, hashes, packed.data, packed.scale, np.zeros(4))
        assert interfered
        near.tier.check()
        for text in [*texts, *[f"new {i}" for i in range(2000)]]:
            got = near.one(text)
            assert got is None or np.array_equal(got, row_of(text)), text

    # -- threads ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("max_entries", [40, 400])
    def test_threads_never_see_a_row_that_is_not_their_texts(self, near_of, clock, max_entries):
        near = near_of(max_entries=max_entries, precision="int8")
        shelves = {"one": 8, "two": 8, "three": 24}
        texts = [f"text {i}" for i in range(300)] + ["l" * 5000 + str(i) for i in range(5)]
        expected = {(text, size): row_of(text, size) for text in texts for size in (8, 24)}
        wrong = []

        def check(texts_, rows, size):
            for text, row in zip(texts_, rows, strict=True):
                if not np.array_equal(row, expected[text, size]):
                    wrong.append((text, row))

        def hammer(seed):
            rng = random.Random(seed)
            for _ in range(700):
                shelf = rng.choice(list(shelves))
                size = shelves[shelf]
                some = rng.sample(texts, rng.randint(1, 30))
                act = rng.random()
                if act < 0.3:
                    matrix = np.array([expected[text, size] for text in some])
                    near.put(*some, shelf=shelf, size=size, matrix=matrix,
                             ttl=rng.choice([None, 0.5]))  # fmt: skip
                elif act < 0.5:
                    found, rows = near.some(*some, shelf=shelf)
                    check([some[i] for i in found], [] if rows is None else rows, size)
                elif act < 0.7:
                    few = some[:3]
                    rows = near.all(*few, shelf=shelf)
                    check([] if rows is None else few, [] if rows is None else rows, size)
                elif act < 0.8:
                    row = near.one(some[0], shelf=shelf)
                    check(some[:1] if row is not None else [], [row][: row is not None], size)
                elif act < 0.86:
                    row = near.by_digest(some[0], shelf=shelf)
                    check(some[:1] if row is not None else [], [row][: row is not None], size)
                elif act < 0.93:
                    near.drop(*some, shelf=shelf)
                elif act < 0.95:
                    near.tier.drop_shelves([shelf])
                elif act < 0.97:
                    near.tier.expire()
                elif act < 0.98:
                    near.tier.resize(rng.choice([max_entries // 2, max_entries]), ROOMY)
                else:
                    clock.advance(0.1)

        switch = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(hammer, range(4)))
        finally:
            sys.setswitchinterval(switch)
        assert wrong == []
        near.tier.check()

    def test_counts_are_exact_under_threads(self, near_of):
        near = near_of(max_entries=50)
        barrier = threading.Barrier(4)

        def fill(number):
            barrier.wait()
            for i in range(100):
                near.put(f"{number} {i}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(4)))
        assert len(near.tier) == 50
        assert near.tier.evictions == 350


def allocated(tier) -> int:
    """The bytes that the rows of a tier hold in memory, used or not."""
    return sum(arena.allocated for arena in tier._arenas.values())
