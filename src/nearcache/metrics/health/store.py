"""One store, from its URL to a canary that is written, read, heard of and taken away again.

It takes ten seconds at most: what has not answered by then is said not to.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nearcache.engine.build import open_store
from nearcache.errors import (
    ConfigError,
    StoreError,
    StoreReadOnly,
    StoreTimeout,
)
from nearcache.metrics.health import sqlite_file
from nearcache.metrics.health.canary import canary
from nearcache.metrics.health.check import Check
from nearcache.metrics.health.entries import entries
from nearcache.metrics.health.workers import workers
from nearcache.options import Options
from nearcache.stores.base import Store

__all__ = ["store_checks"]

_MOST_SECONDS = 9.0
_FAR = 0.02  # seconds for a trip, from which batches matter
_CURES = (  # what a server's refusal holds, and what helps
    (
        ("WRONGPASS", "invalid username-password", "invalid password", "NOAUTH", "Authentication"),
        "Give the right login: redis://user:password@host (in it / is written %2F, and @ %40).",
    ),
    (
        ("max number of clients",),
        "Raise maxclients there, or close what holds connections.",
    ),
    (("DENIED", "protected mode"), "Give the server a password, or bind it to this network."),
    (("SSL", "certificate"), "Check the certificate, ssl_ca_certs= in the URL, and rediss://."),
    (("LOADING",), "It is reading its data from disk: wait until it has."),
    (
        ("Name or service not known", "getaddrinfo", "name resolution", "nodename"),
        "The host's name is not known here: correct the URL, or the name service.",
    ),
    (
        ("refused",),
        "Start the server, or correct host and port; until then the cache loads everything.",
    ),
)
_ELSE = "Check that it runs and can be reached from here; until then the cache loads everything."


def store_checks(
    url: str, namespace: str | None = None, *, seconds: float = _MOST_SECONDS
) -> list[Check]:
    """Return what is to be said of a store; of the workers and entries of a namespace, or of all.

    Writes a canary of its own, where there is a store already, and takes it away.

    Cost: ``seconds`` at most.
    """
    told: queue.SimpleQueue[Check | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            for check in _asked(url, namespace):
                told.put(check)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
            cure = "This is a fault of nearcache's: please report it."
            told.put(Check("store", "fail", f"{type(error).__name__}: {error}", cure))
        told.put(None)

    # a name service that hangs cannot be interrupted: it is left behind
    threading.Thread(target=ask, name="nearcache-doctor", daemon=True).start()
    found: list[Check] = []
    end = time.monotonic() + seconds
    while True:
        try:
            check = told.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            detail = f"it did not answer within {seconds:g} s"
            cure = "Look for a firewall that drops packets, a stopped server, or a name service."
            return [*found, Check("store", "fail", detail, cure)]
        if check is None:
            return found
        found.append(check)


def _asked(url: str, namespace: str | None) -> Iterator[Check]:
    try:
        store, _ = open_store(url, Options())
    except ConfigError as error:
        cure = "pip install 'nearcache[redis]'" if "redis-py" in str(error) else "Correct the URL."
        yield Check("store", "fail", str(error), cure)
        return
    assert store is not None, "a URL names one"
    try:
        yield from _of_url(url)
        if store.address.startswith("sqlite:///"):
            path = Path(unquote(url.partition("://")[2].partition("?")[0])[1:])
            found = list(sqlite_file.before(path))
            yield from found
            if not path.exists() or any(check.status == "fail" for check in found):
                return
        yield from _of_store(store, namespace)
    finally:
        store.close()


def _of_url(url: str) -> Iterator[Check]:
    """Say where a password travels in the clear."""
    split = urlsplit(url)
    scheme = split.scheme.lower()
    try:
        host, password = split.hostname or "", split.password
    except ValueError:
        return
    if password and scheme.partition("+")[0] in ("redis", "valkey") and not _is_loopback(host):
        cure = f"Speak TLS: {scheme.replace('redis', 'rediss').replace('valkey', 'valkeys')}://…"
        detail = "the password, and all values, travel unencrypted"
        yield Check("encryption", "warn", detail, cure)


def _is_loopback(host: str) -> bool:
    hosts = [each.rpartition(":")[0] or each for each in host.split(",")]
    for each in hosts:
        if each in ("localhost", ""):
            continue
        try:
            if not ip_address(each).is_loopback:
                return False
        except ValueError:
            return False
    return True


def _of_store(store: Store, namespace: str | None) -> Iterator[Check]:
    try:
        store.now()
        took = min(_trip(store), _trip(store))  # the first may have opened a connection
    except StoreError as error:
        if not _is_refusal(error):
            yield failed("store", error)
            return
        yield Check("store", "ok", f"{store.address} answers")
    else:
        detail = f"{store.address} answers within {1000 * took:.1f} ms"
        if took > _FAR:
            cure = "Ask for batches (get_batch), or put the store nearer: every far hit waits that."
            yield Check("store", "warn", detail, cure)
        else:
            yield Check("store", "ok", detail)
    steps: list[Callable[[], Iterator[Check]]] = [
        lambda: _server(store),
        lambda: canary(store, namespace),
        lambda: entries(store, namespace),
        lambda: workers(store, namespace),
    ]
    for step in steps:
        try:
            yield from step()
        except StoreError as error:
            if _is_refusal(error):  # the canary has said so, with the cure
                continue
            yield failed("store", error)
            if isinstance(error, StoreTimeout):
                return  # it hangs: the next question would wait as long


def _trip(store: Store) -> float:
    before = time.perf_counter()
    store.look([b"nc1:{doctor:00}:k:sdoctor."], [])
    return time.perf_counter() - before


def _server(store: Store) -> Iterator[Check]:
    if store.address.startswith(("sqlite", "memory")):
        return iter(())
    from nearcache.metrics.health.redis_server import server

    return server(store)


def _is_refusal(error: StoreError) -> bool:
    """Say whether a user may not do this; the server answers."""
    return "no permission" in str(error).lower()


def failed(name: str, error: StoreError) -> Check:
    """Return what a store's error means for who looks for the cure."""
    text = str(error)
    if isinstance(error, StoreTimeout):
        cure = "It is reached but does not answer: look for a stopped process, a long script, or a "
        return Check(name, "fail", text, cure + "firewall that drops packets.")
    if isinstance(error, StoreReadOnly):
        cure = "Name the primary (redis+sentinel:// finds it), or make room."
        return Check(name, "fail", text, cure)
    for words, cure in _CURES:
        if any(word.lower() in text.lower() for word in words):
            return Check(name, "fail", text, cure)
    return Check(name, "fail", text, _ELSE)
