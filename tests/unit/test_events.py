"""Subscribers hear what happens, and are never felt."""

import logging

from nearcache.events import Events


def test_every_subscriber_hears_every_event():
    events, one, two = Events(), [], []
    events.subscribe(lambda *event: one.append(event))
    events.subscribe(lambda *event: two.append(event))
    events.emit("hit", "near", 3)
    events.emit("load", "model", 2)
    assert one == two == [("hit", "near", 3), ("load", "model", 2)]


def test_who_unsubscribes_hears_nothing_more():
    events, heard = Events(), []
    stop = events.subscribe(lambda *event: heard.append(event))
    events.emit("hit", "near", 1)
    stop()
    stop()
    events.emit("hit", "near", 2)
    assert heard == [("hit", "near", 1)]


def test_who_unsubscribes_while_it_is_called_disturbs_nobody():
    events, heard = Events(), []

    def once(*_):
        stop()
        heard.append("once")

    stop = events.subscribe(once)
    events.subscribe(lambda *_: heard.append("always"))
    events.emit("hit", "near", 1)
    events.emit("hit", "near", 1)
    assert heard == ["once", "always", "always"]


def test_a_subscriber_that_raises_is_logged_and_never_felt(caplog):
    events, heard = Events(), []

    def fail(*_):
        raise ValueError("mine")

    events.subscribe(fail)
    events.subscribe(lambda *event: heard.append(event))
    with caplog.at_level(logging.ERROR, logger="nearcache"):
        events.emit("hit", "near", 1)
    assert heard == [("hit", "near", 1)]
    assert "mine" in caplog.text
    assert "hit" in caplog.text


def test_without_subscribers_nothing_happens():
    Events().emit("hit", "near", 1)


def test_who_does_not_want_hits_hears_all_the_rest():
    events, heard = Events(), []
    stop = events.subscribe(lambda *event: heard.append(event), hits=False)
    assert events
    assert not events.hear_hits
    events.emit("hit", "near", 1)
    events.emit("miss", "model", 1)
    stop()
    events.emit("miss", "model", 1)
    assert heard == [("miss", "model", 1)]
