"""Tests of several processes: the test starts a script that meets it, and its like, in a folder.

Files named ``ready-<pid>`` say that a process is ready, the file ``go`` lets all start, ``calls``
gets a line for every text or key that reaches a model or a loader. A script reads::

    if __name__ == "__main__":
        perform(globals())

and a test module has its fixture by ``process = pytest.fixture(process_of(near_process))``.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from embedders import until
from nearcache.stores.redis import timer

__all__ = [
    "HANG",
    "Meeting",
    "calls",
    "finish",
    "perform",
    "process_of",
    "start_together",
    "wait_for",
]

HANG = 60.0
"""Seconds after which what another process should have done long ago is a failure."""


# In the test


def process_of(script: ModuleType) -> Callable[[Path], Iterator[Callable[..., subprocess.Popen]]]:
    """Make a fixture that starts a script: ``process(task, url, *arguments)``."""

    def process(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
        started = []

        def start(task: str, url: str, *arguments: object) -> subprocess.Popen:
            command = [sys.executable, "-W", "error", script.__file__, task, url, tmp_path]
            started.append(
                subprocess.Popen(
                    [*map(str, command), *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            return started[-1]

        yield start
        for one in started:
            one.kill()
            one.communicate()

    return process


def finish(one: subprocess.Popen) -> list[str]:
    """Wait for a process, and return the lines it printed."""
    out, err = one.communicate(timeout=HANG)
    assert (one.returncode, err) == (0, ""), err
    return out.splitlines()


def start_together(folder: Path, started: list[subprocess.Popen]) -> None:
    """Let all processes go at once, as soon as every one is ready."""

    def ready() -> bool:
        for one in started:
            assert one.poll() is None, one.stderr.read()
        return len(list(folder.glob("ready-*"))) == len(started)

    until(ready, HANG)
    (folder / "go").touch()


def calls(folder: Path) -> Counter[str]:
    """How often each text or key was loaded, in any process."""
    return Counter((folder / "calls").read_text().split())


# In the process


def perform(tasks: dict[str, Any]) -> None:
    """Run the task of the command line: ``python script.py TASK URL FOLDER …``."""
    # as in the tests' own process: the suite keeps the machine busy, and some count what is asked
    timer._LEAST = 5.0
    task, *arguments = sys.argv[1:]
    tasks[task](*arguments)


def wait_for(path: Path) -> None:
    """Poll until the file is there."""
    deadline = time.monotonic() + HANG
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.001)  # between two looks at a file that another process makes


class Meeting:
    """The folder, seen from one process."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def start_together(self) -> None:
        """Say that we are ready, and wait until all may go."""
        (self.folder / f"ready-{os.getpid()}").touch()
        wait_for(self.folder / "go")

    def note(self, loaded: Iterable[str]) -> None:
        """Leave a line for each text or key; one write, so that no line is torn."""
        lines = "".join(f"{one}\n" for one in loaded).encode()
        descriptor = os.open(self.folder / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, lines)
        finally:
            os.close(descriptor)
