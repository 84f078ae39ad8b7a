"""The environment variables: each that begins with NEARCACHE_ is one of ours, and is sound."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from nearcache.engine.build import open_store
from nearcache.errors import ConfigError
from nearcache.metrics.health.check import Check
from nearcache.options import Options

__all__ = ["KNOWN", "environment"]

KNOWN = (
    "NEARCACHE_STORE",
    "NEARCACHE_PURE",
    "NEARCACHE_REPORT",
    "NEARCACHE_UPSTREAM",
    "NEARCACHE_UPSTREAM_KEY",
    "NEARCACHE_SECRET_FILE",
    "NEARCACHE_DATA",  # of the benchmarks and tests
    "NEARCACHE_SANITIZE",  # of the build
)


def environment(variables: Mapping[str, str] = os.environ) -> list[Check]:
    """Return what is wrong with the environment, or that nothing is; no value is repeated."""
    wrong = list(_wrong(variables))
    if wrong:
        return wrong
    mine = sorted(name for name in variables if name in KNOWN)
    detail = f"set: {', '.join(mine)}" if mine else "no variable of nearcache's is set"
    return [Check("environment", "ok", detail)]


def _wrong(variables: Mapping[str, str]) -> Iterator[Check]:
    for name in sorted(variables):
        if name.upper().startswith("NEARCACHE_") and name not in KNOWN:
            near = difflib.get_close_matches(name.upper(), KNOWN, n=1)
            cure = f"Did you mean {near[0]}? " if near else ""
            cure += f"Known are: {', '.join(KNOWN[:6])}."
            yield Check("environment", "warn", f"{name} is set, and read by nobody", cure)
    yield from _store(variables.get("NEARCACHE_STORE", ""))
    report = variables.get("NEARCACHE_REPORT", "")
    if report and not _is_seconds(report):
        cure = "Give the seconds between two reports, e.g. NEARCACHE_REPORT=5, or 0 for none."
        yield Check("environment", "fail", "NEARCACHE_REPORT is no number of seconds", cure)
    secret = variables.get("NEARCACHE_SECRET_FILE", "")
    if secret and Path(secret).is_dir():
        cure = "Name a file, which `nearcache serve` makes if it is not there."
        yield Check("environment", "fail", "NEARCACHE_SECRET_FILE is a directory", cure)


def _store(url: str) -> Iterator[Check]:
    if not url:
        return
    try:
        store, _ = open_store(url, Options())
    except ConfigError as error:
        cure = "Correct the variable, or unset it and give --store."
        yield Check("environment", "fail", f"NEARCACHE_STORE names no store: {error}", cure)
    else:
        if store is not None:
            store.close()


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False
