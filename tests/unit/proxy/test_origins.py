"""What pages of other origins may read, by what the provider said of them last."""

from nearcache.proxy.origins import Origins

ALLOWED = [(b"access-control-allow-origin", b"*"), (b"vary", b"origin")]


def test_what_was_said_of_an_origin_is_known_and_nothing_else_of_an_answer():
    origins = Origins()
    assert not origins.is_known(b"https://a")
    origins.note(b"https://a", [*ALLOWED, (b"x-request-id", b"1")])
    assert origins.is_known(b"https://a")
    assert origins.said(b"https://a") == ALLOWED
    origins.note(b"https://a", [])
    assert origins.is_known(b"https://a")
    assert origins.said(b"https://a") == []


def test_no_page_needs_no_word():
    origins = Origins()
    origins.note(b"", ALLOWED)
    assert origins.is_known(b"")
    assert origins.said(b"") == []


def test_origins_without_number_take_no_memory_without_end():
    origins = Origins()
    for number in range(3000):
        origins.note(b"https://%d" % number, ALLOWED)
    assert len(origins._said) <= 1000
    assert origins.is_known(b"https://2999")
