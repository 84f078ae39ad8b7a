"""A whole run: a server, a proxy for each worker, the workers, storms, and comparisons between."""

import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from live.history.board import Board, keys_of
from live.history.caches import Setting
from live.history.faults import FileNemesis, Nemesis
from live.history.groups import ClusterNemesis, SentinelNemesis
from live.history.readers import Tally
from live.history.worker import Orders, main

__all__ = ["Findings", "Plan", "check"]

_ANSWER = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. It goes on until ``reads`` were checked, in at least ``cycles`` storms.

    server: a kind of ``servers.KINDS``, also after ``cluster:`` or ``sentinel:``; or ``"sqlite"``.
    cache: a name of ``caches.KNOWN`` or ``module:function``.  bound: T, in other processes.
    faults: names of ``faults.FAULTS``; none means all.  groups: whether it knows tags and clear.
    protection: what is switched off (``unprotected.py``), to see the checker fail.
    """

    server: str = "valkey-9.1"
    cache: str = "nearcache"
    reads: int = 0
    cycles: int = 1
    seconds: float = 10.0
    workers: int = 4
    threads: int = 1
    tasks: int = 2
    loops: int = 2
    bound: float = 3.0
    lease: float = 2.0
    rest: float = 0.001
    patience: float = 20.0
    convergence: float = 1.0
    most_seconds: float = 3600.0
    faults: Sequence[str] = ()
    groups: bool = True
    protection: str = ""
    seed: int = 0


@dataclass(slots=True)
class Findings:
    """What a run found. ``wrong`` says whether the contract was broken, and how.

    apart: near copies that were not the store's value when compared.  missed: reads then that
    answered nothing though the store held a value (it was still left alone): slow, not wrong.
    vanished: puts that the store lost though it kept all else.  undelivered: old values that the
    store still has though their writer said, in vain then, that they are none any more.
    rolled_back: values that a server lost after it had acknowledged them, by asynchronous
    replication.
    """

    plan: Plan
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    cycles: int = 0
    compared: int = 0
    missed: int = 0
    apart: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    undelivered: list[str] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""

    @property
    def wrong(self) -> dict[str, int]:
        """Return every count that the contract wants to be zero, and is not."""
        tally = self.tally
        counts = {
            "stale reads": tally.stale,
            "resurrected": tally.resurrected,
            "own writes not read": tally.unread,
            "stale reads past near": tally.unfresh,
            "served after their life": tally.overdue,
            "values spoiled": tally.spoiled,
            "calls that raised": tally.raised,
            "reads too slow": tally.slow,
            "near copies apart from the store": len(self.apart),
            "lost updates": len(self.lost),
            "values that vanished": len(self.vanished),
            "writes left undelivered": len(self.undelivered),
            "broken off": int(bool(self.failure)),
        }
        return {name: count for name, count in counts.items() if count}

    def document(self) -> dict[str, Any]:
        """Return everything as JSON types, without the log of the faults."""
        tally = asdict(self.tally)
        return {
            "plan": asdict(self.plan),
            "wrong": self.wrong,
            **tally,
            "seconds": round(self.seconds, 1),
            "reads_per_second": int(self.tally.reads / self.seconds) if self.seconds else 0,
            "near_share": self.near_share,
            "cycles": self.cycles,
            "compared": self.compared,
            "missed": self.missed,
            "apart": self.apart[:50],
            "lost": self.lost[:50],
            "vanished": self.vanished[:50],
            "undelivered": self.undelivered[:50],
            "rolled_back_values": self.rolled_back[:50],
            "faults": dict(sorted(self.faults.items())),
            "notes": self.notes,
            "failure": self.failure,
        }

    @property
    def near_share(self) -> float:
        """How many of the reads were answered by the near tier."""
        return self.tally.near / max(1, self.tally.near + self.tally.far)

    def text(self) -> str:
        """Return the whole for people."""
        tally, rate = self.tally, self.tally.reads / max(0.1, self.seconds)
        lines = [
            f"{self.plan.cache} on {self.plan.server}, seed {self.plan.seed}"
            + (f", without {self.plan.protection}" if self.plan.protection else ""),
            (
                f"reads                  {tally.reads:,} in {self.seconds:.0f} s ({rate:,.0f}/s), "
                f"{tally.checked:,} found a value"
            ),
            f"answered near          {100 * self.near_share:.1f} %",
            f"writes                 {tally.writes:,}, {tally.failed_writes:,} of unknown outcome",
            f"loads                  {tally.loads:,}",
            f"stale reads            {tally.stale:,}",
            f"resurrected            {tally.resurrected:,}",
            f"own writes not read    {tally.unread:,}",
            f"stale past near        {tally.unfresh:,} (worst {tally.worst_fresh:.3f} s)",
            (
                f"lost by the servers    {len(self.rolled_back)} values, "
                f"{tally.rolled_back:,} reads of those before"
            ),
            (
                f"lost updates           {len(self.lost)}, vanished {len(self.vanished)}, "
                f"undelivered {len(self.undelivered)}"
            ),
            f"worst staleness        {tally.worst:.3f} s (bound {self.plan.bound:g} s)",
            f"worst overstay         {tally.worst_overdue:.3f} s after the value's life",
            f"slowest read           {tally.slowest:.3f} s, write {tally.slowest_write:.3f} s",
            f"raised                 {tally.raised:,} (refused to the writers: {tally.refused:,})",
            (
                f"convergence            {self.compared:,} comparisons in {self.cycles} cycles, "
                f"{len(self.apart)} failures, {self.missed} misses of what the store held"
            ),
            f"faults                 {sum(self.faults.values())}: "
            + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())),
        ]
        lines += [
            f"  {each}" for each in _worst(self.lost, self.vanished, self.undelivered, self.apart)
        ]
        lines += [f"  {each}" for each in _few(tally.examples)]
        lines += [f"  {each}" for each in self.notes]
        if self.failure:
            lines.append(f"BROKEN OFF: {self.failure}")
        verdict = ", ".join(f"{count:,} {name}" for name, count in self.wrong.items())
        lines.append(f"VERDICT: {verdict or 'the contract held'}")
        return "\n".join(lines)

    def json(self) -> str:
        """Return the document as a text."""
        return json.dumps(self.document(), indent=1, ensure_ascii=False)


def check(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Findings:
    """Run a plan. Call it from a thread that outlives it: servers die with the thread."""
    folder = Path(tempfile.mkdtemp(prefix="nearcache-history-", dir=_memory()))
    findings = Findings(plan)
    start = time.monotonic()
    run = None
    try:
        run = _Run(plan, folder, findings, say)
        run.start()
        run.cycle_on(start)
        run.end()
    except (RuntimeError, OSError) as error:
        findings.failure = str(error) or repr(error)
    finally:
        findings.seconds = time.monotonic() - start
        if run is not None:
            findings.faults = dict(run.nemesis.counts)
            findings.log = sorted(run.nemesis.log, key=_moment)
            run.close()
        shutil.rmtree(folder, ignore_errors=True)
    return findings


def _worst(*findings: list[str]) -> list[str]:
    return [each for some in findings for each in some[:6]]


def _moment(line: str) -> float:
    return float(line.partition(" ")[0].removeprefix("t="))


def _few(examples: Sequence[str], most: int = 4) -> list[str]:
    """Return the first of each kind; the kind is the second word."""
    kinds = dict.fromkeys(each.split()[1] for each in examples)
    return [
        each
        for kind in kinds
        for each in sorted(each for each in examples if each.split()[1] == kind)[:most]
    ]


def _memory() -> str | None:
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


class _Run:
    def __init__(
        self, plan: Plan, folder: Path, findings: Findings, say: Callable[[str], None]
    ) -> None:
        self.plan, self.findings, self.say = plan, findings, say
        path = folder / "board"
        keys = keys_of(plan.workers, plan.groups)
        self.board = Board(path, len(keys), plan.workers, create=True)
        setting = Setting("", bound=plan.bound, lease=plan.lease, protection=plan.protection)
        form, _, kind = plan.server.rpartition(":")
        make: Callable[..., Nemesis] = {
            "": Nemesis,
            "cluster": ClusterNemesis,
            "sentinel": SentinelNemesis,
        }[form]
        if plan.server == "sqlite":
            make = partial(FileNemesis, path=folder / "store.db")
        self.nemesis = make(
            kind,
            self.board,
            plan.workers,
            setting.namespace,
            bound=plan.bound,
            faults=plan.faults,
            seed=plan.seed,
        )
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for number, url in enumerate(self.nemesis.urls):
            orders = Orders(
                number=number,
                workers=plan.workers,
                board=str(path),
                cache=plan.cache,
                setting=Setting(
                    url,
                    bound=plan.bound,
                    lease=plan.lease,
                    protection=plan.protection,
                ),
                groups=plan.groups,
                seed=plan.seed * 100 + number,
                threads=plan.threads,
                tasks=plan.tasks,
                loops=plan.loops,
                rest=plan.rest,
                patience=plan.patience,
            )
            mine, theirs = context.Pipe()
            self.pipes.append(mine)
            process = context.Process(
                target=main, args=(orders, theirs), name=f"history-{number}", daemon=True
            )
            self.processes.append((process, theirs))

    def start(self) -> None:
        for process, theirs in self.processes:
            process.start()
            theirs.close()
            self.nemesis.pids.append(process.pid or 0)
        self.nemesis.note(f"workers' stores: {', '.join(self.nemesis.urls)}")
        self._answers("ready")

    def cycle_on(self, start: float) -> None:
        plan, findings = self.plan, self.findings
        while True:
            began = time.monotonic()
            self._order("go")
            self.nemesis.storm(plan.seconds, self._watch)
            if findings.cycles % 2:  # the writers stop first, with unknown outcomes left
                self.nemesis.wake_workers()
                self._order("quiet", argument=False)
                self._order("pause")  # nor do the readers do anything for anybody
                self.nemesis.heal()
            else:
                self.nemesis.heal()
                self._order("quiet", argument=True)
            time.sleep(plan.convergence)
            self._order("pause")
            self.nemesis.note("comparing")
            for found in self._order("compare", began):
                findings.compared += found["compared"]
                findings.missed += found["missed"]
                findings.apart += found["apart"]
                findings.lost += found["lost"]
                findings.vanished += found["vanished"]
                findings.undelivered += found["undelivered"]
                findings.rolled_back += found["rolled_back"]
            findings.cycles += 1
            reads = sum(self.board.reads)
            passed = time.monotonic() - start
            self.say(
                f"cycle {findings.cycles}: {reads:,} reads in {passed:.0f} s, "
                f"{len(findings.apart)} apart, {len(findings.lost)} lost"
            )
            if passed > plan.most_seconds:
                return
            if reads >= plan.reads and findings.cycles >= plan.cycles:
                return

    def end(self) -> None:
        for tally, notes, told in self._order("end"):
            self.findings.tally.add(tally)
            self.nemesis.log += told
            self.findings.notes += [note for note in notes if note not in self.findings.notes]
        for process, _ in self.processes:
            process.join(30)
            if process.is_alive():
                self.findings.failure = f"{process.name} does not end"

    def close(self) -> None:
        self.nemesis.close()
        for process, _ in self.processes:
            if process.pid is not None and process.is_alive():
                process.kill()
            if process.pid is not None:
                process.join()
                process.close()
        for pipe in self.pipes:
            pipe.close()

    def _watch(self) -> None:
        for number, (process, _) in enumerate(self.processes):
            if not process.is_alive():
                said = self.pipes[number].recv()[1] if self.pipes[number].poll() else ""
                raise RuntimeError(f"{process.name} died: {said}")

    def _order(self, order: str, argument: object = None) -> list[Any]:
        for pipe in self.pipes:
            pipe.send((order, argument))
        return self._answers(order)

    def _answers(self, order: str) -> list[Any]:
        answers = []
        for number, pipe in enumerate(self.pipes):
            if not pipe.poll(_ANSWER):
                raise RuntimeError(f"worker {number} does not answer to {order!r}")
            try:
                what, answer = pipe.recv()
            except EOFError:
                raise RuntimeError(f"worker {number} died at {order!r}") from None
            if what == "failed":
                raise RuntimeError(answer)
            answers.append(answer)
        return answers
