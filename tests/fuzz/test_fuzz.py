"""The fuzz targets on inputs that are the same every time: briefly, what atheris does for hours.

Seeds come first; among them is every input that ever broke something.
"""

import importlib

import pytest

from fuzz import fuzz_keys, fuzz_values, fuzz_vectors
from fuzz.harness import TARGETS, inputs
from nearcache.codecs import checksums, values
from nearcache.keys import ValueKeys

COUNTS = {
    "sqlite": 50,
    "topology": 100,
    "stream": 100,
    "replies": 200,
    "urls": 200,
}  # the slow ones
MOST = 1500


@pytest.mark.parametrize("what", TARGETS)
def test_whatever_the_bytes_it_is_a_value_or_an_error_of_ours(what):
    target = importlib.import_module(f"fuzz.fuzz_{what}")
    for data in inputs(target, COUNTS.get(what, MOST)):
        try:
            target.one(data)
        except BaseException as error:
            error.add_note(f"fuzz_{what}.one({data!r})")
            raise


def broken(target) -> bool:
    """Whether the inputs find something."""
    for data in inputs(target, MOST):
        try:
            target.one(data)
        except Exception:
            return True
    return False


def test_a_checksum_that_checks_nothing_is_found(monkeypatch):
    monkeypatch.setattr(values, "_checksum", lambda *_: bytes(8))
    assert broken(fuzz_values)


def test_a_checksum_of_vectors_that_checks_nothing_is_found(monkeypatch):
    monkeypatch.setattr(checksums, "_native", None)
    monkeypatch.setattr(checksums, "_hash", lambda words, weights, scratch, out: out.fill(7))
    assert broken(fuzz_vectors)


def test_keys_that_share_a_name_are_found(monkeypatch):
    name = ValueKeys.name
    monkeypatch.setattr(ValueKeys, "name", lambda keys, key: name(keys, key).replace(b"\\", b""))
    assert broken(fuzz_keys)
