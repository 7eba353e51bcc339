"""The browser, and two caches to look at: made-up chains, and a real one of the shipped model.

Without a browser tests are skipped; SFTKNOW_REQUIRE_BROWSER=1 makes them fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import ROOT, launched, server
from fake_chain import leave_chain, make_chains
from filelock import FileLock
from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
_MEMORY = Path("/dev/shm")
_CHAIN = "run --base demo --level 2 --n 240 --seed 0 --k 5,20,40 --questions 12"
"""All that can be looked at, in half a minute."""


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Path of the chromium to start; nothing is downloaded."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    reason = f"no {' or '.join(NAMES)} in PATH"
    if os.environ.get("SFTKNOW_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    with launched(chromium_path) as started:
        yield started


@pytest.fixture(scope="session")
def made_up() -> Iterator[tuple[Path, list[str]]]:
    """A cache of three chains with plausible numbers and one that failed; nobody changes it."""
    root = _new_folder()
    run_ids = make_chains(root, [("0", 240, 0), ("0", 1920, 0), ("mixed", 1920, 0)], per_level=6)
    leave_chain(root, "3", RuntimeError("the disk is full"))
    yield root, run_ids
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def address(made_up: tuple[Path, list[str]]) -> Iterator[str]:
    """Where a server shows the made-up chains."""
    with server(made_up[0]) as found:
        yield found


@pytest.fixture(scope="session")
def real_chain(tmp_path_factory: pytest.TempPathFactory, chromium_path: str) -> Path:
    """A cache where the shipped model was really fine-tuned and restored; one for all workers, to be copied."""
    shared = tmp_path_factory.getbasetemp().parent / "real-chain"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            new = shared.with_suffix(".new")
            command = [sys.executable, "-m", "sftknow_core.cli", *_CHAIN.split(), "--cache", str(new)]
            quiet = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, cwd=ROOT, env=quiet, check=True, capture_output=True)
            new.rename(shared)
    return shared


@pytest.fixture(scope="module")
def real_cache(real_chain: Path) -> Iterator[Path]:
    """A copy of the real chain that a test file may change."""
    root = _new_folder()
    shutil.copytree(real_chain, root, dirs_exist_ok=True)
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def real_address(real_cache: Path) -> Iterator[str]:
    """Where a server shows the real chain."""
    with server(real_cache) as found:
        yield found


def _new_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="sftknow-", dir=_MEMORY if _MEMORY.is_dir() else None))
