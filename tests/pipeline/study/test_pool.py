"""Handing out work: a signal that comes meanwhile is answered, but not halfway."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.pipeline.study import pool
from sftknow_core.pipeline.study.pool import EXECUTORS, InThisProcess, Workers


class Slow:
    """In place of an executor: a request to end arrives while it starts its processes."""

    def __init__(self, *_: object, **__: object) -> None:
        self.steps = ["begun"]

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        self.steps.append("submitted")
        return InThisProcess().submit(work, *args)

    def shutdown(self, **_: object) -> None:
        self.steps.append("shut down")


@pytest.fixture
def _as_a_command() -> Iterator[None]:
    """SIGTERM is treated as Ctrl-C, as the command line does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_as_a_command")
def test_a_signal_does_not_leave_an_executor_half_started(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Slow()
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda *_, **__: made)
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    workers = Workers(1)
    with pytest.raises(KeyboardInterrupt):
        workers.submit(int)
    assert made.steps == ["begun", "submitted"]
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers
    workers.close()
    assert made.steps[-1] == "shut down"


def test_work_is_handed_out_and_its_error_kept() -> None:
    with InThisProcess() as given:
        workers = Workers(1, given)
        assert workers.submit(divmod, 7, 2).result() == (3, 1)
        assert isinstance(workers.submit(int, "seven").exception(), ValueError)
        assert not workers.renew()  # not ours to replace
        workers.close()
        assert workers.submit(int).result() == 0  # nor to close


def test_executors_by_name() -> None:
    assert [*EXECUTORS] == ["processes", "this-process"]
    workers = Workers(2, "this-process")
    assert workers.submit(os.getpid).result() == os.getpid()
    workers.close()
    assert workers.renew() and workers.submit(os.getpid).result() == os.getpid()
    with pytest.raises(
        SpecError, match="executor: got 'process'; allowed: processes, this-process; did you mean"
    ):
        Workers(1, "process")
