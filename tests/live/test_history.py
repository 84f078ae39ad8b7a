"""The history of a short storm over real servers holds to the contract, and the checker can fail.

``python -m bench.coherence.history`` is the long form.
"""

import pytest

from live.history import Plan, check
from live.history.board import MISSING, RING, Board, Key, keys_of, text_of
from live.history.caches import Face
from live.history.readers import Reader, Source
from live.history.unprotected import SWITCHES

SMALL = {"threads": 1, "tasks": 1, "loops": 1}
# `reads`: a slow machine goes on until so many were checked
STAND_IN = {
    "reads": 2000,
    "seconds": 1.5,
    "bound": 0.4,
    "groups": False,
    "faults": ("reset", "kill_clients"),
}
STORM = {"reads": 20_000, "seconds": 3.0, "bound": 1.0, "lease": 1.0, "seed": 1, **SMALL}
BARE = {"seconds": 3.0, "bound": 0.5, "lease": 1.0, "faults": ("kill_subscribers",), **SMALL}


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path / "board", keys=3, workers=1, create=True)


def test_a_read_is_behind_from_the_first_completed_version_after_it(board):
    one, two = board.begin(1), board.begin(1)
    assert board.behind(1, 0, 1e9) < 0  # neither is complete
    board.end(1, two, put=True)
    moment = board.completed[RING + two]
    assert board.behind(1, 0, moment + 5.0) == pytest.approx(5.0)
    assert board.behind(1, one, moment + 5.0) == pytest.approx(5.0)
    assert board.behind(1, two, moment + 5.0) < 0
    assert board.behind(1, MISSING, moment + 5.0) < 0
    assert board.behind(2, 0, moment + 5.0) < 0  # another key


def test_a_read_that_began_before_the_write_returned_is_not_behind(board):
    board.end(0, board.begin(0), put=True)
    assert board.behind(0, 0, board.completed[1] - 0.1) < 0


def test_a_version_that_nobody_remembers_is_as_old_as_the_ring(board):
    for _ in range(3 * RING):
        board.end(0, board.begin(0), put=True)
    assert 0 < board.behind(0, 1, board.completed[0] + 60.0) < 61.0


def test_every_key_has_one_writer_and_every_worker_the_same_keys():
    keys = keys_of(4)
    assert [key.number for key in keys] == list(range(len(keys)))
    assert {key.owner for key in keys} == set(range(4))
    assert keys == keys_of(4)
    assert len({key.name for key in keys}) == len(keys)


def test_a_client_without_a_near_tier_is_never_stale():
    found = check(Plan(cache="none", **STAND_IN))
    # a write that failed is repeated by nobody here: its key may keep the value of before
    assert found.wrong.keys() <= {"writes left undelivered"}, found.text()
    assert found.tally.checked > 1000
    assert found.tally.worst == 0.0


def test_a_dictionary_in_front_of_the_server_is_found_stale():
    found = check(Plan(cache="naive", **STAND_IN))
    assert found.wrong.keys() >= {"stale reads", "resurrected", "near copies apart from the store"}
    assert found.failure == ""


@pytest.mark.parametrize("server", ["redis-6.2", "valkey-9.1", "sqlite"])
def test_a_storm_of_faults_breaks_no_promise(server):
    found = check(Plan(server=server, **STORM))
    assert found.wrong == {}, found.text() + "\n" + "\n".join(found.log)
    assert found.tally.checked > 10_000
    assert found.compared > 0
    assert sum(found.faults.values()) > 2


@pytest.mark.parametrize("protection", SWITCHES)
def test_without_a_protection_the_checker_finds_something(protection):
    def finds(seed):
        found = check(Plan(protection=protection, seed=seed, **BARE))
        assert found.failure == ""
        return found.wrong.keys() & {"stale reads", "resurrected", "own writes not read"}

    # One storm does. On a machine that stands still for most of it too little is read; then more.
    assert any(map(finds, range(5)))


# What one reader makes of one value


