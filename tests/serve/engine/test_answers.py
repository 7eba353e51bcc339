"""The board of answers: what is let go of once there are too many."""

from __future__ import annotations

from sftknow_core.serve.engine.client import ANSWERS_KEPT, AnswerState, Board


def ended(board: Board, request_id: str) -> None:
    board.take_in({"id": request_id, "event": "done", "result": {}})


def test_what_has_not_ended_outlives_any_number_of_later_ones() -> None:
    board = Board()
    board.put("long")
    board.take_in({"id": "long", "event": "started"})
    for number in range(ANSWERS_KEPT + 1):
        board.put(f"r{number}")
        ended(board, f"r{number}")
    assert len(board.answers) == ANSWERS_KEPT
    assert board.answers["long"].state is AnswerState.RUNNING
    assert "r0" not in board.answers and f"r{ANSWERS_KEPT}" in board.answers


def test_more_unfinished_ones_than_are_kept_all_stay() -> None:
    board = Board()
    for number in range(ANSWERS_KEPT + 1):
        board.put(f"r{number}")
    assert board.answers["r0"].state is AnswerState.QUEUED and len(board.answers) == ANSWERS_KEPT + 1


def test_the_oldest_request_is_kept_when_it_ended_last() -> None:
    """Whoever waited longest looks a moment after its end, and others ask in between."""
    board = Board()
    for number in range(ANSWERS_KEPT):
        board.put(f"r{number}")
    for number in reversed(range(ANSWERS_KEPT)):
        ended(board, f"r{number}")
    board.put("next")
    assert "r0" in board.answers and f"r{ANSWERS_KEPT - 1}" not in board.answers
