"""What version 1 wrote is read, and written alike, for ever.

``format-1.json`` was written once, by the first version. It is never written again: a format that
changes gets a new version number and a file of its own beside this one.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from nearcache.codecs.envelope import decode_rows, encode_rows
from nearcache.codecs.vectors import by_name
from nearcache.coherence.epochs import stamp
from nearcache.coherence.forgets import Forget
from nearcache.entry import HEAD, MAGIC, VERSION
from nearcache.keys import EmbeddingModel, KeySpace, ModelKeys, content_digest

ONE = json.loads((Path(__file__).parent / "format-1.json").read_text("ascii"))


def floats(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), "<f4").reshape(1, -1)


@pytest.mark.parametrize("was", ONE["entries"], ids=lambda e: f"{e['precision']}-{e['text']!r}")
def test_an_entry_of_version_1_is_read(was):
    decoded = decode_rows(
        [bytes.fromhex(was["entry"])],
        [content_digest(was["text"])],
        by_name(was["precision"]),
        stamp=bytes.fromhex(was["stamp"]),
        size=None,
        now=1_700_000_000.0,
    )
    assert decoded.usable.tolist() == [0]
    assert by_name(was["precision"]).unpack(decoded.rows).tobytes().hex() == was["decoded"]
    assert decoded.expiry.tolist() == [was["expiry"]]


@pytest.mark.parametrize("was", ONE["entries"], ids=lambda e: f"{e['precision']}-{e['text']!r}")
def test_an_entry_is_written_as_version_1_wrote_it(was):
    kept = by_name(was["precision"])
    (entry,) = encode_rows(
        kept.pack(floats(was["vector"])),
        kept,
        [content_digest(was["text"])],
        stamp=bytes.fromhex(was["stamp"]),
        expiry=np.array([was["expiry"]]),
    )
    assert entry.hex() == was["entry"]


@pytest.mark.parametrize("was", ONE["models"], ids=lambda m: str(m["model"]))
def test_a_model_has_the_identity_it_always_had(was):
    assert EmbeddingModel(**was["model"]).identity.hex() == was["identity"]


@pytest.mark.parametrize("was", ONE["keys"], ids=lambda k: "/".join([k["namespace"], *k["views"]]))
def test_stored_names_are_what_they_always_were(was):
    space = KeySpace(was["namespace"])
    for view in was["views"]:
        space = space.inside(view)
    keys = ModelKeys(space, EmbeddingModel("m").identity)
    assert space.everything.decode() == was["everything"]
    assert space.log.decode() == keys.log.decode() == was["log"]
    assert keys.group.decode() == was["group"]
    values = keys.values([content_digest(text) for text in was["values"]])
    assert [value.decode() for value in values] == list(was["values"].values())


@pytest.mark.parametrize("was", ONE["log"], ids=lambda e: e["forgets"])
def test_log_entries_are_written_and_read_as_they_always_were(was):
    model = EmbeddingModel("m").identity
    gone = {
        "everything": Forget(),
        "model": Forget(model),
        "text": Forget(model, content_digest("a")),
    }[was["forgets"]]
    assert gone.pack(bytes.fromhex(was["origin"])).hex() == was["entry"]
    assert Forget.unpack(bytes.fromhex(was["entry"]), b"another.") == gone


@pytest.mark.parametrize("was", ONE["stamps"], ids=lambda s: str(len(s["epochs"])))
def test_epochs_have_the_stamp_they_always_had(was):
    assert stamp([bytes.fromhex(epoch) for epoch in was["epochs"]]).hex() == was["stamp"]


def test_the_head_is_laid_out_as_documented():
    head = bytes.fromhex(ONE["entries"][0]["entry"])[: HEAD.size]
    assert (MAGIC, VERSION, HEAD.size) == (b"nC", 1, 32)
    assert head[:2] == b"nC"
    assert head[2] == 1
    assert head[3] == 3
    assert int.from_bytes(head[4:8], "little") == 3
    assert np.frombuffer(head[8:16], "<f8")[0] == ONE["entries"][0]["expiry"]
    assert head[16:24].hex() == ONE["entries"][0]["stamp"]
