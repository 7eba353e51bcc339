"""A study's cells: done once, alike whoever does them, failures and impossible ones on record, weights by policy."""

from __future__ import annotations

import shutil
from concurrent.futures import Executor, Future
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from small_chain import do_chain, everything
from small_study import small_study

from sftknow_core.errors import SftknowError, SpecError, Stopped
from sftknow_core.pipeline.study import cell as cell_study
from sftknow_core.pipeline.study.plan import plan
from sftknow_core.pipeline.study.pool import BrokenExecutor, InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.specs import Restoring
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.open_run import request_stop
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.study_record import CELLS


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


def forget_chain(cache: Path, key: str) -> str:
    """Delete the chain of a cell; returns its id."""
    manifest = study_run(cache).manifest()
    assert manifest is not None
    (chain,) = next(c for c in manifest.summary["cells"] if c["key"] == key)["chains"]
    shutil.rmtree(cache / "runs" / chain["run_id"])
    return str(chain["run_id"])


def test_the_manifest_lists_cells_and_chains(finished: Path) -> None:
    manifest = study_run(finished).manifest()
    assert manifest is not None
    cells = manifest.summary["cells"]
    assert [c["key"] for c in cells] == ["full-0-4-0", "full-0-6-0", "full-0-4-1", "full-0-6-1"]
    assert {c["state"] for c in cells} == {"done"}
    for cell in cells:
        (chain,) = cell["chains"]
        summary = RunFolder(Cache(finished), chain["run_id"]).manifest().summary  # type: ignore[union-attr]
        assert (summary["train_set"]["n"], summary["train_set"]["seed"]) == (cell["n"], cell["seed"])
        assert (summary["tuned_id"], summary["stages"]["sft"]) == (cell["model_id"], cell["sft"])
    counts = {name: manifest.summary[name] for name in ("n_done", "n_failed", "n_impossible")}
    assert counts == {"n_done": 4, "n_failed": 0, "n_impossible": 0}
    assert manifest.summary["n_questions"] == {"dev in": 4, "test in": 4, "test out": 2}


def test_a_cell_is_the_chain_that_one_command_would_make(finished: Path, model: Path) -> None:
    """The small chain's mastery and training settings are its own, so that its id is another one."""
    chains = [
        i
        for i in list_runs(Cache(finished), "chain")
        if i.spec.params["n"] == 6 and i.spec.params["seed"] == 0
    ]
    (chain,) = chains
    alone = do_chain(finished.parent / "alone", model, train_questions=2)
    for name in ("train_set", "n", "level", "restore", "evaluate", "train_questions"):
        assert chain.spec.params[name] == alone.run.spec.params[name]
    assert chain.spec.inputs["questions"] == alone.run.spec.inputs["questions"]


