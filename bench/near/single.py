"""One key: nanoseconds of a hit, a miss and a write that evicts, 1000 hot keys in memory."""

import itertools
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.machine import log, one_core
from bench.near import mine, threads
from bench.near.laps import Lap, net, nothing, race_laps
from bench.near.peers import Peer, peers
from bench.near.tiers import CORES, best_policy
from bench.report import Judged, Report, Table

__all__ = ["run"]

TITLE = "One key in memory, 1000 hot keys of 48 characters"
_SIZE, _STREAM = 1000, 8000
_EMPTY = "the loop alone"
_UNTIL = "nearcache {}, {}, TTL, end known beforehand"


def run(*, quick: bool) -> Report:
    """Race hits, then misses, then writes that evict; then hits from four threads."""
    texts = "made-up keys of 48 characters, equal to those that are held but other str objects"
    report = Report("near.single", TITLE, quick, texts=texts)
    rounds = 11 if quick else 101
    policies = (best_policy(), "lru")
    with ExitStack() as stack, one_core():
        contestants = _Contestants()
        for core, policy in itertools.product(CORES, policies):
            peer, until = mine.tier_peer(core, policy, _SIZE)
            contestants.add(peer, _text)
            contestants.puts[_UNTIL.format(core, policy)] = until
        for core in CORES:
            contestants.add(*mine.hot_cache(core, policies[0], _SIZE))
        for peer in peers(_SIZE, stack):
            contestants.add(peer, _text)
        found = {what: contestants.race(what, rounds) for what in ("hit", "miss", "put")}
    report.tables.append(_table(found, rounds))
    _judge(report, found, contestants)
    threads.measure(report, policies[0], _keys(_text, "hot"), quick=quick)
    report.notes.append(
        "Nanoseconds of processor time per operation, the middle round, less the loop around the "
        "calls (a row of its own). `set + evict` writes keys that are not there into a full cache; "
        "a life of an hour is given with each where the cache can, nearcache's by `monotonic() + "
        "ttl` as any caller has to (but for the rows that say otherwise). lru_cache has no miss "
        "apart from its call of the function, whose trivial body is in its last column; the dict "
        "never evicts. nearcache, cachebox, moka and lru_cache are thread-safe as they are; "
        "lru-dict and the dict count nothing and let nothing expire."
    )
    return report


def _text(kind: str, number: str, _scope: str | None = None) -> str:
    return f"{kind}:{number:0>43}"


def _keys(make: Callable[..., Any], kind: str, count: int = _SIZE) -> list[Any]:
    """Return keys in no order, all of them new objects."""
    order = [(number * 7919) % count for number in range(count)]
    return [make(f"{kind:_<4}", f"{number:043d}", "agent") for number in order]


class _Contestants:
    """Every peer filled, with its loops and keys by operation."""

    def __init__(self) -> None:
        self.peers: list[tuple[Peer, Callable[..., Any]]] = []
        self.puts: dict[str, Any] = {}

    def add(self, peer: Peer, key: Callable[..., Any]) -> None:
        """Take a peer in; it holds the hot keys from here on."""
        if peer.put is not None:
            peer.put(_keys(key, "hot"))
        elif "cache[key]" not in peer.name:
            msg = f"{peer.name} cannot be filled"
            raise LookupError(msg)
        self.peers.append((peer, key))

    def race(self, what: str, rounds: int) -> dict[str, list[float]]:
        """Race one operation of all peers."""
        log(f"near.single: {what}")
        laps = [Lap(_EMPTY, nothing(), itertools.repeat(_keys(_text, "hot")).__next__)]
        if what != "put":
            for peer, key in self.peers:
                loop = peer.hit if what == "hit" else peer.miss
                if loop is not None:
                    keys = _keys(key, "hot" if what == "hit" else "gone")
                    laps.append(Lap(peer.name, loop, itertools.repeat(keys).__next__))
            return race_laps(laps, rounds)
        loops = [(peer.name, peer.put, key) for peer, key in self.peers if peer.put is not None]
        loops += [(name, loop, _text) for name, loop in self.puts.items()]
        streams = {key: _stream(key) for _, _, key in loops}
        laps += [
            Lap(name, loop, itertools.cycle(streams[key]).__next__) for name, loop, key in loops
        ]
        return race_laps(laps, rounds)


def _stream(key: Callable[..., Any]) -> list[list[Any]]:
    """Return batches of keys: when the first comes again it has long been evicted."""
    keys = [key("new_", f"{number:043d}", "agent") for number in range(_STREAM)]
    return [keys[start : start + _SIZE] for start in range(0, _STREAM, _SIZE)]


def _table(found: dict[str, dict[str, list[float]]], rounds: int) -> Table:
    columns = ["ns per operation", "hit", "best", "miss", "set + evict"]
    table = Table(f"{rounds} rounds", columns)
    names = sorted(found["put"] | found["hit"], key=lambda name: _order(found, name))
    for name in names:
        row: list[Any] = [name]
        for what in ("hit", "miss", "put"):
            taken = found[what]
            row.append(_ns(taken, name) if name in taken else "–")
            if what == "hit":
                row.append(_best(taken, name) if name in taken else "–")
        table.rows.append(row)
    return table


def _order(found: dict[str, dict[str, list[float]]], name: str) -> float:
    return statistics.median(found["hit"].get(name) or found["put"][name])


def _ns(taken: dict[str, list[float]], name: str) -> float:
    if name == _EMPTY:
        return statistics.median(taken[name]) * 1e9
    return net(taken, name, _EMPTY) * 1e9


def _best(taken: dict[str, list[float]], name: str) -> float:
    return (min(taken[name]) - (0 if name == _EMPTY else min(taken[_EMPTY]))) * 1e9


def _judge(
    report: Report, found: dict[str, dict[str, list[float]]], contestants: _Contestants
) -> None:
    names = [peer.name for peer, _ in contestants.peers]
    policy = best_policy()

    def ns(what: str, name: str) -> float:
        return _ns(found[what], name)

    def judge(what: str, target: float, one: tuple[str, str], other: tuple[str, str]) -> None:
        report.judged.append(Judged(what, target, ns(*one) / ns(*other)))

    pure = f"nearcache pure, {policy}, TTL"
    if "native" in CORES:
        native = f"nearcache native, {policy}, TTL"
        hot = next(name for name in names if ".get" in name or "hot cache" in name)
        lru, box = ("hit", "functools.lru_cache"), "cachebox TTL"
        judge("native hit against functools.lru_cache", 1.0, ("hit", native), lru)
        judge("native hit against cachebox TTL", 0.6, ("hit", native), ("hit", box))
        judge("a hot cache's get against the native hit", 3.0, ("hit", hot), ("hit", native))
        judge("native set + evict against cachebox TTL", 1.0, ("put", native), ("put", box))
    by_hand = ("hit", "OrderedDict + lock + TTL, by hand")
    judge("pure hit against OrderedDict + lock + TTL", 0.5, ("hit", pure), by_hand)
