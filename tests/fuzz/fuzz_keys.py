"""Names: every key comes back from its name, no two things share one, none leaves its namespace."""

from contextlib import suppress

from fuzz.harness import Choices
from nearcache.caches.memory_key import MemoryKey
from nearcache.errors import ConfigError
from nearcache.keys import (
    EmbeddingModel,
    KeySpace,
    ModelKeys,
    ValueKeys,
    check_key,
    check_tags,
    content_digests,
)

__all__ = ["SEEDS", "one"]

_APP = ValueKeys(KeySpace("app"))

SEEDS = [
    b"\x00\x03key",
    b"\x01\x03key",
    b"\x02\x03\x00\x01a\x01\x01b\x02\x01\x00\x01c",
    b"\x03" + b"nc1:{app:00}:k:sfoo.",
    b"\x03" + b"nc1:{app:00}:k:tsa,sb,bc,t(sx,sy).",
    b"\x03" + b"nc1:{app:00}:k:ts\\,\\\\\\(.",
    b"\x03" + b"nc1:{app:00}:k:" + b"t(" * 400 + b"sa" + b")" * 400 + b".",
    b"\x04\x05app/x",
    b"\x05\x01a\x01b\x01c\x01a\x01b\x00",
    b"\x06\x04name\x01\x00\x03rev",
    b"\x07\x02ab",
    b"\x08" + b"\x00\x00" * 300,
]


def one(data: bytes) -> None:
    choices = Choices(data)
    _ACTS[choices.number(len(_ACTS))](choices)


def _key(choices: Choices, depth: int = 0):
    kind = choices.number(3 if depth < 3 else 2)
    if kind == 0:
        return choices.text(8)
    if kind == 1:
        return choices.some(8)
    return tuple(_key(choices, depth + 1) for _ in range(choices.number(4)))


def _a_key_comes_back(choices: Choices) -> None:
    keys = ValueKeys(KeySpace(choices.text(4) or "x"))
    first, second = _key(choices), _key(choices)
    names = []
    for key in (first, second):
        try:
            checked = check_key(key)
            name = keys.name(checked)
        except ConfigError:
            return
        assert checked == key
        assert keys.key(name) == key
        assert keys.length(checked) > len(keys.prefixes[0])
        assert name.startswith(tuple(keys.prefixes))
        assert not keys.is_group(name)
        names.append(name)
    assert (names[0] == names[1]) == (repr(first) == repr(second))
    # a name that ends like a lease would be one
    assert not names[0].endswith(b":lease")


def _any_bytes_as_a_name(choices: Choices) -> None:
    name = choices.rest()
    key = _APP.key(name)
    if key is not None:
        with suppress(ConfigError):  # an empty key is none
            checked = check_key(key)
            assert _APP.key(_APP.name(checked)) == key


def _a_namespace_is_not_left(choices: Choices) -> None:
    spaces = []
    for _ in range(2):
        space, views = choices.text(6), [choices.text(4) for _ in range(choices.number(3))]
        try:
            made = KeySpace(space)
            for view in views:
                made = made.inside(view)
        except ConfigError:
            return
        spaces.append(((space, *views), made))
    key = _key(choices)
    try:
        names = [ValueKeys(space).name(check_key(key)) for _, space in spaces]
    except ConfigError:
        return
    same = spaces[0][0] == spaces[1][0]
    assert (names[0] == names[1]) == same
    assert (spaces[0][1].everything == spaces[1][1].everything) == same
    if spaces[0][0][0] != spaces[1][0][0]:  # nor does a cache with all its views hear of another's
        assert not names[1].startswith(tuple(ValueKeys(spaces[0][1]).prefixes))


def _a_memory_has_its_own_key(choices: Choices) -> None:
    made = []
    for _ in range(2):
        parts = (choices.text(4), choices.text(4), choices.text(4) if choices.flag() else None)
        try:
            made.append((parts, MemoryKey(*parts)))
        except ConfigError:
            return
    (first, one_key), (second, other) = made
    assert (one_key.inner == other.inner) == (first == second)
    assert MemoryKey.of(one_key.inner) == one_key


def _a_model_has_its_own_identity(choices: Choices) -> None:
    made = []
    for _ in range(2):
        parts = (choices.text(4), choices.number(3) or None, choices.text(3), choices.text(3))
        params = {choices.text(2): _json(choices) for _ in range(choices.number(3))}
        try:
            model = EmbeddingModel(
                parts[0], dimensions=parts[1], revision=parts[2], input_type=parts[3], params=params
            )
        except ConfigError:
            return
        made.append(((parts, params), model))
    (first, one_model), (second, other) = made
    # 1, 1.0 and True are equal in Python; whether they name one model is nobody's promise
    if repr(first) == repr(second):
        assert one_model == other
    elif first != second:
        assert one_model != other
    texts = [choices.text(6), choices.text(6)]
    names = ModelKeys(KeySpace("app"), one_model.identity).values(content_digests(texts))
    assert (names[0] == names[1]) == (texts[0] == texts[1])


def _json(choices: Choices):
    kind = choices.number(7)
    if kind < 4:
        return (None, choices.flag(), choices.number(1000), choices.float())[kind]
    if kind == 4:
        return choices.text(4)
    if kind == 5:
        return [choices.number(9) for _ in range(choices.number(3))]
    return {choices.text(2): choices.number(9)}


def _tags_are_checked(choices: Choices) -> None:
    tags = [_key(choices) for _ in range(choices.number(4))]
    with suppress(ConfigError):
        assert check_tags(tags) == list(dict.fromkeys(tags))


def _a_deep_key_is_refused_or_comes_back(choices: Choices) -> None:
    key = choices.text(2) or "a"
    for _ in range(min(len(choices.rest()) // 2 * 8, 4000)):
        key = (key,)
    try:
        name = _APP.name(check_key(key))
    except ConfigError:
        return
    found = _APP.key(name)
    for _ in range(4000):  # == would recurse
        if not (isinstance(key, tuple) and isinstance(found, tuple)):
            break
        (key,), (found,) = key, found
    assert key == found


_ACTS = (
    _a_key_comes_back,
    _a_key_comes_back,
    _a_key_comes_back,
    _any_bytes_as_a_name,
    _a_namespace_is_not_left,
    _a_memory_has_its_own_key,
    _a_model_has_its_own_identity,
    _tags_are_checked,
    _a_deep_key_is_refused_or_comes_back,
)
