"""What nearcache gives to the tests of others."""

import subprocess
import sys

import pytest

from nearcache.entry import HEAD
from nearcache.testing import ManualClock, MemoryStore, mark_of, stored_entry


def test_a_manual_clock_stands_still_until_it_is_advanced():
    clock = ManualClock(5.0)
    assert clock() == clock() == 5.0
    clock.advance(0.25)
    assert clock() == 5.25


def test_a_manual_clock_does_not_go_back():
    with pytest.raises(ValueError, match="back"):
        ManualClock().advance(-1)


def test_a_store_in_memory_lives_by_the_clock_it_is_given():
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    store.write([b"a"], [stored_entry()], 1.0, b"log", [b""])
    clock.advance(0.999)
    assert store.fetch([b"a"], []).values == [stored_entry()]
    clock.advance(0.001)
    assert store.fetch([b"a"], []).values == [None]


def test_entries_of_different_payloads_have_different_heads():
    assert stored_entry(b"one")[: HEAD.size] != stored_entry(b"two")[: HEAD.size]


def test_an_entry_satisfies_its_own_mark_and_no_better_one():
    entry = stored_entry(b"x", kind=2, size=9, stamp=b"12345678")
    assert mark_of(entry).wins(entry)
    assert mark_of(entry, any_size=True).wins(entry)
    for better in ({"kind": 3}, {"size": 8}, {"stamp": b"87654321"}):
        other = {"kind": 2, "size": 9, "stamp": b"12345678", **better}
        assert not mark_of(stored_entry(b"x", **other)).wins(entry)


def test_the_import_needs_no_test_runner():
    code = "import sys, nearcache.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
