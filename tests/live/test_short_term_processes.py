"""ShortTermMemory in several processes: what agents write together, none of them loses."""

import pytest

import short_term_process
from nearcache.caches.agents import SHARED
from processes import finish, process_of, start_together
from short_term_fixtures import ANN, memories
from short_term_process import AGENTS, members

memory = pytest.fixture(memories)
process = pytest.fixture(process_of(short_term_process))

EACH = 250  # two processes, two agents: a thousand updates


@pytest.mark.parametrize("faces", [("sync", "async"), ("sync", "sync")], ids=" and ".join)
def test_a_thousand_updates_of_one_session_are_all_applied(process, memory, tmp_path, url, faces):
    names = [f"{face} {number}" for number, face in enumerate(faces)]
    started = [process("join", url, name, EACH) for name in names]
    start_together(tmp_path, started)
    for one in started:
        finish(one)
    session = memory("sync", url).retrieve("session", ANN, SHARED)
    assert session["size"] == len(names) * AGENTS * EACH == 1000
    wanted = [m for name in names for agent in range(AGENTS) for m in members(name, agent, EACH)]
    assert sorted(session["members"]) == sorted(wanted)
    for name in names:  # each agent's in the order it made them
        for agent in range(AGENTS):
            mine = members(name, agent, EACH)
            assert [m for m in session["members"] if m in set(mine)] == mine
