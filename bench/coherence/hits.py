"""What a near hit costs where the value may change elsewhere, beside one that cannot."""

import json
import statistics
from contextlib import ExitStack
from typing import Any

from bench.machine import log, one_core, other_core
from bench.near.laps import Lap, calls, net, nothing, race_laps
from bench.report import Judged, Report, Table

__all__ = ["measure"]

_EMPTY = "the loop alone"
_VALUES: dict[str, Any] = {
    "str": "a value of one hundred characters " * 3,
    "bytes": b"a value of one hundred characters " * 3,
    "dict": {"name": "order", "tags": ["a", "b", "c"], "total": 17.5, "lines": list(range(20))},
}


def measure(report: Report, *, quick: bool) -> None:
    """Race hits of values that may change against the same with no store, and a dictionary."""
    from nearcache import NearCache, RedisStore
    from servers import Server

    log("coherence: hits")
    rounds = 11 if quick else 101
    keys = [f"key {number}" for number in range(500)]
    laps = [Lap(_EMPTY, nothing(), lambda: keys)]
    with ExitStack() as stack, one_core():
        server = stack.enter_context(Server())
        other_core(server.pid)
        store = RedisStore(server.url)
        stack.callback(store.close)
        for kind, value in _VALUES.items():
            codec = "bytes" if kind == "bytes" else "json"
            for what, on in (("store", store), ("no store", None)):
                cache = NearCache(on, namespace=f"hits-{kind}", codec=codec, ttl=None)
                stack.enter_context(cache)
                cache.put_batch(dict.fromkeys(keys, value))
                cache.get_batch(keys)
                if list(cache.get_batch(keys)) != [value] * len(keys):
                    raise ArithmeticError(f"{kind}, {what}: not what was put")
                laps.append(Lap(f"{kind}, {what}", calls(cache.get), lambda: keys))
        text = json.dumps(_VALUES["dict"]).encode()
        plain = dict.fromkeys(keys, text)
        laps.append(Lap("dict.get", calls(plain.get), lambda: keys))
        laps.append(Lap("json.loads", calls(lambda _: json.loads(text)), lambda: keys))
        taken = race_laps(laps, rounds)
    table = Table(f"A near hit, ns of processor time, {rounds} rounds", ["", "ns", "best", "p90"])
    for lap in laps:
        ordered = sorted(taken[lap.name])
        cells = [statistics.median(ordered), ordered[0], ordered[int(0.9 * (rounds - 1))]]
        table.rows.append([lap.name, *(1e9 * seconds for seconds in cells)])
    report.tables.append(table)
    cost = {lap.name: net(taken, lap.name, _EMPTY) for lap in laps}
    for kind in ("str", "bytes"):
        with_store, without = cost[f"{kind}, store"], cost[f"{kind}, no store"]
        goal = f"near hit, {kind}: may change, against cannot"
        report.judged.append(Judged(goal, 1.5, with_store / without))
        report.judged.append(Judged(f"near hit, {kind}", 1000, 1e9 * with_store, "ns"))
    ratio = cost["dict, store"] / cost["json.loads"]
    report.judged.append(Judged("near hit, dict, against json.loads", 1.3, ratio))
