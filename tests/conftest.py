"""Fixtures for every test: real servers, and a look at every cache and thread afterwards."""

import gc
import importlib
import importlib.util
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from servers import KINDS, Server

os.environ["NEARCACHE_REPORT"] = "0"  # tests count commands; those of reports ask for them
os.environ.pop("NEARCACHE_STORE", None)  # the developer's own store is none of the suite's business
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a suite in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs it starts hear Ctrl-C
# or these packages would ask the internet where they are imported
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = os.environ["ANONYMIZED_TELEMETRY"] = "False"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# A slow machine is no failure; a failure prints what reproduces it. More examples:
# HYPOTHESIS_PROFILE=long make test
_calm = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}
settings.register_profile("usual", **_calm)
settings.register_profile("ci", derandomize=True, **_calm)
settings.register_profile("long", max_examples=2000, **_calm)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "usual")
)


def pytest_collection_finish() -> None:
    """Let the garbage collector look at what tests make alone.

    Seventeen thousand tests and all that they import are millions of objects: every full collection
    took half a second, and tests of what is let go ask for hundreds.
    """
    gc.collect()
    gc.freeze()


# Servers


@pytest.fixture(scope="session")
def _pool() -> Iterator[Callable[[str], Server]]:
    running: dict[str, Server] = {}

    def get(kind: str) -> Server:
        server = running.get(kind)
        if server is None:
            server = running[kind] = Server(kind)
        elif not server.alive:  # a test broke what it shares; the others still want an answer
            server.restart()
        server.flush()
        return server

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture(params=KINDS)
def redis_server(request: pytest.FixtureRequest, _pool: Callable[[str], Server]) -> Server:
    """Each of the four servers in turn, empty."""
    return _pool(request.param)


@pytest.fixture
def one_server(_pool: Callable[[str], Server]) -> Server:
    """A Valkey, empty: for tests to which the server's make does not matter."""
    return _pool("valkey-9.1")


@pytest.fixture
def own_server() -> Iterator[Callable[..., Server]]:
    """Start servers that the test may pause, kill and configure: ``own_server(kind, *args)``."""
    mine: list[Server] = []

    def start(kind: str = "valkey-9.1", *args: str, password: str | None = None) -> Server:
        mine.append(Server(kind, *args, password=password))
        return mine[-1]

    yield start
    for server in mine:
        server.stop()


@pytest.fixture(autouse=True)
def _a_busy_machine_is_no_outage(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wait longer for servers than caches do: the suite keeps the machine busy, and counts loads.

    ``@pytest.mark.impatient`` for tests about stores that do not answer.
    """
    if request.node.get_closest_marker("impatient") is None and _engine_module() is not None:
        for seconds in ("_FIRST", "_LEAST"):
            monkeypatch.setattr(f"nearcache.stores.redis.timer.{seconds}", 5.0)


# After every test

_broken: "weakref.WeakSet[object]" = weakref.WeakSet()


@pytest.fixture(autouse=True)
def _every_cache_is_sound(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Check the invariants of every cache that is open when the test ends.

    The test's own variables are gone by then, so the engines are held here until checked;
    ``@pytest.mark.drops_caches`` for tests about caches that nobody holds.
    """
    held: list[object] = []
    module = _engine_module()
    cls = getattr(module, "Engine", None)
    if cls is not None and request.node.get_closest_marker("drops_caches") is None:
        init = cls.__init__

        def remember(self: object, *args: object, **kwargs: object) -> None:
            init(self, *args, **kwargs)
            held.append(self)

        monkeypatch.setattr(cls, "__init__", remember)
    yield
    if module is not None:
        for engine in list(module.live_engines()):
            if engine not in _broken:
                _broken.add(engine)  # its test fails, not all that follow
                engine.check()
                _broken.discard(engine)
    held.clear()


def _engine_module() -> object | None:
    try:
        if importlib.util.find_spec("nearcache.engine.engine") is None:
            return None
    except ModuleNotFoundError:  # the package itself is not there
        return None
    return importlib.import_module("nearcache.engine.engine")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Fail a test that leaves a thread behind which would keep the interpreter from ending."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5.0
    for thread in threading.enumerate():
        if thread not in before and not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"the test left the thread {thread.name!r} running"
