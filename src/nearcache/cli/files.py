"""The user's own files as texts to embed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nearcache.cli.passages import Corpus, split, walk

__all__ = ["NoText", "own_files"]

_HEAD = 8192
_MOST_BROKEN = 0.1


class NoText(Exception):
    """A path that does not exist, cannot be read or holds no text."""


def own_files(paths: Sequence[Path], limit: int | None) -> Corpus:
    """Return the first passages of the text files under ``paths``; all for None.

    Raises: NoText for a path that is not there, or when there is no text in any of them.
    """
    for path in paths:
        if not path.exists():
            raise NoText(f"{path} does not exist")
    stream = (passage for text in _texts(paths) for passage in split(text))
    names = ", ".join(str(path) for path in paths)
    corpus = Corpus.first(f"the text in {names}", stream, limit)
    if not corpus.passages:
        raise NoText(f"no text in {names} (binary files and hidden folders are skipped)")
    return corpus


def _texts(paths: Sequence[Path]) -> Iterator[str]:
    seen: set[Path] = set()
    for path in paths:
        for file in [path] if path.is_file() else walk(path, _is_shown):
            real = file.resolve()
            if real not in seen:  # named twice is not written twice
                seen.add(real)
                try:
                    yield _read(file)
                except OSError as error:
                    if file is path:
                        raise NoText(f"{path} cannot be read: {error.strerror}") from error


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def _read(file: Path) -> str:
    """Return the text of a file, nothing if it is binary."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
        broken = head.decode("utf-8", errors="replace").count("\N{REPLACEMENT CHARACTER}")
        if b"\0" in head or broken > len(head) * _MOST_BROKEN:
            return ""
        whole = head + stream.read()
    return whole.decode("utf-8", errors="replace").replace("\r\n", "\n")
