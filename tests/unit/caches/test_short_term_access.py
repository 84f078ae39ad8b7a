"""ShortTermMemory: who may do what, and that no name reaches what is another agent's."""

import itertools
from contextlib import suppress

import pytest

from nearcache.caches.agents import AccessTier, AgentCredentials
from nearcache.errors import ConfigError
from short_term_fixtures import ANN, BOB, EVE, OBSERVER, SHARED, STEWARD, agent, memories

memory = pytest.fixture(memories)

TIERS = list(AccessTier)

OWN = {
    "retrieve": (lambda one, who: one.retrieve("key", who), AccessTier.OBSERVER),
    "retrieve_batch": (lambda one, who: one.retrieve_batch(["key"], who), AccessTier.OBSERVER),
    "scan_keys": (lambda one, who: one.scan_keys(who), AccessTier.OBSERVER),
    "warm": (lambda one, who: one.warm(["key"], who), AccessTier.OBSERVER),
    "stash": (lambda one, who: one.stash("key", 2, who), AccessTier.CONTRIBUTOR),
    "stash_batch": (lambda one, who: one.stash_batch({"key": 2}, who), AccessTier.CONTRIBUTOR),
    "update": (lambda one, who: one.update("key", lambda _: 2, who), AccessTier.CONTRIBUTOR),
    "delete": (lambda one, who: one.delete("key", who), AccessTier.CONTRIBUTOR),
    "clear": (lambda one, who: one.clear_working_memory(who), AccessTier.CONTRIBUTOR),
}
OTHERS = {
    "retrieve": (lambda one, who: one.retrieve("key", who, "bob"), AccessTier.OBSERVER),
    "retrieve_batch": (lambda one, who: one.retrieve_batch(["k"], who, "bob"), AccessTier.OBSERVER),
    "scan_keys": (lambda one, who: one.scan_keys(who, agent_id="bob"), AccessTier.OBSERVER),
    "update": (
        lambda one, who: one.update("key", lambda _: 2, who, "bob"),
        AccessTier.VALIDATOR,
    ),
    "update of shared": (
        lambda one, who: one.update("key", lambda _: 2, who, SHARED),
        AccessTier.CONTRIBUTOR,
    ),
}


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.name)
@pytest.mark.parametrize(
    "use, needed",
    [*OWN.values(), *OTHERS.values()],
    ids=[*(f"own {name}" for name in OWN), *(f"another's {name}" for name in OTHERS)],
)
def test_each_tier_may_do_what_the_table_says(memory, face, use, needed, tier):
    one = memory(face)
    for owner in ("ann", "bob", SHARED):
        one.stash("key", 1, agent(owner))
    if tier >= needed:
        use(one, agent("ann", tier))
        return
    with pytest.raises(PermissionError, match=needed.name):
        use(one, agent("ann", tier))
    for owner in ("ann", "bob", SHARED):
        assert one.retrieve("key", ANN, owner) == 1


def test_an_observer_is_told_what_it_takes(memory, face):
    with pytest.raises(PermissionError, match=r"CONTRIBUTOR.*'ann' is OBSERVER"):
        memory(face).stash("key", 1, OBSERVER)
    with pytest.raises(PermissionError, match=r"update another agent's key.*VALIDATOR"):
        memory(face).update("key", lambda _: 1, ANN, "bob")


def test_a_refused_call_asks_no_store(memory, face, one_server):
    one = memory(face, one_server.url)
    for use, needed in OWN.values():
        if needed is AccessTier.CONTRIBUTOR:
            with pytest.raises(PermissionError):
                use(one, OBSERVER)
    assert one_server.command_counts() == {}


def test_a_validator_updates_what_is_anothers_in_its_place(memory, face, store):
    one = memory(face, store)
    one.stash("key", 1, BOB)
    assert one.update("key", lambda value: value + 1, EVE, "bob") == 2
    assert one.retrieve("key", BOB) == 2
    assert one.retrieve("key", EVE) is None


def test_agents_meet_under_the_shared_id(memory, face, store):
    one = memory(face, store)
    for who in (ANN, BOB):
        one.update("session", lambda there, who=who: [*(there or []), who.agent_id], who, SHARED)
    assert one.retrieve("session", OBSERVER, SHARED) == ["ann", "bob"]
    assert one.scan_keys(ANN, agent_id=SHARED).items == ["session"]
    assert one.scan_keys(ANN).items == []


# -- no name reaches what is another's ---------------------------------------------------------

ODD = [
    "a",
    "a:b",
    "a:",
    ":a",
    "*",
    "**",
    "?",
    "[a]",
    "[!x]",
    "a*",
    "\\",
    "\\*",
    "a\\",
    ",",
    "a,sb",
    "(",
    ")",
    "ta,sb",
    "sa",
    ".",
    "a.",
    "a:lease",
    "}:k:t",
    "nc1:{stm}:e:*",
    "\n",
    "\r\n",
    "\0",
    " ",
    "shared",
    "ä",
    "a\u0308",
    "\ud800",
    "\U0001f600",
    "None",
    "0",
    "x" * 10_240,
    "x" * 10_239 + "*",
]


def test_no_agent_meets_another_whatever_their_names_and_keys(memory, face, shared):
    one = memory(face, shared, local_cache_enabled=False)
    agents = [agent(name) for name in ODD]
    for who in agents:
        one.stash_batch({key: [who.agent_id, key] for key in ODD}, who)
    for who in agents:
        found = one.retrieve_batch(ODD, who)
        assert found == {key: [who.agent_id, key] for key in ODD}
        assert one.retrieve_batch(ODD, ANN, who.agent_id) == found


