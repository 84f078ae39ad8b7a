"""Who may look, and by which names the dashboard is reached."""

import pytest

from dashboards import TOKEN
from nearcache.dashboard.access import Access, is_loopback
from nearcache.errors import ConfigError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_on_this_machine_nothing_is_needed(host):
    assert is_loopback(host)
    assert Access(host=host).token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])
def test_elsewhere_a_token_is(host):
    with pytest.raises(ConfigError, match="token"):
        Access(host=host)
    assert Access(host=host, token=TOKEN).admits(TOKEN)


@pytest.mark.parametrize("token", ["", "short", "with a space in its middle", "é" * 20, "a\n" * 10])
def test_a_token_that_is_none(token):
    with pytest.raises(ConfigError, match="16"):
        Access(token=token)


def test_only_the_token_is_the_token():
    access = Access(token=TOKEN)
    assert not any(map(access.admits, ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udc80"]))
    assert not Access().admits("")


def test_a_token_is_in_no_repr_and_in_no_cookie():
    access = Access(token=TOKEN)
    assert TOKEN not in repr(access)
    name, value = access.cookie
    assert TOKEN not in name + value
    assert access.remembers({name: value})
    assert not access.remembers({name: value[:-1]})
    assert not access.remembers({})
    assert not Access(token=TOKEN + "2").remembers({name: value})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8090", "LOCALHOST:1", "[::1]", "[::1]:8090", "localhost"]
)
def test_names_of_this_machine(host):
    assert Access().knows(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "127.0.0.1.evil.example", "evil.example:8090", "localhost.evil.example",
     "192.0.2.1", "a@127.0.0.1", "127.0.0.1:8090/", "127.0.0.1:x", "[::1", "127.0.0.1 "],
)  # fmt: skip
def test_names_that_were_made_to_lead_here(host):
    assert not Access().knows(host)


def test_names_that_are_allowed():
    access = Access(host="0.0.0.0", token=TOKEN, names=["Cache.Example.org"])
    assert access.knows("cache.example.org:443")
    assert access.knows("192.0.2.1:8090")  # a number cannot be made to lead elsewhere
    assert not access.knows("other.example.org")
    assert Access(host="192.0.2.7", token=TOKEN).knows("192.0.2.7:1")


@pytest.mark.parametrize("name", ["https://x", "x:80", "x/y", "", "*"])
def test_names_that_are_none(name):
    with pytest.raises(ConfigError, match="no name"):
        Access(names=[name])
