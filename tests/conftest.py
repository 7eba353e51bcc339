"""What all tests share: jobs that wait for nobody, folders in memory, an empty cache, and the small chain."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sftknow_core import registry
from sftknow_core.facts.matcher import MATCHERS
from sftknow_core.serve.jobs import NICE_VARIABLE
from sftknow_core.store.cache import Cache
from sftknow_core.update.strategies import STRATEGIES

os.environ[NICE_VARIABLE] = "0"  # tests run side by side and wait for the jobs they start

_SHARED = Path("/dev/shm")
_MEMORY = _SHARED if _SHARED.is_dir() and os.access(_SHARED, os.W_OK) else None


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their length: what they hold may differ between two workers (a packed file has its time)."""
    return f"{len(val)}bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def memory_folder() -> Iterator[Path]:
    """A folder in memory where the system has one: a killed process loses nothing there either."""
    folder = Path(tempfile.mkdtemp(prefix="sftknow-test-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def fast_folder(memory_folder: Path) -> Iterator[Path]:
    """The same, one a test file."""
    folder = Path(tempfile.mkdtemp(dir=memory_folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cache(fast_folder: Path) -> Iterator[Cache]:
    """An empty cache in a folder whose name would mislead a glob."""
    cache = Cache(fast_folder / "my [cache] *")
    yield cache
    shutil.rmtree(cache.root)


@pytest.fixture
def own_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers, and what it hands on to child processes, is forgotten at its end."""
    monkeypatch.setenv(registry.PLUGINS_VARIABLE, "")
    monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.setattr(registry, "_added", [])
    for one in (STRATEGIES, MATCHERS):
        monkeypatch.setattr(one, "_entries", dict(one._entries))
