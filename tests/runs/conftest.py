from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_chain import do_chain, small_model


@pytest.fixture(scope="session")
def memory_folder() -> Iterator[Path]:
    """A folder in memory where the system has one: a killed process loses nothing there either."""
    shared = Path("/dev/shm")
    usable = shared.is_dir() and os.access(shared, os.W_OK)
    folder = Path(tempfile.mkdtemp(prefix="sftknow-test-", dir=shared if usable else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def model(memory_folder: Path) -> Path:
    """The small chain's base model."""
    return small_model(memory_folder / "model")


@pytest.fixture(scope="session")
def undisturbed(memory_folder: Path, model: Path) -> Path:
    """A cache with the finished small chain; tests read it and change nothing."""
    cache = memory_folder / "undisturbed"
    do_chain(cache, model)
    return cache
