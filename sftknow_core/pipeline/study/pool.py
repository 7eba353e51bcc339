"""Where the cells of a study are done: executors by name, behind concurrent.futures.Executor.

A worker is a fresh interpreter: nothing of this process, least of all its torch, leaks into a cell's numbers. It ends
with the process that started it, even where that one was killed, so that no orphan goes on under a run's lock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from sftknow_core.registry import Entry, Registry, plugin_of

__all__ = ["EXECUTORS", "PROCESSES", "BrokenExecutor", "InThisProcess", "Workers", "executor"]

T = TypeVar("T")
Start = Callable[[int], Executor]
PROCESSES = "processes"


@dataclass(frozen=True, kw_only=True)
class RegisteredExecutor(Entry):
    """A place where cells are done. It changes no number."""

    start: Start
    """Number of cells at once -> the executor."""


EXECUTORS: Registry[RegisteredExecutor] = Registry("executor")


def executor(name: str, *, title: str, source: str = "") -> Callable[[Start], Start]:
    """Register the decorated function (number of cells at once) -> executor. Raises PluginError for a taken name."""

    def register(start: Start) -> Start:
        EXECUTORS.add(
            RegisteredExecutor(name=name, title=title, source=source, plugin=plugin_of(start), start=start)
        )
        return start

    return register


class Workers:
    """An executor that can be had again after a worker died.

    given: another executor (threads, a cluster), used as it is and left open, or a name in EXECUTORS. A script that
    uses processes needs the usual `if __name__ == "__main__":`, because a worker imports the script again.
    """

    def __init__(self, n: int, given: Executor | str = PROCESSES) -> None:
        self.n = n
        self._start = EXECUTORS.get(given).start if isinstance(given, str) else None
        self._pool: Executor | None = None if isinstance(given, str) else given

    def submit(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Hand out one piece of work."""
        with _not_halfway():
            if self._pool is None:
                assert self._start is not None
                self._pool = self._start(self.n)
            return self._pool.submit(work, *args)

    def renew(self) -> bool:
        """After a worker died: whether others can be started in place of all of them."""
        if self._start is None:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Wait for what is being done, drop what is not begun, and end our processes."""
        if self._pool is not None and self._start is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


@executor(PROCESSES, title="processes of this machine", source="concurrent.futures")
def processes(n: int) -> Executor:
    """Fresh interpreters."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n, mp_context=context, initializer=_begin)


class InThisProcess(Executor):
    """An executor without other processes: `submit` does the work before it returns. For notebooks and tests."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Do the work now; what it raises is kept in the future."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@executor("this-process", title="this process, one cell after the other")
def in_this_process(n: int) -> Executor:
    """However many are wanted at once."""
    return InThisProcess()


@contextmanager
def _not_halfway() -> Iterator[None]:
    """A signal that comes in here is answered at the end.

    An exception raised by a handler while an executor starts its thread and processes leaves one that can neither
    work nor be shut down.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    came: list[int] = []

    def later(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, later) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _begin() -> None:
    """What a new worker does first."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches it as a stop request from the one who hands out
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' bars would tear the one that shows the study
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
