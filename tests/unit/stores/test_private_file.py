"""What an SQLite store writes is its owner's alone."""

import os
import stat
import sys

import pytest

from nearcache import SQLiteStore
from nearcache.stores.private_file import make_private

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such modes")


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder):
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def write(path):
    store = SQLiteStore(path)
    store.put([b"a"], [b"value"], None, b"log", store.now() + 60, [])
    return store


def test_a_new_file_and_what_lies_beside_it_are_the_owners_alone(tmp_path, umask):
    store = write(tmp_path / "a.db")
    assert modes(tmp_path) == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm"], 0o600)
    store.close()


def test_a_file_that_is_there_keeps_its_mode(tmp_path):
    write(tmp_path / "a.db").close()
    (tmp_path / "a.db").chmod(0o640)
    store = write(tmp_path / "a.db")
    assert modes(tmp_path) == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm"], 0o640)
    store.close()


def test_a_file_behind_a_link_is_the_owners_alone(tmp_path, umask):
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    write(tmp_path / "link.db").close()
    assert stat.S_IMODE((tmp_path / "real.db").stat().st_mode) == 0o600


def test_two_who_make_it_make_one_file(tmp_path):
    (tmp_path / "a.db").write_bytes(b"theirs")
    make_private(tmp_path / "a.db")
    assert (tmp_path / "a.db").read_bytes() == b"theirs"
    assert list(modes(tmp_path)) == ["a.db"]


def test_where_nothing_can_be_made_nothing_is_left_or_said(tmp_path):
    make_private(tmp_path / "no such folder" / "a.db")
    make_private(tmp_path / ("x" * 300))
    assert not modes(tmp_path)


def test_without_links_it_is_private_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    make_private(tmp_path / "x.db")
    assert stat.S_IMODE((tmp_path / "x.db").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["x.db"]


def test_a_name_as_long_as_names_may_be_is_private_too(tmp_path):
    path = tmp_path / ("x" * 250)
    make_private(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
