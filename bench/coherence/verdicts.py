"""The history check, on nearcache and on the peers that keep a tracked near tier."""

from typing import Any

from bench.machine import log
from bench.report import Judged, Report, Table

__all__ = ["PEERS", "measure"]

PEERS = {
    "redis-py": "bench.coherence.peers:redis_py",
    "cashews": "bench.coherence.peers:cashews",
    "cashews-resp2": "bench.coherence.peers:cashews_resp2",
    "coredis": "bench.coherence.peers:coredis",
}
_SERVER = "redis-8.2"  # redis-py's cache works with no older one


def measure(report: Report, *, quick: bool) -> None:
    """Run the same storms on each; nearcache's findings are judged, the others' reported."""
    cycles, seconds = (1, 8.0) if quick else (3, 12.0)
    table = Table(
        f"The history of {cycles} × {seconds:g} s of faults, 4 processes, {_SERVER}",
        [
            "",
            "checked reads",
            "answered near",
            "stale (> 3 s)",
            "resurrected (> 3 s)",
            "own write not read",
            "worst staleness, s",
            "lost updates",
            "near ≠ store 1 s after",
            "lists shared between callers",
        ],
    )
    for name in ("nearcache", *PEERS):
        log(f"coherence: history of {name}")
        found, row = _history(name, cycles, seconds)
        table.rows.append(row)
        if name not in PEERS:
            wrong = sum(found.wrong.values())
            report.judged.append(Judged("history: breaches of the contract", 0, wrong, ""))
            log(found.text())
    report.tables.append(table)
    report.notes.append(
        "Histories: the checker of `tests/live/history` with the same faults in the same order: "
        "links delayed, silent, half open, reset; the server killed, paused, flushed, replaced; "
        "processes stopped. Peers promise no bound; 3 s, nearcache's, is what all are counted by. "
        "A worst staleness near the length of a fault means that it ended with the fault, a longer "
        "one that it did not. redis-py, cashews and coredis have no load that an invalidation "
        "cancels; the usual get, load, set around them resurrects and loses. A list that callers "
        "share is not checked further once one of them has changed it. cashews is there twice: "
        "with redis-py's defaults of today, RESP3, it hears no invalidation."
    )


def _history(name: str, cycles: int, seconds: float) -> tuple[Any, list[Any]]:
    """Return the findings of one cache, and its row."""
    from live.history import Plan, check

    plan = Plan(
        server=_SERVER,
        cache=PEERS.get(name, name),
        cycles=cycles,
        seconds=seconds,
        groups=name not in PEERS,
        seed=1,
    )
    found = check(plan)
    tally = found.tally
    failed = found.failure.partition("\n")[0]
    row = [
        name + (f" (broken off: {failed})" if failed else ""),
        tally.checked,
        f"{100 * found.near_share:.0f} %" if tally.near else "not counted",
        tally.stale,
        tally.resurrected,
        tally.unread,
        tally.worst,
        len(found.lost),
        len(found.apart),
        tally.spoiled,
    ]
    return found, row