# One face: names are made and read below both. The test above this one asks each.


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(odd[:12]))
def test_an_agent_scans_and_clears_what_is_its_own_alone(memory, shared, odd):
    one = memory("sync", shared)
    names = sorted({odd, "a", "ab", "b", f"{odd}x", f"x{odd}", f"{odd},s", odd * 2, "shared"})
    for name in names:
        one.stash_batch(dict.fromkeys(names, name), agent(name, AccessTier.CONTRIBUTOR))
    page = one.scan_keys(agent(odd), count=1000)
    assert (sorted(page.items), page.has_more) == (names, False)
    assert one.clear_working_memory(agent(odd)) == len(names)
    assert one.scan_keys(agent(odd), count=1000).items == []
    for name in names:
        left = {} if name == odd else dict.fromkeys(names, name)
        assert one.retrieve_batch(names, agent(name)) == left


@pytest.mark.parametrize("pattern", ODD, ids=lambda odd: ascii(odd[:12]))
def test_no_pattern_finds_what_is_anothers(memory, shared, pattern):
    one = memory("sync", shared)
    one.stash_batch(dict.fromkeys(ODD, 1), BOB)
    one.stash("mine", 1, ANN)
    assert set(one.scan_keys(ANN, pattern).items) <= {"mine"}


def test_what_would_be_one_name_when_joined_is_two(memory, face, shared):
    one = memory(face, shared)
    pairs = list(itertools.product(["h", "h:x", "h:x:y", ""], ["x:y", "y", "x", "k"]))
    for number, (name, key) in enumerate(pairs):
        if name:
            one.stash(key, number, agent(name))
    for number, (name, key) in enumerate(pairs):
        if name:
            assert one.retrieve(key, agent(name)) == number


class Liar(str):
    """A name that claims to be any other."""

    __slots__ = ()

    def __eq__(self, other):
        return True

    def __hash__(self):
        return hash(("bob", "key"))

    def __str__(self):
        return "bob"


def test_what_a_name_says_of_itself_decides_nothing(memory, face, store):
    one = memory(face, store)
    one.stash("key", "bob's", BOB)
    liar = AgentCredentials(Liar("ann"), AccessTier.VALIDATOR)
    assert type(liar.agent_id) is str
    assert one.retrieve("key", liar) is None
    assert one.retrieve(Liar("other"), BOB) is None
    assert one.retrieve("key", ANN, Liar("ann")) is None
    with pytest.raises(PermissionError):
        one.update("key", lambda _: 1, agent("ann"), Liar("bob"))


# -- credentials -------------------------------------------------------------------------------


class Pretender:
    """What says that it is the credentials of a steward."""

    agent_id, tier, roles = "bob", AccessTier.STEWARD, ()
    __class__ = AgentCredentials


def forged() -> list[object]:
    claims_any_id = agent("ann")
    object.__setattr__(claims_any_id, "agent_id", Liar("ann"))
    claims_a_tier = agent("ann", AccessTier.OBSERVER)
    object.__setattr__(claims_a_tier, "tier", 9)
    return [claims_any_id, claims_a_tier, object.__new__(AgentCredentials), Pretender()]


@pytest.mark.parametrize("number", range(4), ids=["any id", "any tier", "empty", "pretender"])
def test_forged_credentials_reach_nothing(memory, face, number):
    one = memory(face)
    one.stash("key", "bob's", BOB)
    credentials = forged()[number]
    with pytest.raises((ConfigError, PermissionError)):
        one.update("key", lambda _: "taken", credentials, "bob")
    for use in (
        lambda: one.stash("key", "taken", credentials),
        lambda: one.delete("key", credentials),
        lambda: one.clear_working_memory(credentials),
    ):
        with suppress(ConfigError, PermissionError):
            use()
    assert one.retrieve("key", BOB) == "bob's"


@pytest.mark.parametrize(
    "bad",
    [
        {"agent_id": ""},
        {"agent_id": None},
        {"agent_id": b"ann"},
        {"tier": 0},
        {"tier": 5},
        {"tier": True},
        {"tier": "OBSERVER"},
        {"tier": None},
        {"roles": "admin"},
        {"roles": (1,)},
    ],
)
def test_credentials_that_say_nothing_are_refused(bad):
    with pytest.raises(ConfigError):
        AgentCredentials(**{"agent_id": "ann", "tier": AccessTier.OBSERVER, **bad})


def test_credentials_are_plain_values():
    assert AgentCredentials("zoe", 4) == STEWARD
    assert AgentCredentials("zoe", 4).tier is AccessTier.STEWARD
    assert AgentCredentials("zoe", 4, ["a"]).roles == ("a",)
    assert hash(STEWARD) == hash(agent("zoe", AccessTier.STEWARD))
    with pytest.raises(AttributeError):
        STEWARD.tier = AccessTier.OBSERVER


def test_an_agent_id_too_long_for_a_key_is_a_clear_error(memory, face):
    one = memory(face)
    with pytest.raises(ConfigError, match="at most"):
        one.stash("key", 1, agent("x" * 70_000))
    with pytest.raises(ConfigError, match="at most"):
        one.scan_keys(agent("x" * 70_000))
