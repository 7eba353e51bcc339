"""How this package starts itself in another process: the same interpreter and package, never a shell string."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import sftknow_core

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
