"""``nearcache doctor``: what this installation has, what it lacks, and the cure."""

import json
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Annotated, Literal

import typer

__all__ = ["doctor"]


@dataclass(frozen=True, slots=True)
class Check:
    """One question and its answer."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def doctor(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False
) -> None:
    """Say what this installation has, what it lacks, and how to get it."""
    checks = [_python(), _near(), _package("numpy"), _redis()]
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            typer.echo(f"{check.status:<5} {check.name}: {check.detail}")
            if check.cure:
                typer.echo(f"      {check.cure}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


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
