"""A pool's connections, lent and taken back: one that was interrupted is not lent again."""

import gc

import pytest
import redis
import redis._parsers.hiredis
import redis.connection

from interrupting import interrupted_at
from nearcache import RedisStore
from nearcache.stores.redis import pool

KINDS = ("ours", "a client's", "a limited client's", "a blocking client's")
KEY = b"nc1:{a:00}:k:b"


def made(kind, url):
    """A store whose pool has no connection yet."""
    if kind == "ours":
        return RedisStore(url)
    cls = redis.BlockingConnectionPool if "blocking" in kind else redis.ConnectionPool
    limit = {"max_connections": 3} if "limited" in kind else {}
    return RedisStore(redis.Redis(connection_pool=cls.from_url(url, **limit)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets that were just being made
def test_one_that_is_interrupted_while_it_connects_is_not_lent_again(kind, one_server):
    moment = KINDS.index(kind)  # and every fourth from there: all of them together
    more = True
    while more:
        store = made(kind, one_server.url)
        more = interrupted_at(
            moment,
            lambda store=store: store.look([KEY], []),
            redis.connection,
            redis._parsers.hiredis,
            pool,
        )
        assert store.look([KEY], []).values == [None]
        store.close()
        moment += len(KINDS)
    gc.collect()  # while that warning is ignored
    assert moment > 100
