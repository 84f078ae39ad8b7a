"""A Redis or Valkey server, or each primary of a cluster, by what INFO says of it."""

import time
from collections.abc import Iterator
from typing import Any

from nearcache.errors import StoreError
from nearcache.metrics.health.check import Check
from nearcache.stores.base import Store

__all__ = ["server"]

_SKEW = 2.0  # seconds
_NEARLY_FULL = 0.9
Facts = dict[str, str]


def server(store: Any) -> Iterator[Check]:
    """Say what is wrong with a server, or that nothing is."""
    if hasattr(store, "topology"):
        yield from _cluster(store)
    try:
        reply = _ask(store, "INFO")
    except StoreError as error:
        if "permission" not in str(error).lower():
            raise
        cure = "Allow +info to have version, memory and role looked at."
        yield Check("server", "warn", "the server does not say what it is", cure)
    else:
        facts = _facts(reply)
        yield _version(facts)
        yield from _role(facts)
        yield _memory(facts)
        yield from _disk(facts)
    yield _clock(store)


def _ask(store: Any, *words: str) -> Any:
    if hasattr(store, "topology"):  # a cluster: the first primary stands for all
        return store._of(store.node(store.topology.primaries[0]), [words])[0]
    return store._ask([words])[0]


def _facts(reply: Any) -> Facts:
    if isinstance(reply, dict):
        return {str(name): str(value) for name, value in reply.items()}
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def _number(facts: Facts, name: str) -> int:
    text = facts.get(name, "")
    return int(text) if text.isdecimal() else 0


def _version(facts: Facts) -> Check:
    make = "Valkey" if "valkey_version" in facts else "Redis"
    version = facts.get("valkey_version") or facts.get("redis_version", "?")
    head = version.partition(".")[0]
    if head.isdecimal() and int(head) < 6:
        cure = "Bring it to Redis 6.2 or Valkey: RESP3 tracking came with Redis 6."
        detail = f"{make} {version} cannot tell what changes"
        return Check("server", "fail", detail, cure)
    return Check("server", "ok", f"{make} {version}")


def _role(facts: Facts) -> Iterator[Check]:
    role = facts.get("role", "")
    if role in ("slave", "replica"):
        primary = f"{facts.get('master_host', '?')}:{facts.get('master_port', '?')}"
        detail = f"this is a replica of {primary}: nothing can be written"
        cure = f"Name its primary, {primary}, or find it with redis+sentinel://."
        yield Check("role", "fail", detail, cure)
    if facts.get("loading", "0") not in ("", "0"):
        cure = "Wait until it has read its data from disk."
        yield Check("role", "warn", "the server is loading its data", cure)


def _memory(facts: Facts) -> Check:
    limit, used = _number(facts, "maxmemory"), _number(facts, "used_memory")
    policy = facts.get("maxmemory_policy", "noeviction")
    if not limit:
        whole = _number(facts, "total_system_memory")
        detail = f"no maxmemory: {_bytes(used)} used, and nothing but the machine is the limit"
        if whole:
            detail += f" ({_bytes(whole)})"
        cure = "Set maxmemory, and for caches maxmemory-policy allkeys-lru (docs/operations.md)."
        return Check("memory", "warn", detail, cure)
    detail = f"{_bytes(used)} of {_bytes(limit)} used, {policy}"
    if policy == "noeviction":
        if used >= _NEARLY_FULL * limit:
            cure = "Raise maxmemory, or set maxmemory-policy allkeys-lru where it is a cache."
            return Check("memory", "fail", f"{detail}: soon nothing can be written", cure)
        cure = (
            "Right for ShortTermMemory. For caches set maxmemory-policy allkeys-lru: when it is "
            "full nothing new is kept."
        )
        return Check("memory", "warn", detail, cure)
    if policy.startswith("volatile"):
        cure = (
            "Set maxmemory-policy allkeys-lru: what has no ttl, as vectors have none, is never "
            "evicted, and the server fills up."
        )
        return Check("memory", "warn", detail, cure)
    return Check("memory", "ok", detail)


def _disk(facts: Facts) -> Iterator[Check]:
    failed = [
        what
        for name, what in (
            ("rdb_last_bgsave_status", "its last snapshot"),
            ("aof_last_write_status", "its last write to the append-only file"),
            ("aof_last_bgrewrite_status", "its last rewrite of the append-only file"),
        )
        if facts.get(name, "ok") != "ok"
    ]
    if failed:
        cure = (
            "Make room on the server's disk, or give it the right to write there: until then it "
            "may refuse all writes (stop-writes-on-bgsave-error)."
        )
        yield Check("persistence", "fail", f"{failed[0]} failed", cure)


def _clock(store: Store) -> Check:
    before = time.time()
    there = store.now()
    after = time.time()
    off = there - (before + after) / 2
    if abs(off) <= _SKEW + (after - before):
        return Check("clock", "ok", f"{1000 * off:+.0f} ms against this machine's")
    cure = (
        "Keep both by NTP. Lives are counted in the server's time and stay right; ages and times "
        "of reports and logs do not."
    )
    return Check("clock", "warn", f"the server's clock is {off:+.1f} s off this machine's", cure)


def _cluster(store: Any) -> Iterator[Check]:
    nodes = [store.node(address) for address in store.topology.primaries]
    said = [_facts(store._of(node, [("CLUSTER", "INFO")])[0]) for node in nodes]
    facts = min(said, key=lambda one: _number(one, "cluster_slots_ok"))
    assigned, ok = _number(facts, "cluster_slots_assigned"), _number(facts, "cluster_slots_ok")
    if facts.get("cluster_state") == "ok" and assigned == 16_384 == ok:
        yield Check("cluster", "ok", f"all slots, {facts.get('cluster_size', '?')} primaries")
        return
    detail = f"state {facts.get('cluster_state', '?')}: {assigned} of 16384 slots have an owner"
    detail += f", {ok} of them answer"
    cure = "Give the slots that are missing an owner (CLUSTER ADDSLOTS, or a failover)."
    yield Check("cluster", "fail", detail, cure)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
