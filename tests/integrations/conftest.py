"""Fixtures of the integrations: an embedding cache, and what makes more of them."""

import pytest

from embedding_fixtures import make, shared, store

__all__ = ["cache", "make", "shared", "store"]


@pytest.fixture
def cache(make):
    """An embedding cache, closed afterwards."""
    return make().thing
