"""Long work outside the dashboard: commands of `sftknow` as child processes that outlive browser and server.

    job = start(cache, ChainJob(level="2", n=240))
    jobs(cache)                      # newest first, as they are now, by whatever process started them
    stop(cache, job.job_id)

A job is a folder of the cache (serve/process.py says what lies in it) and a process of its own session, so that
neither a signal to the server nor its end reaches it. Its state follows from that folder and from whether the
process (pid and create time) lives; its results are runs of the cache like those of any other command.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock

from sftknow_core.errors import SpecError
from sftknow_core.serve.job_specs import JobSpec, command_line
from sftknow_core.serve.job_state import (
    Job,
    JobProgress,
    JobState,
    job_of,
    jobs_folder,
    process_of,
    runs_under_way,
)
from sftknow_core.serve.process import (
    JOB,
    JOB_VARIABLE,
    PROCESS,
    STDERR,
    STDOUT,
    STOP,
    child_command,
    child_environment,
    write_json,
)
from sftknow_core.store.cache import Cache, check_may_write
from sftknow_core.store.files import disk_errors
from sftknow_core.store.open_run import request_stop
from sftknow_core.store.run_spec import utc_now
from sftknow_core.store.run_state import Owner

__all__ = ["Job", "JobProgress", "JobState", "dismiss", "job_of", "jobs", "start", "stop"]

_POLL_SECONDS = 0.05
NICE_VARIABLE = "SFTKNOW_JOB_NICE"
"""How much a job gives way, from 0 (not at all) to 19, for machines that others keep busy."""
_NICE = 19
"""Without that variable the least urgent: on an idle machine a job runs as fast as ever."""


def start(cache: Cache, spec: JobSpec) -> Job:
    """Start a job, or return the one already running that does the same.

    Raises SpecError for what the command would refuse and for a wrong $SFTKNOW_JOB_NICE, CacheError when the cache
    cannot be written or is only shown.
    """
    check_may_write("start a job")
    spec.check()
    nice = _niceness()
    arguments = (*spec.arguments(), "--cache", str(cache.root), "--json")
    same = (arguments, Path.cwd())
    with disk_errors(cache.root), FileLock(cache.locks / "jobs.lock", thread_local=False):
        for job in jobs(cache):
            if job.state is JobState.RUNNING and not job.stopping and (job.arguments, job.cwd) == same:
                return job
        folder = _new_folder(cache, arguments)
        asked = {
            "arguments": arguments,
            "cwd": str(Path.cwd()),
            "command": command_line(spec, str(cache.root)),
            "started_at": utc_now(),
            "started_seconds": time.time(),
        }
        write_json(folder / JOB, asked)
        try:
            _spawn(folder, arguments, nice)
        except OSError:
            shutil.rmtree(folder)
            raise
    return job_of(cache, folder.name)


def jobs(cache: Cache) -> list[Job]:
    """All jobs on record, newest first."""
    found = []
    for path in jobs_folder(cache).glob(f"*/{JOB}"):
        with suppress(SpecError):  # dismissed meanwhile, in another browser
            found.append(job_of(cache, path.parent.name))
    return sorted(found, key=lambda job: job.job_id, reverse=True)


def stop(cache: Cache, job_id: str, *, wait_seconds: float = 4.0) -> Job:
    """Ask a job to stop, by the stop file of its runs and then by SIGTERM, and wait a little for its end.

    A job that is still running afterwards was told and will end at its next step; one that has ended is left
    as it is. Raises SpecError when there is none of that id, CacheError where the cache is only shown.
    """
    check_may_write("stop a job")
    job = job_of(cache, job_id)
    if job.state is not JobState.RUNNING:
        return job
    (job.folder / STOP).touch()
    give_up = time.monotonic() + wait_seconds
    asked = [run_id for run_id, _ in runs_under_way(cache, job.process, 0.0)]
    for run_id in asked:
        with suppress(SpecError):  # deleted meanwhile
            request_stop(cache, run_id)
    if not asked or not _ends(cache, job_id, give_up - wait_seconds / 2):
        _terminate(process_of(job.folder))
        _ends(cache, job_id, give_up)
    return job_of(cache, job_id)


def dismiss(cache: Cache, job_id: str) -> None:
    """Forget a job that has ended; its runs stay. Raises SpecError for a running one, CacheError as `start`."""
    check_may_write("dismiss a job")
    job = job_of(cache, job_id)
    if job.state is JobState.RUNNING:
        raise SpecError(f"job {job_id} is running; stop it before dismissing it")
    shutil.rmtree(job.folder)


def _new_folder(cache: Cache, arguments: tuple[str, ...]) -> Path:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    folder = jobs_folder(cache) / f"{now}-{hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True)
    return folder


def _spawn(folder: Path, arguments: tuple[str, ...], nice: int) -> None:
    with (folder / STDOUT).open("wb") as out, (folder / STDERR).open("wb") as err:
        process = subprocess.Popen(
            child_command("sftknow_core.cli", arguments),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=child_environment(**{JOB_VARIABLE: str(folder)}),
            start_new_session=True,
        )
    with suppress(psutil.NoSuchProcess):  # it has ended already, and says so itself
        child = psutil.Process(process.pid)
        write_json(folder / PROCESS, asdict(Owner(socket.gethostname(), process.pid, child.create_time())))
        _give_way(child, nice)
    # an ended child stays a zombie until somebody waits for it
    threading.Thread(target=process.wait, name=f"job-{process.pid}", daemon=True).start()


def _niceness() -> int:
    given = os.environ.get(NICE_VARIABLE, str(_NICE))
    if not given.isdecimal() or int(given) > _NICE:
        raise SpecError(
            f"{NICE_VARIABLE} is {given!r}; allowed: 0 (jobs do not give way) to {_NICE} (the default)"
        )
    return int(given)


def _give_way(child: psutil.Process, nice: int) -> None:
    """Hours of training give way to the reader who waits for the next page, or for one k."""
    if psutil.POSIX:
        child.nice(max(child.nice(), nice))
    # On Linux a session is a group of its own where processor time is dealt out between groups: there a process's
    # niceness counts only within its session, and the session's own is what others feel (sched(7), "autogroup").
    with suppress(OSError):  # a system without, or a process that has ended
        Path(f"/proc/{child.pid}/autogroup").write_text(str(nice))


def _terminate(owner: Owner | None) -> None:
    if owner is not None and owner.host == socket.gethostname() and owner.exists():
        with suppress(psutil.Error):
            psutil.Process(owner.pid).terminate()


def _ends(cache: Cache, job_id: str, until: float) -> bool:
    """Wait for a job's end, at most until this moment of the monotonic clock."""
    while job_of(cache, job_id).state is JobState.RUNNING:
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    return True
