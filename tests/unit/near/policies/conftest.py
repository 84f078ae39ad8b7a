"""A cache of letters under a policy: tests read as stories."""

import pytest

from nearcache.near.policies.base import by_name


def mixed(key: int) -> int:
    """64 well-mixed bits of a number (splitmix64)."""
    x = (key + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


class Letters:
    def __init__(self, name: str, room: int, seed: int) -> None:
        self.policy = by_name(name, seed)
        self.policy.reserve(room)
        self.free = list(range(room))[::-1]
        self.slots: dict[str, int] = {}
        self.gone = ""

    def use(self, keys: str) -> str:
        """Ask for each letter, keeping those that are missing; return who had to leave."""
        before = len(self.gone)
        for key in keys:
            if key in self.slots:
                self.policy.touch(self.slots[key])
                continue
            if not self.free:
                self.evict()
            self.slots[key] = self.free.pop()
            self.policy.insert(self.slots[key], mixed(ord(key)))
            self.policy.check()
        return self.gone[before:]

    def evict(self, count: int = 1) -> str:
        """Let ``count`` leave; return their names."""
        names = {slot: key for key, slot in self.slots.items()}
        for _ in range(count):
            slot = self.policy.evict()
            self.policy.check()
            self.free.append(slot)
            self.gone += names[slot]
            del self.slots[names[slot]]
        return self.gone[len(self.gone) - count :]

    def forget(self, keys: str) -> None:
        for key in keys:
            slot = self.slots.pop(key)
            self.policy.remove(slot)
            self.free.append(slot)
            self.policy.check()


@pytest.fixture
def letters():
    """Make a cache: ``letters("lru", room=3)``."""

    def make(name: str, room: int = 100, seed: int = 1) -> Letters:
        return Letters(name, room, seed)

    return make


@pytest.fixture
def hit_ratio():
    """Play a trace: ``hit_ratio(policy, keys, size)``."""

    def play(policy, keys, size):
        policy.reserve(size)
        hits, slots, owner = 0, {}, [None] * size
        free = list(range(size))
        hashes = {key: mixed(key) for key in set(keys)}
        for key in keys:
            slot = slots.get(key)
            if slot is not None:
                hits += 1
                policy.touch(slot)
                continue
            if not free:
                victim = policy.evict()
                del slots[owner[victim]]
                free.append(victim)
            slots[key] = slot = free.pop()
            owner[slot] = key
            policy.insert(slot, hashes[key])
        policy.check()
        return hits / len(keys)

    return play
