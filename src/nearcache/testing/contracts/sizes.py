"""How much a store says it holds, as tests."""

from nearcache.stores.base import Size
from nearcache.testing.contracts.store_parts import LONG

KEYS = [b"nc1:{size:%02x}:k:%d." % (n, n) for n in range(20)]


class SizeContract:
    """What every store says of its size."""

    def test_it_grows_with_what_is_written(self, store):
        before = store.size()
        values = [bytes(10_000)] * len(KEYS)
        assert store.put(KEYS, values, LONG, b"nc1:{size}:log", store.now() + LONG, []) is not None
        after = store.size()
        assert isinstance(after, Size)
        assert after.bytes > before.bytes
        if after.entries is not None:
            assert after.entries >= before.entries + len(KEYS)
