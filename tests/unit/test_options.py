"""Options are checked when they are made, and say what would have been right."""

import dataclasses
import inspect
import math
import pickle

import pytest

from nearcache.errors import CacheError, ConfigError
from nearcache.options import Options, check_count, check_ttl, effective_ttl, jittered

NOT_A_NUMBER = [None, "1", b"1", [1], True, math.nan, math.inf, -math.inf, -1]


@pytest.mark.parametrize("name", ["jitter", "lease", "link_timeout", "store_timeout"])
@pytest.mark.parametrize("value", NOT_A_NUMBER, ids=repr)
def test_a_number_of_seconds_is_a_finite_number(name, value):
    with pytest.raises(ConfigError, match=name):
        Options(**{name: value})


@pytest.mark.parametrize("name", ["max_batch", "max_concurrency"])
@pytest.mark.parametrize("value", [None, 0, -1, 1.0, "1", True], ids=repr)
def test_a_count_is_a_whole_number_of_at_least_one(name, value):
    with pytest.raises(ConfigError, match=name):
        Options(**{name: value})


@pytest.mark.parametrize(
    "options",
    [
        {"jitter": 1},
        {"jitter": 1.5},
        {"lease": 0},
        {"lease": 0.01},
        {"store_timeout": 0},
        {"store_timeout": "automatic"},
        {"on_store_error": "ignore"},
        {"on_store_error": None},
        {"on_store_error": True},
    ],
    ids=str,
)
def test_what_would_not_work_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Options(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jitter": 0.999, "lease": 0.1, "link_timeout": 0, "store_timeout": 0.001},
        {"max_batch": 1, "max_concurrency": 1},
        {"max_batch": 10**9, "on_store_error": "raise", "store_timeout": 3},
    ],
    ids=str,
)
def test_what_works_is_kept(options):
    made = Options(**options)
    for name, value in options.items():
        assert getattr(made, name) == value


def test_the_defaults_are_the_documented_ones():
    assert Options() == Options(
        jitter=0.0,
        max_batch=256,
        max_concurrency=8,
        lease=10.0,
        store_timeout="auto",
        on_store_error="degrade",
        link_timeout=3.0,
    )


def test_every_option_says_what_it_is_and_when_to_use_it():
    for field in dataclasses.fields(Options):
        _, _, text = inspect.getdoc(Options).partition(f"\n{field.name}: ")
        assert text, f"{field.name} is not documented"
        assert "When" in text, field.name


def test_options_are_frozen_and_named():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().lease = 3
    with pytest.raises(TypeError):
        Options(0.5)
    with pytest.raises(TypeError):
        Options(unknown=1)


def test_options_travel():
    made = Options(lease=3.0, on_store_error="raise")
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(Options(lease=3.0, on_store_error="raise"))


def test_a_wrong_option_is_a_value_error_too():
    with pytest.raises(ValueError, match="lease"):
        Options(lease=-1)
    assert issubclass(ConfigError, CacheError)


# -- lives ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ttl, kept", [(None, None), (math.inf, None), (0, 0.0), (0.5, 0.5), (3, 3.0), (1e-9, 1e-9)]
)
def test_a_ttl_is_seconds_or_no_limit(ttl, kept):
    assert check_ttl(ttl) == kept


@pytest.mark.parametrize("ttl", [-1, -0.001, math.nan, -math.inf, "3", True, [3], b"3"], ids=repr)
def test_what_is_no_ttl_is_refused(ttl):
    with pytest.raises(ConfigError, match="ttl"):
        check_ttl(ttl)


def test_a_call_without_a_ttl_takes_the_caches():
    assert effective_ttl(..., 7.0) == 7.0
    assert effective_ttl(..., None) is None


def test_a_calls_own_ttl_wins_even_when_it_is_zero_or_none():
    assert effective_ttl(0, 7.0) == 0
    assert effective_ttl(None, 7.0) is None
    assert effective_ttl(2, 7.0) == 2


def test_jitter_shortens_a_life_by_its_fraction_at_most():
    lives = [jittered(100.0, 0.25) for _ in range(500)]
    assert all(75 <= life <= 100 for life in lives)
    assert max(lives) - min(lives) > 10
    assert jittered(100.0, 0.0) == 100.0


def test_a_count_may_have_any_least():
    assert check_count("n", 0, least=0) == 0
    with pytest.raises(ConfigError, match="at least 5"):
        check_count("n", 4, least=5)


@pytest.mark.parametrize(
    "key",
    [
        "a secret of many letters",
        b"",
        b"fifteen bytes..",
        [],
        (),
        [b"sixteen bytes...", b"short secret"],
        [b"sixteen bytes...", "a secret in letters"],
        bytearray(b"a secret of many bytes"),
        {b"a secret of many bytes"},
        12345678901234567890,
    ],
    ids=lambda key: type(key).__name__,
)
def test_a_signing_key_that_is_none_is_refused_and_not_shown(key):
    with pytest.raises(ConfigError, match="signing_key") as caught:
        Options(signing_key=key)
    assert "secret" not in str(caught.value).replace("secrets.token_bytes", "")
    assert "1234567890" not in str(caught.value)


@pytest.mark.parametrize("key", [b"sixteen bytes...", [b"sixteen bytes..."] * 2])
def test_signing_keys_are_kept_and_not_shown(key):
    made = Options(signing_key=key)
    assert set(made.signing_keys) == {b"sixteen bytes..."}
    assert "sixteen" not in repr(made)
    assert hash(made) == hash(dataclasses.replace(made, jitter=0.0))
    assert pickle.loads(pickle.dumps(made)) == made
    assert Options().signing_keys == ()
