"""A server behind TLS: the link, the scripts and every cache as without; and no way around it."""

import subprocess

import pytest

from embedders import M, Model, same, until, vectors
from nearcache import EmbeddingCache, NearCache, Options, StoreError
from nearcache.stores.redis.store import RedisStore
from servers import free_port

STRICT = Options(on_store_error="raise", store_timeout=30.0)
TEXTS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=tests -addext subjectAltName=IP:127.0.0.1"
    )
    command = [*words.split(), "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


@pytest.fixture
def tls(own_server, certificates):
    """The port at which a server speaks TLS; Debian's alone of the suite's can."""
    certificate, key = certificates
    port = free_port()
    own_server(
        "redis-7.0",
        *("--tls-port", str(port), "--tls-cert-file", str(certificate)),
        *("--tls-key-file", str(key), "--tls-auth-clients", "no"),
        password="another",
    )
    return port


def url(port, certificates, scheme="rediss"):
    return f"{scheme}://:another@127.0.0.1:{port}/0?ssl_ca_certs={certificates[0]}"


def test_every_cache_works(tls, certificates):
    where = url(tls, certificates)
    with EmbeddingCache(where, options=STRICT) as cache, EmbeddingCache(where) as other:
        model = Model()
        assert same(cache.wrap(model, M)(TEXTS), vectors(TEXTS))
        assert same(other.wrap(model, M)(TEXTS), vectors(TEXTS))
        assert sum(model.times.values()) == len(TEXTS)
    with (
        NearCache(where, namespace="tls", options=STRICT) as cache,
        NearCache(where, namespace="tls", options=STRICT) as other,
    ):
        cache.put("a", 1)
        until(lambda: other.get("a") == 1 and other.link == "tracking")
        cache.update("a", lambda n: n + 1)
        until(lambda: other.get("a") == 2)


def test_a_certificate_that_nobody_vouches_for_is_refused(tls):
    store = RedisStore(f"valkeys://:another@127.0.0.1:{tls}/0", timeout=5.0)
    with pytest.raises(StoreError, match=r"(?i)certificate"):
        store.now()
    store.close()


def test_a_name_that_the_certificate_does_not_have_is_refused(tls, certificates):
    store = RedisStore(url(tls, certificates).replace("127.0.0.1", "localhost"), timeout=5.0)
    with pytest.raises(StoreError, match=r"(?i)certificate"):
        store.now()
    store.close()


def test_without_tls_nothing_is_said(tls, certificates):
    store = RedisStore(f"redis://:another@127.0.0.1:{tls}/0", timeout=5.0)
    with pytest.raises(StoreError):
        store.now()
    store.close()
