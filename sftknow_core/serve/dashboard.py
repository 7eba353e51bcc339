"""Starts the dashboard's server over a cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sftknow_core.errors import SftknowError
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE

_PACKAGE = Path(__file__).parent.parent
ADDRESS = "127.0.0.1"


def app_file() -> Path:
    """app.py of the wheel, or of a clone. Raises SftknowError when neither is there."""
    for folder in (_PACKAGE / "_app", _PACKAGE.parent):
        if (folder / "app.py").is_file():
            return folder / "app.py"
    raise SftknowError("this installation lacks app.py; install the wheel again, or run in a clone")


def serve(
    cache: Path, *, port: int = 8501, browser: bool = True, read_only: bool = False, extra: Sequence[str] = ()
) -> int:
    """Run the server until it is interrupted; returns its exit code. Only this machine can reach it.

    read_only: show mode; the server starts, writes, deletes and exports nothing.
    """
    app = app_file()
    command = [
        sys.executable, "-m", "streamlit", "run", str(app),
        "--server.address", ADDRESS,
        "--server.port", str(port),
        "--server.headless", str(not browser).lower(),
        "--browser.gatherUsageStats", "false",
        *extra,
    ]  # fmt: skip
    mode = " in show mode: nothing is started or written" if read_only else ""
    sys.stderr.write(f"sftknow: dashboard at http://{ADDRESS}:{port}{mode} (Ctrl-C ends it)\n")
    variables = {ENVIRONMENT_VARIABLE: str(cache)} | ({READ_ONLY_VARIABLE: "1"} if read_only else {})
    try:
        # streamlit reads .streamlit/config.toml of the working directory: theme and allowed hosts are there
        return subprocess.run(command, cwd=app.parent, env=os.environ | variables, check=False).returncode
    except KeyboardInterrupt:
        return 0
