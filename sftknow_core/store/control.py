"""Runs from outside: put one in the queue, ask one to stop, say how a dead one ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from filelock import FileLock

from sftknow_core.errors import SpecError
from sftknow_core.store.cache import Cache, check_may_write
from sftknow_core.store.files import disk_errors
from sftknow_core.store.open_run import is_hit, record_state, took, write_spec
from sftknow_core.store.run_folder import STOP, RunFolder
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.run_state import RunState


def queue_run(cache: Cache, spec: RunSpec, about: Mapping[str, Any] | None = None) -> str:
    """Put a run on record that a process will soon do; returns its id. One under way or done stays so."""
    check_may_write("queue a run")
    run = RunFolder(cache, spec.run_id)
    lock = FileLock(cache.run_lock(run.run_id), thread_local=False)
    if not is_hit(run) and took(lock):
        try:
            with disk_errors(run.root):
                run.root.mkdir(parents=True, exist_ok=True)
                (run.root / STOP).unlink(missing_ok=True)
            write_spec(run, spec, about)
            record_state(run, RunState.QUEUED, None)
        finally:
            lock.release()
    return run.run_id


def record_ending(cache: Cache, run_id: str, state: RunState, reason: str) -> None:
    """Put on record how a run ended whose process died before it could; does nothing to one under way."""
    lock = FileLock(cache.run_lock(run_id), thread_local=False)
    if took(lock):
        try:
            record_state(RunFolder(cache, run_id), state, reason)
        finally:
            lock.release()


def request_stop(cache: Cache, run_id: str) -> None:
    """Ask the owner of a run to stop at the next batch. Raises SpecError when there is no such run."""
    folder = cache.run_folder(run_id)
    if not folder.is_dir():
        raise SpecError(f"there is no run {run_id} in {cache.root}; `sftknow runs` lists them")
    check_may_write("stop a run")
    with disk_errors(folder / STOP):
        (folder / STOP).touch()
