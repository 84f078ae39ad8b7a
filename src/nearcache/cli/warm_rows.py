"""What ``nearcache warm`` reads: rows of a file, one at a time, and a provider of embeddings."""

import csv
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nearcache.errors import ConfigError, LoaderError
from nearcache.keys import EmbeddingModel

__all__ = ["Row", "Upstream", "rows_of"]

_TEXTS = ("text", "texts", "content", "input", "document")
_VECTORS = ("vector", "vectors", "embedding", "embeddings")
_TIMEOUT = 600.0
_LONGEST_FIELD = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the file: a text and perhaps a vector, or what is wrong with it.

    ``end`` is how many bytes of the file are read.
    """

    line: int
    end: int
    text: str = ""
    vector: Any = None
    trouble: str = ""


def rows_of(file: Path) -> Iterator[Row]:
    """Yield the rows of a file; the kind is told by its name."""
    kind = file.suffix.lower()
    if kind == ".npz":
        return _npz(file)
    if kind == ".parquet":
        msg = "Parquet is not read here: write it as JSONL or NPZ"
        raise ConfigError(msg)
    if kind in (".jsonl", ".ndjson", ".json"):
        return _lines(file, _of_json)
    return _csv(file) if kind == ".csv" else _lines(file, _of_text)


def _lines(file: Path, read: Any) -> Iterator[Row]:
    end = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            end += len(line)
            if not line.strip():
                continue
            try:
                text, vector = read(line.decode("utf-8").rstrip("\r\n"))
            except (ValueError, RecursionError) as error:
                yield Row(number, end, trouble=_what(error))
            else:
                yield Row(number, end, text, vector)


def _of_text(line: str) -> tuple[str, None]:
    return line, None


def _of_json(line: str) -> tuple[str, Any]:
    row = json.loads(line)
    if isinstance(row, str):
        return row, None
    if isinstance(row, list) and len(row) == 2:
        row = {"text": row[0], "vector": row[1]}
    if not isinstance(row, dict):
        msg = "no object with a text and a vector"
        raise ValueError(msg)  # noqa: TRY004  of the file, not of the program
    text = next((row[name] for name in _TEXTS if name in row), None)
    if not isinstance(text, str):
        msg = "no text"
        raise ValueError(msg)  # noqa: TRY004  of the file, not of the program
    return text, _vector(next((row[name] for name in _VECTORS if name in row), None))


def _vector(given: Any) -> Any:
    if given is None:
        return None
    try:
        with np.errstate(over="ignore"):  # to infinity, which is refused below
            vector = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        msg = "the vector is no list of numbers"
        raise ValueError(msg) from error
    if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
        msg = "the vector is no list of finite numbers"
        raise ValueError(msg)
    return vector


def _csv(file: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        read = _Counted(lines)
        rows = csv.reader(read)
        while True:
            try:
                fields = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(rows.line_num, read.bytes, trouble=_what(error))
                continue
            if not fields or (rows.line_num == 1 and fields[0].lower() in _TEXTS):
                continue
            try:
                fields[0].encode("utf-8")
                given = json.loads(fields[1]) if len(fields) > 1 and fields[1].strip() else None
                if len(fields) > 2:  # a column for each component
                    given = [float(field) for field in fields[1:]]
                yield Row(rows.line_num, read.bytes, fields[0], _vector(given))
            except ValueError as error:
                yield Row(rows.line_num, read.bytes, trouble=_what(error))


class _Counted:
    """Lines, and how many bytes they were."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines
        self.bytes = 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> str:
        line: str = next(self._lines)
        self.bytes += len(line.encode("utf-8", "surrogateescape"))
        return line


def _npz(file: Path) -> Iterator[Row]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            texts = next((arrays[name] for name in _TEXTS if name in arrays), None)
            vectors = next((arrays[name] for name in _VECTORS if name in arrays), None)
    except ValueError as error:  # whose words are how to load what is not to be trusted
        msg = f"{file} is no NPZ file, or its arrays hold objects: save texts as strings"
        raise ConfigError(msg) from error
    except (OSError, EOFError, KeyError) as error:
        msg = f"{file} is no NPZ file with arrays of texts and vectors: {error}"
        raise ConfigError(msg) from error
    except Exception as error:  # zipfile's own
        msg = f"{file} is no NPZ file: {error}"
        raise ConfigError(msg) from error
    if texts is None or vectors is None or texts.ndim != 1 or len(texts) != len(vectors):
        msg = f"{file} has no arrays texts (n,) and vectors (n, d)"
        raise ConfigError(msg)
    size = file.stat().st_size
    for i, (text, vector) in enumerate(zip(texts.tolist(), vectors, strict=True)):
        end = size * (i + 1) // len(texts)
        try:
            yield Row(i + 1, end, str(text), _vector(vector))
        except ValueError as error:
            yield Row(i + 1, end, trouble=_what(error))


def _what(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "no JSON"
    return "no UTF-8" if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else str(error)


class Upstream:
    """A provider that speaks OpenAI's ``POST /embeddings``; texts in, vectors out."""

    def __init__(self, url: str, key: str | None, model: str | EmbeddingModel) -> None:
        if not url.startswith(("http://", "https://")):
            msg = f"an upstream is a URL such as https://api.openai.com/v1, not {url!r}"
            raise ConfigError(msg)
        self._url = url.rstrip("/") + "/embeddings"
        self._key = key
        self._model = EmbeddingModel.of(model)

    def __call__(self, texts: Sequence[str]) -> Any:
        """Embed some texts. Raises: LoaderError when the provider does not."""
        asked: dict[str, Any] = {"model": self._model.name, "input": list(texts)}
        if self._model.dimensions:
            asked["dimensions"] = self._model.dimensions
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(  # noqa: S310  its scheme was checked
            self._url, json.dumps(asked).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                rows = json.load(answer)["data"]
            return np.array([row["embedding"] for row in sorted(rows, key=_place)], np.float32)
        except urllib.error.HTTPError as error:
            with error:
                msg = f"the provider answered {error.code} {error.reason}"
            raise LoaderError(msg) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"the provider gave no vectors: {error}"
            raise LoaderError(msg) from error


def _place(row: Any) -> int:
    place: int = row["index"]
    return place
