"""Entries that a user's codec has been over: their layout, and what is no answer."""

import numpy as np
import pytest

from nearcache.codecs.base import by_name as codec_of
from nearcache.codecs.envelope import encode_rows
from nearcache.codecs.sealing import seal, unseal
from nearcache.codecs.signing import Signer
from nearcache.codecs.vectors import by_name
from nearcache.entry import SEALED, SIGNED
from nearcache.keys import content_digest

NAMES = [b"nc1:{emb:00}:v:m:a", b"nc1:{emb:00}:v:m:b"]
SIGNER = Signer([b"our own key....."])


class Reversing:
    name, kind = "reversing", 64

    def encode(self, value):
        return value[::-1]

    def decode(self, data):
        return bytes(data)[::-1]


CODEC = codec_of(Reversing())


def plain():
    kept = by_name("float32")
    rows = kept.pack(np.arange(6, dtype=np.float32).reshape(2, 3))
    digests = [content_digest("a"), content_digest("b")]
    return encode_rows(rows, kept, digests, stamp=b"current.", expiry=np.array([1.0, 2.0]))


def test_what_a_store_may_look_at_stays_and_the_rest_is_the_codecs():
    for entry, sealed in zip(plain(), seal(plain(), CODEC, NAMES, None), strict=True):
        assert sealed[3] == entry[3] | SEALED
        assert sealed[:3] + sealed[4:24] == entry[:3] + entry[4:24]
        assert sealed[24:32] == bytes(8)
        assert sealed[32:] == entry[:23:-1]


@pytest.mark.parametrize("signer", [None, SIGNER], ids=["", "signed"])
def test_sealed_entries_come_back(signer):
    sealed = seal(plain(), CODEC, NAMES, signer)
    assert bool(sealed[0][3] & SIGNED) == bool(signer)
    assert unseal([*sealed, None], CODEC, [*NAMES, b"c"], signer) == [*plain(), None]
    assert unseal(sealed, CODEC, NAMES, None) == plain()  # whoever has no key reads them as others


def test_what_was_not_signed_under_its_name_is_corrupt():
    ours, bare = (seal(plain(), CODEC, NAMES, signer) for signer in (SIGNER, None))
    theirs = seal(plain(), CODEC, NAMES, Signer([b"their own key..."]))
    for stored in (bare, theirs, ours[::-1]):
        assert unseal(stored, CODEC, NAMES, SIGNER) == [b"", b""]


def test_every_byte_is_signed():
    (sealed, _) = seal(plain(), CODEC, NAMES, SIGNER)
    for at in range(3, len(sealed)):
        changed = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        assert unseal([changed], CODEC, NAMES[:1], SIGNER) == [b""], at


def test_what_was_not_sealed_is_corrupt_and_what_is_no_entry_stays_what_it_is():
    later = b"nC\x02" + plain()[0][3:]
    stored = [plain()[0], b"", b"garbage", later]
    assert unseal(stored, CODEC, [b""] * 4, None) == [b"", b"", b"garbage", later]
