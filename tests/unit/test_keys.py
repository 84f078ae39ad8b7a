"""Names: no two things share one, whatever characters their parts hold."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearcache.errors import ConfigError
from nearcache.keys import (
    BUCKETS,
    EmbeddingModel,
    KeySpace,
    ModelKeys,
    ValueKeys,
    content_digest,
    content_digests,
    hash_content,
)

ODD = [
    *("a", "A", "a:b", "a/b", "{a}", "a*", "a[1]", "a?", "%61", "a%3A", "*", "..", "a ", " "),
    *("é", "e\u0301", "\0", "\n", "\ud800", "\U0001f600", "\ud83d\ude00"),
    *("emb", "emb:00", "log"),
]

text = st.text(st.characters(codec=None, exclude_categories=()), min_size=1, max_size=8)


# -- content -------------------------------------------------------------------------------------


@given(text)
def test_a_content_hash_is_the_first_half_of_sha256(value):
    whole = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    assert hash_content(value) == whole[:32]
    assert content_digest(value).hex() == whole[:32]


def test_a_content_hash_is_the_same_for_ever():
    assert hash_content("") == "e3b0c44298fc1c149afbf4c8996fb924"
    assert hash_content("The quick brown fox") == "5cac4f980fedc3d3f1f99b4be3472c9b"
    assert hash_content("\ud800") == hashlib.sha256(b"\xed\xa0\x80").hexdigest()[:32]


@given(st.lists(text, max_size=6))
def test_a_batch_is_hashed_as_its_texts_are(texts):
    assert content_digests(texts) == [content_digest(value) for value in texts]


# -- models --------------------------------------------------------------------------------------

DIFFERENT = [
    EmbeddingModel("m"),
    EmbeddingModel("M"),
    EmbeddingModel("m", dimensions=3),
    EmbeddingModel("m", dimensions=4),
    EmbeddingModel("m", revision="3"),
    EmbeddingModel("m", input_type="3"),
    EmbeddingModel("m", input_type="query"),
    EmbeddingModel("m", params={"dimensions": 3}),
    EmbeddingModel("m", params={"a": 1}),
    EmbeddingModel("m", params={"a": "1"}),
    EmbeddingModel("m", params={"a": True}),
    EmbeddingModel("m", params={"a": 1.5}),
    EmbeddingModel("m", params={"a": None}),
    EmbeddingModel("m", params={"a": []}),
    EmbeddingModel("m", params={"a": {}}),
    EmbeddingModel("m", params={"a": 1, "b": 2}),
    EmbeddingModel("m", params={"a": {"b": 2}}),
    EmbeddingModel('m",null,"'),
    EmbeddingModel("m", revision='","'),
    *[EmbeddingModel(name) for name in ODD],
    *[EmbeddingModel("m", revision=part) for part in ODD],
    *[EmbeddingModel("m", params={part: 1}) for part in ODD[1:]],
    *[EmbeddingModel("m", params={"p": part}) for part in ODD],
]


def test_models_that_differ_in_anything_differ():
    assert len({model.identity for model in DIFFERENT}) == len(DIFFERENT)
    assert len(set(DIFFERENT)) == len(DIFFERENT)


def test_models_with_the_same_parts_are_one_model():
    one = EmbeddingModel("m", params={"a": 1, "b": [1, {"c": 2}]})
    two = EmbeddingModel("m", params={"b": [1, {"c": 2}], "a": 1})
    assert one == two
    assert hash(one) == hash(two)
    assert one != EmbeddingModel("m")
    assert one != "m"


def test_a_string_names_the_model_of_nothing_else():
    assert EmbeddingModel.of("m") == EmbeddingModel("m")
    assert EmbeddingModel.of(DIFFERENT[4]) is DIFFERENT[4]


def test_changing_the_given_params_does_not_change_the_model():
    params = {"a": 1}
    model = EmbeddingModel("m", params=params)
    params["a"] = 2
    assert model == EmbeddingModel("m", params={"a": 1})
    assert model.params == {"a": 1}


def test_another_input_type_changes_nothing_else():
    model = EmbeddingModel("m", dimensions=3, revision="r", params={"a": 1})
    query = model.with_input_type("query")
    assert query == EmbeddingModel(
        "m", dimensions=3, revision="r", input_type="query", params={"a": 1}
    )
    assert query.with_input_type("") == model


@pytest.mark.parametrize("bad", ["", None, 3, b"m", ["m"], object()])
def test_what_is_no_name_is_no_model(bad):
    with pytest.raises(ConfigError):
        EmbeddingModel.of(bad)
    with pytest.raises(ConfigError):
        EmbeddingModel(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"dimensions": 0},
        {"dimensions": -1},
        {"dimensions": 1.0},
        {"dimensions": True},
        {"dimensions": "3"},
        {"revision": None},
        {"revision": 1},
        {"input_type": b"query"},
        {"params": {1: "a"}},
        {"params": {"a": {2: "b"}}},
        {"params": {"a": {1, 2}}},
        {"params": {"a": b"bytes"}},
        {"params": {"a": float("nan")}},
        {"params": {"a": float("inf")}},
        {"params": {"a": object()}},
        {"params": None},
        {"params": [("a", 1)]},
        {"params": "a=1"},
    ],
    ids=str,
)
def test_what_cannot_name_a_model_for_ever_is_refused(options):
    with pytest.raises(ConfigError):
        EmbeddingModel("m", **options)


def test_params_that_hold_themselves_are_refused():
    params: dict = {}
    params["self"] = params
    with pytest.raises(ConfigError):
        EmbeddingModel("m", params=params)


# -- stored names --------------------------------------------------------------------------------


def names_of(space, model):
    keys = ModelKeys(space, model.identity)
    return [*keys.values([content_digest("a"), content_digest("b")]), keys.group]


def spaces():
    plain = [KeySpace(part) for part in ODD]
    views = [KeySpace(a).inside(b) for a in ("a", "a/b", "emb") for b in ODD]
    return [*plain, *views, KeySpace("a").inside("b").inside("c"), KeySpace("a").inside("b/c")]


def test_no_two_namespaces_views_or_models_share_a_stored_name():
    everything = [
        name
        for space in spaces()
        for name in (
            space.everything,
            space.log,
            *[n for model in DIFFERENT[:4] for n in names_of(space, model)],
        )
    ]
    assert len(set(everything)) == len(everything)


@given(text, text, text)
def test_a_view_is_never_a_namespace_somebody_could_choose(namespace, part, other):
    view = KeySpace(namespace).inside(part)
    assert view.everything != KeySpace(other).everything
    assert view.log != KeySpace(f"{namespace}/{part}").log


@given(text, text)
def test_two_namespaces_share_nothing(one, two):
    assert (KeySpace(one).log == KeySpace(two).log) == (one == two)


def test_no_stored_name_is_the_beginning_of_a_lease_of_another():
    keys = ModelKeys(KeySpace("emb"), EmbeddingModel("m").identity)
    names = keys.values([content_digest(str(i)) for i in range(500)])
    assert not {name + b":lease" for name in names} & set(names)


def test_every_value_lies_in_one_of_the_buckets():
    keys = ModelKeys(KeySpace("emb"), EmbeddingModel("m").identity)
    names = keys.values([content_digest(str(i)) for i in range(3000)])
    tags = {name[name.index(b"{") : name.index(b"}")] for name in names}
    assert len(tags) == BUCKETS


def test_braces_in_a_namespace_do_not_move_the_hash_tag():
    keys = ModelKeys(KeySpace("{x}"), EmbeddingModel("m").identity)
    (name,) = keys.values([content_digest("a")])
    assert name.count(b"{") == name.count(b"}") == 1


def test_stored_names_are_printable():
    for space in spaces():
        for name in names_of(space, DIFFERENT[-1]):
            assert name.decode("ascii").isprintable()
            assert b" " not in name


@pytest.mark.parametrize("bad", ["", None, 3, b"emb"])
def test_what_is_no_name_is_no_namespace(bad):
    with pytest.raises(ConfigError):
        KeySpace(bad)
    with pytest.raises(ConfigError):
        KeySpace("emb").inside(bad)


def test_a_namespace_too_long_to_store_is_refused():
    KeySpace("x" * 200)
    with pytest.raises(ConfigError, match="200"):
        KeySpace("x" * 201)
    with pytest.raises(ConfigError, match="200"):
        KeySpace("é" * 40)
    with pytest.raises(ConfigError, match="200"):
        KeySpace("x" * 150).inside("y" * 60)


@pytest.mark.parametrize("body", [b"t" * 3000, b"t(" * 3000 + b"sa" + b")" * 3000, b"tt", b"tts,"])
def test_a_name_that_no_key_has_is_no_key(body):
    """Whoever may write on the server may make one, and everybody who listens hears of it."""
    assert ValueKeys(KeySpace("app")).key(b"nc1:{app:00}:k:" + body + b".") is None
