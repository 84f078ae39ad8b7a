"""Several locks taken and given back as one."""

import threading

from nearcache.stores.redis.locks import Together


def is_free(lock):
    found = []

    def look():
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found[0]


def test_all_are_held_until_the_last_release():
    locks = [threading.RLock() for _ in range(3)]
    together = Together(locks[0], lambda: locks[1:])
    together.acquire()
    together.acquire()
    assert not any(map(is_free, locks))
    together.release()
    assert not any(map(is_free, locks))
    together.release()
    assert all(map(is_free, locks))


def test_what_is_added_while_it_is_held_is_not_given_back():
    first, late = threading.RLock(), threading.RLock()
    others = []
    together = Together(first, lambda: others)
    together.acquire()
    others.append(late)
    together.release()
    assert is_free(first)
    assert is_free(late)
