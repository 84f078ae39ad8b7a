"""The commands of scan, touch and the question about eviction, and their replies."""

import pytest

from nearcache.stores.redis.wire import may_evict, scan_command, scanned, touch_arguments

START = (b"nc1:{a:", b"}:k:t")


def test_a_scan_asks_for_names_that_begin_so():
    command = scan_command(START, 0, 50, leases=False)
    assert command == ("SCAN", b"0", "MATCH", b"nc1:{a:??}:k:t*", "COUNT", b"50")


def test_what_is_special_in_a_pattern_is_escaped():
    pattern = scan_command((b"n*[", b"]?\\k"), 0, 1, leases=False)[3]
    assert pattern == rb"n\*\[??\]\?\\k*"


def test_leases_come_first_and_then_the_values():
    value, lease = b"nc1:{a:00}:k:tx.", b"nc1:{a:00}:k:tx.:lease"
    asked = []
    cursor, replies = 0, [[b"7", [lease]], [b"0", []], [b"9", [value, lease]], [b"0", [b"other"]]]
    found = []
    for reply in replies:
        asked.append(scan_command(START, cursor, 1, leases=True)[1:4:2])
        cursor, names = scanned(START, cursor, reply, leases=True)
        found.append(names)
    ends = (b"nc1:{a:??}:k:t*:lease", b"nc1:{a:??}:k:t*")
    assert asked == [(b"0", ends[0]), (b"7", ends[0]), (b"0", ends[1]), (b"9", ends[1])]
    assert found == [[value], [], [value], []]
    assert cursor == 0


def test_without_leases_it_is_one_scan():
    cursor, _ = scanned(START, 0, [b"7", []], leases=False)
    assert scan_command(START, cursor, 1, leases=False)[1] == b"7"
    assert scanned(START, cursor, [b"0", []], leases=False)[0] == 0


def test_a_touch_says_how_long_and_what_will_do():
    assert touch_arguments(10.0) == (b"10000", b"9000")


@pytest.mark.parametrize(
    "info, answer",
    [
        (b"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", False),
        (b"maxmemory:100\r\nmaxmemory_policy:noeviction\r\n", False),
        (b"maxmemory:100\r\nmaxmemory_policy:volatile-ttl\r\n", True),
        (b"", False),
        (b"maxmemory:100", False),
    ],
)
def test_a_server_evicts_that_has_a_limit_and_a_policy(info, answer):
    assert may_evict(info) is answer
