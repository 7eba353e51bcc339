"""The engine's lines -> how far each request is: one board for all who ask the same engine. Safe for threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

ANSWERS_KEPT = 1_000


class AnswerState(StrEnum):
    """How far a request is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self not in (AnswerState.QUEUED, AnswerState.RUNNING)


@dataclass(frozen=True)
class Answer:
    """A request as it stands."""

    state: AnswerState = AnswerState.QUEUED
    text: str = ""
    """What is being done now, for people."""
    share: float | None = None
    """Of the request's work, 0 to 1; None: not known."""
    result: Mapping[str, Any] | None = None
    """Of a done one (tasks.py)."""
    error: str | None = None
    """Of a failed one, for people."""
    kind: str | None = None
    """Of a failed one: the name of the error, "internal" for a fault of ours, "engine" where the engine died."""


class Board:
    """The answers so far; shared by the client and the threads that read, which do not know the client.

    Over a thousand, the ones that ended longest ago go; one that has not ended stays, however many are put after it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.answers: OrderedDict[str, Answer] = OrderedDict()
        self.notice: str | None = None

    def put(self, request_id: str) -> None:
        """A new request, not begun."""
        with self.changed:
            self.answers[request_id] = Answer()
            ended = [old for old, answer in self.answers.items() if answer.state.ended]
            for old in ended[: max(0, len(self.answers) - ANSWERS_KEPT)]:
                del self.answers[old]

    def drop(self, request_id: str) -> None:
        """Nobody will look at it again."""
        with self.changed:
            self.answers.pop(request_id, None)

    def take_in(self, message: Mapping[str, Any]) -> None:
        """One line of the engine."""
        with self.changed:
            now = self.answers.get(message.get("id", ""))
            if now is None or now.state.ended:
                return
            event = message.get("event")
            if event == "started":
                now = replace(now, state=AnswerState.RUNNING)
            elif event == "progress":
                now = replace(now, text=message["text"], share=message["share"])
            elif event == "done":
                now = replace(now, state=AnswerState.DONE, share=1.0, result=message["result"])
            elif event == "failed":
                error, kind = message["message"], message["kind"]
                now = replace(now, state=AnswerState.FAILED, error=error, kind=kind)
            elif event == "cancelled":
                now = replace(now, state=AnswerState.CANCELLED)
            self._set(message["id"], now)
            self.changed.notify_all()

    def fail(self, ids: set[str], text: str) -> None:
        """The engine that was to answer these is gone."""
        with self.changed:
            for request_id in ids:
                now = self.answers.get(request_id)
                if now is not None and not now.state.ended:
                    failed = replace(now, state=AnswerState.FAILED, error=text, kind="engine")
                    self._set(request_id, failed)
            self.changed.notify_all()

    def _set(self, request_id: str, answer: Answer) -> None:
        """One that ended just now is the last to be let go of: its reader has yet to see it."""
        self.answers[request_id] = answer
        if answer.state.ended:
            self.answers.move_to_end(request_id)
