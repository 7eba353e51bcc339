"""A job from outside: its folder and its process -> what it is doing, how far it is, how it ended.

Nothing here asks who started the job: any process that can read the cache sees the same.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.serve.process import ENDED, JOB, PROCESS, PROGRESS, STDERR, STDOUT, STOP, read_json
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import EVENTS, RunFolder
from sftknow_core.store.run_state import Owner, RunState, RunStatus

_STOPPED_CODE = 130
_STARTING_SECONDS = 60.0
"""A job without a process after this long never started."""
_SILENT_SECONDS = 600.0
"""A job of another machine that wrote nothing for so long counts as gone; its process cannot be asked."""
_CREATE_TIME_TOLERANCE_SECONDS = 2.0
_REASON_LINES = 3
_TAIL_BYTES = 2**14
_PASSED_OVER = re.compile(r"\s*\d+%  |\s|Traceback ")
"""Lines of stderr that are no reason: progress, and a traceback up to its error."""


class JobState(StrEnum):
    """What a job is doing, or how it ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    """On request; the same job goes on where it stopped."""
    INTERRUPTED = "interrupted"
    """Its process is gone without an end: killed, or the machine went down. The same job goes on."""


@dataclass(frozen=True)
class JobProgress:
    """How far a job is."""

    stage: str
    """What is being done now, for people."""
    share: float | None
    """Of all work announced so far, 0 to 1; None: not known."""
    seconds_left: float | None
    """By the speed seen so far; None: not known."""


@dataclass(frozen=True)
class Job:
    """A job as it was when it was looked at."""

    job_id: str
    """Begins with the time of its start, so ids sort by age."""
    command: str
    """What it does, as a command line for people."""
    arguments: tuple[str, ...]
    """Of `sftknow`."""
    cwd: Path
    """Where it runs; relative paths in its arguments start there."""
    started_at: str
    """ISO 8601, UTC."""
    state: JobState
    reason: str | None = None
    """Why it failed, or how it ended otherwise."""
    stopping: bool = False
    """Whether it is running and was asked to stop."""
    progress: JobProgress | None = None
    """Of a running job, once it has told."""
    process: Owner | None = None
    """Host, pid and create time; None in its first moments."""
    ended_at: str | None = None
    """ISO 8601, UTC; None while it runs and where nobody saw its end."""
    folder: Path = Path()
    """Its record, with stdout.txt and stderr.txt."""

    @property
    def result(self) -> Mapping[str, Any] | None:
        """What the command printed as JSON (of a chain its run_id and summary); None before it is done."""
        return read_json(self.folder / STDOUT) if self.state is JobState.DONE else None

    @property
    def log(self) -> str:
        """The end of what it wrote to stderr."""
        return _tail(self.folder / STDERR)


def jobs_folder(cache: Cache) -> Path:
    """Where all jobs are on record."""
    return cache.root / "jobs"


def job_of(cache: Cache, job_id: str) -> Job:
    """One job as it is now. Raises SpecError when there is none of that id."""
    folder = jobs_folder(cache) / job_id
    asked = read_json(folder / JOB) if folder.name == job_id else None
    if asked is None:
        raise SpecError(f"there is no job {job_id!r} in {cache.root}")
    owner = process_of(folder)
    lives = _lives(folder, owner, float(asked["started_seconds"]))
    ended = read_json(folder / ENDED)  # after the look at the process, or an end in between would be missed
    state, reason = _state(folder, owner, lives, ended)
    running = state is JobState.RUNNING
    return Job(
        job_id=job_id,
        command=str(asked["command"]),
        arguments=tuple(asked["arguments"]),
        cwd=Path(asked["cwd"]),
        started_at=str(asked["started_at"]),
        state=state,
        reason=reason,
        stopping=running and (folder / STOP).exists(),
        progress=_progress(cache, folder, owner, float(asked["started_seconds"])) if running else None,
        process=owner,
        ended_at=ended.get("at") if ended else None,
        folder=folder,
    )


def process_of(folder: Path) -> Owner | None:
    """The job's process; None in its first moments."""
    found = read_json(folder / PROCESS)
    return Owner(**found) if found else None


