"""Adaptive: a window W in the order of use, a main list M, and a choice of what W may have.

The members of the family give W, in 1/1024: 1024 (0: LRU), 614, 307 (2), 102 (3), 10, and 10 with
one of four ghosts admitted (5). Of 20 entries 307 is 5.
"""

import random

import numpy as np
import pytest

from nearcache.near.policies.adaptive import Adaptive
from nearcache.near.policies.base import by_name
from nearcache.near.policies.shadows import Shadows

TWENTY = "abcdefghijklmnopqrst"


def follow(cache, member):
    """Let a cache follow a member, as if its shadow had hit most."""
    cache.policy._shadows.member = member
    cache.policy._follow()


def settled(letters):
    """r to v in W, which may have these 5; b to p in M. q left W and is a ghost; a left M."""
    cache = letters("adaptive", room=20)
    cache.use(TWENTY)
    follow(cache, 2)
    assert cache.use("uv") == "aq"
    return cache


# What it makes of traffic


def test_it_begins_as_lru(letters):
    cache = letters("adaptive", room=3)
    assert cache.use("abc" + "a" + "d") == "b"
    assert cache.use("a" + "e") == "c"
    assert cache.evict(3) == "dae"


def drifting(count, seed=1):
    """Keys that were used lately, and new ones: nothing is better than LRU."""
    rng, keys = random.Random(seed), list(range(400))
    for new in range(400, 400 + count):
        at = int(rng.expovariate(1 / 120))
        keys.append(new if at >= 300 else keys[-1 - at])
    return keys


def test_where_recency_is_all_it_is_lru(hit_ratio):
    keys = drifting(30_000)
    policy = Adaptive()
    assert hit_ratio(policy, keys, 200) == hit_ratio(by_name("lru"), keys, 200) > 0.5
    assert policy._share == 1024


def test_a_loop_does_not_sweep_it_out(hit_ratio):
    keys = list(range(130)) * 200
    assert hit_ratio(by_name("lru"), keys, 100) == 0
    assert hit_ratio(Adaptive(), keys, 100) > 0.65  # 0.77 would be the best there is


def test_a_loop_that_is_sampled_does_not_either(hit_ratio):
    keys = list(range(5200)) * 15
    assert hit_ratio(Adaptive(), keys, 4000) > 0.6


def test_a_scan_passes_by(hit_ratio):
    rng = random.Random(3)
    keys = []
    for at in range(60_000):  # three of four are new, and never come again
        keys.append(rng.randrange(80) if at % 4 == 0 else 1000 + at)
    assert hit_ratio(by_name("lru"), keys, 100) < 0.08
    assert hit_ratio(Adaptive(), keys, 100) > 0.2  # of 0.25


def test_what_it_was_does_not_bind_it(hit_ratio):
    policy = Adaptive()
    hit_ratio(policy, list(range(130)) * 100, 100)
    assert policy._share < 1024
    policy.clear()
    assert policy._share == 1024
    keys = list(range(-130, 0)) * 100 + drifting(60_000)
    both = [hit_ratio(kind, keys, 100) for kind in (policy, by_name("lru"))]
    assert both[0] > both[1]
    assert policy._share == 1024


# Freezing


def test_when_the_window_shrinks_its_old_end_becomes_main_as_it_is(letters):
    cache = letters("adaptive", room=20)
    cache.use("aa" + TWENTY[1:])
    follow(cache, 2)
    # a to h are in M now. W has 12, too many still, and nobody leaves it: M's oldest does, but a,
    # which was hit
    assert cache.use("u") == "b"
    # i to p, too: W has 5, q to u, and is as large as it may be
    assert cache.use("v") == "q"


def test_when_the_window_grows_nothing_freezes(letters):
    cache = settled(letters)
    follow(cache, 0)
    assert not cache.policy._freezing
    assert cache.use("wxyz") == "bcde"  # W may have all, so M is what is too much


def test_when_the_window_is_all_a_hit_leads_back_to_it(letters):
    cache = settled(letters)
    follow(cache, 0)
    cache.use("b")
    assert cache.evict(20) == "cdefghijklmnop" + "rstuv" + "b"