class Reading:
    """A reader of one cache that answers what a test tells it to."""

    def __init__(self, board, **options):
        self.key = Key(
            0, "put:0:0", "put", 0, box=options.pop("box", False), ttl=options.pop("ttl", None)
        )
        self.answer = None
        self.board = board
        face = Face(
            get=self.get,
            load=self.get,
            put=None,
            invalidate=None,
            many=lambda names: [self.get(name) for name in names],
            through=self.get,
        )
        source = Source(board, [self.key], text_of, (), 0)
        options.setdefault("bound", 0.5)
        self.reader = Reader(board, [self.key], face, source, 0, **options)

    def get(self, _name):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def written(self, times, seconds_ago=0.0):
        """Complete so many versions, so long ago; return when the last was."""
        for _ in range(times):
            self.board.end(0, self.board.begin(0), put=True)
        newest = self.board.started[0]
        for version in range(1, newest + 1):
            self.board.completed[version] -= seconds_ago
        return self.board.completed[newest]

    def reads(self, answer, rounds=60):
        self.answer = answer
        self.reader.going.set()
        for _ in range(rounds):
            try:
                self.reader._round()
            except Exception as error:
                self.reader._raised(error)
        return self.reader.tally


@pytest.mark.parametrize(
    "version, bound, breaches", [(1, 60.0, False), (1, 0.5, True), (2, 0.5, False)]
)
def test_a_value_is_stale_when_a_newer_one_was_complete_for_longer_than_the_bound(
    board, version, bound, breaches
):
    reading = Reading(board, bound=bound)
    reading.written(2, 0.6)
    tally = reading.reads(text_of(reading.key, version))
    assert (tally.stale > 0) is breaches
    assert tally.reads > 0


def test_a_read_past_near_has_no_bound(board):
    reading = Reading(board, bound=60.0)
    reading.written(2, 0.1)
    board.moved_at = 0.0
    tally = reading.reads(text_of(reading.key, 1), 300)
    assert tally.stale == 0
    assert tally.unfresh > 0


def test_a_read_of_ones_own_write_has_no_bound(board):
    reading = Reading(board, own=True)
    reading.written(2, 0.1)
    tally = reading.reads(text_of(reading.key, 1))
    assert tally.unread > 0


def test_a_list_that_another_caller_has_changed_is_spoiled(board):
    reading = Reading(board, box=True)
    tally = reading.reads(text_of(reading.key, 0))
    assert tally.spoiled > 0


def test_a_value_of_another_key_is_spoiled(board):
    reading = Reading(board)
    tally = reading.reads(text_of(Key(1, "put:0:1", "put", 0), 0))
    assert tally.spoiled > 0


def test_a_value_that_outlives_its_life_is_overdue(board):
    reading = Reading(board, ttl=0.2)
    reading.written(1, 0.8)
    tally = reading.reads(text_of(reading.key, 1))
    assert tally.overdue > 0


def test_a_read_that_raises_is_counted_and_so_is_one_refused_to_a_writer(board):
    assert Reading(board).reads(OSError("gone")).raised > 0
    tally = Reading(board, own=True, errors=(OSError,)).reads(OSError("gone"))
    assert tally.raised == 0
    assert tally.refused > 0


def test_a_version_that_a_server_may_have_lost_makes_nothing_stale(board):
    reading = Reading(board)
    moment = reading.written(2, 0.6)
    board.open_window(moment - 0.1, moment + 0.1)
    tally = reading.reads(text_of(reading.key, 1))
    assert (tally.stale, tally.rolled_back > 0) == (0, True)
    assert board.may_be_lost(0)


def test_a_version_after_the_window_does(board):
    reading = Reading(board)
    moment = reading.written(2, 0.6)
    board.open_window(moment - 0.3, moment - 0.1)
    assert not board.may_be_lost(0)
    tally = reading.reads(text_of(reading.key, 1))
    assert (tally.stale > 0, tally.rolled_back) == (True, 0)
    number = board.open_window(moment - 0.05)
    board.close_window(number)
    assert board.may_be_lost(0)


def test_absence_is_never_stale(board):
    reading = Reading(board, own=True)
    reading.written(2, 60.0)
    tally = reading.reads(None)
    assert (tally.stale, tally.unread, tally.unfresh) == (0, 0, 0)
    assert tally.missing > 0
