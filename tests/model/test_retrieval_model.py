"""RetrievalCache in two processes against a database that is asked every time.

The test is the database, and tells two processes what to do, one thing after the other: add,
change, delete a memory and say so; ask for a list; forget lists; and, while one of them loads,
change what it loads. So what the database would say is known at every moment.

A list is *wrong* if the database could not have given it at any moment from the bound
(``Options.link_timeout``) before the call to its end; if the process had seen a later one already;
if the process itself has said since that it is outdated; or if it is still not the present one when
the bound is over. The contract allows what is left: for milliseconds, the list of before.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

import retrieval_process
from nearcache import Options
from nearcache.caches.retrieval_query import query_key
from processes import HANG

BOUND = Options().link_timeout
SCOPES = [None, "ada", "bob"]
TOPICS = ["tea", "rain", "maps", "dogs", "keys", "bread", "snow", "ships"]
MOST = 60
QUERIES = [
    (query, scope)
    for topic in TOPICS
    for scope in SCOPES
    for query in (topic, {"text": topic, "limit": 3})
]
RANKS = [1 / (1 + n // 6) for n in range(len(QUERIES))]  # some are asked often


class Database:
    """Memories, and what each query finds: now, and since when."""

    def __init__(self) -> None:
        self.memories: dict[tuple[str, str, str | None], list[Any]] = {}  # topic, version
        self.number = 0
        self.history = {query_key(*one): [(time.monotonic(), [])] for one in QUERIES}

    def find(self, query: Any, scope: str | None) -> list[Any]:
        topic, limit = (query, 10**6) if isinstance(query, str) else (query["text"], query["limit"])
        found = [
            [*key, *self.memories[key]]
            for key in sorted(self.memories, key=str)
            if self.memories[key][0] == topic and (scope is None or key[2] in (scope, None))
        ]
        return found[:limit]

    def changed(self) -> list[Any]:
        """Note what every query finds from now on; return the names of those that find another."""
        others = []
        for one in QUERIES:
            name, found = query_key(*one), self.find(*one)
            if self.history[name][-1][1] != found:
                self.history[name].append((time.monotonic(), found))
                others.append(name)
        return others

    def named(self, results: list[Any], rng: random.Random) -> list[Any]:
        """The memories of a list as a loader may name them: here by their bare ids."""
        ids = [result[1] for result in results]
        rng.shuffle(ids)
        return ids


class Worker:
    """One process, and the earliest list of each query that it may still give."""

    def __init__(self, started: Any) -> None:
        self.process = started
        self.floor = dict.fromkeys((query_key(*one) for one in QUERIES), 0)
        assert self.hear() == {"ready": True}

    def say(self, **order: Any) -> None:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def ask(self, **order: Any) -> dict[str, Any]:
        self.say(**order)
        return self.hear()


class World:
    """The database, the processes, and what went wrong."""

    def __init__(self, workers: list[Worker], seed: int) -> None:
        self.rng = random.Random(seed)
        self.database = Database()
        self.workers = workers
        self.wrong: list[Any] = []
        self.done: Counter[str] = Counter()
        self.slowest = 0.0

    # -- what happens to memories ------------------------------------------------------------------

    def change(self, worker: Worker) -> None:
        """Change the database; then ``worker`` says so."""
        rng, memories = self.rng, self.database.memories
        what = rng.choices(["add", "edit", "move", "delete"], [2, 5, 2, 2])[0]
        if what == "add" and len(memories) == MOST:
            what = "delete"
        if what == "add" or not memories:
            self.database.number += 1
            key = ("episodic", f"m{self.database.number}", rng.choice(SCOPES))
            memories[key] = [rng.choice(TOPICS), 0]
            said = ["memory_added"]
        else:
            key, said = rng.choice(list(memories)), ["memory_changed"]
            if what == "delete":
                del memories[key]
            else:
                topic = rng.choice(TOPICS) if what == "move" else memories[key][0]
                memories[key] = [topic, memories[key][1] + 1]
                said += ["memory_added"] if what == "move" else []  # it may match anew
        self.done[what] += 1
        outdated = self.database.changed()
        for one in said:
            of = key if one == "memory_added" or rng.random() < 0.5 else key[1]
            worker.ask(do=one, of=of)
        for name in outdated:  # who has said it gives nothing of before
            worker.floor[name] = len(self.database.history[name]) - 1

    def forget(self, worker: Worker) -> None:
        """Forget lists that are as good as ever."""
        do = self.rng.choice(["clear", "invalidate_by_scope", "invalidate_by_memory"])
        ids = [key[1] for key in self.database.memories] or ["m0"]
        of = self.rng.choice(ids if do == "invalidate_by_memory" else SCOPES)
        worker.ask(do=do, of=of)
        self.done[do] += 1

    # -- what is asked -----------------------------------------------------------------------------

    def put(self, worker: Worker) -> None:
        query, scope = self.rng.choice(QUERIES)
        results = self.database.find(query, scope)
        found = {"results": results, "ids": self.database.named(results, self.rng)}
        worker.ask(do="put", query=query, scope=scope, found=found)
        self.done["put"] += 1

    def read(self, worker: Worker) -> None:
        """Ask for a list, until it is the present one or the bound is over."""
        (one,) = self.rng.choices(QUERIES, RANKS)
        do = self.rng.choices(["load", "get"], [3, 1])[0]
        if do == "load" and self.rng.random() < 0.5:  # the same query, its parameters turned round
            one = (dict(reversed(one[0].items())) if isinstance(one[0], dict) else one[0], one[1])
        self.done[do] += 1
        deadline = None
        while True:
            began = time.monotonic()
            answer = self.answer(worker, do, *one)
            ended = time.monotonic()
            if answer is None or not self.is_outdated(worker, one, answer, began):
                break
            deadline = deadline or ended + BOUND
            if ended > deadline:
                self.wrong.append(("still outdated", one, answer))
                return
            time.sleep(0.001)  # between two looks at what the other process changed
        if deadline:
            self.slowest = max(self.slowest, ended - deadline + BOUND)

    def answer(self, worker: Worker, do: str, query: Any, scope: str | None) -> Any:
        worker.say(do=do, query=query, scope=scope)
        heard = worker.hear()
        while "asks" in heard:
            results = self.database.find(query, scope)
            if self.rng.random() < 0.15:  # and before the loader returns it is outdated
                self.done["change during a load"] += 1
                self.change(next(other for other in self.workers if other is not worker))
            worker.say(results=results, ids=self.database.named(results, self.rng))
            heard = worker.hear()
        return heard["answer"]

    def is_outdated(self, worker: Worker, one: Any, answer: Any, began: float) -> bool:
        """Judge an answer; say whether it is of before, though it may still be given."""
        name = query_key(*one)
        past = self.database.history[name]
        versions = [i for i, (_, found) in enumerate(past) if found == answer]
        ends = [since for since, _ in past[1:]] + [float("inf")]  # of each version
        allowed = [i for i in versions if ends[i] >= began - BOUND and i >= worker.floor[name]]
        if not allowed:
            self.wrong.append(("never", one, answer, versions, worker.floor[name], len(past)))
            return False
        worker.floor[name] = max(worker.floor[name], allowed[0])
        return allowed[-1] != len(past) - 1

    def step(self) -> None:
        worker = self.rng.choice(self.workers)
        weights = {self.read: 86, self.change: 8, self.put: 5, self.forget: 1}
        self.rng.choices(list(weights), list(weights.values()))[0](worker)


@pytest.fixture
def world():
    """Two processes on a store, and the database between them: ``world(url, seed)``."""
    started: list[subprocess.Popen] = []

    def make(url, seed, how="hearing"):
        command = [sys.executable, "-W", "error", retrieval_process.__file__, "obey", url, how]
        started.extend(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        )
        return World([Worker(one) for one in started], seed)

    yield make
    for one in started:
        try:
            _, errors = one.communicate(timeout=HANG)
        finally:
            one.kill()
        assert (one.returncode, errors) == (0, "")


def test_ten_thousand_steps_in_two_processes_give_no_wrong_list(world, one_server):
    it = world(one_server.url, seed=5)
    for _ in range(10_000):
        it.step()
    assert it.wrong == []
    counts = [worker.ask(do="stats") for worker in it.workers]
    print(dict(it.done), f"slowest {it.slowest * 1000:.1f} ms", counts)
    # it was a cache that was tested, and everything was tried
    assert sum(one["near_hits"] for one in counts) > 500
    assert min(it.done.values()) > 10
    assert it.done["change during a load"] > 200


def test_a_file_that_two_processes_share_gives_no_wrong_list(world, tmp_path):
    it = world(f"sqlite:///{tmp_path}/shared.db", seed=6)
    for _ in range(500):
        it.step()
    assert it.wrong == []


def test_the_judge_finds_lists_that_nobody_dropped(world, one_server):
    """A test that cannot fail proves nothing."""
    it = world(one_server.url, seed=7, how="deaf")
    while not it.wrong and sum(it.done.values()) < 1000:
        it.step()
    assert it.wrong
