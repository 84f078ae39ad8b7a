"""No log line, error or repr shows a password, a key, a text or a value.

What a loader, codec or class of the user's raises is the user's own, and passes unchanged.
"""

import ast
import enum
import json
import logging
import re
import traceback
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nearcache
from embedders import M, Model, vector
from nearcache import (
    AccessTier,
    AgentCredentials,
    CacheError,
    ConfigError,
    EmbeddingCache,
    EmbeddingModel,
    HotMemoryCache,
    MemoryKey,
    MemoryStore,
    MemoryType,
    NearCache,
    Options,
    RetrievalCache,
    ShortTermMemory,
)
from nearcache.codecs.base import by_name
from nearcache.keys import KeySpace, ModelKeys, ValueKeys, content_digest
from nearcache.testing import ChaosStore

SECRET = "hunter2"


def shown(error):
    """All that a traceback of an error would print, but for lines of source."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join([repr(error), *(line for line in lines if not line.startswith("    "))])


def said_by(call, *arguments):
    """What an error of ours says, if the call meets one."""
    try:
        call(*arguments)
    except CacheError as error:
        return shown(error)
    return ""


@contextmanager
def nothing_shown(caplog):
    """Check every log record and warning, and every error of ours that the block meets."""
    caplog.set_level(logging.DEBUG)
    met: list[str] = []

    @contextmanager
    def meeting():
        try:
            yield
        except CacheError as error:
            met.append(shown(error))

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield meeting
    assert not [text for text in met if SECRET in text]
    assert not [str(w.message) for w in warned if SECRET in str(w.message)]
    formatter = logging.Formatter()
    for record in caplog.records:
        if record.name.startswith("nearcache"):
            said = formatter.format(record).splitlines()
            assert not [line for line in said if SECRET in line and not line.startswith("    ")]


# -- stores that fail ------------------------------------------------------------------------------


def use(meeting, store, options):
    """Use every kind of cache on a store, everything they are given a secret."""

    def loader():
        return [SECRET]

    agent = AgentCredentials(SECRET, AccessTier.CONTRIBUTOR)
    with EmbeddingCache(store, options=options) as cache:
        for call in (
            lambda: cache.get(SECRET, M),
            lambda: cache.put(SECRET, vector(SECRET), M),
            lambda: cache.wrap(Model(), M)([SECRET, "a"]),
            lambda: cache.invalidate(SECRET, M),
            lambda: cache.invalidate_by_model(SECRET),
            cache.clear,
        ):
            with meeting():
                call()
        assert SECRET not in repr(cache) + str(cache.get_stats())
    with NearCache(store, namespace="near", options=options) as cache:
        for call in (
            lambda: cache.get(SECRET),
            lambda: cache.get_or_load(SECRET, loader, tags=[SECRET]),
            lambda: cache.get_or_load_batch([SECRET], lambda keys: dict.fromkeys(keys, SECRET)),
            lambda: cache.put(SECRET, SECRET, tags=[SECRET]),
            lambda: cache.put((SECRET, "a"), {SECRET: object()}),
            lambda: cache.update(SECRET, lambda _: SECRET),
            lambda: cache.invalidate(SECRET),
            lambda: cache.invalidate_by_tag(SECRET),
            cache.clear,
        ):
            with meeting():
                call()
        assert SECRET not in repr(cache) + str(cache.get_stats())
    with HotMemoryCache(store, options=options) as hot, meeting():
        key = MemoryKey(MemoryType.SEMANTIC, SECRET, SECRET)
        hot.put(key, SECRET)
        hot.get(key)
    with RetrievalCache(store, options=options) as found, meeting():
        found.put(SECRET, [SECRET], memory_ids=[SECRET], scope=SECRET)
        found.get(SECRET, scope=SECRET)
    with ShortTermMemory(store, options=options) as memory:
        with meeting():
            memory.stash(SECRET, SECRET, agent)
        with meeting():
            memory.retrieve(SECRET, agent)


@pytest.mark.parametrize("answer", ["degrade", "raise"])
@pytest.mark.parametrize("broken", ["password", "down", "types", "rights", "commands"])
def test_a_server_that_fails(caplog, own_server, broken, answer):
    renamed = ("MGET", "GET", "SET", "EVAL", "EVALSHA", "XADD", "XRANGE", "XREVRANGE")
    args = [word for name in renamed for word in ("--rename-command", name, "")]
    server = own_server("valkey-9.1", *(args if broken == "commands" else ()), password="another")
    wrong = broken in ("password", "down", "rights")
    user, password = (SECRET, SECRET) if wrong else ("default", "another")
    url = f"redis://{user}:{password}@127.0.0.1:{server.port}/0"
    if broken == "down":
        server.kill()
    if broken == "rights":  # a server that refuses a command may name the user
        with server.client() as client:
            rules = ("on", f">{SECRET}", "~*", "+ping", "+time", "+mget")
            client.execute_command("ACL", "SETUSER", SECRET, *rules)
    if broken == "types":
        with server.client() as client:
            for space in ("emb", "near", "hot", "retrieval", "stm"):
                client.set(f"nc1:{{{space}}}:log", "x")
                client.rpush(f"nc1:{{{space}}}:e:*", "x")
    with nothing_shown(caplog) as meeting:
        use(meeting, url, Options(on_store_error=answer, store_timeout=1.0))
    if broken != "types" or answer == "raise":
        assert caplog.records  # else nothing was looked at


@pytest.mark.parametrize("answer", ["degrade", "raise"])
@pytest.mark.parametrize("garbage", [b"x", SECRET.encode() * 20, b"nC\x01\x10" + b"hunter2!" * 20])
def test_a_store_that_holds_garbage(caplog, answer, garbage):
    store, options = MemoryStore(), Options(on_store_error=answer)
    with nothing_shown(caplog) as meeting:
        use(meeting, store, options)
        with NearCache(store, namespace="near") as cache, ShortTermMemory(store) as memory:
            agent = AgentCredentials(SECRET, AccessTier.CONTRIBUTOR)
            cache.put(SECRET, SECRET)
            memory.stash(SECRET, SECRET, agent)
        store.edit(lambda name, value: garbage)
        use(meeting, store, options)


@pytest.mark.parametrize("when", ["fail", "time_out"])
def test_a_store_that_fails_before_or_after_it_did_what_was_asked(caplog, when):
    store = ChaosStore(MemoryStore())
    getattr(store, when)()
    with nothing_shown(caplog) as meeting:
        use(meeting, store, Options(on_store_error="raise"))


# -- what does not fit -----------------------------------------------------------------------------


@dataclass
class Place:
    x: int
    y: str = ""


class Colour(enum.Enum):
    RED = "red"


class Pydantic(pydantic.BaseModel, extra="forbid"):
    x: int


class Unkept:
    def __repr__(self):
        return SECRET


HINTS = (None, Place, int, list[int], dict[str, int], tuple[int, str], Colour, datetime, Pydantic)
STORED = (SECRET, [SECRET], {"x": SECRET}, {"x": 1, SECRET: 2}, {SECRET: SECRET}, [1, SECRET, 3])
VALUES = (
    *STORED,
    Unkept(),
    {SECRET: Unkept()},
    {1: SECRET},
    {(SECRET,): 1},
    {SECRET},
    "\ud800" + SECRET,
    Place(SECRET),
    [Place(SECRET)],
    Pydantic.model_construct(x=SECRET),
    {SECRET: float("nan")},
)


@pytest.mark.parametrize("hint", HINTS, ids=str)
@pytest.mark.parametrize("name", ["json", "msgpack", "bytes", "ndarray"])
def test_a_value_that_a_codec_refuses(name, hint):
    with suppress(ConfigError):
        codec = by_name(name, hint)
        for value in VALUES:
            assert SECRET not in said_by(codec.encode, value)
        for data in (*(json.dumps(v).encode() for v in STORED), *_packed(), SECRET.encode()):
            assert SECRET not in said_by(codec.decode, data)


def _packed():
    import msgpack

    return [msgpack.packb(value) for value in STORED]


ARGUMENTS = {
    "a text for a hash": lambda c: c.get_by_hash(SECRET, M),
    "texts for a model": lambda c: c.get("a", [SECRET]),
    "no texts": lambda c: c.get_batch([{SECRET: 1}], M),
    "no vector": lambda c: c.put("a", [SECRET], M),
    "two for one": lambda c: c.put_batch([SECRET], [[1.0], [2.0]], M),
    "not finite": lambda c: c.put(SECRET, [np.nan], M),
    "parameters": lambda c: EmbeddingModel("m", params={"key": {SECRET: {1}}}),
    "more parameters": lambda c: EmbeddingModel("m", params={"key": {1: SECRET}}),
    "no parameters": lambda c: EmbeddingModel("m", params=[SECRET]),
}
VALUE_ARGUMENTS = {
    "a key": lambda c: c.get([SECRET]),
    "a key inside": lambda c: c.get((SECRET, {SECRET})),
    "a long key": lambda c: c.get(SECRET * 20_000),
    "tags": lambda c: c.put("a", 1, tags=SECRET),
    "a tag": lambda c: c.put("a", 1, tags=[(SECRET,)]),
    "pairs": lambda c: c.put_batch([SECRET]),
    "no pairs": lambda c: c.put_batch(SECRET),
    "a loader": lambda c: c.get_or_load("a", SECRET.encode()),
    "a loader's tags": lambda c: c.get_or_load("a", lambda: nearcache.Loaded(1, None, [(SECRET,)])),
    "a loader's value": lambda c: c.get_or_load("a", lambda: {SECRET: Unkept()}),
}


@pytest.mark.parametrize("call", ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_that_is_refused(call):
    with EmbeddingCache() as cache, pytest.raises((CacheError, TypeError)) as caught:
        call(cache)
    assert SECRET not in shown(caught.value)


@pytest.mark.parametrize("call", VALUE_ARGUMENTS.values(), ids=VALUE_ARGUMENTS)
def test_an_argument_of_a_value_that_is_refused(call):
    with NearCache(namespace="near") as cache, pytest.raises((CacheError, TypeError)) as caught:
        call(cache)
    said = shown(caught.value)
    assert SECRET not in said or "callable" in said  # a loader is shown: it is code


# -- URLs ------------------------------------------------------------------------------------------

URLS = [
    "redis://:hunter2@localhost:1/0",
    "redis://hunter2:hunter2@localhost:1/x",
    "redis://u:hunter2@localhost:port/0",
    "redis://u:hunter2/@localhost:1/0",
    "redis://:pa/hunter2@localhost/0",
    "redis://:pa/hunter2@localhost",
    "redis://:pa?hunter2@localhost/0",
    "redis://:pa#hunter2@localhost/0",
    "redis://:pa[hunter2@localhost/0",
    "redis://:[hunter2]@localhost/0",
    "redis://:hunter2@[::1/0",
    "redis://:hunter2@h:99999999/0",
    "redis://localhost?password=hunter2&x=1",
    "redis://localhost?password=hunter2&db=x",
    "redis://localhost?socket_timeout=hunter2",
    "rediss://:hunter2@h/0?ssl_cert_reqs=nonsense",
    "unix://u:hunter2@/tmp/x?db=a",
    "redis+cluster://:hunter2@h:x",
    "redis+cluster://:pa/hunter2@h:1",
    "redis+sentinel://:hunter2@h",
    "redis+sentinel://:pa/hunter2@h/service",
    "redis+sentinel://:hunter2@h:1,h:b/service",
    "postgres://u:hunter2@h/x",
    "sqlite://u:hunter2@h",
    "//u:hunter2@h",
    "u:hunter2@h",
]


@pytest.mark.parametrize("url", URLS)
def test_a_password_in_a_url_is_never_shown(url):
    def show():
        with NearCache(url, namespace="near") as cache:
            raise CacheError(repr(cache) + repr(cache._tiers.engine.store))

    assert SECRET not in said_by(show)


# -- names -----------------------------------------------------------------------------------------

names = st.text(min_size=1, max_size=4) | st.text("ab:/{}*?[]\\.%\0 ", min_size=1, max_size=8)
keys = st.recursive(
    names | st.binary(min_size=1, max_size=8),
    lambda parts: st.lists(parts, min_size=1, max_size=3).map(tuple),
    max_leaves=4,
)
spaces = st.lists(names, min_size=1, max_size=3)


def space_of(parts):
    space = KeySpace(parts[0])
    for part in parts[1:]:
        space = space.inside(part)
    return space


@given(spaces, keys, spaces, keys)
def test_no_key_leads_out_of_its_namespace(space, key, other, other_key):
    ours, theirs = ValueKeys(space_of(space)), ValueKeys(space_of(other))
    name, their_name = ours.name(key), theirs.name(other_key)
    assert (name == their_name) == (space == other and key == other_key)
    if space[0] != other[0]:
        assert not any(their_name.startswith(prefix) for prefix in ours.prefixes)
        assert theirs.log != ours.log
        assert set(theirs.groups).isdisjoint(ours.groups)
    assert name not in {ours.log, *ours.groups, theirs.log, *theirs.groups}
    assert not name.endswith(b":lease")
    assert name.count(b"{") >= 1
    assert name.index(b"}") < name.index(b":k:")  # the slot is the namespace's, whatever the key


ODD = ["a", "a}", "a}:e:*", "a:", "a:00", "a/", "a/b", "a%2Fb", "{a}", "a*", "?", "[ab]", "a}:log"]


@pytest.mark.parametrize("space", ODD)
def test_namespaces_that_look_alike_share_nothing(space):
    ours = ValueKeys(KeySpace(space))
    for other in set(ODD) - {space}:
        for inner in (KeySpace(other), KeySpace(other).inside("a")):
            theirs = ValueKeys(inner)
            for name in (theirs.name("a"), theirs.log, *theirs.groups, theirs.group(bytes(16))):
                assert not any(name.startswith(prefix) for prefix in ours.prefixes)


@given(spaces, st.text(max_size=12), st.text(min_size=1, max_size=12), spaces)
def test_a_vectors_name_holds_neither_text_nor_model(space, text, model, other):
    ours = ModelKeys(space_of(space), EmbeddingModel(model).identity)
    (name,) = ours.values([content_digest(text)])
    head, _, rest = name.rpartition(b":v:")
    assert len(rest) == 22 + 1 + 32
    assert set(rest) <= set(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_:")
    if space != other:
        theirs = ModelKeys(space_of(other), EmbeddingModel(model).identity)
        assert theirs.values([content_digest(text)]) != [name]
    assert head.startswith(b"nc1:{")


def test_stored_vectors_hold_no_text():
    store, held = MemoryStore(), []
    with EmbeddingCache(store, options=Options(lease=60.0)) as cache:
        cache.wrap(Model(), SECRET)([SECRET])
        cache.put(SECRET, vector(SECRET), SECRET)
        cache.invalidate(SECRET, SECRET)
        cache.put(SECRET, vector(SECRET), SECRET)
    store.edit(lambda name, value: held.append(name + value) or value)
    held += [name + entry for name, log in store._logs.items() for entry in log]
    assert len(held) > 2
    assert not [one for one in held if SECRET.encode() in one]


def test_stored_lists_hold_neither_their_query_nor_the_ids_they_are_tagged_with():
    store, held = MemoryStore(), []
    with RetrievalCache(store) as cache:
        cache.put(f"where is {SECRET}?", ["somewhere"], memory_ids=[SECRET])
        cache.put({"text": SECRET, "top_k": 3}, ["somewhere"], memory_ids=[SECRET])
    store.edit(lambda name, value: held.append(name + value) or value)
    assert len(held) == 2
    assert not [one for one in held if SECRET.encode() in one]


# -- what is never done ----------------------------------------------------------------------------

MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {("yaml", "load"), ("os", "system")}
WORDS = {*MODULES, *CALLS, *(name for _, name in ATTRIBUTES), "allow_pickle"}
SUSPECT = re.compile(rf"\b({'|'.join(sorted(WORDS))})\b")  # only what has such a word is parsed


def unsafe(node):
    """Whether a piece of code unpickles, or runs what it was given."""
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] in MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").partition(".")[0] in MODULES
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Attribute):
        found = (getattr(called.value, "id", ""), called.attr) in ATTRIBUTES
    else:
        found = getattr(called, "id", "") in CALLS
    return found or any(
        word.arg == "allow_pickle" and getattr(word.value, "value", True) is not False
        for word in node.keywords
    )


def test_nothing_is_ever_unpickled_or_run_as_code():
    found = [
        f"{source}:{node.lineno}"
        for source in sorted(Path(nearcache.__file__).parent.rglob("*.py"))
        if SUSPECT.search(text := source.read_text("utf-8"))
        for node in ast.walk(ast.parse(text))
        if unsafe(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from marshal import loads", "eval('1')", "np.load(f, allow_pickle=True)"],
)
def test_what_would_be_unsafe_is_noticed(code):
    assert any(unsafe(node) for node in ast.walk(ast.parse(code)))
