"""``nearcache doctor`` says what is there, what is not, and the cure."""

import json

import pytest
from typer.testing import CliRunner

from embedders import M, Model
from nearcache import EmbeddingCache, MemoryStore
from nearcache.cli.app import app
from nearcache.metrics import health
from nearcache.metrics.health import installation
from nearcache.near import pick
from nearcache.testing import ChaosStore


def told(*options, status=0):
    result = CliRunner().invoke(app, ["doctor", *options])
    assert result.exit_code == status, result.output
    return result.stdout


def checks(*options):
    return {check["name"]: check for check in json.loads(told("--json", *options))["checks"]}


def test_json_is_one_document_of_checks():
    found = checks()
    assert {"python", "near tier", "numpy", "redis client"} <= set(found)
    for check in found.values():
        assert set(check) == {"name", "status", "detail", "cure"}
        assert check["status"] in ("ok", "warn", "fail")


def test_the_core_that_runs_is_named():
    kind, _ = pick.core()
    near = checks()["near tier"]
    assert (near["status"], kind in near["detail"].lower()) == (
        "ok" if kind == "native" else "warn",
        True,
    )


@pytest.mark.parametrize(
    "why, cure",
    [("NEARCACHE_PURE is set", "Unset NEARCACHE_PURE"), ("no module", "C compiler")],
)
def test_pure_python_is_a_warning_with_its_cure(monkeypatch, why, cure):
    monkeypatch.setattr(pick, "core", lambda: ("pure", why))
    near = checks()["near tier"]
    assert near["status"] == "warn"
    assert why in near["detail"]
    assert cure in near["cure"]
    assert cure in told()


def test_a_missing_redis_client_is_a_warning_with_its_cure(monkeypatch):
    real = installation.metadata.version

    def version(name):
        if name == "nearcache":
            return real(name)
        raise installation.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation, "_package", lambda name: health.Check(name, "ok", "2"))
    monkeypatch.setattr(installation.metadata, "version", version)
    redis = checks()["redis client"]
    assert redis["status"] == "warn"
    assert "pip install 'nearcache[redis]'" in redis["cure"]


def test_a_failed_check_is_exit_status_1(monkeypatch):
    monkeypatch.setattr(installation, "_near", lambda: health.Check("near tier", "fail", "broken"))
    assert "broken" in told(status=1)


def test_a_store_that_is_named_is_asked(one_server):
    found = {c["name"]: c for c in json.loads(told("--json", "--store", one_server.url))["checks"]}
    assert found["store"]["status"] == "ok"
    assert one_server.url.rsplit(":", 1)[1].split("/")[0] in found["store"]["detail"]


def test_a_store_that_is_not_there_is_a_failure_with_its_cure():
    out = told("--store", "redis://:secret@127.0.0.1:1", status=1)
    assert "fail  store" in out
    assert "Start the server" in out
    assert "secret" not in out


def test_a_file_that_is_not_there_is_a_warning_and_is_not_made(tmp_path):
    path = tmp_path / "typo.db"
    found = checks("--store", f"sqlite:///{path}")["store"]
    assert found["status"] == "warn"
    assert "correct the URL" in found["cure"]
    assert not path.exists()


def test_a_client_that_is_too_old_is_a_failure_with_its_cure(monkeypatch):
    real = installation.metadata.version
    monkeypatch.setattr(
        installation.metadata, "version", lambda name: "4.6.0" if name == "redis" else real(name)
    )
    out = told(status=1)
    assert "redis-py 4.6.0 is older than" in out
    assert "pip install --upgrade" in out


def test_a_client_without_its_fast_parser_is_a_warning(monkeypatch):
    real = installation.metadata.version

    def version(name):
        if name == "hiredis":
            raise installation.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(installation.metadata, "version", version)
    assert "pip install hiredis" in checks()["redis client"]["cure"]


@pytest.mark.parametrize(
    "name,value,status,words",
    [
        ("NEARCACHE_STROE", "redis://:secret@h", "warn", "Did you mean NEARCACHE_STORE?"),
        ("NEARCACHE_STORE", "mongo://:secret@h", "fail", "NEARCACHE_STORE names no store"),
        ("NEARCACHE_STORE", "sqlite:///x.db?cache_size=secret", "fail", "'cache_size'"),
        ("NEARCACHE_REPORT", "secret", "fail", "NEARCACHE_REPORT=5"),
        ("NEARCACHE_SECRET_FILE", "/tmp", "fail", "is a directory"),
    ],
)
def test_an_environment_that_is_wrong_is_told_without_its_values(name, value, status, words):
    found = health.environment.environment({name: value, "HOME": "/root"})
    assert [check.status for check in found] == [status]
    text = found[0].detail + found[0].cure
    assert words in text
    assert "secret" not in text


def test_an_environment_that_is_sound_is_ok():
    sound = {"NEARCACHE_STORE": "memory://", "NEARCACHE_REPORT": "0", "NEARCACHE_PURE": ""}
    (check,) = health.environment.environment(sound)
    assert check.status == "ok"


def test_a_url_of_no_store_is_a_failure_with_its_cure():
    assert "Correct the URL" in told("--store", "nowhere://", status=1)


class Named(MemoryStore):
    address = "memory://doctor"


def said():
    """What is said of the cache of the test below; others may not be collected yet."""
    return [check for check in health.checks() if Named.address in check.name]


def test_a_program_hears_of_what_waits_for_its_store():
    store = ChaosStore(Named())
    with EmbeddingCache(store) as cache:
        embed = cache.wrap(Model(), M)
        embed("first")
        (check,) = said()
        assert (check.status, check.cure) == ("ok", "")
        store.fail()
        embed("second")
        cache.invalidate("first", M)
        (check,) = said()
        assert check.status == "warn"
        assert "the breaker is open" in check.detail
        assert "1 invalidations and 1 loads wait" in check.detail
        assert "keep this process alive" in check.cure
        store.calm()
    assert said() == []
