"""The user's own files as texts."""

import os

import pytest

from nearcache.cli.files import NoText, own_files


@pytest.fixture
def folder(tmp_path):
    files = {
        "b.txt": b"second file",
        "a.md": "première ligne\r\nnext".encode(),
        "sub/latin.txt": "caf\xe9 au lait, s'il vous plaît, et un verre d'eau".encode("latin-1"),
        "sub/image.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "sub/noise": bytes(range(128, 256)) * 4,
        "sub/empty": b"",
        ".git/config": b"hidden folder",
        ".env": b"hidden file",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_text_files_recursively_in_order(folder):
    assert own_files([folder], None).passages == [
        "première ligne\nnext",
        "second file",
        "caf\ufffd au lait, s'il vous pla\ufffdt, et un verre d'eau",
    ]


def test_what_is_named_is_read_once(folder):
    names = [folder / "b.txt", folder, folder / "sub" / ".." / "b.txt"]
    found = own_files(names, None).passages
    assert found[0] == "second file"
    assert len(found) == 3


def test_a_hidden_file_that_is_named_is_read(folder):
    assert own_files([folder / ".env"], None).passages == ["hidden file"]


def test_natural_repeats_are_kept(tmp_path):
    for name in ("licence", "copy of licence"):
        (tmp_path / name).write_text("the same words")
    assert own_files([tmp_path], None).passages == ["the same words"] * 2


def test_the_limit(folder):
    corpus = own_files([folder], 1)
    assert corpus.passages == ["première ligne\nnext"]
    assert corpus.cut_short


def test_the_description_names_the_paths(folder):
    assert str(folder / "a.md") in own_files([folder / "a.md"], None).description


@pytest.mark.parametrize("name", ["nowhere", "sub/image.png", "sub/noise", "sub/empty", ".git/x"])
def test_no_text_is_an_error_that_names_the_path(folder, name):
    with pytest.raises(NoText, match=name):
        own_files([folder / name], None)


def test_an_unreadable_file_is_an_error_only_if_named(folder, monkeypatch):
    class Locked(type(folder)):
        def open(self, *args, **kwargs):
            raise PermissionError(13, "Permission denied")

    with pytest.raises(NoText, match=r"b\.txt cannot be read: Permission denied"):
        own_files([Locked(folder / "b.txt")], None)
    monkeypatch.setattr("nearcache.cli.files.walk", lambda *_: iter([Locked(folder / "a.md")]))
    assert own_files([folder, folder / "b.txt"], None).passages == ["second file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe")
    assert len(own_files([folder], None).passages) == 3
