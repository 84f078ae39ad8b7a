"""What is read as a request for embeddings, what decides its vectors, and what is passed on."""

import json

import pytest

from nearcache.proxy.requests import MOST_INPUTS, read_call


def call(body=None, **fields):
    return read_call(json.dumps(body or {"model": "m", "input": "x", **fields}).encode())


@pytest.mark.parametrize(
    "given,inputs,tokens",
    [
        ("x", [b"x"], False),
        (["x", "ö"], [b"x", "ö".encode()], False),
        ([1, 2], [b"1,2"], True),
        ([[1, 2], [3]], [b"1,2", b"3"], True),
    ],
)
def test_the_four_forms_of_input(given, inputs, tokens):
    found = call(input=given)
    assert (found.inputs, found.tokens) == (inputs, tokens)


@pytest.mark.parametrize(
    "given",
    [
        "", [], [""], [[]], ["x", ""], [[1], []], None, 7, {"a": 1}, True,
        ["x", 1], [1, "x"], [[1], "x"], [[1], 2], [1.0], [[1.5]], [True], [None],
        ["x"] * (MOST_INPUTS + 1), [1] * (MOST_INPUTS + 1),
    ],
)  # fmt: skip
def test_other_inputs_are_passed_on(given):
    assert call(input=given) is None


@pytest.mark.parametrize(
    "field,value",
    [
        ("model", ""), ("model", 7), ("model", None), ("user", 7), ("dimensions", 0),
        ("dimensions", "8"), ("dimensions", True), ("dimensions", None), ("dimensions", 8.0),
        ("encoding_format", "int8"), ("encoding_format", None), ("encoding_format", ""),
    ],
)  # fmt: skip
def test_other_fields_are_passed_on(field, value):
    assert call(**{field: value}) is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"x"', b'{"model":"m"}', b'{"model":"m","input":"x"} x',
        b'{"model":"m","input":"\xff"}', b'{"model":"m","input":"\\ud800"}',
        b'{"model":"a","model":"b","input":"x"}', b'{"input":"x","input":"y"}',
        b'{"model":"m","input":"x","more":{"a":1,"a":2}}', b'{"model":"m","input":"x","t":NaN}',
        b'{"model":"m","input":"x","t":1e999}',
        b'{"model":"m","input":"x","t":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_readers_may_read_differently_is_passed_on(body):
    assert read_call(body) is None


def test_inputs_that_depend_on_each_other_are_passed_on():
    assert call(late_chunking=True) is None
    assert call(late_chunking=False) is not None


def test_order_and_layout_of_the_json_decide_nothing():
    one = read_call(b'{"model":"m","dimensions":4,"more":{"a":1,"b":[1,2]},"input":["\xc3\xb6"]}')
    other = read_call(
        b'{ "input" : "\\u00f6", "more": {"b": [1, 2],\n"a": 1}, "dimensions": 4, "model": "m"}'
    )
    assert (one.parts, one.inputs, one.opening) == (other.parts, other.inputs, other.opening)


@pytest.mark.parametrize(
    "field,value",
    [
        ("model", "n"), ("dimensions", 4), ("encoding_format", "base64"), ("input", [1]),
        ("input_type", "query"), ("more", None), ("more", {"a": 1}), ("more", {"a": 1.0}),
    ],
)  # fmt: skip
def test_what_may_change_a_vector_is_in_the_key(field, value):
    others = [call(), call(more={"a": "1"}), call(more={})]
    assert call(**{field: value}).parts not in [other.parts for other in others]


def test_a_user_is_sent_but_decides_nothing():
    one, other = call(user="u1"), call(user="u2")
    assert one.parts == other.parts == call().parts
    assert b'"user":"u1"' in one.opening


def test_no_encoding_is_decimals():
    assert call().parts == call(encoding_format="float").parts
    assert not call().base64


def test_what_is_sent_is_what_was_asked_for():
    texts = ['a "quoted" text', "ö\n", "x" * 5000]
    found = call(input=texts, model="m", dimensions=8, user="u", more=[1, None])
    sent = found.opening + b",".join(map(found.written, found.inputs)) + b"]}"
    assert json.loads(sent) == {
        "model": "m", "dimensions": 8, "user": "u", "more": [1, None], "input": texts,
    }  # fmt: skip
    tokens = call(input=[[1, 2], [3]])
    assert [tokens.written(each) for each in tokens.inputs] == [b"[1,2]", b"[3]"]


def test_a_long_input_that_stands_in_another_field_too_is_left_there():
    long = ["x" * 5000]
    assert b"x" * 5000 in call({"more": long, "input": long, "model": "m"}).opening
