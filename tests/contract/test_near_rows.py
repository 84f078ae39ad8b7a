"""The near tier's contract, run on every implementation there is."""

import pytest

from contract.near_rows import NearRowsContract
from nearcache.codecs.vectors import by_name
from nearcache.near.vectors import VectorTier


class TestPure(NearRowsContract):
    @pytest.fixture
    def make(self):
        def tier(precision, max_entries, max_bytes, clock):
            kept = by_name(precision)
            return VectorTier(
                dtype=kept.dtype,
                scaled=kept.scaled,
                max_entries=max_entries,
                max_bytes=max_bytes,
                clock=clock,
            )

        return tier
