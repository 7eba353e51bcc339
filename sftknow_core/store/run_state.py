"""What a run is doing: a state folded from its events, and whether its owner still lives.

Events are JSON lines {"t": seconds since the epoch, "type": ...}:
    state      state, reason, owner      a new state; "running" opens a stint, the final ones end it
    progress   done, total, note         work done in this stint, in the run's own units
    metric     step, values              numbers to watch, e.g. the loss
    warning    text                      something was worked around
    uses       run_id                    a stage of this run
    heartbeat                            the owner lives, where nothing else was written for a while
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from sftknow_core.store.cache import read_only

HEARTBEAT_SECONDS = 2.0
STALE_SECONDS = 30.0
"""A heartbeat older than this does not prove by itself that the owner lives."""
_CREATE_TIME_TOLERANCE_SECONDS = 2.0


class RunState(StrEnum):
    """What a run is doing, or how it ended."""

    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Its owner died without a word, or the run was left before its end."""
    DONE = "done"


@dataclass(frozen=True)
class Owner:
    """The process that does a run; its create time tells it from a later process with the same number."""

    host: str
    pid: int
    create_time: float
    """Seconds since the epoch."""

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def exists(self) -> bool:
        """Whether the process is there and no zombie. Only meaningful on its own host."""
        try:
            process = psutil.Process(self.pid)
            drift = abs(process.create_time() - self.create_time)
            return drift < _CREATE_TIME_TOLERANCE_SECONDS and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True

    def alive(self, heartbeat_age_seconds: float, lock: Path) -> bool:
        """Whether the owner still does the run: its process lives, and beats or holds the run's lock."""
        fresh = heartbeat_age_seconds < STALE_SECONDS
        if self.host != socket.gethostname():
            return fresh
        return self.exists() and (fresh or is_locked(lock))


@dataclass(frozen=True)
class RunStatus:
    """What the events of a run add up to."""

    state: RunState
    reason: str | None = None
    """Why it failed or stopped."""
    owner: Owner | None = None
    """Who does it, or did it last."""
    done: float = 0.0
    total: float | None = None
    """Work in this stint, in the run's own units; None: not known."""
    note: str = ""
    """What is being done now, for people."""
    seconds: float = 0.0
    """Time at work, all stints together, s."""
    last_seconds: float | None = None
    """When the last event was written, seconds since the epoch; None: no event."""
    uses: tuple[str, ...] = ()
    """Stages of this run, in the order they were asked for."""


def is_locked(lock: Path) -> bool:
    """Whether somebody holds the lock file."""
    if read_only():  # looking must neither take a lock nor make its file
        return lock.exists()
    probe = FileLock(lock, thread_local=False)
    try:
        with probe.acquire(blocking=False):
            return False
    except Timeout:
        return True


def fold(events: Iterable[Mapping[str, Any]]) -> RunStatus:
    """The status that events lead to, without asking whether the owner lives."""
    so_far = asdict(RunStatus(RunState.INTERRUPTED, reason="it never started"))
    for event in events:
        _add(so_far, event)
    return RunStatus(**so_far)


def _add(so_far: dict[str, Any], event: Mapping[str, Any]) -> None:
    """Take in one of thousands of events. so_far: the fields of RunStatus."""
    last = so_far["last_seconds"]
    now = float(event.get("t", last or 0.0))
    passed = now - (last or now) if so_far["state"] is RunState.RUNNING else 0.0
    kind = event.get("type")
    starts = kind == "state" and event["state"] == RunState.RUNNING
    if not starts:  # between a kill and the next stint nobody worked
        so_far["seconds"] += max(passed, 0.0)
    so_far["last_seconds"] = now
    if kind == "state":
        so_far |= {"state": RunState(event["state"]), "reason": event.get("reason")}
        if event.get("owner"):
            so_far["owner"] = Owner(**event["owner"])
        if starts:
            so_far |= {"done": 0.0, "total": None, "note": ""}
    elif kind == "progress":
        so_far |= {"done": event["done"], "total": event["total"], "note": event.get("note", "")}
    elif kind == "uses" and event["run_id"] not in so_far["uses"]:
        so_far["uses"] = (*so_far["uses"], event["run_id"])


def live(status: RunStatus, lock: Path) -> RunStatus:
    """The same, with "running" turned to "interrupted" where the owner is dead."""
    if status.state is not RunState.RUNNING or status.owner is None:
        return status
    age = time.time() - (status.last_seconds or 0.0)
    if status.owner.alive(age, lock):
        return status
    reason = f"process {status.owner.pid} on {status.owner.host} ended without a word"
    return replace(status, state=RunState.INTERRUPTED, reason=reason)
