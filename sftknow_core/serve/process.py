"""A job from inside: the process puts on record who it is, how far it is and how it ended.

    jobs/<job_id>/
        job.json        what was asked for (jobs.py)
        process.json    host, pid and create time
        stdout.txt      the result, one JSON object
        stderr.txt      progress lines, warnings, the error
        progress.json   the reporter's count: stage, share, seconds left
        STOP            somebody asked the job to stop
        ended.json      exit code, time; missing where the process was killed

Nobody else has to live for that: whoever started the job may be gone when it ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sftknow_core
from sftknow_core.pipeline.reporter import BarReporter, Reporter
from sftknow_core.store.files import write_atomic
from sftknow_core.store.progress import ProgressFile
from sftknow_core.store.run_spec import utc_now
from sftknow_core.store.run_state import Owner

# How this package starts itself in another process: the same interpreter and package, never a shell string.

JOB_VARIABLE = "SFTKNOW_JOB"
"""Names the folder in which a job puts its own end and progress on record (jobs.py)."""
_ROOT = Path(sftknow_core.__file__).parent.parent


def child_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """The argv of `python -m module arguments`; what lies in the working directory is not imported (-P)."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment, with this very package found first, and `more`; the child is no job itself.

    Threads that wait for each other sleep, unless the user says otherwise. By default they spin, and where a job,
    the engine and the server share the cores every small step then lasts as long as the others' turns. Measured on
    two cores with the demo model: sleeping costs a lone fine-tuning a factor of 2; spinning beside one other busy
    process costs it a factor of 10 to 20.
    """
    inherited = {key: value for key, value in os.environ.items() if key != JOB_VARIABLE}
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {"OMP_WAIT_POLICY": "PASSIVE", **inherited, "PYTHONPATH": path, **more}


JOB, PROCESS, PROGRESS, STOP, ENDED = "job.json", "process.json", "progress.json", "STOP", "ended.json"
STDOUT, STDERR = "stdout.txt", "stderr.txt"


def job_folder() -> Path | None:
    """Where this process puts itself on record; None when it is no job, or its record was deleted."""
    named = os.environ.get(JOB_VARIABLE)
    folder = Path(named) if named else None
    return folder if folder is not None and folder.is_dir() else None


@contextmanager
def recorded() -> Iterator[None]:
    """Put this process and its exit on record where it is a job; else do nothing."""
    folder = job_folder()
    if folder is None:
        yield
        return
    write_json(folder / PROCESS, asdict(Owner.me()))
    code = 1
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        with suppress(OSError):
            write_json(folder / ENDED, {"code": code, "at": utc_now()})


def reporter() -> Reporter:
    """The command line's reporter; one that also writes to the job's folder where this process is a job."""
    folder = job_folder()
    return BarReporter() if folder is None else JobReporter(folder)


class JobReporter(BarReporter):
    """Lines on stderr, and the present count in the job's progress.json."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._file = ProgressFile(folder / PROGRESS)

    def show(self) -> None:
        """Bring both displays up to date."""
        super().show()
        self._file.write(self.text, self.share, self.seconds_left)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file, whole or not at all. Raises CacheError."""
    write_atomic(path, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is none (yet) or it is damaged."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
