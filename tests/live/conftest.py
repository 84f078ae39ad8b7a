"""The embedding tests' fixtures, and a store that processes share."""

import pytest

from embedding_fixtures import face, make, shared, store

__all__ = ["face", "make", "shared", "store", "url"]


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    """A store that processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    return request.getfixturevalue("one_server").url
