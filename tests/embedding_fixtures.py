"""Fixtures of the embedding tests: both faces, every kind of store."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedders import Face, face_of
from nearcache import MemoryStore

__all__ = ["face", "make", "shared", "store"]


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> str:
    """Each face in turn."""
    return request.param


@pytest.fixture
def make() -> Iterator[Callable[..., Face]]:
    """Make caches that are closed afterwards: ``make(face, store, **options)``."""
    made: list[Face] = []

    def make_one(face: str = "sync", store: Any = None, **options: Any) -> Face:
        made.append(Face(face_of(face)(store, **options)))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def _open(kind: str, request: pytest.FixtureRequest, folder: Path) -> Any:
    if kind == "memory":
        return MemoryStore()
    if kind == "sqlite":
        return f"sqlite:///{folder / 'embeddings.db'}"
    return request.getfixturevalue("one_server").url if kind == "redis" else None


@pytest.fixture(params=["memory", "sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each kind of store in turn, empty: what several caches may be given."""
    return _open(request.param, request, tmp_path)


@pytest.fixture(params=["none", "memory", "sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each kind of store in turn, and None."""
    return _open(request.param, request, tmp_path)
