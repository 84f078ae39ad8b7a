"""What the first version wrote of mutable values is read, and written alike, for ever.

``format-1-values.json`` was written once, as ``format-1.json`` was. It is never written again.
"""

import json
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest

from nearcache.codecs.base import by_name
from nearcache.codecs.values import Envelope, decode_value, encode_value, version_of
from nearcache.entry import HEAD

ENTRIES = json.loads((Path(__file__).parent / "format-1-values.json").read_text("ascii"))["entries"]
EACH = pytest.mark.parametrize("was", ENTRIES, ids=lambda e: f"{e['codec']}-{str(e['value'])[:40]}")


def value_of(was):
    value = was["value"]
    if was["codec"] == "ndarray":
        elements = np.frombuffer(bytes.fromhex(value["elements"]), value["dtype"])
        return elements.reshape(value["shape"])
    return literal_eval(value)


def envelope_of(was):
    return Envelope(
        kind=was["kind"],
        version=bytes.fromhex(was["version"]),
        expiry=was["expiry"],
        dead_at=was["dead_at"],
        everything=bytes.fromhex(was["everything"]),
        groups=tuple((bytes.fromhex(d), bytes.fromhex(t)) for d, t in was["groups"]),
        payload=bytes.fromhex(was["payload"]),
    )


@EACH
def test_an_entry_of_a_value_is_read(was):
    found = decode_value(bytes.fromhex(was["entry"]), was["name"].encode())
    assert found == envelope_of(was)
    assert version_of(bytes.fromhex(was["entry"])[:24]) == found.version
    codec = by_name(was["codec"])
    assert codec.kind == found.kind
    value, expected = codec.decode(found.payload), value_of(was)
    assert repr(value) == repr(expected)
    if was["codec"] == "ndarray":
        assert (value.dtype.str, value.shape) == (was["value"]["dtype"], expected.shape)


@EACH
def test_an_entry_of_a_value_is_written_as_it_always_was(was):
    payload = by_name(was["codec"]).encode(value_of(was))
    assert payload.hex() == was["payload"]
    fields = envelope_of(was)._asdict() | {"name": was["name"].encode(), "payload": payload}
    assert encode_value(fields.pop("kind"), **fields).hex() == was["entry"]


def test_the_body_is_laid_out_as_documented():
    (was,) = (e for e in ENTRIES if e["codec"] == "json" and e["groups"])
    entry = bytes.fromhex(was["entry"])
    assert HEAD.size == 32
    assert entry[:4] == b"nC\x01\x10"
    assert int.from_bytes(entry[4:8], "little") == len(was["payload"]) // 2
    assert np.frombuffer(entry[8:16], "<f8")[0] == was["expiry"]
    assert entry[16:24].hex() == was["version"]
    assert np.frombuffer(entry[32:40], "<f8")[0] == was["dead_at"]
    assert entry[40:44] == b"\x02\x00\x00\x00"
    assert entry[44:60].hex() == was["everything"]
    assert entry[60:124].hex() == "".join(part for group in was["groups"] for part in group)
    assert entry[124:].hex() == was["payload"]
