"""Fixtures of the store's tests; `fake_runs.py` beside it makes small runs and is also run as a script.

Caches lie in memory where the system has such a folder: the tests do not wait for a disk to flush.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sftknow_core.store.cache import Cache

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def fast_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="sftknow-", dir=_MEMORY if _MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cache(fast_folder: Path) -> Iterator[Cache]:
    """An empty cache in a folder whose name would mislead a glob."""
    cache = Cache(fast_folder / "my [cache] *")
    yield cache
    shutil.rmtree(cache.root)
