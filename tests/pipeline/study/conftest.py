from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_chain import everything, small_facts_file, small_model
from small_study import small_study

from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="session")
def model(folder: Path) -> Path:
    return small_model(folder / "model")


@pytest.fixture(scope="session")
def facts(folder: Path) -> Path:
    return small_facts_file(folder / "facts.jsonl")


@pytest.fixture(scope="session")
def finished(folder: Path, model: Path, facts: Path) -> Iterator[Path]:
    """A cache with the finished small study; tests read it, and copy it before they write."""
    cache = folder / "finished"
    run_study(small_study(model, facts), Workspace(cache, device="cpu"), InThisProcess())
    before = sorted(everything(cache))
    yield cache
    assert sorted(everything(cache)) == before
