"""What a Redis server pushes: messages that a stream knows, or an error, and then silence."""

from fuzz.fuzz_replies import store_of
from fuzz.harness import Choices
from nearcache.errors import StoreError
from nearcache.stores.base import EVERYTHING, PONG, Changed
from nearcache.stores.redis import stream as redis_stream

__all__ = ["SEEDS", "one"]

_HELLO = b"%2\r\n+server\r\n+valkey\r\n+proto\r\n:3\r\n"
_NEWS = b">2\r\n+invalidate\r\n*1\r\n$18\r\nnc1:{app:00}:k:sa.\r\n"
_TIME = b"*2\r\n$10\r\n1700000000\r\n$6\r\n123456\r\n"

SEEDS = [
    b"\x00" + _NEWS + _TIME,
    b"\x00" + _TIME + _NEWS,
    b"\x00>2\r\n+invalidate\r\n_\r\n" + _TIME,
    b"\x00>2\r\n+invalidate\r\n:1\r\n" + _TIME,
    b"\x00>2\r\n+invalidate\r\n*1\r\n:1\r\n",
    b"\x00>1\r\n+invalidate\r\n",
    b"\x00>0\r\n+in\n",
    b"\x00*1\r\n+invalidate\r\n",
    b"\x00>3\r\n+message\r\n+a\r\n+b\r\n" + _TIME,
    b"\x00+OK\r\n" + _TIME,
    b"\x00*2\r\n:1\r\n:2\r\n",
    b"\x00*2\r\n$1\r\n1\r\n$1\r\nx\r\n",
    b"\x00*2\r\n$2\r\n\xc2\xb2\r\n$1\r\n1\r\n",
    b"\x00-ERR no\r\n",
    b"\x00%1\r\n*1\r\n+a\r\n+b\r\n",
    b"\x01" + _HELLO + b"+OK\r\n" + _NEWS,
    b"\x01-ERR unknown command HELLO\r\n",
    b"\x01*0\r\n",
]


def one(data: bytes) -> None:
    choices = Choices(data)
    opens = choices.flag()
    said = choices.rest()
    redis_stream._GATHER = 0.0
    replies = [said] if opens else [_HELLO, b"+OK\r\n", b"+OK\r\n", said]
    store, pool = store_of(replies)
    stream = store.stream()
    try:
        if opens:
            stream.open([b"nc1:{app:"], 1.0)
        else:
            _listen(stream)
    except StoreError:
        pass
    else:
        assert not opens, "nobody has pushed the canary"
    finally:
        stream.close()
        pool.disconnect()


def _listen(stream: redis_stream.RedisStream) -> None:
    """Hear what comes, as after an opening that went well."""
    stream._connection = stream._made(1.0)
    with stream._talking():
        stream._connect_and_track()
    stream.watch(b"nc1:{app}")
    stream.ping()
    for _ in range(3):
        for news in stream.read(0.01):
            if news is PONG or news is EVERYTHING:
                continue
            assert isinstance(news, Changed)
            assert isinstance(news.names, list)
            assert all(type(name) is bytes for name in news.names), news
