"""The near tier's contract, run on every implementation there is."""

import pytest

from nearcache.codecs.vectors import by_name
from nearcache.near import vectors
from nearcache.testing.contracts.near_rows import NearRowsContract

try:
    from nearcache.near import _native
except ImportError:
    _native = None


def maker(kind):
    def tier(precision, max_entries, max_bytes, clock):
        kept = by_name(precision)
        return kind(
            dtype=kept.dtype,
            scaled=kept.scaled,
            max_entries=max_entries,
            max_bytes=max_bytes,
            clock=clock,
        )

    return tier


class TestPure(NearRowsContract):
    @pytest.fixture
    def make(self):
        return maker(vectors.VectorTier)


@pytest.mark.skipif(_native is None, reason="the native core is not built")
class TestNative(NearRowsContract):
    keeps_texts = False

    @pytest.fixture
    def make(self):
        return maker(_native.VectorTier)
