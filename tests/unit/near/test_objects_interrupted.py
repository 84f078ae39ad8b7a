"""Ctrl-C, or no memory, at any step of an operation leaves a tier that is in order."""

import dis
import sys
import weakref
from pathlib import Path

import pytest

from nearcache.near import objects
from nearcache.near.objects import ObjectTier
from nearcache.testing import ManualClock

MOST_STEPS = 100_000
STRIDE = 13  # 1 is thorough, and takes minutes
POLICIES = ("adaptive", "lru", "fifo", "s3fifo", "lfu")
ROOMY = 2**40


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt."""


def interrupted(operation, at: int, *, again: bool = False) -> bool:
    """Run an operation and interrupt it before its ``at``-th instruction; False if it ended.

    The flag that says that an operation is under way is set and taken back in one instruction
    after which nothing can come in: there, and only there, nothing comes in here either.
    """
    steps = 0
    repairing = False

    def trace(frame, event, _arg):
        nonlocal steps, repairing
        if "/near/" not in frame.f_code.co_filename:
            return None
        if event == "call" and frame.f_code.co_name == "_repair":
            repairing = True
            if not again:
                sys.settrace(None)
                return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not passes(frame):
            steps += not again or repairing
            if steps == at:
                sys.settrace(None)
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        operation()
    except Interrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def passes(frame) -> bool:
    """Say whether nothing can come in before this instruction."""
    if frame.f_code.co_code[frame.f_lasti] == dis.opmap["NOP"]:
        return True
    return frame.f_code.co_filename == objects.__file__ and frame.f_lineno in FLAGGING


FLAGGING = {
    number
    for number, line in enumerate(Path(objects.__file__).read_text("utf-8").splitlines(), 1)
    if "self._busy = " in line
}


class Value:
    def __init__(self, key):
        self.key = key


def put(tier, clock, numbers, ttl=None, size=0):
    for n in numbers:
        tier.put(f"k{n}", Value(f"k{n}"), 0 if ttl is None else clock() + ttl, size)


OPERATIONS = {
    "new": lambda tier, clock: put(tier, clock, [300, 301], 50),
    "growing": lambda tier, clock: (tier.resize(600, ROOMY), put(tier, clock, range(300, 302))),
    "overwriting": lambda tier, clock: put(tier, clock, [3, 7, 11], 50),
    "too large": lambda tier, clock: (
        tier.resize(100, 10_000),
        put(tier, clock, [3], None, 20_000),
    ),
    "getting": lambda tier, clock: (clock.advance(20), tier.get_many(["k3", "k9", "x"])),
    "dropping": lambda tier, _: tier.drop_many(["k3", "k9", "x", "k4"]),
    "clearing": lambda tier, _: tier.clear(),
    "expiring": lambda tier, clock: (clock.advance(60), tier.expire()),
    "expired first": lambda tier, clock: (clock.advance(60), put(tier, clock, [300, 301])),
    "resizing": lambda tier, _: tier.resize(8, ROOMY),
}


def filled(policy, clock):
    tier = ObjectTier(max_entries=12, max_bytes=ROOMY, clock=clock, policy=policy, seed=1)
    put(tier, clock, range(6))
    put(tier, clock, range(6, 12), 40)
    tier.get_many(["k2", "k3", "k3", "k8"])
    return tier


def check(tier, clock):
    tier.get("x")  # the next operation
    tier.drop("x")
    tier.check()
    for n in (*range(12), 300, 301):
        value = tier.get(f"k{n}")
        assert value is None or value.key == f"k{n}"
    del value
    put(tier, clock, [400, 401], 5)
    assert tier.max_entries < 2 or tier.get("k401").key == "k401"
    alive = [weakref.ref(tier.peek(key)[0]) for key, _ in tier.items()]
    tier.check()
    tier.clear()
    tier.check()
    assert len(tier) == tier.used_bytes == 0
    assert [value() for value in alive if value() is not None] == []


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_cut_off_at_any_instruction_leaves_a_tier_in_order(name, policy):
    for at in range(1 + POLICIES.index(policy), MOST_STEPS, STRIDE):
        clock = ManualClock()
        tier = filled(policy, clock)
        cut = interrupted(lambda tier=tier, clock=clock: OPERATIONS[name](tier, clock), at)
        check(tier, clock)
        if not cut:
            return
    pytest.fail("the operation never ended")


@pytest.mark.parametrize("policy", ["adaptive", "lru", "s3fifo"])
def test_a_repair_that_is_cut_off_is_done_again(policy):
    for at in range(1, MOST_STEPS, 5 * STRIDE):
        clock = ManualClock()
        tier = filled(policy, clock)
        tier._torn = True
        tier._entries[3] = None  # as if half of it were done
        cut = interrupted(lambda tier=tier: tier.drop("x"), at, again=True)
        check(tier, clock)
        if not cut:
            return
    pytest.fail("the repair never ended")


def test_a_key_that_is_interrupted_while_it_is_looked_for_harms_nobody():
    clock = ManualClock()
    tier = filled("lru", clock)

    class Key(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            raise Interrupt

    for call in (tier.get, tier.drop, lambda key: tier.put(key, 1), tier.__contains__):
        with pytest.raises(Interrupt):
            call(Key("k3"))
        tier.check()
    assert len(tier) == 12
    check(tier, clock)
