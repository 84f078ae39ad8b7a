"""The embedding tests' fixtures."""

from embedding_fixtures import face, make, shared, store

__all__ = ["face", "make", "shared", "store"]
