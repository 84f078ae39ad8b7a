"""What the first version signed verifies, and is signed alike, for ever.

``format-1-signed.json`` was written once, as ``format-1.json`` was. It is never written again.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from nearcache.codecs.envelope import decode_rows, encode_rows
from nearcache.codecs.signing import Signer
from nearcache.codecs.values import decode_value, encode_value
from nearcache.codecs.vectors import by_name
from nearcache.keys import content_digest

SIGNED = json.loads((Path(__file__).parent / "format-1-signed.json").read_text("ascii"))


def named(was):
    return f"{was.get('precision', was.get('kind'))}-{len(was['key']) // 2}-byte key"


each_row = pytest.mark.parametrize("was", SIGNED["rows"], ids=named)
each_value = pytest.mark.parametrize("was", SIGNED["values"], ids=named)


def signer(was):
    return Signer([bytes.fromhex(was["key"])])


def named_for(was):
    return {
        "digests": [content_digest(was["text"])],
        "stamp": bytes.fromhex(was["stamp"]),
        "names": [was["name"].encode()],
        "signer": signer(was),
    }


@each_row
def test_a_signed_row_is_read(was):
    kept, right = by_name(was["precision"]), np.array([was["vector"]], np.float32)
    found = decode_rows(
        [bytes.fromhex(was["entry"])], precision=kept, size=None, now=1.7e9, **named_for(was)
    )
    assert found.corrupt == []
    assert kept.unpack(found.rows).tobytes() == kept.unpack(kept.pack(right)).tobytes()
    assert found.expiry.tolist() == [was["expiry"]]


@each_row
def test_a_row_is_signed_as_it_always_was(was):
    kept = by_name(was["precision"])
    rows = kept.pack(np.array([was["vector"]], np.float32))
    (entry,) = encode_rows(rows, kept, expiry=np.array([was["expiry"]]), **named_for(was))
    assert entry.hex() == was["entry"]


@each_value
def test_a_signed_value_is_read(was):
    found = decode_value(bytes.fromhex(was["entry"]), was["name"].encode(), signer(was))
    assert (found.kind, found.payload.hex()) == (was["kind"], was["payload"])
    assert (found.expiry, found.dead_at) == (was["expiry"], was["dead_at"])
    assert [[d.hex(), t.hex()] for d, t in found.groups] == was["groups"]


@each_value
def test_a_value_is_signed_as_it_always_was(was):
    entry = encode_value(
        was["kind"],
        bytes.fromhex(was["payload"]),
        name=was["name"].encode(),
        version=bytes.fromhex(was["version"]),
        expiry=was["expiry"],
        dead_at=was["dead_at"],
        everything=bytes.fromhex(was["everything"]),
        groups=[(bytes.fromhex(d), bytes.fromhex(t)) for d, t in was["groups"]],
        signer=signer(was),
    )
    assert entry.hex() == was["entry"]


def test_where_the_signature_lies():
    row, value = SIGNED["rows"][0], SIGNED["values"][0]
    entry = bytes.fromhex(row["entry"])
    assert entry[:4] == b"nC\x01\x83"  # float32's kind 3, and the bit that says signed
    assert len(entry) == 32 + 3 * 4 + 16
    entry = bytes.fromhex(value["entry"])
    assert entry[:4] == b"nC\x01\x10"
    assert entry[42:44] == b"\x01\x00"
    assert entry[60:-16].hex() == value["payload"]
