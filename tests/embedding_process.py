"""A process of its own with an embedding cache: ``python embedding_process.py TASK URL FOLDER …``.

FOLDER is where the processes of a test meet, as ``processes.py`` says.
"""

import os
import time
from pathlib import Path

from embedders import M, same, until, vector, vectors
from nearcache import EmbeddingCache, Options
from processes import HANG, Meeting, perform


def embed_all(url: str, folder: str, count: str) -> None:
    """Embed ``count`` texts, in batches that other processes ask for at the same time."""
    meeting = Meeting(folder)
    texts = [f"t{n}" for n in range(int(count))]

    def model(asked):
        meeting.note(asked)
        return vectors(asked)

    with EmbeddingCache(url) as cache:
        embed = cache.wrap(model, M, max_batch=8)
        meeting.start_together()
        for at in range(0, len(texts), 20):
            part = texts[at : at + 20]
            assert same(embed(part), vectors(part))


def hang(url: str, folder: str, lease: str) -> None:
    """Start to load "text" and never end: to be killed."""
    meeting = Meeting(folder)

    def model(texts):
        (meeting.folder / "inside").touch()
        time.sleep(HANG)  # the model that hangs; the process is killed in here

    EmbeddingCache(url, options=Options(lease=float(lease))).wrap(model, M)("text")


def keep_writing(url: str, folder: str) -> None:
    """Put texts for ever, and say after each which one is written: to be killed."""
    cache = EmbeddingCache(url)
    with (Path(folder) / "written").open("ab", buffering=0) as written:
        for number in range(1_000_000):
            text = f"t{number}"
            cache.put(text, vector(text, 256), M)
            written.write(f"{text}\n".encode())


def hold_near(url: str, folder: str, link_timeout: str) -> None:
    """Hold "text" near and say for how long: ends when it is gone."""
    meeting = Meeting(folder)
    with EmbeddingCache(url, options=Options(link_timeout=float(link_timeout))) as cache:
        assert cache.get("text", M) is not None
        meeting.start_together()
        deadline = time.monotonic() + HANG
        while cache.get("text", M) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.005)  # between two looks at what another process forgets
        (meeting.folder / "gone").touch()


def use_unprivileged(url: str, folder: str, user: str) -> None:
    """Without the right to write: answer from what can be read, and print what became of a put."""
    with EmbeddingCache(f"sqlite:///{folder}/other.db") as cache:
        cache.wrap(vectors, M)("text")  # imports all it needs while it may still read everything
    if os.getuid() == 0:  # who may write anything, whatever the file's mode
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    with EmbeddingCache(url, max_entries=0) as cache:
        print(cache.get("text", M) is not None)
        print(same(cache.wrap(vectors, M)("new"), vector("new")))
        cache.put("put", vector("put"), M)
        print(cache.get("put", M) is None)
        print(cache.get("text", M) is not None)
        print(cache.get_stats().store_errors > 0)


def fill_the_disk(url: str, folder: str, limit: str) -> None:
    """With a bound on the size of any file: everything is answered, whatever can be stored."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    cache = EmbeddingCache(url, max_entries=0)
    cache.put("first", vector("first"), M)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    embed = cache.wrap(vectors_of_4096, "large")
    for number in range(300):
        assert same(embed(f"t{number}"), vector(f"t{number}", 4096))
    errors = cache.get_stats().store_errors
    print(errors > 0)
    until(lambda: cache.get("first", M) is not None)  # left alone for a moment after a failure
    print(same(cache.get("first", M), vector("first")))


def vectors_of_4096(texts):
    return vectors(texts, 4096)


if __name__ == "__main__":
    perform(globals())
