"""A store that refuses, hangs, or is behind a black hole, while many call."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import redis
from numpy.typing import NDArray

from bench.faults.crowd import Call, Crowd
from bench.machine import log
from bench.report import Judged, Report, Table
from bench.servers import valkey
from nearcache.testing import FaultProxy

__all__ = ["judge_down"]

_FIRST = 0.3  # seconds in which every breaker has opened


class _Found:
    """What one outage did."""

    def __init__(
        self, fault: str, begin: float, first: list[Call], then: list[Call], back: float
    ) -> None:
        self.fault = fault
        # what a call took before the fault was not added by it
        self.first = np.array([c.began + c.took - max(c.began, begin) for c in first] or [0.0])
        self.then = _times(then)
        self.back = back


def judge_down(report: Report, *, quick: bool) -> None:
    """Let the store go away in three ways, several times each."""
    seconds, rounds = (1.5, 1) if quick else (3.0, 3)
    floor = _without_store(seconds * 2)
    table = Table(
        "A store that is away: added milliseconds per call (200 tasks, 4 threads)",
        ["fault", "at first, max", "breaker open, median", "99 %", "max", "works again, s"],
    )
    table.rows.append(["no store at all", "", *(_ms(x) for x in _quantiles(floor)), ""])
    found, errors, wrong = [], 0, 0
    for fault in ("refused", "hung", "black-holed"):
        for _ in range(rounds):
            log(f"faults: {fault}")
            with _server() as (server, proxy), Crowd(proxy.url) as crowd:
                time.sleep(1.0 if quick else 2.0)
                found.append(_outage(fault, server, proxy, crowd, seconds))
            errors += len(crowd.errors)
            wrong += crowd.wrong
            one = found[-1]
            then = [_ms(x) for x in _quantiles(one.then)]
            table.rows.append([fault, _ms(float(one.first.max())), *then, round(one.back, 2)])
    report.tables.append(table)
    usual = _quantiles(floor)
    report.judged += [
        Judged("Exceptions that reached a caller", 0, errors, ""),
        Judged("Wrong values", 0, wrong, ""),
        Judged("Added by a store that goes away, at first", 60, 1e3 * _most(found), "ms"),
        Judged(
            "Added while the breaker is open, median",
            1,
            1e3 * max(_quantiles(one.then)[0] - usual[0] for one in found),
            "ms",
        ),
        Judged(
            "Added while the breaker is open, 99 %",
            1,
            1e3 * max(_quantiles(one.then)[1] - usual[1] for one in found),
            "ms",
        ),
        Judged("Works again after the store is back", 2, max(one.back for one in found), "s"),
    ]


def _outage(
    fault: str, server: "_Pausable", proxy: FaultProxy, crowd: Crowd, seconds: float
) -> _Found:
    begin, heal = time.perf_counter(), proxy.heal
    if fault == "refused":
        proxy.refuse()
        proxy.reset()
    elif fault == "hung":
        server.pause()
        heal = server.resume
    else:
        proxy.black_hole()
    time.sleep(seconds)
    end = time.perf_counter()
    heal()
    while crowd.states != {"closed"}:
        time.sleep(0.005)
    back = time.perf_counter() - end
    time.sleep(0.2)
    first = crowd.between(begin, begin + _FIRST)
    then = [call for call in crowd.between(begin + _FIRST, end) if call.began > begin + _FIRST]
    return _Found(fault, begin, first, then, back)


class _Pausable:
    """A server's process, which can stand still."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def pause(self) -> None:
        """Stop it, as it stands."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._pid, signal.SIGCONT)


@contextmanager
def _server() -> Iterator[tuple[_Pausable, FaultProxy]]:
    with valkey() as port, redis.Redis("127.0.0.1", port) as client:
        pid = int(client.info("server")["process_id"])
        with FaultProxy("127.0.0.1", port) as proxy:
            yield _Pausable(pid), proxy


def _without_store(seconds: float) -> "Times":
    with Crowd(None) as crowd:
        time.sleep(seconds)
    return _times(crowd.calls)


Times = NDArray[np.float64]


def _times(calls: list[Call]) -> Times:
    return np.array([call.took for call in calls] or [0.0])


def _quantiles(times: Times) -> list[float]:
    return [float(x) for x in np.quantile(times, (0.5, 0.99, 1.0))]


def _most(found: list[_Found]) -> float:
    return max(float(one.first.max()) for one in found)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)