def _lives(folder: Path, owner: Owner | None, started_seconds: float) -> bool:
    if owner is None:
        return time.time() - started_seconds < _STARTING_SECONDS
    if owner.host == socket.gethostname():
        return owner.exists()
    return time.time() - max(path.stat().st_mtime for path in folder.iterdir()) < _SILENT_SECONDS


def _state(
    folder: Path, owner: Owner | None, lives: bool, ended: Mapping[str, Any] | None
) -> tuple[JobState, str | None]:
    if ended is None and lives:
        return JobState.RUNNING, None
    code = ended.get("code") if ended is not None else None
    if code == 0:
        return JobState.DONE, None
    if code == _STOPPED_CODE or (code is None and (folder / STOP).exists()):
        return JobState.STOPPED, "stopped on request; the same job goes on where it stopped"
    if code is not None:
        return JobState.FAILED, _reason(folder) or f"it ended with exit code {code}"
    who = f"process {owner.pid} on {owner.host} ended without a word" if owner else "it never started"
    said = _reason(folder)
    return JobState.INTERRUPTED, f"{who}; its last words: {said}" if said else who


def _reason(folder: Path) -> str:
    """The error that stderr ends with: the command's own message, else the last lines."""
    text = _tail(folder / STDERR)
    _, found, message = text.rpartition("sftknow: error: ")
    if found:
        return message.strip()
    lines = [line for line in text.splitlines() if line.strip() and not _PASSED_OVER.match(line)]
    return "\n".join(lines[-_REASON_LINES:])


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _progress(cache: Cache, folder: Path, owner: Owner | None, since: float) -> JobProgress | None:
    """By the reporter's own record; before there is one, by the outermost run under way that has told its share."""
    told = read_json(folder / PROGRESS)
    if told is not None:
        return JobProgress(told["stage"], told["share"], told["seconds_left"])
    under_way = runs_under_way(cache, owner, since)
    stages = {stage for _, status in under_way for stage in status.uses}
    under_way.sort(key=lambda run: (not run[1].total, run[0] in stages))
    for run_id, status in under_way:
        share = min(status.done / status.total, 1.0) if status.total else None
        left = status.seconds * (1 / share - 1) if share else None
        return JobProgress(status.note or RunFolder(cache, run_id).spec.kind, share, left)
    return None


def runs_under_way(cache: Cache, owner: Owner | None, since: float) -> list[tuple[str, RunStatus]]:
    """The runs that this process is making; only those are read that changed after `since` (epoch, s)."""
    if owner is None:
        return []
    found = []
    for path in cache.runs.glob(f"*/{EVENTS}"):
        with suppress(OSError):
            if path.stat().st_mtime >= since:
                status = RunFolder(cache, path.parent.name).status()
                if status.state is RunState.RUNNING and _is_same(status.owner, owner):
                    found.append((path.parent.name, status))
    return found


def training_run(cache: Cache, job: Job) -> str | None:
    """The fine-tuning that a job makes, or made last; None where there is none (yet), or it was there before."""
    result = job.result
    if result is not None:
        stage = result["run_id"] if job.arguments[0] == "sft" else (result.get("stages") or {}).get("sft")
        return str(stage) if stage else None
    if job.process is None:
        return None
    since = datetime.fromisoformat(job.started_at).timestamp() - 1  # written in whole seconds
    mine = []
    for path in cache.runs.glob(f"*/{EVENTS}"):
        with suppress(OSError, CacheError):
            run = RunFolder(cache, path.parent.name)
            if path.stat().st_mtime >= since and run.spec.kind == "sft":
                status = run.status()
                if _is_same(status.owner, job.process):
                    mine.append((status.last_seconds or 0.0, run.run_id))
    return max(mine)[1] if mine else None


def _is_same(one: Owner | None, other: Owner) -> bool:
    if one is None or (one.host, one.pid) != (other.host, other.pid):
        return False
    return abs(one.create_time - other.create_time) < _CREATE_TIME_TOLERANCE_SECONDS
