"""A provider's answer is cut into vectors without a bit of change, or not at all."""

import json
from base64 import b64encode

import numpy as np
import pytest

from nearcache.proxy.answers import Unusable, Usage, error_body, read_answer, write_answer

ROW = np.array([0.5, -1.25e-7, 3.0], "<f4")
PACKED = b64encode(ROW.tobytes()).decode()


def read(*rows, base64=True, count=None, **more):
    data = [row if isinstance(row, dict) else {"index": i, "embedding": row} for i, row in rows]
    body = json.dumps({"object": "list", "data": data, "model": "m", **more}).encode()
    return read_answer(body, count or len(rows), base64=base64, headers=[])


def rows(*values):
    return list(enumerate(values))


def test_base64_comes_back_bit_by_bit():
    assert read(*rows(PACKED)).vectors == [b'"' + PACKED.encode() + b'"']


def test_decimals_come_back_digit_by_digit():
    body = b'{"data":[{"index":0,"embedding":[ 1.50, -2.5E-1,\n 0, 0.10000000000000001 ]}]}'
    answer = read_answer(body, 1, base64=False, headers=[])
    assert answer.vectors == [b"[1.50,-2.5E-1,0,0.10000000000000001]"]


def test_decimals_of_a_provider_without_base64_are_packed():
    assert read(*rows([float(x) for x in ROW])).vectors == [b'"' + PACKED.encode() + b'"']


def test_vectors_are_sorted_by_index():
    answer = read(
        (0, {"index": 1, "embedding": [2.0]}),
        (1, {"index": 0, "embedding": [1.0]}),
        base64=False,
    )
    assert answer.vectors == [b"[1.0]", b"[2.0]"]


def test_without_any_index_the_order_is_that_of_the_inputs():
    answer = read((0, {"embedding": [1.0]}), (1, {"embedding": [2.0]}), base64=False)
    assert answer.vectors == [b"[1.0]", b"[2.0]"]


def test_what_else_an_item_has_is_kept_with_its_vector():
    item = {"index": 0, "embedding": [1.0], "encoding_format": "float", "sparse": {"1": 0.5}}
    answer = read((0, item), base64=False)
    found = json.loads(b"".join(write_answer(answer.vectors, "m", Usage())))
    assert found["data"] == [{"object": "embedding", **item}]


def packed(*numbers):
    return b64encode(np.array(numbers, "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    "given",
    [
        rows(),
        rows(PACKED, PACKED)[:1] * 2,  # an index twice
        [(0, {"index": 1, "embedding": PACKED})],
        [(0, {"index": 0, "embedding": PACKED}), (1, {"embedding": PACKED})],
        rows(PACKED, packed(1.0)),  # of different lengths
        rows(""),
        rows("AAA"),
        rows("AAAA"),  # three bytes are no float32
        rows(PACKED[:-1] + "*"),
        rows(PACKED[:4] + "*" + PACKED[4:]),
        rows(packed(1.0, np.nan)),
        rows(packed(np.inf)),
        rows([]),
        rows([1e39]),  # infinite as a float32
        rows(["1.0"]),
        rows([[1.0]]),
        rows(None),
        [(0, {"index": 0})],
    ],
)
def test_what_cannot_be_cut_is_not_kept(given):
    with pytest.raises(Unusable):
        read(*given, count=max(len(given), 1))


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"{}", b'{"data":null}', b"\xff"])
def test_what_is_no_answer_is_not_kept(body):
    with pytest.raises(Unusable):
        read_answer(body, 1, base64=True, headers=[])


def test_base64_where_decimals_were_asked_for_is_not_kept():
    with pytest.raises(Unusable):
        read(*rows(PACKED), base64=False)


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_count_is_not_kept(count):
    with pytest.raises(Unusable):
        read(*rows(PACKED, PACKED), count=count)


@pytest.mark.parametrize(
    "usage,wanted",
    [
        ({"prompt_tokens": 3, "total_tokens": 4, "more": {}}, (3, 4)),
        ({"prompt_tokens": 3}, (3, 3)),
        (None, (0, 0)),
        ("much", (0, 0)),
        ({"prompt_tokens": 1.5}, (0, 0)),
        ({"prompt_tokens": -1}, (0, 0)),
    ],
)
def test_usage_as_far_as_it_is_told(usage, wanted):
    assert read(*rows(PACKED), usage=usage).usage == Usage(*wanted)


def test_an_answer_of_ours_is_json():
    body = b"".join(write_answer([b'"AAAA"', b"[1.50]"], 'a "model"', Usage(3, 4)))
    assert b"[1.50]" in body
    assert json.loads(body) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": "AAAA"},
            {"object": "embedding", "index": 1, "embedding": [1.5]},
        ],
        "model": 'a "model"',
        "usage": {"prompt_tokens": 3, "total_tokens": 4},
    }


def test_the_longest_answer_has_every_index():
    found = json.loads(b"".join(write_answer([b"[1]"] * 2048, "m", Usage())))
    assert [one["index"] for one in found["data"]] == list(range(2048))


def test_an_error_has_openais_form():
    assert json.loads(error_body("no", "invalid_request_error", "c")) == {
        "error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "c"}
    }
