"""The engine's queue: lines come in from one thread, work is done in another, one request after the other.

`receive` answers what needs no model at once. `work` does the next request, or, where there is none, lets go of
the models after ten idle minutes or as soon as another process wants the device.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from sftknow_core.errors import SftknowError, SpecError, Stopped
from sftknow_core.serve.engine.protocol import (
    WORK,
    AskRequest,
    RecipeRequest,
    Request,
    SampleRequest,
    from_json,
)
from sftknow_core.store.cache import Cache

if TYPE_CHECKING:
    from sftknow_core.pipeline.device import DeviceLock
    from sftknow_core.serve.engine.tasks import TaskRunner

IDLE_SECONDS = 600.0
_TICK_SECONDS = 0.5
_UNLOAD = "unload"


@dataclass
class _Queued:
    """A request in the queue or in hand."""

    id: str
    what: Request | str
    """A request, or "unload"."""
    cancelled: bool = False


class Engine:
    """Requests in, answers out."""

    def __init__(
        self,
        cache: Cache,
        send: Callable[[Mapping[str, Any]], None],
        *,
        device: str = "auto",
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        lock: DeviceLock | None = None,
    ) -> None:
        """send: takes each answer, from either thread. clock: seconds, for idleness alone. lock: None finds its own."""
        self.cache = cache
        self._send, self._device, self._lock = send, device, lock
        self._idle_seconds, self._clock = idle_seconds, clock
        self._queue: deque[_Queued] = deque()
        self._changed = threading.Condition()
        self._current: _Queued | None = None
        self._desk: TaskRunner | None = None
        self._last_used = clock()
        self.closing = False
        """Whether nothing more is to be done."""

    # -- the reading thread

    def receive(self, line: str) -> None:
        """Take one line: answer it, or put it into the queue."""
        message, request_id = _parsed(line)
        try:
            if message is None:
                raise SpecError("a request is one JSON object a line, with `id` and `do`")
            self._dispatch(message, request_id)
        except SftknowError as error:
            self._fail(request_id, type(error).__name__, str(error))
        except Exception as error:  # the engine outlives whatever a client sends
            traceback.print_exc()
            self._fail(request_id, "internal", f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Stop what is in hand at its next step, and do nothing more."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()

    def _dispatch(self, message: Mapping[str, Any], request_id: str) -> None:
        kind = message.get("do")
        if kind == "ping":
            self._done(request_id, {"pid": os.getpid(), "ready": self._desk is not None})
        elif kind == "status":
            self._done(request_id, self._status())
        elif kind == "cancel":
            self._done(request_id, {"found": self._cancel(str(message.get("which")))})
        elif kind in (*WORK, _UNLOAD):
            queued = _Queued(request_id, _UNLOAD if kind == _UNLOAD else from_json(message))
            with self._changed:
                self._queue.append(queued)
                self._changed.notify_all()
        else:
            raise SpecError(f"do: got {kind!r}; allowed: {', '.join(WORK)}, unload, ping, status, cancel")

    def _cancel(self, request_id: str) -> bool:
        """Take a request out of the queue, or have the one in hand stop at its next step."""
        with self._changed:
            if self._current is not None and self._current.id == request_id:
                self._current.cancelled = True
                return True
            waiting = next((queued for queued in self._queue if queued.id == request_id), None)
            if waiting is not None:
                self._queue.remove(waiting)
        if waiting is not None:
            self._send({"id": request_id, "event": "cancelled"})
        return waiting is not None

    def _status(self) -> dict[str, Any]:
        desk, current = self._desk, self._current
        pair = desk.ws.pair if desk is not None else None
        return {
            "pid": os.getpid(),
            "ready": desk is not None,
            "device": self._device if desk is None else desk.device,
            "loaded": desk.ws.slot.holds if desk is not None else None,
            "loaded_bytes": desk.ws.slot.n_bytes if desk is not None else 0,
            "pair": list(pair.ids) if pair is not None else None,
            "rss_bytes": psutil.Process().memory_info().rss,
            "queue": [queued.id for queued in list(self._queue)],
            "current": current.id if current is not None else None,
            "idle_seconds": 0.0 if current is not None else self._clock() - self._last_used,
            "unloads_after_seconds": self._idle_seconds,
        }

    # -- the working thread

    def run(self) -> None:
        """Work until closed."""
        with suppress(SftknowError):  # a device that is not here: every request will be told so
            self._get_ready()
        while not self.closing:
            self.work(_TICK_SECONDS)

    def work(self, wait_seconds: float = 0.0) -> bool:
        """Do the next request, waiting for one that long; without one, tidy up. Returns whether there was one."""
        with self._changed:
            if not self._queue and not self.closing:
                self._changed.wait(wait_seconds)
            if self.closing:
                return False
            queued = self._queue.popleft() if self._queue else None
            self._current = queued
        if queued is not None:
            self._answer(queued)
        self._tidy()
        return queued is not None

    def _get_ready(self) -> TaskRunner:
        """Import what takes seconds to import; done once, before the first request is there where possible."""
        if self._desk is None:
            import sftknow_core.measure.shift
            import sftknow_core.update.restore  # noqa: F401 - the slow ones, which the tasks import when they need them
            from sftknow_core.serve.engine.model import EngineReporter, EngineWorkspace
            from sftknow_core.serve.engine.tasks import TaskRunner

            reporter = EngineReporter(self._tell)
            ws = EngineWorkspace(
                self.cache, device=self._device, check=self._check, reporter=reporter, lock=self._lock
            )
            self._desk = TaskRunner(ws)
        return self._desk

    def _answer(self, queued: _Queued) -> None:
        self._send({"id": queued.id, "event": "started"})
        try:
            result = self._do(queued.what)
        except Stopped as error:
            if not queued.cancelled and not self.closing:  # by somebody else: `sftknow runs stop`
                self._fail(queued.id, "Stopped", str(error))
            else:
                self._send({"id": queued.id, "event": "cancelled"})
        except SftknowError as error:
            self._fail(queued.id, type(error).__name__, str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self._failed_inside(queued.id, error)
        else:
            self._done(queued.id, result)
        with self._changed:
            self._current = None
        self._last_used = self._clock()

    def _do(self, what: Request | str) -> dict[str, Any]:
        desk = self._get_ready()
        desk.ws.begin()
        if isinstance(what, str):
            desk.forget()
            return {}
        if isinstance(what, RecipeRequest):
            return desk.recipe(what)
        if isinstance(what, SampleRequest):
            return desk.sample(what)
        return desk.ask(what) if isinstance(what, AskRequest) else desk.evaluate(what)

    def _failed_inside(self, request_id: str, error: Exception) -> None:
        """Our fault, or the device's: say so, and do not go on with a device that cannot be used any more."""
        from sftknow_core.model.generate.batching import is_out_of_memory

        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
            self._get_ready().forget()
            text = "memory ran out, so the models were unloaded; use a smaller model, or close what fills it"
            self._fail(request_id, "ModelError", f"{text} ({error})")
            return
        self._fail(request_id, "internal", f"{type(error).__name__}: {error}")
        if "CUDA error" in str(error):  # every later call would fail too; the client starts a new engine
            self.close()

    def _tidy(self) -> None:
        """Put new runs into the catalogue; let go of the models when nobody needs them here, or somebody does there."""
        if (desk := self._desk) is None:
            return
        try:
            if not self._queue:
                desk.ws.publish()
            idle = self._clock() - self._last_used >= self._idle_seconds
            if (idle and desk.in_use) or (desk.ws.lock.held and desk.ws.lock.is_wanted()):
                desk.forget()
        except SftknowError as error:  # the catalogue is busy or damaged: the run folders hold everything
            sys.stderr.write(f"sftknow engine: {error}\n")

    def _check(self) -> None:
        current = self._current
        if self.closing or (current is not None and current.cancelled):
            raise Stopped("the request was cancelled; asked again it goes on where it stopped")

    # -- answers

    def _tell(self, text: str, share: float | None) -> None:
        if (current := self._current) is not None:
            self._send({"id": current.id, "event": "progress", "text": text, "share": share})

    def _done(self, request_id: str, result: Mapping[str, Any]) -> None:
        self._send({"id": request_id, "event": "done", "result": result})

    def _fail(self, request_id: str, kind: str, message: str) -> None:
        self._send({"id": request_id, "event": "failed", "kind": kind, "message": message})


def _parsed(line: str) -> tuple[Mapping[str, Any] | None, str]:
    """The message and its id; (None, "") for what is no message."""
    try:
        message = json.loads(line)
    except ValueError:
        return None, ""
    if not isinstance(message, dict) or not isinstance(message.get("id"), str):
        return None, ""
    return message, message["id"]
