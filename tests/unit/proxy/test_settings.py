"""Wrong settings are refused with a sentence, before anything happens."""

from pathlib import Path

import pytest

from nearcache import ConfigError
from nearcache.proxy import Settings

URL = "https://api.openai.com/v1"


@pytest.mark.parametrize(
    "given,words",
    [
        ({"upstream": "api.openai.com"}, "base URL"),
        ({"upstream": "ftp://host"}, "base URL"),
        ({"upstream": "https://"}, "base URL"),
        ({"upstream": "https://host:port"}, "base URL"),
        ({"upstream": "https://me:secret@host"}, "own keys"),
        ({"upstream": "https://host/v1?key=x"}, "query"),
        ({"ttl": 0}, "keep nothing"),
        ({"ttl": -1}, "ttl"),
        ({"verify_ttl": 0}, "verify_ttl"),
        ({"verify_ttl": float("nan")}, "verify_ttl"),
        ({"gather": -1}, "gather"),
        ({"timeout": "long"}, "timeout"),
        ({"max_body": 0}, "max_body"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_entries": -1}, "max_entries"),
        ({"ignore_headers": ["a header"]}, "name of a header"),
        ({"ignore_headers": ["Authorization"]}, "says who asks"),
        ({"ignore_headers": ["x-forwarded-user"]}, "says who asks"),
        ({"upstream_key": "sk"}, "everybody"),
        ({"upstream_key": "s\nk", "api_keys": Path("keys")}, "characters"),
    ],
)
def test_wrong_settings(given, words):
    with pytest.raises(ConfigError, match=words) as caught:
        Settings(**{"upstream": URL, **given})
    assert "secret" not in str(caught.value)


def test_no_key_is_shown():
    settings = Settings(upstream=URL, upstream_key="sk-secret", api_keys=Path("keys"))
    assert "sk-secret" not in repr(settings)
