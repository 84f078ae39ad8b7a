"""A process of its own with a ShortTermMemory: ``python short_term_process.py TASK URL FOLDER``."""

import asyncio

from nearcache.caches.agents import SHARED, AccessTier, AgentCredentials
from nearcache.caches.short_term import ShortTermMemory
from nearcache.caches.short_term_async import AsyncShortTermMemory
from processes import Meeting, perform

__all__ = ["AGENTS", "members"]

AGENTS = 2
"""How many agents each process has at work."""


def members(face: str, agent: int, count: int) -> list[str]:
    """Who an agent of a process lets join."""
    return [f"{face} {agent} {n}" for n in range(count)]


def joined(session: dict | None, member: str) -> dict:
    """The session with one member more, and how many there are."""
    there = session or {"members": [], "size": 0}
    return {"members": [*there["members"], member], "size": there["size"] + 1}


def join(url: str, folder: str, face: str, count: str) -> None:
    """Let members join one session that the agents of all processes share."""
    meeting = Meeting(folder)

    def credentials(agent: int) -> AgentCredentials:
        return AgentCredentials(f"{face} {agent}", AccessTier.CONTRIBUTOR)

    async def one(memory: AsyncShortTermMemory, agent: int) -> None:
        for member in members(face, agent, int(count)):
            await memory.update(
                "session", lambda there, m=member: joined(there, m), credentials(agent), SHARED
            )

    async def main() -> None:
        async with AsyncShortTermMemory(url) as memory:
            await memory.ping()
            meeting.start_together()
            await asyncio.gather(*(one(memory, agent) for agent in range(AGENTS)))

    if face.startswith("async"):
        asyncio.run(main())
        return
    from embedders import in_threads

    with ShortTermMemory(url) as memory:
        memory.ping()
        meeting.start_together()

        def work(agent: int) -> None:
            for member in members(face, agent, int(count)):
                memory.update(
                    "session", lambda there, m=member: joined(there, m), credentials(agent), SHARED
                )

        assert in_threads(AGENTS, work) == [None] * AGENTS


if __name__ == "__main__":
    perform(globals())
