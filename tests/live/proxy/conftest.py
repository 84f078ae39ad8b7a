"""One provider and one proxy for all tests here; every test comes with a key of its own."""

import itertools

import pytest

from provider import KEY, OTHER_KEY, Provider
from proxy_process import Proxy

_numbers = itertools.count()


@pytest.fixture(scope="session")
def _provider():
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="session")
def _proxy(_provider):
    # without /v1: clients of Azure come by a path beside it
    with Proxy(_provider.root) as proxy:
        yield proxy


@pytest.fixture
def provider(_provider):
    """The model server, calm, and with no memory of other tests."""
    _provider.calm()
    _provider.forget()
    _provider.keys, _provider.restricted = {KEY, OTHER_KEY}, {}
    _provider.prefixes = {"/v1"}
    _provider.base64 = _provider.usage = _provider.lists_models = True
    _provider.lenient = _provider.compress = _provider.personal = False
    yield _provider
    _provider.calm()


@pytest.fixture
def proxy(_proxy, provider):
    """A proxy in front of ``provider``, without a store."""
    return _proxy


@pytest.fixture(scope="session")
def _strict(_provider):
    with Proxy(_provider.url, "--verify-ttl", "1", "--max-body", "100000") as proxy:
        yield proxy


@pytest.fixture
def strict(_strict, provider):
    """A proxy that believes in a key for a second, and takes 100,000 bytes at most."""
    return _strict


@pytest.fixture(scope="session")
def _shared(_provider):
    with Proxy(_provider.url, "--share") as proxy:
        yield proxy


@pytest.fixture
def shared(_shared, provider):
    """A proxy of one partition for all."""
    return _shared


@pytest.fixture
def key(provider):
    """A key that the provider takes and nobody has used: nothing is cached for it."""
    new = f"sk-test-{next(_numbers)}"
    provider.keys.add(new)
    return new


@pytest.fixture
def serve(provider):
    """Start further proxies in front of ``provider``: ``serve("--share", …)``."""
    started = []

    def start(*options: str, **environment: str) -> Proxy:
        started.append(Proxy(provider.url, *options, **environment))
        return started[-1]

    yield start
    for one in started:
        one.stop()
