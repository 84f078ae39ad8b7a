"""Store URLs: a store, or a ConfigError; no I/O, and no password in what is said about it."""

from fuzz.harness import Choices
from nearcache.engine.build import open_store, parse_bytes
from nearcache.errors import ConfigError
from nearcache.options import Options

__all__ = ["SEEDS", "one"]

_SECRET = "hunter2"
_OPTIONS = Options()
_STARTS = (
    "redis://", "rediss://", "valkey://", "unix://", "sqlite:///", "memory://",
    "redis+cluster://", "redis+sentinel://", "",
)  # fmt: skip

SEEDS = [
    *(
        b"\x00" + url
        for url in (
            b"redis://localhost:6379/0", b"redis://[::1]:6379/0", b"redis://[::1", b"redis://h:x",
            b"redis://h:99999999999", b"redis://h/0?db=1&socket_timeout=x", b"redis://h/1/2",
            b"redis://h?health_check_interval=1", b"redis://h?max_connections=0",
            b"redis+cluster://a:1,b:2", b"redis+sentinel://a:1,b:2/service/0", b"memory://?x=1",
            b"sqlite:///a.db?max_bytes=2GB", b"sqlite:////tmp/%00x", b"sqlite:///", b"sqlite:///.",
            b"sqlite:///" + b"x" * 300, b"sqlite:///a?max_bytes=1e999GB", b"unix:///s?db=0",
            b"sqlite:///a?max_bytes=" + b"9" * 400 + b"TB", b"redis://\xed\xa0\x80",
            b"redis://h?ssl_cert_reqs=none", b"valkeys://h/0?ssl_ca_certs=x",
            b"redis://\xef\xbc\x8f/0", b"redis://h:\xc2\xb2/0", b"redis://h/\xc2\xb2",
        )
    ),
    b"\x01\x00user\x00host:1/0",
    b"\x01\x02\x04u@:/\x02?#",
    b"\x02" + b"512 MiB",
    b"\x02" + b"9" * 400 + b"TB",
]  # fmt: skip


def one(data: bytes) -> None:
    choices = Choices(data)
    act = choices.number(3)
    if act == 0:
        data = choices.rest()
        try:
            url = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            url = data.decode("latin-1")
        _opened(url)
    elif act == 1:
        start, user, rest = choices.one_of(_STARTS), choices.text(6), choices.text(24)
        # a user with @ or : before the password is another password
        user = "".join(c for c in user if c not in "@:")
        said = _opened(f"{start}{user}:{_SECRET}@{rest}")
        if not start.startswith(("sqlite", "memory")):
            assert _SECRET not in said
    else:
        try:
            assert parse_bytes(choices.rest().decode("latin-1")) >= 0
        except ConfigError:
            return


def _opened(url: str) -> str:
    """Open a store and close it again; return all that was said."""
    try:
        store, ours = open_store(url, _OPTIONS)
    except ConfigError as error:
        return f"{error} {error!r}"
    assert ours
    said = f"{store!r} {store.address}"
    store.close()
    return said
