"""The history of a short storm over real servers holds to the contract, and the checker can fail.

``python -m bench.coherence.history`` is the long form.
"""

import pytest

from live.history import Plan, check
from live.history.board import MISSING, RING, Board, keys_of

T = 1.0
SHORT = {"seconds": 5.0, "bound": T, "lease": 1.0, "patience": 15.0}
STAND_IN = {"seconds": 2.5, "bound": 0.4, "groups": False, "faults": ("reset", "kill_clients")}


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
    assert found.wrong == {}, found.text()
    assert found.tally.checked > 1000
    assert found.tally.worst == 0.0


def test_a_dictionary_in_front_of_the_server_is_found_stale():
    found = check(Plan(cache="naive", **STAND_IN))
    assert found.wrong.keys() >= {"stale reads", "resurrected", "near copies apart from the store"}
    assert found.failure == ""
