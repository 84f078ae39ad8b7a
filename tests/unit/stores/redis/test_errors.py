"""What is left of a server's own words."""

import pytest
import redis

from nearcache.stores.redis.errors import hush


@pytest.mark.parametrize(
    "said,left",
    [
        (
            "unknown command 'XADD', with args beginning with: 'a key' 'a\nvalue' ",
            "unknown command 'XADD'",
        ),
        (
            "unknown command `GET`, with args beginning with: `a key`, ",
            "unknown command `GET`",
        ),
        (
            "User ann has no permissions to run the 'set' command",
            "this user has no permissions to run the 'set' command",
        ),
        ("Connection refused", "Connection refused"),
    ],
)
def test_a_server_names_neither_keys_nor_values_nor_users(said, left):
    error = redis.ResponseError(said)
    hush(error)
    assert str(error) == left


@pytest.mark.parametrize("error", [OSError(111, "refused"), ValueError(), KeyError(1)])
def test_other_errors_stay_what_they_are(error):
    before = str(error)
    hush(error)
    assert str(error) == before
