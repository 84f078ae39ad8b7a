"""A process of its own with a NearCache: ``python near_process.py TASK URL FOLDER …``.

FOLDER is where the processes of a test meet, as ``processes.py`` says.
"""

import asyncio
import os
import time
from pathlib import Path

from embedders import until
from near_fixtures import SPACE, linked
from nearcache import AsyncNearCache, NearCache, Options
from processes import HANG, Meeting, perform, wait_for


def noted(meeting: Meeting, key: str) -> str:
    """Load a key, and leave a line that says so."""
    meeting.note([key])
    return f"value of {key}"


def load_all(url: str, folder: str, count: str, face: str) -> None:
    """Load ``count`` keys one by one, as other processes do at the same time."""
    meeting = Meeting(folder)
    keys = [f"k{n}" for n in range(int(count))]
    cache = NearCache(url, namespace=SPACE)
    linked(cache)
    meeting.start_together()
    if face == "sync":
        for key in keys:
            value = cache.get_or_load(key, lambda key=key: noted(meeting, key))
            assert value == f"value of {key}"
    else:

        async def one(key: str) -> None:
            async def load() -> str:
                await asyncio.sleep(0)
                return noted(meeting, key)

            assert await cache.as_async().get_or_load(key, load) == f"value of {key}"

        async def main() -> None:
            for at in range(0, len(keys), 20):
                await asyncio.gather(*map(one, keys[at : at + 20]))

        asyncio.run(main())
    assert cache.get_batch(keys) == [f"value of {key}" for key in keys]
    cache.close()


def load_batches(url: str, folder: str, count: str) -> None:
    """Load ``count`` keys in batches that overlap those of other processes."""
    meeting = Meeting(folder)
    keys = [f"k{n}" for n in range(int(count))]
    if os.getpid() % 2:
        keys.reverse()
    with NearCache(url, namespace=SPACE, options=Options(max_batch=16)) as cache:
        linked(cache)
        meeting.start_together()
        for at in range(0, len(keys), 20):
            part = keys[at : at + 30]
            got = cache.get_or_load_batch(part, lambda asked: {k: noted(meeting, k) for k in asked})
            assert got == [f"value of {key}" for key in part]


def hang(url: str, folder: str, lease: str) -> None:
    """Start to load "key" and never end: to be killed."""

    def load() -> str:
        (Path(folder) / "inside").touch()
        time.sleep(HANG)  # the source that hangs; the process is killed in here
        return "never"

    NearCache(url, namespace=SPACE, options=Options(lease=float(lease))).get_or_load("key", load)


def load_slowly(url: str, folder: str, face: str) -> None:
    """Load "key" until the file ``go on`` is there; then say what this process has."""

    def load() -> str:
        (Path(folder) / "inside").touch()
        wait_for(Path(folder) / "go on")
        return "old"

    async def load_async() -> str:
        return await asyncio.to_thread(load)

    async def main() -> None:
        async with AsyncNearCache(url, namespace=SPACE) as cache:
            linked(cache.as_sync())
            print(await cache.get_or_load("key", load_async, tags=["tag"]))
            far = await cache.get("key", max_staleness=0)
            until(lambda: cache.as_sync().get("key") == far)  # when the news has come
            print(far)

    if face == "async":
        asyncio.run(main())
        return
    with NearCache(url, namespace=SPACE) as cache:
        linked(cache)
        print(cache.get_or_load("key", load, tags=["tag"]))
        far = cache.get("key", max_staleness=0)
        until(lambda: cache.get("key") == far)
        print(far)


def follow(url: str, folder: str, face: str, *values: str) -> None:
    """Hold "key" near; expect it to become each of these values, "-" for none; say so each time."""
    cache = NearCache(url, namespace=SPACE)

    def get() -> object:
        return cache.get("key") if face == "sync" else asyncio.run(cache.as_async().get("key"))

    linked(cache)
    Meeting(folder).start_together()
    for number, value in enumerate(values):
        deadline = time.monotonic() + HANG
        while get() != (None if value == "-" else value):
            assert time.monotonic() < deadline, (value, get())
            time.sleep(0.001)  # between two looks at what another process changes
        (Path(folder) / f"saw-{number}-{os.getpid()}").touch()
    cache.close()


def write_and_read(url: str, folder: str, rounds: str) -> None:
    """Write keys of this process' own, read everybody's; each is to be the own one or rise."""
    mine, seen = str(os.getpid()), dict[str, int]()
    with NearCache(url, namespace=SPACE) as cache:
        linked(cache)
        Meeting(folder).start_together()
        others = [one.name.removeprefix("ready-") for one in Path(folder).glob("ready-*")]
        for number in range(int(rounds)):
            cache.put(mine, number)
            assert cache.get(mine) == number
            for other in others:
                value = cache.get(other, -1)
                assert value >= seen.get(other, -1), (other, value, seen)
                seen[other] = value
        cache.put(mine, 10**6)
        for other in others:
            deadline = time.monotonic() + HANG
            while cache.get(other) != 10**6:
                assert time.monotonic() < deadline
                time.sleep(0.001)  # between two looks at what another process changes


if __name__ == "__main__":
    perform(globals())
