"""``examples/agent_memory.py`` runs, and what it prints is what happened."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_memory.py"
DIALOGUES = 6


@pytest.fixture(scope="module")
def example():
    spec = spec_from_file_location("agent_memory", EXAMPLE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["SQLite", "server"])
def store(request):
    """Arguments of the example; its own SQLite file without any."""
    if request.param == "SQLite":
        return []
    return ["--store", request.getfixturevalue("one_server").url]


@pytest.fixture(params=["real dialogues", "made up"])
def data(request, example, tmp_path, monkeypatch):
    """Where the dialogues are; a folder without any has the example make some."""
    if request.param == "made up":
        monkeypatch.setenv("NEARCACHE_DATA", str(tmp_path))
    elif example.recorded(1)[1].startswith("made up"):
        pytest.skip("there is no folder of tau-bench dialogues here")
    return request.param


# On a machine that the suite keeps busy a server is held up for a moment, and the example says so.
# Its agents are processes of their own: what every interpreter runs first reaches them, too.
PATIENCE = "from nearcache.stores.redis import timer; timer._LEAST = 5.0"


@pytest.fixture(autouse=True)
def patience(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("patience")
    (folder / "sitecustomize.py").write_text(PATIENCE)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def run(*arguments):
    """The lines it prints, and its table: asked, near, store, done of each cache."""
    command = [sys.executable, "-W", "error", str(EXAMPLE), "--dialogues", str(DIALOGUES)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, *rows, tools, together = done.stdout.splitlines()
    cells = [row.replace(",", "").split() for row in rows]
    table = {name: tuple(map(int, figures[:4])) for name, *figures in cells}
    return first, table, tuple(map(int, re.findall(r"\d+", tools))), together


def test_it_prints_what_two_agents_spared_each_other(example, data, store):
    first, table, (ran, outdated), together = run(*store)
    dialogues, what = example.recorded(DIALOGUES)
    turns = [turn for dialogue in dialogues for turn in example.split(dialogue)]
    said = [text for role, text in turns if role != "tool"]
    tools_asked = sum(
        len(
            {example.subject(text) for role, text in example.split(each) if role == "tool"} - {None}
        )
        for each in dialogues
    )
    requests = {example.split(dialogue)[0][1] for dialogue in dialogues}
    assert first.startswith(f"{DIALOGUES} dialogues, {what}; the model: ")

    asked, near, far, done = table["hot"]  # read by its reviewer, then by both; never a miss
    assert (asked, near + far, done) == (3 * len(said), 3 * len(said), 0)
    assert far >= len(said)

    asked, near, far, done = table["embeddings"]  # one model call for a text, in both processes
    assert (asked, done) == (4 * len(said), len(set(said)))

    asked, near, far, done = table["retrieval"]  # a request is searched once, in both processes
    assert done == ran + len(requests)
    assert tools_asked <= ran < asked - 2 * DIALOGUES

    asked, near, far, done = table["sessions"]  # read from the store at first, then near
    assert (asked, near + far, done) == (len(said), len(said), 0)
    assert far >= DIALOGUES  # and more until each process's link listens

    assert outdated == 0
    assert together == f"counted together: {2 * DIALOGUES} of {2 * DIALOGUES}"


def test_what_it_prints_is_what_the_server_has(one_server):
    def kept(pattern):
        with one_server.client() as client:
            return len(list(client.scan_iter(f"nc1:{{example*{pattern}*", count=1000)))

    _, table, *_ = run("--store", one_server.url)
    vectors, memories = table["embeddings"][3], table["hot"][0] // 3
    assert kept("emb:*:v:") == vectors > 0
    assert kept("hot:*:k:") == memories > 0
    assert kept("sessions:*:k:") == DIALOGUES + 1  # and the count they keep together

    _, table, *_ = run("--store", one_server.url)  # another day, the same texts
    asked, near, far, done = table["embeddings"]
    assert (near + far, done) == (asked, 0)
    assert kept("emb:*:v:") == vectors
