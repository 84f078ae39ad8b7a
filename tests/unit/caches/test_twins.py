"""Both faces of every cache: the same methods, parameters and defaults."""

import inspect
from typing import Any

import pytest

import nearcache

BLOCKING = (
    "CacheManager",
    "CachedEmbeddingGenerator",
    "EmbeddingCache",
    "HotMemoryCache",
    "NearCache",
    "RetrievalCache",
    "ShortTermMemory",
)
RENAMED = {
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}
NEVER_AWAITED = {
    "__init__",
    "__repr__",
    "as_async",
    "as_sync",
    "cached",
    "clear_local_cache",
    "from_url",
    "get_hot_memories",
    "get_local_cache_stats",
    "get_metrics",
    "get_stats",
    "hash_content",
    "reset_metrics",
    "reset_stats",
    "subscribe",
    "view",
    "wrap",
}

# what other modules need of the asynchronous face
INTERNAL = frozenset(("near_batch", "near_row", "near_value", "put_alone"))


def twin(name: str) -> type[Any]:
    return getattr(nearcache, f"Async{name}")


def public(cls: type[Any]) -> dict[str, Any]:
    """What a class offers, by the blocking name; inherited things included."""
    blocking = {theirs: ours for ours, theirs in RENAMED.items()}
    found = {}
    for one in reversed(cls.__mro__[:-1]):
        for name, what in vars(one).items():
            if name in INTERNAL:
                continue
            if not name.startswith("_") or name in {*RENAMED, *blocking, "__init__", "__call__"}:
                found[blocking.get(name, name)] = what
    return found


def parameters(what: Any) -> list[tuple[str, Any, Any]]:
    what = getattr(what, "__func__", what)
    found = inspect.signature(what).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]


@pytest.mark.parametrize("name", BLOCKING)
def test_both_faces_have_the_same_names(name):
    assert public(getattr(nearcache, name)).keys() == public(twin(name)).keys()


@pytest.mark.parametrize("name", BLOCKING)
def test_both_faces_take_the_same_arguments(name):
    theirs = public(twin(name))
    for method, ours in public(getattr(nearcache, name)).items():
        if isinstance(ours, property) or not callable(getattr(ours, "__func__", ours)):
            assert type(theirs[method]) is type(ours), method
        else:
            assert type(theirs[method]) is type(ours), method
            assert parameters(theirs[method]) == parameters(ours), method


@pytest.mark.parametrize("name", BLOCKING)
def test_awaited_is_what_may_touch_a_store_or_a_loader_and_nothing_else(name):
    for method, what in public(twin(name)).items():
        if inspect.isfunction(what) and not inspect.isasyncgenfunction(what):
            assert inspect.iscoroutinefunction(what) is (method not in NEVER_AWAITED), method
    for method, what in public(getattr(nearcache, name)).items():
        assert not inspect.iscoroutinefunction(what), method
        assert not inspect.isasyncgenfunction(what), method


@pytest.mark.parametrize("name", BLOCKING)
def test_both_faces_are_documented(name):
    for cls in (getattr(nearcache, name), twin(name)):
        bare = [
            method
            for method, what in public(cls).items()
            if not method.startswith("__") and not inspect.getdoc(getattr(cls, method))
        ]
        assert bare == []


def test_every_face_is_exported_with_its_twin():
    classes = {name for name in nearcache.__all__ if name.startswith("Async")}
    assert classes == {f"Async{name}" for name in BLOCKING}
    assert {*BLOCKING, *classes} <= {*nearcache.__all__}
