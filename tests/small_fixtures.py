"""Fixtures of the small chain (small_chain.py): its base model, and a cache with the finished chain."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_chain import do_chain, small_model


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
