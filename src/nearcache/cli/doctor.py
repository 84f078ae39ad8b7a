"""``nearcache doctor``: what this installation has, what it lacks, and the cure.

``checks`` is the same for a program that asks about itself: it knows its caches, and what of them
waits for a store that does not answer.
"""

import json
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["Check", "checks", "doctor"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    store: Annotated[
        str | None, typer.Option("--store", help="Also ask this store, by its URL.")
    ] = None,
) -> None:
    """Say what this installation has, what it lacks, and how to get it."""
    found = checks() if store is None else [*checks(), _store(store)]
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(check) for check in found]}, indent=2))
    else:
        for check in found:
            typer.echo(f"{check.status:<5} {check.name}: {check.detail}")
            if check.cure:
                typer.echo(f"      {check.cure}")
    if any(check.status == "fail" for check in found):
        raise typer.Exit(1)


def checks() -> list[Check]:
    """Return what is to be said of this installation, and of the caches of this process."""
    return [_python(), _near(), _package("numpy"), _redis(), *_caches()]


def _caches() -> list[Check]:
    """Say of each cache with a store whether it is asked, and what waits for it."""
    from nearcache.engine.engine import live_engines

    found = []
    for engine in live_engines():
        if engine.store is None or engine.closed:
            continue
        stats, where = engine.stats(), engine.store.address
        waiting = f"{stats.undelivered} invalidations and {stats.unwritten} loads wait for it"
        if stats.breaker == "closed" and not stats.undelivered and not stats.unwritten:
            found.append(Check(f"cache on {where}", "ok", "the store answers, nothing waits"))
            continue
        cure = (
            "Bring the store back, and keep this process alive until then: what waits is lost with "
            "it. Until then other processes may read what was invalidated here."
            if stats.undelivered
            else "Bring the store back; the cache works without it, and loads more."
        )
        detail = f"the breaker is {stats.breaker}, {waiting}"
        found.append(Check(f"cache on {where}", "warn", detail, cure))
    return found


def _store(url: str) -> Check:
    """Ask a store once, as a cache does."""
    from time import perf_counter

    from nearcache.engine.build import open_store
    from nearcache.errors import ConfigError, StoreError
    from nearcache.keys import KeySpace
    from nearcache.options import Options

    cure = "Check that it runs and can be reached from here; until then the cache loads everything."
    try:
        store, _ = open_store(url, Options())
    except ConfigError as error:
        return Check("store", "fail", str(error), "Correct the URL.")
    assert store is not None, "a URL names one"
    scheme, _, path = store.address.partition(":///")
    if scheme == "sqlite" and not Path(path).exists():  # asked, it would be made
        cure = "Nothing, if no cache has used it yet; else correct the URL."
        return Check("store", "warn", f"there is no file {path}", cure)
    try:
        store.now()
        before = perf_counter()
        store.look([KeySpace("doctor").everything], [])
        took = perf_counter() - before
    except StoreError as error:
        return Check("store", "fail", str(error), cure)
    finally:
        store.close()
    return Check("store", "ok", f"{store.address} answers within {1000 * took:.1f} ms")


def _python() -> Check:
    where = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    return Check("python", "ok", where)


def _near() -> Check:
    from nearcache.near.pick import core

    kind, why = core()
    if kind == "native":
        return Check("near tier", "ok", "native core")
    cure = (
        "Unset NEARCACHE_PURE to use the native core."
        if "NEARCACHE_PURE" in why
        else "Everything works, about three times slower on hits. Install a wheel for this "
        "platform, or a C compiler and then: "
        "pip install --force-reinstall --no-deps --no-cache-dir nearcache"
    )
    return Check("near tier", "warn", f"pure Python ({why})", cure)


def _package(name: str) -> Check:
    return Check(name, "ok", metadata.version(name))


def _redis() -> Check:
    try:
        version = metadata.version("redis")
    except metadata.PackageNotFoundError:
        cure = "Only for Redis and Valkey: pip install 'nearcache[redis]'"
        return Check("redis client", "warn", "redis-py is not installed", cure)
    try:
        parser = f"hiredis {metadata.version('hiredis')}"
    except metadata.PackageNotFoundError:
        cure = "Replies are parsed in Python: pip install hiredis"
        return Check("redis client", "warn", f"redis-py {version} without hiredis", cure)
    return Check("redis client", "ok", f"redis-py {version}, {parser}")
