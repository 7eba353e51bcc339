"""Caches that pages show: three finished chains and a failed one, and a chain whose changed weights are known."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_chain import BASE, leave_chain, make_chains
from fake_cube import FakeTensor, small_model
from fake_engine import FakeEngine
from restore_page import Filled

from pages._widgets import engine, show
from sftknow_core.results import Chain
from sftknow_core.store.cache import Cache
from sftknow_core.store.ingest import ingest
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

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


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """No engine is started here."""
    found = FakeEngine()
    monkeypatch.setattr(engine, "client", lambda root: found)
    return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """One chain measured at k = 5, 20, 60, 100, whose two models are compared in a newer delta run."""
    root = tmp_path_factory.mktemp("cache")
    (run_id,) = make_chains(root, [("2", 1920, 0)], per_level=6)
    tuned_id = Chain(Cache(root), run_id).manifest.summary["tuned_id"]
    time.sleep(1.1)  # the newer of two comparisons counts, to the second
    compare(Cache(root), tuned_id, small_model())
    yield root, run_id
    shutil.rmtree(root, ignore_errors=True)


def compare(cache: Cache, tuned_id: str, tensors: list[FakeTensor]) -> None:
    inputs = {"base": BASE.model_id, "tuned": tuned_id}
    with open_run(cache, RunSpec("delta", inputs, versions={"delta": 2}), about={}) as run:
        scores = ("relative", "relative_1e-6", "relative_1e-4", "permuted", "absolute")
        cube = [row for score in scores for i, t in enumerate(tensors) for row in t.bins(i, score)]
        run.write_chunk(0, {"delta_tensors": [t.row(i) for i, t in enumerate(tensors)], "cube": cube})
        run.finish()
    ingest(cache, run.run_id)
