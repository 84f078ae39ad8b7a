"""tools/faces.py: the blocking faces are what their asynchronous sources say."""

import importlib.util
import sys
from pathlib import Path
from textwrap import dedent

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "faces.py"


@pytest.fixture(scope="module")
def faces():
    spec = importlib.util.spec_from_file_location("faces", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_blocking_face_is_out_of_date(faces):
    late = [path.name for path, _ in faces.out_of_date()]
    assert late == [], "run `make faces`"


def result(faces, source: str) -> str:
    """The blocking face of a source, without its header."""
    header, _, text = faces.blocking(dedent(source).lstrip(), "x_async.py").partition("\n")
    assert header == "# Generated from x_async.py by make faces; do not edit."
    return "\n".join(line.rstrip() for line in text.splitlines())


def expected(text: str) -> str:
    return dedent(text).strip()


def test_what_is_awaited_is_called(faces):
    source = '''
        """For asynchronous programs, which await."""
        from nearcache.caches.hot_async import AsyncHotMemoryCache
        async def f(cache: "AsyncHotMemoryCache[int]") -> AsyncIterator[int]:
            async with cache as it:
                value = [await x for x in (await it.get(1)).rows]  # asynchronous
            async for one in it:
                yield one
    '''
    assert result(faces, source) == expected(
        '''
        """For blocking programs, which await."""
        from nearcache.caches.hot import HotMemoryCache
        def f(cache: "HotMemoryCache[int]") -> Iterator[int]:
            with cache as it:
                value = [x for x in (it.get(1)).rows]  # blocking
            for one in it:
                yield one
        '''
    )


def test_a_class_enters_and_leaves_without_waiting(faces):
    source = """
        class AsyncCacheManager:
            async def __aenter__(self): return self
            async def __aexit__(self, *_): await self.close()
    """
    assert result(faces, source) == expected(
        """
        class CacheManager:
            def __enter__(self): return self
            def __exit__(self, *_): self.close()
        """
    )


def test_what_is_kept_stays(faces):
    source = """
        one = await AsyncNearCache()  # kept
        async def f(
            a: AsyncNearCache,
        ) -> None:  # kept
            await a
        async def g(): await AsyncNearCache()
    """
    assert result(faces, source) == expected(
        """
        one = await AsyncNearCache()
        async def f(
            a: AsyncNearCache,
        ) -> None:
            await a
        def g(): NearCache()
        """
    )


def test_what_is_swapped_becomes_that_of_the_other_face(faces):
    source = """
        from nearcache.caches.hot import HotMemoryCache  # swapped
        class AsyncHotMemoryCache:
            def as_sync(self) -> "HotMemoryCache":  # swapped
                "The blocking face."
                return HotMemoryCache(self._cache.as_sync())
            def as_async(self) -> "AsyncHotMemoryCache":  # swapped
                return self
    """
    assert result(faces, source) == expected(
        """
        from nearcache.caches.hot_async import AsyncHotMemoryCache
        class HotMemoryCache:
            def as_async(self) -> "AsyncHotMemoryCache":
                "The asynchronous face."
                return AsyncHotMemoryCache(self._cache.as_async())
            def as_sync(self) -> "HotMemoryCache":
                return self
        """
    )


def test_imports_that_only_waiting_needs_are_gone(faces):
    source = "from collections.abc import AsyncIterator, Awaitable\n\nx: AsyncIterator[int]\n"
    text = faces.formatted(faces.blocking(source, "x_async.py"))
    assert "from collections.abc import Iterator\n" in text


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there an f-string shows what is in it")
def test_an_await_in_an_f_string_is_refused(faces):
    with pytest.raises(ValueError, match="line 2: take the await out"):
        faces.blocking('async def f(x):\n    return f"{await x}"\n', "x_async.py")
