"""The proxy's own keys: hashes in a file, read again when it changes."""

import logging
from hashlib import sha256

import pytest

from nearcache import ConfigError
from nearcache.proxy.own_keys import OwnKeys
from nearcache.testing import ManualClock


def line(key, comment="  -"):
    return sha256(key.encode()).hexdigest() + comment


def bearer(key):
    return [(b"authorization", b"Bearer " + key.encode())]


def test_who_has_a_key_is_admitted(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n\n{line('one')}\n{line('two', ' batch jobs').upper()}\n")
    keys = OwnKeys(path)
    assert keys.admits(bearer("one"))
    assert keys.admits([(b"api-key", b"two")])
    for headers in ([], bearer("three"), bearer(""), [(b"authorization", b"Basic one")]):
        assert not keys.admits(headers)


def test_a_change_of_the_file_counts(tmp_path):
    clock, path = ManualClock(), tmp_path / "keys"
    path.write_text(line("one") + "\n")
    keys = OwnKeys(path, clock)
    path.write_text(line("another one") + " revoked the other\n")
    clock.advance(2.0)
    assert not keys.admits(bearer("one"))
    assert keys.admits(bearer("another one"))


@pytest.mark.parametrize("content", ["", "sk-plain-key\n", None])
def test_a_file_that_became_unreadable_changes_nothing(tmp_path, caplog, content):
    clock, path = ManualClock(), tmp_path / "keys"
    path.write_text(line("one") + "\n")
    keys = OwnKeys(path, clock)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    clock.advance(2.0)
    with caplog.at_level(logging.WARNING, "nearcache"):
        assert keys.admits(bearer("one"))
    assert "hold on" in caplog.text
    assert "sk-plain-key" not in caplog.text


@pytest.mark.parametrize("content", ["", "# none\n", "sk-plain-key\n", line("x")[1:], "\xff"])
def test_other_files_are_refused_without_showing_them(tmp_path, content):
    path = tmp_path / "keys"
    path.write_text(content, "latin-1")
    with pytest.raises(ConfigError) as caught:
        OwnKeys(path)
    assert "sk-plain-key" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        OwnKeys(tmp_path / "keys")
