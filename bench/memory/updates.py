"""Two processes, two agents each: a thousand updates of one session that all of them share.

``python -m bench.memory.updates URL FOLDER NAME COUNT`` is one of the processes, with the blocking
face in two threads or, for a NAME that begins with "async", the other in two tasks. It says that it
is ready with a file, waits for ``go``, and prints how often its function ran.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import log
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_PROCESSES, _AGENTS = 2, 2
_HANG = 300.0


def measure(report: Report, *, quick: bool) -> None:
    """Let them update on a server and in a file; no update may be lost."""
    from servers import Server

    each, rounds = (10, 1) if quick else (250, 3)
    updates = _PROCESSES * _AGENTS * each
    table = Table(
        f"{updates:,} updates of one session by {_PROCESSES} processes × {_AGENTS} agents, "
        f"{rounds} rounds",
        ["store", "faces", "applied, least", "seconds", "updates per second", "tried again"],
    )
    for where in ("valkey-9.1", "SQLite"):
        least = updates
        for faces in (("sync", "sync"), ("async", "async")):
            log(f"memory: updates on {where}, {faces[0]}")
            found = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                    if where == "SQLite":
                        found.append(_together(f"sqlite:///{folder}/memory.db", faces, each))
                    else:
                        with Server(where) as server:
                            found.append(_together(server.url, faces, each))
            applied = min(one[0] for one in found)
            seconds, ran = median(one[1] for one in found), median(one[2] for one in found)
            row = [where, faces[0], applied, seconds, updates / seconds, int(ran - updates)]
            table.rows.append(row)
            least = min(least, applied)
        goal = f"{updates:,} concurrent updates of one session, {where}: applied"
        report.judged.append(Judged(goal, updates, least, "updates", at_least=True))
    report.tables.append(table)
    report.notes.append(
        "Updates: each agent adds to one list under a key that all share. `tried again` is how "
        "often the function ran for nothing, since another agent was faster."
    )


def _together(url: str, faces: tuple[str, ...], each: int) -> tuple[int, float, int]:
    """Return the updates that are in the session, the seconds, and the runs of the function."""
    from nearcache import AccessTier, AgentCredentials, ShortTermMemory

    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        folder = Path(made)
        processes = []
        for number, face in enumerate(faces):
            command = [sys.executable, "-m", "bench.memory.updates", url, str(folder)]
            command += [f"{face} {number}", str(each)]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        try:
            end = time.monotonic() + _HANG
            while len(list(folder.glob("ready*"))) < len(processes):
                if time.monotonic() > end or any(one.poll() for one in processes):
                    raise RuntimeError("a process did not start")
                time.sleep(0.001)
            start = time.monotonic()
            (folder / "go").touch()
            ran = sum(json.loads(one.communicate(timeout=_HANG)[0]) for one in processes)
            seconds = time.monotonic() - start
        finally:
            for one in processes:
                one.kill()
                one.wait()
    observer = AgentCredentials("observer", AccessTier.OBSERVER)
    with ShortTermMemory(url) as memory:
        joined = memory.retrieve("session", observer, "shared")
    return len(set(joined)), seconds, ran


def _work(url: str, folder: Path, name: str, each: int) -> int:
    from nearcache import AccessTier, AgentCredentials, AsyncShortTermMemory, ShortTermMemory

    ran: list[None] = []  # appending is atomic

    def joining(member: str) -> Any:
        def join(there: list[str] | None) -> list[str]:
            ran.append(None)
            return [*(there or []), member]

        return join

    def members(agent: int) -> Any:
        me = AgentCredentials(f"{name} {agent}", AccessTier.CONTRIBUTOR)
        return ((joining(f"{name} {agent} {number}"), me) for number in range(each))

    def start() -> None:
        (folder / f"ready {name}").touch()
        while not (folder / "go").exists():
            time.sleep(0.0005)

    def blocking() -> None:
        with ShortTermMemory(url) as memory:
            memory.ping()

            def work(agent: int) -> None:
                for join, me in members(agent):
                    memory.update("session", join, me, "shared")

            threads = [threading.Thread(target=work, args=[agent]) for agent in range(_AGENTS)]
            start()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    async def awaiting() -> None:
        async with AsyncShortTermMemory(url) as memory:
            await memory.ping()

            async def work(agent: int) -> None:
                for join, me in members(agent):
                    await memory.update("session", join, me, "shared")

            start()
            await asyncio.gather(*map(work, range(_AGENTS)))

    if name.startswith("async"):
        asyncio.run(awaiting())
    else:
        blocking()
    return len(ran)


if __name__ == "__main__":
    json.dump(_work(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])), sys.stdout)
