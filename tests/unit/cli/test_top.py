"""The command ``nearcache top``: its frames, and a real (pseudo) terminal that it gives back."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from embedders import until
from nearcache import NearCache, Options
from nearcache.cli.app import app
from nearcache.cli.top_screen import Screen
from nearcache.engine.build import open_store
from nearcache.metrics.report import Report, read
from nearcache.stats import Stats
from reports import AT, report, worker

ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"


def frame(screen, width=80, height=24, *, plain=False):
    console = Console(width=width, height=height or 25, highlight=False, force_terminal=False)
    with console.capture() as capture:
        console.print(screen.drawn(width, height, plain=plain))
    return capture.get()


def screen_of(*reports, problem=""):
    screen = Screen("redis://x", None)
    for each in reports:
        screen.show(each)
    if problem:
        screen.tell(problem)
    return screen


# -- a frame -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(20, 8), (40, 12), (60, 24), (80, 24), (80, 50), (200, 60)])
@pytest.mark.parametrize("workers", [1, 20])
def test_it_is_never_larger_than_the_terminal(size, workers):
    width, height = size
    lines = frame(screen_of(report(workers), problem="gone"), width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_it_shows_tiers_hit_ratio_links_workers_and_the_hottest():
    text = frame(screen_of(report(20)), 120, 60)
    for part in ("near", "store and stale", "loader", "hit ratio, hour", "fact:0", "web-1 4005"):
        assert part in text
    assert "cannot hear the store" in text
    assert any(block in text for block in "▁▂▃▄▅▆▇█")
    assert frame(screen_of(report(2)), 80, 24, plain=True).count("█") == 0


def test_now_is_what_was_asked_for_between_two_reports():
    before = worker(0)
    (docs, *_) = before.caches
    more = replace(docs.stats, near_hits=docs.stats.near_hits + 30, misses=docs.stats.misses + 10)
    after = replace(before, at=before.at + 5, caches=(replace(docs, stats=more),))
    screen = screen_of(
        Report(at=AT, address="a", workers=(before,)), Report(at=AT, address="a", workers=(after,))
    )
    assert "75.0 %" in frame(screen)
    assert "8/s" in frame(screen)


def test_counts_that_began_anew_are_no_ratio():
    before = worker(0)
    after = replace(before, at=before.at + 5, caches=(replace(before.caches[0], stats=Stats()),))
    screen = screen_of(
        Report(at=AT, address="a", workers=(before,)), Report(at=AT, address="a", workers=(after,))
    )
    assert "now         –" in frame(screen)


def test_a_store_that_went_away_is_said_above_what_it_said_last():
    text = frame(screen_of(report(2), problem="Connection refused"), 120, 40)
    assert "the store does not answer" in text
    assert "Connection refused" in text
    assert "web-0 4000" in text
    assert "Connection refused" in frame(screen_of(problem="Connection refused"))
    assert "No worker reports" in frame(screen_of(Report(at=AT, address="a")))


def test_without_a_terminal_it_is_one_frame(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    with NearCache(url, namespace="docs") as cache:
        cache.put("a", 1)
        ran = CliRunner().invoke(app, ["top", "--store", url])
    assert (ran.exit_code, "No worker reports" in ran.stdout) == (0, True)
    assert "\x1b" not in ran.stdout


@pytest.mark.impatient
def test_without_a_terminal_a_store_that_does_not_answer_is_a_failure():
    ran = CliRunner().invoke(app, ["top", "--store", "redis://127.0.0.1:1"])
    assert ran.exit_code == 1
    assert "Traceback" not in ran.output


# -- a terminal ----------------------------------------------------------------------------------


class Terminal:
    """A pseudo-terminal of 80 columns and 24 lines in which a command runs."""

    def __init__(self, *arguments, term="xterm"):
        self._mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nearcache.cli", "top", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": term},
            start_new_session=True,
        )
        self._theirs = theirs
        self.shown = b""

    def read_until(self, holds, seconds=20.0):
        """Read what is shown until ``holds`` is true of it."""
        end = time.monotonic() + seconds
        while not holds(self.shown):
            assert time.monotonic() < end, self.shown[-2000:]
            ready, _, _ = select.select([self._mine], [], [], 0.1)
            if ready:
                self.shown += os.read(self._mine, 65536)

    def type(self, keys):
        os.write(self._mine, keys)

    def ended(self):
        """Return the status, when everything was read."""
        self.read_until(lambda _: self.process.poll() is not None)
        while select.select([self._mine], [], [], 0)[0]:
            self.shown += os.read(self._mine, 65536)
        return self.process.returncode

    def modes(self):
        return termios.tcgetattr(self._theirs)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._mine)
        os.close(self._theirs)


@pytest.fixture
def terminal():
    made = []

    def start(*arguments, **options):
        made.append(Terminal(*arguments, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    store, _ = open_store(url, Options())
    with NearCache(url, namespace="docs", options=Options(report=0.1)) as cache:
        cache.get_or_load("k", lambda: 1)
        until(lambda: read(store).workers)
        yield url
    store.close()


def leave_by_q(terminal):
    terminal.type(b"q")


def leave_by_ctrl_c(terminal):
    os.kill(terminal.process.pid, 2)


@pytest.mark.parametrize("leave", [leave_by_q, leave_by_ctrl_c])
def test_it_draws_in_place_and_gives_the_terminal_back(terminal, url, leave):
    top = terminal("--store", url, "--every", "0.1")
    top.read_until(lambda shown: b"docs" in shown)
    assert ALTERNATE in top.shown
    assert not top.modes()[3] & termios.ECHO
    top.type(b"x\x1b[A")  # keys that mean nothing
    drawn = len(top.shown)
    top.read_until(lambda shown: len(shown) > drawn + 500)
    leave(top)
    assert top.ended() == 0
    assert top.shown.rindex(BACK) > top.shown.rindex(ALTERNATE)
    assert b"Traceback" not in top.shown
    assert top.modes() == top.before


def test_it_goes_on_while_its_store_is_away(terminal, own_server):
    server = own_server()
    with NearCache(server.url, namespace="docs", options=Options(report=0.1)) as cache:
        cache.get("k")
        top = terminal("--store", server.url, "--every", "0.1")
        top.read_until(lambda shown: b"docs" in shown)
        server.kill()
        top.read_until(lambda shown: b"does not answer" in shown)
        server.restart()
        cache.get("k")
        gone = top.shown.count(b"does not answer")
        top.read_until(
            lambda shown: b"docs" in shown[shown.rindex(b"does not answer") + 3000 :] or gone == 0
        )
        top.type(b"q")
        assert top.ended() == 0


def test_a_terminal_that_cannot_move_its_cursor_gets_one_frame(terminal, url):
    top = terminal("--store", url, term="dumb")
    assert top.ended() == 0
    assert b"docs" in top.shown
    assert b"\x1b" not in top.shown
