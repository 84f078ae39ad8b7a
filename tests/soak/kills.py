"""Writers of one SQLite file that are killed at random moments, and what must be there afterwards.

Every writer has keys of its own, whose values it numbers. It says what it is about to do, does it,
and says that it is done; it is killed by ``SIGKILL`` anywhere in between. What it said to be done
must be there, and nothing that it had not even begun; of what it was about to do both are right.
"""

import os
import random
import select
import signal
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from nearcache import NearCache, Options

__all__ = ["Outcome", "kill_writers"]

_KEYS = 8
_LINE = struct.Struct("<cBI")  # b for begun or d for done, key, number
_GONE = 2**31  # added to a number: it was forgotten, not written
_SIZE = 3000  # bytes of a value: a page holds two
_HANG = 60.0


@dataclass
class Outcome:
    """What was counted; ``faults`` says in words what went wrong."""

    kills: int = 0
    together: int = 0
    done: int = 0
    checked: int = 0
    openings: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class _Writer:
    process: int
    pipe: int
    name: int


def kill_writers(path: Path, kills: int, *, writers: int = 4, seed: int = 0) -> Outcome:
    """Keep so many writers at work until so many were killed: one at a time, or all at once.

    The caller's process must have no cache open: the writers are forked from it.
    """
    chosen, outcome = random.Random(seed), Outcome()
    states = [dict.fromkeys(range(_KEYS), (0, 0)) for _ in range(writers)]
    running = [_start(path, number, states[number]) for number in range(writers)]
    try:
        while outcome.kills < kills:
            time.sleep(chosen.uniform(0.0, 0.15))  # the moment is what is random here
            together = chosen.random() < 0.4
            victims = list(range(writers)) if together else [chosen.randrange(writers)]
            for number in victims:
                os.kill(running[number].process, signal.SIGKILL)
            for number in victims:
                states[number] = _heard(running[number], states[number], outcome)
            outcome.kills += len(victims)
            outcome.together += together
            for number in victims:
                states[number] = _looked(path, number, states[number], outcome)
            for number in victims:
                running[number] = _start(path, number, states[number])
    finally:
        for writer in running:
            os.kill(writer.process, signal.SIGKILL)
            os.waitpid(writer.process, 0)
            os.close(writer.pipe)
    return outcome


def _start(path: Path, number: int, state: dict[int, tuple[int, int]]) -> _Writer:
    mine, theirs = os.pipe()
    process = os.fork()
    if process:
        os.close(theirs)
        return _Writer(process, mine, number)
    os.close(mine)
    try:
        _write(path, number, state, theirs)
    finally:
        os._exit(1)


def _write(path: Path, number: int, state: dict[int, tuple[int, int]], pipe: int) -> None:
    chosen = random.Random(os.urandom(8))
    count = max(last % _GONE for pair in state.values() for last in pair)
    with _opened(path) as cache:
        while True:
            count += 1
            key = chosen.randrange(_KEYS)
            forgets = chosen.random() < 0.2
            noted = count + _GONE * forgets
            os.write(pipe, _LINE.pack(b"b", key, noted))
            if forgets:
                cache.invalidate(_name(number, key))
            else:
                cache.put(_name(number, key), _value(number, key, count))
            os.write(pipe, _LINE.pack(b"d", key, noted))


def _opened(path: Path) -> NearCache:
    options = Options(on_store_error="raise")
    return NearCache(f"sqlite:///{path}", namespace="kills", ttl=None, options=options)


def _name(number: int, key: int) -> str:
    return f"writer-{number}-key-{key}"


def _value(number: int, key: int, count: int) -> list[object]:
    return [number, key, count, "x" * (_SIZE + count % 97)]


def _heard(
    writer: _Writer, state: dict[int, tuple[int, int]], outcome: Outcome
) -> dict[int, tuple[int, int]]:
    """Return, by key, what was done last and what was begun last."""
    said = b""
    while part := os.read(writer.pipe, 2**16):
        said += part
    os.waitpid(writer.process, 0)
    os.close(writer.pipe)
    state = dict(state)
    whole = len(said) - len(said) % _LINE.size
    for what, key, noted in _LINE.iter_unpack(said[:whole]):
        done, _ = state[key]
        state[key] = (noted if what == b"d" else done, noted)
        outcome.done += what == b"d"
    return state


def _looked(
    path: Path, number: int, state: dict[int, tuple[int, int]], outcome: Outcome
) -> dict[int, tuple[int, int]]:
    """Open the file in another process, and compare; return what is there."""
    mine, theirs = os.pipe()
    process = os.fork()
    if not process:
        os.close(mine)
        try:
            with _opened(path) as cache:
                for key in range(_KEYS):
                    os.write(theirs, struct.pack("<q", _number(cache, number, key)))
        finally:
            os._exit(0)
    os.close(theirs)
    answers = b""
    end = time.monotonic() + _HANG
    while len(answers) < 8 * _KEYS and time.monotonic() < end:
        if select.select([mine], [], [], 1.0)[0]:
            part = os.read(mine, 8 * _KEYS)
            if not part:
                break
            answers += part
    os.close(mine)
    os.waitpid(process, 0)
    if len(answers) < 8 * _KEYS:
        outcome.faults.append(f"after {outcome.kills} kills the file could not be read")
        return state
    outcome.openings += 1
    there = dict(state)
    for key, (found,) in enumerate(struct.iter_unpack("<q", answers)):
        done, begun = state[key]
        right = {-1 if last >= _GONE or not last else last for last in (done, begun)}
        outcome.checked += 1
        if found not in right:
            outcome.faults.append(
                f"after {outcome.kills} kills {_name(number, key)} is {found}, not {right}"
            )
        noted = begun if found == (-1 if begun >= _GONE or not begun else begun) else done
        there[key] = (noted, noted)
    return there


def _number(cache: NearCache, number: int, key: int) -> int:
    """Return the number of the value that is there, -1 for none, -2 for a wrong one."""
    value = cache.get(_name(number, key))
    if value is None:
        return -1
    count = value[2]
    return count if value == _value(number, key, count) else -2
