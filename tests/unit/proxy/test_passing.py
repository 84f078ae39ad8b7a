"""An answer is sent whole where it is short, and in pieces where it is long."""

import asyncio

import pytest

from nearcache.proxy.passing import send_parts


def sent(parts):
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(send_parts(send, 200, [], parts))
    start, *bodies = messages
    assert dict(start["headers"])[b"content-length"] == b"%d" % sum(map(len, parts))
    assert [one.get("more_body", False) for one in bodies] == [True] * (len(bodies) - 1) + [False]
    return [one["body"] for one in bodies]


@pytest.mark.parametrize("sizes", [(1,), (10, 20, 30)])
def test_a_short_answer_is_one_piece(sizes):
    parts = [b"x" * size for size in sizes]
    assert sent(parts) == [b"".join(parts)]


@pytest.mark.parametrize("sizes", [(300_000,), (1, 300_000), (300_000, 1), (9_000,) * 100])
def test_of_a_long_answer_no_copy_is_longer_than_a_piece_and_a_part(sizes):
    parts = [bytes([n % 251]) * size for n, size in enumerate(sizes)]
    pieces = sent(parts)
    assert b"".join(pieces) == b"".join(parts)
    assert max(map(len, pieces)) < 262_144 + max(sizes)
    assert len(pieces) <= sum(sizes) // 262_144 + 1
