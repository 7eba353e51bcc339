"""A cache of three finished chains and a failed one, in memory where there is such a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_chain import leave_chain, make_chains

from pages._shared import show

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def chains() -> Iterator[tuple[Path, list[str]]]:
    """The cache's folder, and its run ids: level 0 with N = 240 and 1,920, and one that asked other questions."""
    root = Path(tempfile.mkdtemp(prefix="sftknow-", dir=_MEMORY if _MEMORY.is_dir() else None))
    run_ids = make_chains(root, [("0", 240, 0), ("0", 1920, 0)])
    run_ids += make_chains(root, [("mixed", 240, 1)], per_level=4, ks=(20,))
    leave_chain(root, "3", RuntimeError("the disk is full"))
    yield root, run_ids
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def numbers_of_figures_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they can be compared with the store; closed, they are not made."""
    monkeypatch.setattr(show, "OPEN_AT_FIRST", True)
