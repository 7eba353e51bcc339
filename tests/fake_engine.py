"""An engine for the pages' tests: no process; each request stays queued until the test says how it went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sftknow_core.serve.engine.client import Answer, AnswerState
from sftknow_core.serve.engine.protocol import AskRequest, EvaluateRequest, Request

STATUS = {
    "ready": True,
    "device": "cpu",
    "rss_bytes": 9e8,
    "loaded_bytes": 4.8e6,
    "queue": [],
    "current": None,
}


class FakeEngine:
    """What the pages use of EngineClient."""

    def __init__(self) -> None:
        self.notice: str | None = None
        self.running = False
        self.asked: dict[str, Request] = {}
        """Evaluations and questions, without those that only prepare; in order."""
        self.cancelled: list[str] = []
        self.said: Mapping[str, Any] | None = STATUS
        """The status of a running one."""
        self._answers: dict[str, Answer] = {}

    def start(self) -> None:
        self.running, self.notice = True, None

    def submit(self, request: Request | str) -> str:
        self.running = True
        request_id = f"r{len(self._answers)}"
        self._answers[request_id] = Answer()
        if isinstance(request, str):
            self._answers[request_id] = Answer(AnswerState.DONE)
        elif not (isinstance(request, EvaluateRequest) and request.only_prepare):
            self.asked[request_id] = request
        return request_id

    def poll(self, request_id: str) -> Answer:
        return self._answers[request_id]

    def status(self) -> Mapping[str, Any] | None:
        return self.said if self.running else None

    def cancel(self, request_id: str) -> None:
        if not self._answers[request_id].state.ended:
            self.cancelled.append(request_id)
            self._answers[request_id] = Answer(AnswerState.CANCELLED)

    # -- for the test

    def all_end(self, result: Mapping[str, Any] | None = None) -> None:
        """Everything that waits is done."""
        self._end(Answer(AnswerState.DONE, result=result or {}))

    def all_progress(self, text: str, share: float) -> None:
        self._end(Answer(AnswerState.RUNNING, text, share))

    def all_fail(self, error: str) -> None:
        self._end(Answer(AnswerState.FAILED, error=error, kind="engine"))

    def dies(self, notice: str) -> None:
        """Killed: what waits fails."""
        self.running, self.notice = False, notice
        self.all_fail(f"{notice} Ask again.")

    def _end(self, answer: Answer) -> None:
        waiting = [one for one in self.asked if not self._answers[one].state.ended]
        self._answers |= dict.fromkeys(waiting, answer)


def three_answers(request: AskRequest) -> Mapping[str, Any]:
    """The result of a question to three states: answers "a0", "a1", "a2"; ten tokens that hold 0.9, 0.8 and 0.7."""
    found = []
    for number in range(3):
        held = 0.9 - number / 10
        first = {
            "top_ids": list(range(10)),
            "top_tokens": [f" t{i}" for i in range(10)],
            "p": [held / 10] * 10,
            "mass_outside": 1 - held,
        }
        row = {"text": request.texts[0], "answer": f"a{number}", "stopped": True, "n_tokens": 2, **first}
        found.append({"state_id": f"s{number}", "label": "", "rows": [row]})
    return {"answers": found}