# Window, main list, ghosts


def test_who_comes_new_leaves_before_the_main_list(letters):
    assert settled(letters).use("wxyz" + "ABC") == "rstu" + "vwx"


def test_who_was_hit_in_the_window_joins_main_with_no_hits(letters):
    cache = settled(letters)
    cache.use("rstuv")
    assert cache.use("w") == "b"  # r is in M: W has 4, and M has too many
    assert cache.use("xyz") == "cde"
    assert cache.use("A") == "f"  # v is, too: W is w to z and A
    assert cache.use("B") == "w"
    follow(cache, 0)  # so that only M's leave
    assert cache.use("0123456789CDEFG") == "ghijklmnop" + "rstuv"


def test_every_hit_in_main_saves_once(letters):
    cache = settled(letters)
    cache.use("bb" + "c" + "q")  # q, a ghost, joins M: W has 4
    assert cache.use("w") == "d"
    follow(cache, 0)  # so that only M's leave
    assert cache.use("0123456789ABCDE") == "efghijklmnop" + "q" + "c" + "b"


def test_a_ghost_that_comes_back_joins_main(letters):
    cache = settled(letters)
    assert cache.use("q") == "r"
    assert cache.use("w") == "b"  # W has only 4


def test_a_ghost_that_came_back_is_none_any_more(letters):
    cache = settled(letters)
    assert cache.use("q") == "r"
    cache.forget("q")
    cache.use("q" + "w")  # in W
    assert cache.gone[3:] == "s"


def test_the_last_entry_of_all_leaves_as_a_ghost_although_it_was_hit(letters):
    cache = letters("adaptive", room=1)
    follow(cache, 2)
    assert cache.use("aa" + "b" + "a") == "ab"
    assert cache.policy._in_main == 1


def test_who_left_main_is_no_ghost(letters):
    cache = settled(letters)
    assert cache.use("a") == "r"
    assert cache.use("w") == "s"  # W has 5, a is one of them


def test_who_is_forgotten_is_no_ghost(letters):
    cache = settled(letters)
    cache.forget("r")
    cache.use("r")
    assert cache.use("w") == "s"


def test_one_of_four_ghosts_is_admitted_where_loops_are_expected(letters):
    cache = letters("adaptive", room=20)
    cache.use(TWENTY)
    follow(cache, 5)  # W: 1
    assert cache.use("uvwxyz") == "abvwxy"
    assert cache.use("vwx") == "zvw"  # one after the other in W
    assert cache.use("y") == "x"  # this one is in M, W is empty
    assert cache.use("AB") == "cA"


# Shadows: what they see


