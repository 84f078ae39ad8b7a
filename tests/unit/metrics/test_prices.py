"""Prices: of a value, by namespace; nothing is made up for what has none."""

import math

import pytest

from nearcache.errors import ConfigError
from nearcache.metrics.prices import Prices, per_text


def test_a_price_is_one_of_a_value_of_a_namespace():
    prices = Prices({"embeddings": 0.001, "*": 0.5})
    assert prices.money("embeddings", 1000) == 1
    assert prices.money("anything else", 2) == 1
    assert prices.currency == "USD"


def test_what_has_no_price_has_no_money():
    prices = Prices({"embeddings": 0.001})
    assert prices.price("answers") is None
    assert prices.money("answers", 5) is None
    assert Prices({"free": 0}).money("free", 5) == 0


def test_a_price_of_tokens_becomes_one_of_a_text():
    assert per_text(0.02, tokens=250) == pytest.approx(0.02 * 250 / 1e6)


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "1", None, True, [1]])
def test_what_is_no_price_is_refused(wrong):
    with pytest.raises(ConfigError, match="the price of 'a' is a number"):
        Prices({"a": wrong})


@pytest.mark.parametrize("wrong", [None, 1, [("a", 1)], {1: 1}])
def test_prices_are_by_namespace(wrong):
    with pytest.raises(ConfigError, match="by namespace"):
        Prices(wrong)


@pytest.mark.parametrize("wrong", [None, 7, "a\nb"])
def test_a_currency_is_a_name(wrong):
    with pytest.raises(ConfigError, match="currency"):
        Prices({}, currency=wrong)


FILE = """
currency = "EUR"

[price]
"*" = 0
embeddings = 0.000005

[tokens]
answers = { per_million = 0.15, mean = 1000 }
"""


def test_a_file_has_both_kinds(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(FILE)
    prices = Prices.from_file(path)
    assert prices.currency == "EUR"
    assert prices.of == {"*": 0, "embeddings": 0.000005, "answers": pytest.approx(0.00015)}


@pytest.mark.parametrize(
    "content,complaint",
    [
        ("currency = ", "no TOML"),
        ("[prices]\na = 1", "unknown 'prices'"),
        ("price = 3", r"\[price\] is a table"),
        ("[price]\na = 'much'", "the price of 'a'"),
        ("[price]\na = -1", "the price of 'a'"),
        ("[price]\na = nan", "the price of 'a'"),
        ("[tokens]\na = 3", "tokens of 'a'"),
        ("[tokens]\na = { per_million = 1 }", "tokens of 'a'"),
        ("[tokens]\na = { per_million = 1, mean = 'x' }", "tokens of 'a'"),
        ("currency = 3", "a currency is a name"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, complaint):
    path = tmp_path / "prices.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=complaint):
        Prices.from_file(path)


def test_a_file_that_is_not_there_or_not_text_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Prices.from_file(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        Prices.from_file(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="no TOML"):
        Prices.from_file(tmp_path / "x")
