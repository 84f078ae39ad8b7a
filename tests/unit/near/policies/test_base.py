"""What holds for every policy: against a model in plain lists, and after being interrupted."""

import random
import sys

import numpy as np
import pytest

from nearcache.near.policies.base import NAMES, by_name

# The definitions again, as slow and as plain as can be. A model holds entries in `order`.


class FifoModel:
    def __init__(self):
        self.order = []

    def insert(self, slot, key_hash):
        self.order.append(slot)

    def touch(self, slot):
        pass

    def remove(self, slot):
        self.order.remove(slot)

    def evict(self):
        return self.order.pop(0)

    def move(self, source, target):
        self.order[self.order.index(source)] = target


class LruModel(FifoModel):
    def touch(self, slot):
        self.order.remove(slot)
        self.order.append(slot)


class RandomModel(FifoModel):
    def __init__(self):
        super().__init__()
        self.state = 11 ^ 0x9E3779B97F4A7C15

    def remove(self, slot):
        last = self.order.pop()
        if slot != last:
            self.order[self.order.index(slot)] = last

    def evict(self):
        x = self.state
        x ^= x >> 12
        x = (x ^ x << 25) % 2**64
        x ^= x >> 27
        self.state = x
        slot = self.order[(x * 0x2545F4914F6CDD1D % 2**64 // 2**32) * len(self.order) // 2**32]
        self.remove(slot)
        return slot


class SieveModel(FifoModel):
    def __init__(self):
        super().__init__()
        self.visited = set()
        self.hand = 0  # an index; the end stands for the oldest

    def insert(self, slot, key_hash):
        if self.hand == len(self.order):
            self.hand = 0
        super().insert(slot, key_hash)

    def touch(self, slot):
        self.visited.add(slot)

    def remove(self, slot):
        index = self.order.index(slot)
        del self.order[index]
        self.hand -= index < self.hand
        self.visited.discard(slot)

    def evict(self):
        self.hand %= len(self.order)
        while self.order[self.hand] in self.visited:
            self.visited.remove(self.order[self.hand])
            self.hand = (self.hand + 1) % len(self.order)
        slot = self.order[self.hand]
        self.remove(slot)
        return slot

    def move(self, source, target):
        super().move(source, target)
        if source in self.visited:
            self.visited.remove(source)
            self.visited.add(target)


class LfuModel(FifoModel):
    def __init__(self):
        self.entries = {}  # slot: [priority, time, frequency]
        self.age = self.time = 0

    @property
    def order(self):
        return list(self.entries)

    def insert(self, slot, key_hash):
        self.entries[slot] = [0, 0, 0]
        self.touch(slot)

    def touch(self, slot):
        self.time += 1
        frequency = min(self.entries[slot][2] + 1, 255)
        self.entries[slot] = [self.age + frequency, self.time, frequency]

    def remove(self, slot):
        del self.entries[slot]

    def evict(self):
        slot = min(self.entries, key=self.entries.__getitem__)
        self.age = self.entries.pop(slot)[0]
        return slot

    def move(self, source, target):
        self.entries[target] = self.entries.pop(source)


class S3FifoModel(FifoModel):
    def __init__(self):
        self.small, self.main, self.places, self.ghosts = [], [], [], []
        self.frequency, self.hashes, self.knows_size = {}, {}, False

    @property
    def order(self):
        return self.small + self.main

    def insert(self, slot, key_hash):
        self.hashes[slot] = fingerprint = max(key_hash // 2**32, 1)
        self.frequency[slot] = 0
        if fingerprint in self.ghosts:
            self.ghosts.remove(fingerprint)
            self.main.append(slot)
        else:
            self.small.append(slot)

    def touch(self, slot):
        self.frequency[slot] = min(self.frequency[slot] + 1, 3)

    def remove(self, slot):
        (self.small if slot in self.small else self.main).remove(slot)

    def evict(self):
        n = len(self.order)
        if not self.knows_size:
            self.main = self.small[n // 10 :]
            del self.small[n // 10 :]
            self.knows_size = True
        if len(self.main) <= n - n // 10:
            while self.small:
                slot = self.small.pop(0)
                if self.frequency[slot] < 2:
                    self.remember(self.hashes[slot], n)
                    return slot
                self.frequency[slot] = 0
                self.main.append(slot)
        while self.frequency[self.main[0]]:
            self.frequency[self.main[0]] -= 1
            self.main.append(self.main.pop(0))
        return self.main.pop(0)

    def remember(self, fingerprint, n):
        self.trim(max(0, n * 9 // 10 - 1), n - 1)
        if n * 9 // 10:
            self.places.append(fingerprint)
            self.ghosts.append(fingerprint)

    def trim(self, ghosts, places):
        while self.places and (len(self.ghosts) > ghosts or len(self.places) > places):
            oldest = self.places.pop(0)
            if oldest in self.ghosts:
                self.ghosts.remove(oldest)

    def move(self, source, target):
        queue = self.small if source in self.small else self.main
        queue[queue.index(source)] = target
        self.frequency[target] = self.frequency[source]
        self.hashes[target] = self.hashes[source]


class FamilyModel:
    """A window and a main list of anything that has a fingerprint, the oldest first."""

    def __init__(self, share, admit):
        self.share, self.admit = share, admit
        self.window, self.main, self.hits, self.prints = [], [], {}, {}
        self.skipped, self.freezing = 0, True
        self.ghosts, self.buckets = {}, 1

    def bucket(self, fingerprint):
        return self.ghosts.setdefault(fingerprint * self.buckets // 2**32, [0] * 8)

    def fit(self, want):
        have = 8 * self.buckets
        if not have - have // 4 <= want <= have + have // 4 + 8:
            self.buckets = max((want + 4) // 8, 1)

    def hit(self, entry):
        self.hits[entry] = min(self.hits[entry] + 1, 3)
        if entry in self.window:
            self.window.remove(entry)
            self.window.append(entry)
        elif self.share == 1024:
            self.main.remove(entry)
            self.window.append(entry)

    def insert(self, entry, fingerprint):
        self.hits[entry], self.prints[entry] = 0, fingerprint
        bucket = self.bucket(fingerprint)
        if fingerprint in bucket:
            bucket.remove(fingerprint)
            bucket.append(0)
            if self.share < 1024:
                self.skipped += 1
                if self.skipped >= self.admit:
                    self.skipped = 0
                    self.main.append(entry)
                    return
        self.window.append(entry)

    def remove(self, entry):
        (self.window if entry in self.window else self.main).remove(entry)

    def evict(self, room, steps):
        want = max(room * self.share // 1024, 1)
        if self.freezing:
            while steps and len(self.window) > want:
                self.main.append(self.window.pop(0))
                steps -= 1
            self.freezing = len(self.window) > want
        while not self.freezing and self.window and (len(self.window) >= want or not self.main):
            entry = self.window.pop(0)
            if self.share == 1024 or not self.hits[entry] or not self.window + self.main:
                bucket = self.bucket(self.prints[entry])
                bucket.insert(0, self.prints[entry])
                bucket.pop()
                return entry
            self.hits[entry] = 0
            self.main.append(entry)
        while self.hits[self.main[0]]:
            self.hits[self.main[0]] -= 1
            self.main.append(self.main.pop(0))
        return self.main.pop(0)


class AdaptiveModel(FifoModel):
    """For caches of 768 entries at most: all requests are sampled."""

    members = ((1024, 1), (614, 1), (307, 1), (102, 1), (10, 1), (10, 4))

    def __init__(self):
        self.cache = FamilyModel(*self.members[0])
        self.shadows = [FamilyModel(*member) for member in self.members]
        self.scores, self.member = [0] * 6, 0
        self.room = self.credit = self.seen = self.since = 0
        self.full = False

    @property
    def order(self):
        return self.cache.window + self.cache.main

    def insert(self, slot, key_hash):
        fingerprint = key_hash * 0x9E3779B97F4A7C15 % 2**64 // 2**32
        self.cache.insert(slot, fingerprint)
        self.room = max(self.room, len(self.order))
        self.credit = min(self.credit + 32, 4096)
        self.feed(fingerprint)

    def touch(self, slot):
        self.cache.hit(slot)
        if self.credit:
            self.credit -= 1
            self.feed(self.cache.prints[slot])

    def remove(self, slot):
        self.cache.remove(slot)

    def evict(self):
        self.full, self.room = True, len(self.order)
        self.cache.fit(self.room)
        return self.cache.evict(self.room, 8)

    def move(self, source, target):
        entries = self.cache.window if source in self.cache.window else self.cache.main
        entries[entries.index(source)] = target
        self.cache.hits[target] = self.cache.hits[source]
        self.cache.prints[target] = self.cache.prints[source]

    def feed(self, fingerprint):
        room = max(self.room, 2)
        for member, shadow in enumerate(self.shadows):
            shadow.fit(room * 3 // 2)
            if fingerprint in shadow.window + shadow.main:
                shadow.hit(fingerprint)
                self.scores[member] += self.full
                continue
            while len(shadow.window + shadow.main) >= (room if self.full else 832):
                shadow.evict(room, 832)
            shadow.insert(fingerprint, fingerprint)
        self.seen += self.full
        self.since += self.full
        if self.since >= max(3000, 16 * room) // 16:
            self.since = 0
            self.follow(self.best())
            self.seen -= self.seen // 16
            self.scores = [score - score // 16 for score in self.scores]

    def best(self):
        misses = self.seen - self.scores[self.member]
        scores = [1024 * score for score in self.scores]
        scores[0] += 3 * misses
        best = 0 if scores[0] >= scores[self.member] else self.member
        lead = scores[best] + 5 * misses
        return max(range(1, 6), key=scores.__getitem__) if max(scores[1:]) > lead else best

    def follow(self, member):
        if member != self.member:
            self.cache.freezing = self.members[member][0] < self.members[self.member][0]
            self.cache.share, self.cache.admit = self.members[member]
            self.member = member


MODELS = {
    "adaptive": AdaptiveModel,
    "lru": LruModel,
    "lfu": LfuModel,
    "fifo": FifoModel,
    "random": RandomModel,
    "sieve": SieveModel,
    "s3fifo": S3FifoModel,
}


@pytest.mark.parametrize("seed,room", [(1, 1), (2, 2), (3, 9), (4, 30), (5, 130)])
@pytest.mark.parametrize("name", NAMES)
def test_any_operations_do_what_the_model_does(name, seed, room):
    rng = random.Random(seed)
    policy, model = by_name(name, 11), MODELS[name]()
    policy.reserve(room + 3)
    hashes = [rng.getrandbits(64) for _ in range(2 * room)] + [0, 1 << 32]
    live, free = [], list(range(room + 3))
    for _ in range(1500):
        action = rng.random()
        if action < 0.45:
            if len(live) >= room:
                victim = policy.evict()
                assert victim == model.evict()
                live.remove(victim)
                free.append(victim)
            slot, key_hash = free.pop(rng.randrange(len(free))), rng.choice(hashes)
            policy.insert(slot, key_hash)
            model.insert(slot, key_hash)
            live.append(slot)
        elif not live:
            assert policy.evict() is None
        elif action < 0.75:
            slot = rng.choice(live[:5])
            policy.touch(slot)
            model.touch(slot)
        elif action < 0.85:
            slots = rng.choices(live, k=rng.randrange(12))
            policy.touch_many(np.array(slots, np.intp))
            for slot in slots:
                model.touch(slot)
        elif action < 0.92:
            slot = live.pop(rng.randrange(len(live)))
            policy.remove(slot)
            model.remove(slot)
            free.append(slot)
        else:
            source, target = rng.choice(live), free.pop()
            policy.move(source, target)
            model.move(source, target)
            live[live.index(source)] = target
            free.append(source)
        policy.check()
        assert len(policy) == len(model.order) == len(live)
    while live:
        victim = policy.evict()
        assert victim == model.evict()
        live.remove(victim)
    assert policy.evict() is None


@pytest.mark.parametrize("name", NAMES)
def test_a_cleared_policy_is_as_new(name):
    old, new = by_name(name, 0), by_name(name, 0)
    for policy in (old, new):
        policy.reserve(20)
    for slot in range(20):
        old.insert(slot, slot << 32)
        old.touch(slot)
    for _ in range(5):
        old.evict()
    old.clear()
    old.check()
    assert len(old) == 0
    assert old.evict() is None
    for policy in (old, new):
        for slot in range(20):
            policy.insert(slot, slot << 32)
    old.check()
    if name != "random":  # which goes on drawing
        assert [old.evict() for _ in range(20)] == [new.evict() for _ in range(20)]


@pytest.mark.parametrize("name", NAMES)
def test_growing_and_shrinking_changes_nobody(name):
    policies = [by_name(name, 2), by_name(name, 2)]
    for policy in policies:
        policy.reserve(40)
        for slot in range(40):
            policy.insert(slot, slot << 32)
        policy.touch_many(np.arange(7))
        for slot in range(30, 40):
            policy.remove(slot)
    for capacity in (30, 1000, 31):
        policies[1].reserve(capacity)
        policies[1].check()
    left = [[policy.evict() for _ in range(31)] for policy in policies]
    assert left[0] == left[1]


# lfu's hits come under the tier's lock: none is late
@pytest.mark.parametrize("name", [name for name in NAMES if name != "lfu"])
def test_a_late_hit_on_a_free_slot_is_harmless(name):
    policy = by_name(name, 2)
    policy.reserve(4)
    for slot in range(3):
        policy.insert(slot, slot << 32)
    policy.remove(1)
    policy.touch(1)
    policy.check()
    policy.insert(1, 7)
    policy.check()
    assert sorted(policy.evict() for _ in range(3)) == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_mark_written_by_the_tier_is_a_hit(name):
    policies = [by_name(name, 2), by_name(name, 2)]
    for policy in policies:
        policy.reserve(30)
        assert (policy.on_hit == "mark") == (policy.most > 0)
        for slot in range(30):
            policy.insert(slot, slot << 32)
    if policies[0].on_hit == "nothing":
        policies[0].touch(0)
    if policies[0].on_hit == "mark":
        for slot in [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, *range(10, 20)]:
            policies[0].touch(slot)
            marks = policies[1].marks
            if marks[slot] < policies[1].most:
                marks[slot] += 1
    assert policies[0].marks == policies[1].marks
    left = [[policy.evict() for _ in range(30)] for policy in policies]
    assert left[0] == left[1]


def test_every_name_has_its_policy():
    assert [by_name(name, 3).name for name in NAMES] == list(NAMES)


def test_another_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"'mru'.*lru, lfu, fifo, random, sieve, s3fifo"):
        by_name("mru", 0)


# Interrupted at any instruction


class Interrupt(BaseException):
    """Stands for KeyboardInterrupt."""


def interrupted(operation, at: int) -> bool:
    """Run an operation and interrupt it before its ``at``-th instruction; False if it ended."""
    done = 0

    def trace(frame, event, _arg):
        nonlocal done
        if "/policies/" not in frame.f_code.co_filename.replace("\\", "/"):
            return None
        if "/tests/" in frame.f_code.co_filename.replace("\\", "/"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            done += 1
            if done == at:
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


OPERATIONS = {
    "insert": lambda policy: policy.insert(20, 1 << 32),
    "touch": lambda policy: policy.touch(8),
    "touch many": lambda policy: policy.touch_many(np.array([8, 9, 9, 10, 3])),
    "remove": lambda policy: policy.remove(8),
    "evict": lambda policy: policy.evict(),
    "move": lambda policy: policy.move(8, 20),
    "grow": lambda policy: policy.reserve(90),
    "shrink": lambda policy: policy.reserve(21),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_cut_off_anywhere_can_be_mended(name, operation):
    for at in range(1, 5000):
        policy = by_name(name, 1)
        policy.reserve(30)
        for slot in range(18):
            policy.insert(slot, slot << 32)
        for slot in (3, 4, 4, 5, 5, 5, 0, 0):
            policy.touch(slot)
        gone = {policy.evict() for _ in range(3)}
        cut = interrupted(lambda policy=policy: OPERATIONS[operation](policy), at)
        # the tier may think of the entry in question either way
        live = set(range(18)) - gone - ({8} if at % 2 else set()) | ({20} if at % 3 else set())
        policy.rebuild([(slot, slot << 32) for slot in sorted(live, reverse=True)])
        policy.check()
        assert len(policy) == len(live)
        policy.reserve(30)
        policy.insert(25, 25 << 32)
        policy.touch(25)
        policy.check()
        left = [policy.evict() for _ in range(len(live) + 1)]
        assert sorted(left) == sorted({*live, 25})
        if name == "fifo":
            known = [slot for slot in left if slot not in (3, 8, 20, 25)]
            assert known == sorted(known), "those that were not in question keep their order"
        if not cut:
            return
    pytest.fail("the operation never ended")
