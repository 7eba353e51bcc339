"""The base model of a study: missing, changed between two runs under the same path, or changed meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_chain import small_model
from small_study import small_study

from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.pipeline.study import cell
from sftknow_core.pipeline.study.plan import plan
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace


def workspace(cache: Path) -> Workspace:
    return Workspace(cache, device="cpu")


def test_a_base_model_that_changed_is_refused(tmp_path: Path, facts: Path) -> None:
    model = small_model(tmp_path / "base")
    spec = small_study(model, facts, seeds=(0,), sizes=(4,))
    ws = workspace(tmp_path / "cache")
    before = run_study(spec, ws, InThisProcess())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"rope_theta": 12345.0}))
    for attempt in (plan, run_study):
        with pytest.raises(SpecError, match="Numbers of two models do not belong") as refused:
            attempt(spec, workspace(tmp_path / "cache"))
        for words in (before.run.run_id, str(before.summary["base_id"]), "another name", "sftknow runs rm"):
            assert words in str(refused.value)
    renamed = small_study(model, facts, seeds=(0,), sizes=(4,), name="new base")
    assert plan(renamed, workspace(tmp_path / "cache")).run_spec.run_id != before.run.run_id


def test_a_base_model_that_changes_meanwhile_ends_the_study(
    tmp_path: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(tmp_path / "base")
    chain = cell.run_chain

    def changes_the_base(*args: Any, **given: Any) -> Any:
        config = json.loads((model / "config.json").read_text())
        done = chain(*args, **given)
        (model / "config.json").write_text(json.dumps(config | {"rope_theta": 12345.0}))
        return done

    monkeypatch.setattr(cell, "run_chain", changes_the_base)
    with pytest.raises(SftknowError, match="changed while the study was under way"):
        run_study(
            small_study(model, facts, seeds=(0, 1), sizes=(4,)), workspace(tmp_path / "c"), InThisProcess()
        )


def test_no_base_model(tmp_path: Path, facts: Path) -> None:
    with pytest.raises(SpecError, match="names no base model; give one with --base"):
        plan(small_study(Path("x"), facts, base=None), workspace(tmp_path))
