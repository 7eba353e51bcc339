"""Starting `fake_runs.py` in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sftknow_core

_HERE = Path(__file__).parent
_PROJECT = Path(sftknow_core.__file__).parent.parent
_TIMEOUT_SECONDS = 300


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, str(_HERE / "fake_runs.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(_PROJECT), str(_HERE)))},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def end_of(process: subprocess.Popen[str]) -> str:
    """What the process said, once it has ended well."""
    text, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
    assert process.returncode == 0
    return text
