"""HotMemoryCache in several processes: what one forgets, every process forgets."""

import subprocess
import sys
from pathlib import Path

import pytest

import hot_process
from embedders import until
from hot_fixtures import A, B, linked, settled
from nearcache.caches.hot import HotMemoryCache

SCRIPT = Path(hot_process.__file__)


@pytest.fixture
def process(tmp_path):
    """Start ``hot_process.py``: ``process(task, url, *arguments)``."""
    started = []

    def start(task, url, *arguments):
        command = [sys.executable, "-W", "error", str(SCRIPT), task, url, str(tmp_path)]
        started.append(subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def finish(one) -> None:
    _, err = one.communicate(timeout=60)
    assert (one.returncode, err) == (0, "")


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    """A store that processes share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hot.db"
    return request.getfixturevalue("one_server").url


FORGETS = [
    lambda cache: cache.invalidate(A),
    lambda cache: cache.invalidate_by_type("episodic"),
    lambda cache: cache.invalidate_by_scope("alice"),
    lambda cache: cache.invalidate_by_tag("tag"),
    lambda cache: cache.invalidate_pattern("e*", "[a]", "al?ce"),
    lambda cache: cache.clear(),
]


def test_every_process_sees_what_one_forgets(process, tmp_path, url):
    with HotMemoryCache(url) as cache:
        cache.put(A, "0", tags=["tag"])
        values = ["0"]
        changes = [lambda: None]
        for number, forget in enumerate(FORGETS, 1):
            values += ["-", f"{number}"]
            changes.append(lambda forget=forget: forget(cache))
            changes.append(lambda number=number: cache.put(A, f"{number}", tags=["tag"]))
        processes = [process("follow", url, face, *values) for face in ("sync", "async")]

        def there(pattern):
            for one in processes:
                assert one.poll() in (None, 0), one.stderr.read()
            return len(list(tmp_path.glob(pattern))) == len(processes)

        until(lambda: there("ready-*"), 60)
        (tmp_path / "go").touch()
        for number, change in enumerate(changes):
            change()
            until(lambda number=number: there(f"saw-{number}-*"), 30)
        for one in processes:
            finish(one)


@pytest.mark.parametrize(
    "how",
    [
        ("invalidate_by_type", "episodic"),
        ("invalidate_by_scope", "alice"),
        ("invalidate_by_tag", "tag"),
        ("invalidate_pattern", "*", "[a]", "a*"),
        ("clear",),
    ],
    ids=lambda how: how[0],
)
def test_what_another_process_forgets_leaves_near_here(process, url, how):
    with HotMemoryCache(url) as cache:
        linked(cache)
        cache.put(A, "value", tags=["tag"])
        settled(cache, A)
        finish(process("forget", url, *how))
        until(lambda: cache.get(A) is None)
        cache.put(B, "lives")
        assert cache.get(B) == "lives"