def test_everything_there_means_nothing_to_do(
    copy: Path, model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftknow_core.pipeline.study.run.do_cell", None)
    found = plan(small_study(model, facts), workspace(copy))
    assert {c.state for c in found.cells} == {"cached"}
    assert (found.estimate.seconds, found.estimate.disk_bytes) == (0.0, 0)
    before = everything(copy)
    run_study(small_study(model, facts), workspace(copy), InThisProcess())
    assert everything(copy) == before


def test_a_plan_before_mastery_knows_nothing_and_writes_nothing(
    tmp_path: Path, model: Path, facts: Path
) -> None:
    found = plan(small_study(model, facts, sizes=(4, 6000)), workspace(tmp_path))
    assert not found.mastery_known
    assert {c.state for c in found.cells} == {"to do"}
    assert found.estimate.seconds is None
    assert "mastery" in found.estimate.why
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_plan_with_earlier_runs_estimates_time_and_disk(copy: Path, model: Path, facts: Path) -> None:
    found = plan(small_study(model, facts, seeds=(0, 2, 3), workers=2), workspace(copy))
    assert [c.state for c in found.cells] == ["cached"] * 2 + ["to do"] * 4
    runs = [i for i in list_runs(Cache(copy)) if i.kind in ("sft", "evaluate", "delta")]
    sft, evaluated, compared = ([i for i in runs if i.kind == kind] for kind in ("sft", "evaluate", "delta"))
    assert sorted(i.summary["n_examples"] for i in sft) == [4, 4, 6, 6]  # both seeds, one epoch
    asked = 3 * (10 + 2) + 2  # tuned, 20% and hybrid on 10 questions and 2 of the train set; base on those 2
    one = (
        (4 + 6) / 2 * median(i.summary["seconds_training"] / i.summary["n_examples"] for i in sft)
        + asked * median(i.status.seconds / i.summary["n_questions"] for i in evaluated)
        + median(i.status.seconds for i in compared)
    )
    assert found.estimate.seconds == pytest.approx(4 * one / 2)
    assert found.estimate.disk_bytes is not None
    assert found.estimate.peak_bytes is not None
    weights = sum(f.stat().st_size for f in model.glob("*.safetensors"))
    assert found.estimate.peak_bytes - found.estimate.disk_bytes >= 2 * weights


def test_impossible_cells_are_listed_before_anything_runs(
    tmp_path: Path, finished: Path, model: Path, facts: Path
) -> None:
    spec = small_study(model, facts, levels=("0", "3", "mixed"), sizes=(4, 60), seeds=(0,))
    with pytest.raises(SpecError) as refused:
        run_study(spec, workspace(finished), InThisProcess())
    text = str(refused.value)
    assert "5 of 6 cells are impossible" in text
    for words in ("level 0, N = 60, seed 0: n: got 60, but only 10", "level 3, N = 4", "a multiple of 5"):
        assert words in text
    assert "--skip-impossible" in text
    assert len(list_runs(Cache(finished), "study")) == 1  # the finished one
    fresh = tmp_path / "fresh"
    with pytest.raises(SpecError, match="5 of 6 cells are impossible"):  # mastery is computed first here
        run_study(spec, workspace(fresh), InThisProcess())
    assert {i.kind for i in list_runs(Cache(fresh))} == {"study", "mastery", "evaluate"}


def test_impossible_cells_can_be_left_out(copy: Path, model: Path, facts: Path) -> None:
    spec = small_study(model, facts, sizes=(4, 60), seeds=(0,))
    done = run_study(spec, workspace(copy), InThisProcess(), skip_impossible=True)
    assert [(c["n"], c["state"]) for c in done.summary["cells"]] == [(4, "done"), (60, "impossible")]
    assert "only 10" in done.summary["cells"][1]["reason"]


def test_a_failed_cell_is_on_record_and_the_rest_goes_on(
    copy: Path, model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_study(model, facts, seeds=(2, 3), sizes=(4,))
    chain = cell_study.run_chain

    def fails(*args: Any, **given: Any) -> Any:
        if args[4].seed == 2:
            raise SftknowError("the loss is no number")
        return chain(*args, **given)

    monkeypatch.setattr(cell_study, "run_chain", fails)
    done = run_study(spec, workspace(copy), InThisProcess())
    assert [(c["key"], c["state"], c["reason"]) for c in done.summary["cells"]] == [
        ("full-0-4-2", "failed", "the loss is no number"),
        ("full-0-4-3", "done", None),
    ]
    assert done.summary["n_failed"] == 1
    monkeypatch.undo()
    again = run_study(spec, workspace(copy), InThisProcess())  # tries the failed one again, and only that
    assert again.run.run_id == done.run.run_id
    assert [c["state"] for c in again.summary["cells"]] == ["done", "done"]
    assert again.summary["cells"][1] == done.summary["cells"][1]


def test_an_error_of_ours_is_named_with_its_kind(
    copy: Path, model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(cell_study, "run_chain", broken)
    done = run_study(small_study(model, facts, seeds=(9,), sizes=(4,)), workspace(copy), InThisProcess())
    assert done.summary["cells"][0]["reason"] == "MemoryError: no room"


class DiesOnce(Executor):
    """Breaks at its first cell, as a pool does whose worker was killed."""

    def __init__(self) -> None:
        self.n_cells = 0

    def submit(self, fn: Any, /, *args: Any, **given: Any) -> Future[Any]:
        if fn is cell_study.do_cell:
            self.n_cells += 1
            if self.n_cells == 1:
                future: Future[Any] = Future()
                future.set_exception(BrokenExecutor("a child process terminated abruptly"))
                return future
        return InThisProcess().submit(fn, *args, **given)


def test_a_worker_that_dies_is_a_failed_cell(copy: Path, model: Path, facts: Path) -> None:
    done = run_study(
        small_study(model, facts, seeds=(2, 3), sizes=(4,), workers=1), workspace(copy), DiesOnce()
    )
    assert [c["state"] for c in done.summary["cells"]] == ["failed", "done"]
    assert "out of memory" in done.summary["cells"][0]["reason"]


def test_a_chain_deleted_since_is_made_again(copy: Path, model: Path, facts: Path) -> None:
    chain = forget_chain(copy, "full-0-6-1")
    before = study_run(copy).manifest()
    assert before is not None
    done = run_study(small_study(model, facts), workspace(copy), InThisProcess())
    assert (copy / "runs" / chain / DONE).is_file()
    assert done.run.run_id == before.run_id
    kept = [c for c in before.summary["cells"] if c["key"] != "full-0-6-1"]
    assert [c for c in done.summary["cells"] if c["key"] != "full-0-6-1"] == kept


def test_stop_request_stops_and_the_same_call_goes_on(
    copy: Path, model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_study(model, facts, seeds=(2, 3), sizes=(4,), workers=1)
    chain = cell_study.run_chain

    def asked_meanwhile(ws: Workspace, *args: Any, **given: Any) -> Any:
        assert ws.parent is not None
        request_stop(ws.cache, ws.parent.run_id)
        return chain(ws, *args, **given)

    monkeypatch.setattr(cell_study, "run_chain", asked_meanwhile)
    with pytest.raises(Stopped):
        run_study(spec, workspace(copy), InThisProcess())
    stopped = [i for i in list_runs(Cache(copy), "study") if i.status.state == "stopped"]
    assert len(stopped) == 1
    monkeypatch.undo()
    assert run_study(spec, workspace(copy), InThisProcess()).summary["n_done"] == 2


def test_several_ways_of_restoring_share_the_tuned_model(copy: Path, model: Path, facts: Path) -> None:
    before = everything(copy)
    spec = small_study(
        model, facts, seeds=(0,), sizes=(4,), restoring=(Restoring(), Restoring(strategy="bottom"))
    )
    done = run_study(spec, workspace(copy), InThisProcess())
    (cell,) = done.summary["cells"]
    assert [chain["strategy"] for chain in cell["chains"]] == ["top", "bottom"]
    assert cell["chains"][0]["run_id"] in before  # the id that one way alone has
    new = {i.kind for i in list_runs(Cache(copy)) if i.run_id not in before}
    assert new == {"study", "chain", "evaluate"}  # no fine-tuning, no comparison of weights
    assert len(everything(copy)) - len(before) == 2 + 2 * 2  # two restored states on two question sets


def test_the_grid_and_not_its_order_is_the_identity(tmp_path: Path, model: Path, facts: Path) -> None:
    def id_of(**changes: Any) -> str:
        return plan(small_study(model, facts, **changes), workspace(tmp_path)).run_spec.run_id

    assert id_of() == id_of(sizes=(6, 4, 4), seeds=(1, 0), workers=7, checkpoints="all", name="other")
    ids = [id_of(), id_of(sizes=(4,)), id_of(threads=2), id_of(ks=("5",)), id_of(training={"lr": 1e-3})]
    assert len(set(ids)) == len(ids)


def test_a_torn_record_counts_as_unwritten(copy: Path, model: Path, facts: Path) -> None:
    run = study_run(copy)
    (run.root / DONE).unlink()
    with (run.root / CELLS).open("a") as file:
        file.write('{"key": "full-0-4-0", "sta')
    done = run_study(small_study(model, facts), workspace(copy), InThisProcess())
    assert done.summary["n_done"] == 4