@pytest.fixture
def fed(monkeypatch):
    """Fingerprints that the shadows were fed."""
    seen = []
    real = Shadows.feed

    def feed(self, fingerprint):
        seen.append(fingerprint)
        return real(self, fingerprint)

    monkeypatch.setattr(Shadows, "feed", feed)
    return seen


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_an_insertion_pays_for_16_hits(fed, at_once):
    policy = Adaptive()
    policy.reserve(10)
    for slot in range(3):
        policy.insert(slot, slot << 32)
    for _ in range(700 // at_once):
        policy.touch_many(np.array([1] * at_once))
    assert len(fed) == 3 + 3 * 16


def test_no_more_than_4096_hits_are_saved_up(fed):
    policy = Adaptive()
    policy.reserve(400)
    for slot in range(400):
        policy.insert(slot, slot << 40)
    policy.touch_many(np.array([1] * 9000))
    assert len(fed) == 400 + 4096


def test_of_a_large_cache_the_shadows_see_a_sample(fed):
    policy, rng = Adaptive(), random.Random(1)
    policy.reserve(5000)
    for slot in range(5000):
        policy.insert(slot, rng.getrandbits(64))
    assert policy._shadows.mask == 0b111  # 5000 / 8 is at most 768, 5000 / 4 is not
    fed.clear()
    policy.touch_many(np.arange(5000))
    assert 500 < len(fed) < 750
    assert not any(fingerprint & 0b111 for fingerprint in fed)
    policy.check()
    for slot in range(5000 - 2049):
        policy.remove(slot)
    masks = []
    for _ in range(3):  # at 2049, 2048 and 2047, of which an eighth is below a third of 768
        policy.evict()
        masks.append(policy._shadows.mask)
    assert masks == [0b111, 0b111, 0b11]
    while len(policy) > 200:
        policy.evict()
    assert policy._shadows.mask == 0


# Batches and late hits


def state(policy):
    return (
        policy._where,
        policy._hits,
        list(policy._links.walk()),
        policy._share,
        policy._credit,
        policy._shadows.member,
        policy._shadows._scores,
    )


@pytest.mark.parametrize("room", [40, 300, 1500])
def test_a_batch_is_as_many_hits_in_order(room):
    rng = random.Random(room)
    one, many = Adaptive(), Adaptive()
    slots, owner, free = {}, {}, list(range(room))
    for policy in (one, many):
        policy.reserve(room)
    changed = time = 0
    for step in range(400):
        batch = []
        for _ in range(rng.choice([20, 200])):
            time += 1
            # a loop, then only what came lately
            looping = step // max(50, room // 10) % 2
            key = time % (room * 5 // 4) if looping else time // 40 - int(rng.expovariate(5 / room))
            if key in slots:
                batch.append(slots[key])
                continue
            if not free:
                victims = [policy.evict() for policy in (one, many) if not batch]
                if batch:
                    batch, member = note(one, many, batch)
                    changed += member
                    victims = [policy.evict() for policy in (one, many)]
                assert victims[0] == victims[1]
                free.append(victims[0])
                del slots[owner[victims[0]]]
            batch, member = note(one, many, batch)
            changed += member
            slots[key] = slot = free.pop()
            owner[slot] = key
            for policy in (one, many):
                policy.insert(slot, (key * 0x9E3779B97F4A7C15 ^ key << 17) % 2**64)
        # hits without misses, some of them on what is in M
        batch += rng.choices(list(slots.values()), k=600)
        member = note(one, many, batch)[1]
        changed += member
        many.check()
    assert changed > 1, "members changed in the middle of batches"
    assert [one.evict() for _ in range(room)] == [many.evict() for _ in range(room)]


def note(one, many, batch):
    before = many._shadows.member
    for slot in batch:
        one.touch(slot)
    many.touch_many(np.array(batch, np.intp))
    assert state(one) == state(many)
    return [], many._shadows.member != before


@pytest.mark.parametrize("times", [1, 60])
def test_a_late_hit_is_harmless_in_a_batch_too(letters, times):
    cache = settled(letters)
    slots = [cache.slots[key] for key in "rb"]
    cache.forget("rb")
    before = cache.policy._credit
    cache.policy.touch_many(np.array(slots * times))
    cache.policy.check()
    assert cache.policy._credit == before
    cache.use("BR")
    assert cache.use("wx") == "st"
    cache.policy.touch_many(np.array(slots * times))  # they are others' now
    cache.policy.check()
    assert cache.use("y") == "u"


# Rare things


def test_who_moves_keeps_its_place_and_its_hits(letters):
    cache = settled(letters)
    cache.use("b" + "r")
    cache.policy.reserve(23)
    for target, key in enumerate("brs", 20):
        cache.policy.move(cache.slots[key], target)
        cache.policy.check()
        cache.slots[key] = target
    assert cache.use("w") == "s"
    assert cache.use("q") == "t"  # in M
    assert cache.use("x") == "c"
    assert cache.use("yz") == "uv"
    assert cache.use("A") == "d"  # r, which was hit, has joined M


def test_a_repaired_policy_keeps_the_order_and_begins_as_lru(letters):
    cache = settled(letters)
    cache.use("s")
    cache.policy.rebuild([(slot, ord(key)) for key, slot in cache.slots.items()])
    cache.policy.check()
    assert cache.policy._share == 1024
    assert cache.evict(20) == "bcdefghijklmnop" + "rtuvs"


def test_more_entries_than_the_queue_of_victims_holds(letters):
    cache = letters("adaptive", room=2000)
    keys = "".join(chr(1000 + n) for n in range(2000))
    cache.use(keys + keys[::2])
    assert cache.evict(2000) == keys[1::2] + keys[::2]
