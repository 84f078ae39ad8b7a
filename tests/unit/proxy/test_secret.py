"""The secret that partitions are named with: where it comes from, and who may read it."""

import logging
import stat

import pytest

from nearcache import ConfigError
from nearcache.proxy import Settings
from nearcache.proxy.secret import find_secret


def secret(**options):
    return find_secret(Settings(upstream="http://127.0.0.1:1", **options))


def test_it_is_made_once_and_its_owner_alone_reads_it(tmp_path):
    path = tmp_path / "secret"
    first = secret(secret_file=path)
    assert secret(secret_file=path) == first
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_beside_a_sqlite_store_unless_it_is_told(tmp_path):
    store = f"sqlite:///{tmp_path}/vectors.db?max_bytes=1GB"
    assert secret(store=store) == (tmp_path / "vectors.db.secret").read_bytes()
    assert secret(store=store, secret_file=tmp_path / "other") != secret(store=store)


def test_new_at_every_start_where_nothing_is_kept():
    assert secret() != secret()


def test_a_shared_store_without_one_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING, "nearcache"):
        assert secret(store="redis://h") != secret(store="redis://h")
    assert "--secret-file" in caplog.text


def test_one_partition_for_all_needs_none(caplog):
    assert secret(share=True, store="redis://h") == secret(share=True, store="redis://h")
    assert not caplog.text


@pytest.mark.parametrize("content", [b"", b"short", b"  \n"])
def test_a_short_one_is_refused(tmp_path, content):
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="16"):
        secret(secret_file=path)


def test_one_that_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read or made"):
        secret(secret_file=tmp_path / "missing" / "secret")
