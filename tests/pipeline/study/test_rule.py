"""A study's rule: part of its identity and not of its cells', written down once, before the first cell is computed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_study import small_study

from sftknow_core.analysis.study import read_study_results
from sftknow_core.pipeline.study.plan import plan
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.present.text.study import rule_fixed
from sftknow_core.results.studies import Study
from sftknow_core.specs import Rule
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import DONE, SPEC, RunFolder
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.study_record import RULE

OTHER = Rule(margin_pp=2.0)


def workspace(cache: Path) -> Workspace:
    return Workspace(cache, device="cpu")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The finished study's cache, to write in."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def the_study(cache: Path) -> str:
    return next(info.run_id for info in list_runs(Cache(cache), "study"))


def test_another_rule_is_another_study_of_the_same_cells(finished: Path, model: Path, facts: Path) -> None:
    first = plan(small_study(model, facts), workspace(finished))
    same = plan(small_study(model, facts, rule=Rule(margin_pp=1)), workspace(finished))
    other = plan(small_study(model, facts, rule=OTHER), workspace(finished))
    assert same.run_spec.run_id == first.run_spec.run_id != other.run_spec.run_id
    assert [cell.run_ids for cell in other.cells] == [cell.run_ids for cell in first.cells]
    assert {cell.state for cell in other.cells} == {"cached"}


def test_a_rule_is_fixed_before_the_first_cell(finished: Path) -> None:
    found = Study(Cache(finished), the_study(finished)).fixed_rule
    assert (found.n_computed, found.n_cells, found.in_identity) == (0, 4, True)
    chains = [info.created_at for info in list_runs(Cache(finished), "chain")]
    assert found.fixed_at is not None and found.fixed_at <= min(chains)
    assert rule_fixed(found).endswith("before the first cell.")
    roles = found.rule.roles
    assert (roles.small, roles.middle, roles.large) == (4, 240, 6)
    results = read_study_results(Cache(finished), the_study(finished))
    assert (results.plan.rule, results.about.fixed) == (found.rule, found)


def test_a_rule_made_after_the_cells_says_so(
    copy: Path, model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftknow_core.pipeline.study.run.do_cell", None)  # nothing is computed
    done = run_study(small_study(model, facts, rule=OTHER), workspace(copy), InThisProcess())
    assert done.summary["n_done"] == 4
    found = Study(Cache(copy), done.run.run_id).fixed_rule
    assert (found.rule.margin_pp, found.n_computed, found.n_cells) == (2.0, 4, 4)
    assert "after 4 of 4 cells had been computed" in rule_fixed(found)
    assert read_study_results(Cache(copy), done.run.run_id).plan.rule.margin_pp == 2.0


def test_some_cells_before_and_some_after(copy: Path, model: Path, facts: Path) -> None:
    done = run_study(small_study(model, facts, seeds=(0, 2), sizes=(4,)), workspace(copy), InThisProcess())
    found = Study(Cache(copy), done.run.run_id).fixed_rule
    assert (found.n_computed, found.n_cells) == (1, 2)


def test_it_is_written_once(copy: Path, model: Path, facts: Path) -> None:
    """Going on with a study keeps the time at which its rule was fixed."""
    run = RunFolder(Cache(copy), the_study(copy))
    before = (run.root / RULE).read_bytes()
    (run.root / DONE).unlink()
    run_study(small_study(model, facts), workspace(copy), InThisProcess())
    assert (run.root / RULE).read_bytes() == before
    (run.root / RULE).write_text("{")  # torn, or of another program
    found = Study(Cache(copy), run.run_id).fixed_rule
    assert (found.fixed_at, found.in_identity) == (None, True)
    assert "not on record" in rule_fixed(found)


def test_a_study_from_before_there_were_rules_is_read(copy: Path) -> None:
    run = RunFolder(Cache(copy), the_study(copy))
    spec = run.spec
    params = {name: value for name, value in spec.params.items() if name != "rule"}
    old = RunSpec("study", spec.inputs, params, {**spec.versions, "study": 1})
    folder = copy / "runs" / old.run_id
    shutil.copytree(run.root, folder)
    (folder / RULE).unlink()
    (folder / SPEC).write_text(json.dumps({**run.description(), "run_id": old.run_id, **old.as_dict()}))
    (folder / DONE).write_text((folder / DONE).read_text().replace(run.run_id, old.run_id))
    found = Study(Cache(copy), old.run_id)
    assert found.fixed_rule.rule == Rule().for_study([4, 6], ())
    assert "rule of version 1" in rule_fixed(found.fixed_rule)
    assert read_study_results(Cache(copy), old.run_id).plan.rule.margin_pp == 1.0
    assert found.to_json()["rule"]["in_identity"] is False


def test_more_seeds_and_questions_at_the_largest_size(copy: Path, model: Path, facts: Path) -> None:
    """N = 4 is asked two questions of each group, N = 6 three, where there are as many; N = 6 has a third seed."""
    spec = small_study(
        model, facts, questions={"per_level": 2}, per_level_by_size={6: 3}, seeds_by_size={6: (0, 1, 2)}
    )
    done = run_study(spec, workspace(copy), InThisProcess())
    assert [cell["key"] for cell in done.summary["cells"]] == [
        "full-0-4-0", "full-0-6-0", "full-0-4-1", "full-0-6-1", "full-0-6-2"
    ]  # fmt: skip
    assert [cell["reason"] for cell in done.summary["cells"]] == [None] * 5
    study = Study(Cache(copy), done.run.run_id)
    assert study.n_questions == {"dev in": 2, "test in": 2, "test out": 2}
    assert study.n_questions_by_size == {"6": {"dev in": 3, "test in": 3, "test out": 2}}
    results = read_study_results(Cache(copy), done.run.run_id)
    answers, chains = results.study.tables.answers, results.study.tables.chains
    asked = answers[(answers["split"] == "test") & (answers["domain"] == "in")]
    by_size = asked.merge(chains, on="chain").groupby("size")["fact_id"].agg(set)
    assert by_size["4"] < by_size["6"] and (len(by_size["4"]), len(by_size["6"])) == (2, 3)
    assert set(asked.loc[asked["chain"] == "base", "fact_id"]) == by_size["6"]
    assert results.verdicts and len(results.scorecard) and len(results.tables) and results.flips is not None
    again = plan(spec, workspace(copy))
    assert {cell.state for cell in again.cells} == {"cached"}
