"""Which weights of a study stay, and that the others come back bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_study import small_study

from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study, tuned_model
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.specs import Checkpoints
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder


def workspace(cache: Path) -> Workspace:
    return Workspace(cache, device="cpu")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished study's cache, to write in."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def study_run(cache: Path) -> RunFolder:
    (info,) = list_runs(Cache(cache), "study")
    return RunFolder(Cache(cache), info.run_id)


def weights_left(cache: Path) -> set[str]:
    done = study_run(cache).manifest()
    assert done is not None
    return {
        c["key"] for c in done.summary["cells"] if RunFolder(Cache(cache), c["sft"]).weights() is not None
    }


@pytest.mark.parametrize(
    ("policy", "n_left"), [(Checkpoints.NONE, 0), (Checkpoints.BEST, 1), (Checkpoints.ALL, 2)]
)
def test_weights_are_kept_by_policy(
    tmp_path: Path, finished: Path, model: Path, facts: Path, policy: Checkpoints, n_left: int
) -> None:
    if policy is Checkpoints.NONE:
        assert weights_left(finished) == set()
        return
    spec = small_study(model, facts, seeds=(0,), checkpoints=policy)
    run_study(spec, workspace(tmp_path), InThisProcess())
    assert len(weights_left(tmp_path)) == n_left
    if policy is Checkpoints.ALL:
        run_study(
            small_study(model, facts, seeds=(0,), checkpoints=Checkpoints.NONE),
            workspace(tmp_path),
            InThisProcess(),
        )
        assert weights_left(tmp_path) == set()


def test_dropped_weights_come_back_bit_for_bit(copy: Path, model: Path, facts: Path) -> None:
    spec = small_study(model, facts)
    for cell, record in zip(spec.cells(), study_run(copy).manifest().summary["cells"], strict=True):  # type: ignore[union-attr]
        rebuilt = tuned_model(spec, workspace(copy), cell)
        assert rebuilt.model_id == record["model_id"]
        assert rebuilt.path.is_dir()


def test_weights_of_somebody_else_stay(tmp_path: Path, model: Path, facts: Path) -> None:
    spec = small_study(model, facts, seeds=(0,), sizes=(4,))
    mine = tuned_model(spec, workspace(tmp_path), spec.cells()[0])
    run_study(spec, workspace(tmp_path), InThisProcess())
    assert mine.path.is_dir()
