"""Bodies are held up to a limit, and opened up to a limit."""

import asyncio
import gzip
import zlib

import pytest

from nearcache.proxy.bodies import Gone, Incoming, TooLarge, unpacked


def incoming(*messages):
    left = iter(messages)

    async def receive():
        return next(left)

    return Incoming(receive)


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def test_a_body_is_held_whole():
    one = incoming(part(b"ab"), part(b""), part(b"c", more=False))
    assert asyncio.run(one.hold(3)) == b"abc"
    assert one.ended.is_set()


def test_of_a_longer_one_nothing_is_lost():
    async def go():
        one = incoming(part(b"ab"), part(b"cd"), part(b"ef", more=False))
        assert await one.hold(3) is None
        assert one.read == [b"ab", b"cd"]
        return [each async for each in one.parts(None)]

    assert asyncio.run(go()) == [b"ab", b"cd", b"ef"]


def test_too_long_is_too_long_wherever_it_is():
    async def go():
        return [each async for each in incoming(part(b"ab"), part(b"cd")).parts(3)]

    with pytest.raises(TooLarge):
        asyncio.run(go())


def test_a_caller_that_hangs_up_is_gone():
    with pytest.raises(Gone):
        asyncio.run(incoming(part(b"ab"), GONE).hold(10))


@pytest.mark.parametrize(
    "encoding,packed",
    [
        (b"", b"plain"), (b"identity", b"plain"), (b"gzip", gzip.compress(b"plain")),
        (b"GZIP", gzip.compress(b"plain")), (b"deflate", zlib.compress(b"plain")),
    ],
)  # fmt: skip
def test_packed_bodies_are_opened(encoding, packed):
    assert unpacked(packed, [(b"content-encoding", encoding)], 100) == b"plain"


@pytest.mark.parametrize(
    "encoding,packed",
    [
        (b"br", b"x"), (b"gzip, gzip", gzip.compress(b"x")), (b"gzip", b"no"), (b"gzip", b""),
        (b"gzip", gzip.compress(b"plain")[:-3]), (b"gzip", gzip.compress(b"0" * 10_000_000)),
        (b"gzip", gzip.compress(b"a") + b"tail"), (b"deflate", b"no"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_passed_on(encoding, packed):
    assert unpacked(packed, [(b"content-encoding", encoding)], 1_000_000) is None
