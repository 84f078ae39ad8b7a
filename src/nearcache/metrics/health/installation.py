"""This installation: Python, native core, packages, environment, the caches of this process."""

import platform
import re
from importlib import metadata

from nearcache.metrics.health.check import Check
from nearcache.metrics.health.environment import environment

__all__ = ["checks"]

_OLDEST_CLIENT = (5, 0)


def checks() -> list[Check]:
    """Return what is to be said of this installation, and of the caches of this process."""
    return [_python(), _near(), _package("numpy"), _redis(), *environment(), *_caches()]


def _python() -> Check:
    where = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    return Check("python", "ok", f"{where}, nearcache {metadata.version('nearcache')}")


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
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_CLIENT:
        oldest = ".".join(map(str, _OLDEST_CLIENT))
        cure = "Bring it up to date: pip install --upgrade 'nearcache[redis]'"
        detail = f"redis-py {version} is older than {oldest}, the oldest that is known to work"
        return Check("redis client", "fail", detail, cure)
    try:
        parser = f"hiredis {metadata.version('hiredis')}"
    except metadata.PackageNotFoundError:
        cure = "Replies are parsed in Python: pip install hiredis"
        return Check("redis client", "warn", f"redis-py {version} without hiredis", cure)
    return Check("redis client", "ok", f"redis-py {version}, {parser}")


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
