"""The dashboard's side of the engine: start it, hand requests over, look how far they are. Loads no torch.

    client = EngineClient(cache_root)              # one for a whole server: st.cache_resource
    request_id = client.submit(AskRequest(...))    # starts the engine where it does not run
    answer = client.poll(request_id)               # at once; state, progress, and at last result or error

Safe for threads. When the engine dies, its requests fail and say so, and the next one starts a new engine. When the
client goes, or the process that has it is killed, the engine's stdin ends, and so does the engine.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.serve.engine.protocol import Request, to_json
from sftknow_core.serve.process import child_command, child_environment
from sftknow_core.store.cache import Cache, check_may_write
from sftknow_core.store.files import disk_errors

# The engine's lines -> how far each request is: one board for all who ask the same engine. Safe for threads.

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


_CLOSING_SECONDS = 5.0
_TAIL_BYTES = 2_000
_LOG_BYTES = 2**20
_LAST_EVENTS = ("done", "failed", "cancelled")


@dataclass
class _Process:
    """A running engine and what was asked of it."""

    popen: subprocess.Popen[bytes]
    log: Path
    asked: set[str]
    """Requests it has not answered to the end."""
    leaving: bool = False
    """Whether its end is wanted."""

    @property
    def stdin(self) -> IO[bytes]:
        assert self.popen.stdin is not None
        return self.popen.stdin


@dataclass
class _Status:
    """What an engine says of itself."""

    process: _Process | None = None
    """Whose it is."""
    asked: str | None = None
    """The request that is under way."""
    said: Mapping[str, Any] | None = None


class EngineClient:
    """One engine over one cache."""

    def __init__(
        self, cache_root: Path | str, device: str = "auto", *, idle_seconds: float | None = None
    ) -> None:
        """device: auto, cuda, mps or cpu. idle_seconds: the engine unloads after so long; None: ten minutes."""
        self._cache = Cache(cache_root)
        self._arguments = ["--cache", str(self._cache.root), "--device", device]
        if idle_seconds is not None:
            self._arguments += ["--idle-seconds", str(idle_seconds)]
        self._board = Board()
        self._starting = threading.RLock()
        self._process: _Process | None = None
        self._status = _Status()
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether an engine process is there now."""
        process = self._process
        return process is not None and process.popen.poll() is None

    @property
    def notice(self) -> str | None:
        """How the last engine died that was not asked to end; None: none did."""
        return self._board.notice

    def start(self) -> None:
        """Start the engine where none runs. Raises CacheError in show mode, and when its log cannot be written."""
        self._running()

    def submit(self, request: Request | str) -> str:
        """Hand a request over (or "ping", "status", "unload"); returns the id to `poll` it by."""
        message = to_json(request) if not isinstance(request, str) else {"do": request}
        return self._send(message)

    def poll(self, request_id: str) -> Answer:
        """How far a request is. Raises SpecError for an id that is not known (any more)."""
        with self._board.changed:
            if (found := self._board.answers.get(request_id)) is None:
                raise SpecError(
                    f"there is no request {request_id!r}; only the last {ANSWERS_KEPT:,} answers are kept"
                )
            return found

    def status(self) -> Mapping[str, Any] | None:
        """What the engine said of itself last (worker.py), and have it say so again; None: nothing yet. Never waits.

        One question at a time, whoever looks and however often, and none is left among the answers.
        """
        with self._starting:
            if not self.running:
                return None
            last = self._status
            if last.process is not self._process:
                self._status = last = _Status(self._process)
            if last.asked is not None and (answer := self.poll(last.asked)).state.ended:
                self._board.drop(last.asked)
                last.asked, last.said = None, answer.result or last.said
            if last.asked is None:
                last.asked = self.submit("status")
            return last.said

    def wait(self, request_id: str, seconds: float) -> Answer:
        """The answer once it has ended, or as it stands after so long."""
        give_up = time.monotonic() + seconds
        with self._board.changed:
            while not self.poll(request_id).state.ended:
                left = give_up - time.monotonic()
                if left <= 0 or not self._board.changed.wait(left):
                    break
            return self.poll(request_id)

    def cancel(self, request_id: str) -> None:
        """Have a request stop; what it has finished by then stays in the cache. Ended ones are left alone."""
        if not self.poll(request_id).state.ended:
            self._send({"do": "cancel", "which": request_id})

    def close(self) -> None:
        """End the engine; its requests fail."""
        with self._starting:
            self._closed = True
            process, self._process = self._process, None
        if process is not None:
            process.leaving = True
            _end(process.popen)

    def _send(self, message: Mapping[str, Any]) -> str:
        """Write a request; to a new engine where the old one just died. If that dies too the request fails."""
        request_id = uuid.uuid4().hex
        line = json.dumps({"id": request_id, **message}, ensure_ascii=False).encode() + b"\n"
        self._board.put(request_id)
        with self._starting:
            for _ in range(2):
                process = self._running()
                process.asked.add(request_id)
                with suppress(OSError):
                    process.stdin.write(line)
                    process.stdin.flush()
                    return request_id
                process.asked.discard(request_id)
                _end(process.popen)
            self._board.fail({request_id}, _last_words(process))
        return request_id

    def _running(self) -> _Process:
        check_may_write("start the engine")
        with self._starting:
            if self._closed:
                raise SftknowError("this engine client was closed; make a new one")
            if self._process is None or self._process.popen.poll() is not None:
                self._process = self._spawn()
            return self._process

    def _spawn(self) -> _Process:
        log = self._cache.root / "logs" / "engine.log"
        with disk_errors(log):
            log.parent.mkdir(exist_ok=True)
            fresh = not log.exists() or log.stat().st_size > _LOG_BYTES
            with log.open("wb" if fresh else "ab") as errors:
                popen = subprocess.Popen(
                    child_command("sftknow_core.serve.engine", self._arguments),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=child_environment(),
                    start_new_session=True,
                )
        process = _Process(popen, log, set())
        threading.Thread(target=_read, args=(process, self._board), name="engine", daemon=True).start()
        weakref.finalize(self, _end, popen)
        return process


def _read(process: _Process, board: Board) -> None:
    """Put every answer on the board; at the engine's end fail what it leaves unanswered."""
    assert process.popen.stdout is not None
    for line in process.popen.stdout:
        with suppress(ValueError, KeyError, AttributeError):  # a torn line: it was killed while writing
            board.take_in(message := json.loads(line))
            if message["event"] in _LAST_EVENTS:
                process.asked.discard(message["id"])
    process.popen.wait()
    if process.leaving:
        board.fail(process.asked, "the engine was closed")
    else:
        board.notice = _last_words(process)
        board.fail(process.asked, f"{board.notice} Ask again.")


def _end(popen: subprocess.Popen[bytes]) -> None:
    """Let an engine end, and make sure of it."""
    assert popen.stdin is not None
    with suppress(OSError):
        popen.stdin.close()
    try:
        popen.wait(_CLOSING_SECONDS)
    except subprocess.TimeoutExpired:
        popen.kill()


def _last_words(process: _Process) -> str:
    code = process.popen.poll()
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
    try:
        with process.log.open("rb") as file:
            file.seek(max(0, process.log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    said = f" (the end of {process.log}: {lines[-1]})" if lines else ""
    return f"The engine {how}{said}; the next request starts a new one."
