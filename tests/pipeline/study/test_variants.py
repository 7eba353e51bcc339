"""Cells of other learning rates and numbers of passes: their keys, their training, and a study that really ran."""

from __future__ import annotations

import pytest
from small_chain import small_facts_file, small_model
from small_study import small_study

from sftknow_core.analysis.rates import Recipe
from sftknow_core.analysis.study import read_study_results
from sftknow_core.errors import SpecError
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.results import find_study
from sftknow_core.specs import Cell, StudySpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.study_record import all_cells


def test_plain_cells_keep_their_keys() -> None:
    assert Cell(level="2", n=1920, seed=0).key == "full-2-1920-0"
    assert Cell(level="2", n=240, seed=0, rate=0.5, repeats=8).key == "full-2-240-0-lr0.5-x8"
    assert "lr x 0.5, 8 times the epochs" in Cell(level="2", n=240, seed=0, rate=0.5, repeats=8).label


def test_the_grid_of_rates_and_repeats() -> None:
    spec = StudySpec(
        name="s", levels=("0",), sizes=(240, 1920, None), seeds=(0,), rates=(1, 0.25), match_steps=True
    )
    found = [(cell.size, cell.rate, cell.repeats) for cell in spec.cells()]
    assert found == [
        ("240", 0.25, 1), ("240", 0.25, 8), ("240", 1, 1), ("240", 1, 8),
        ("1920", 0.25, 1), ("1920", 1, 1), ("all", 0.25, 1), ("all", 1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rates": (0.5, 2.0)}, "rates: got [0.5, 2.0]; allowed: numbers above 0, 1 among them"),
        ({"rates": (0.0, 1.0)}, "rates: got [0.0, 1.0]; allowed: numbers above 0, 1 among them"),
        (
            {"sizes": (240,), "match_steps": True},
            "match_steps: got the sizes [240]; allowed: with two numbers",
        ),
    ],
)
def test_what_makes_no_grid_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        StudySpec(name="s", **given)
    assert said in str(caught.value)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Two rates; sizes 2 and 6, of which 2 facts three times take the three steps of 6 once; one seed."""
    folder = tmp_path_factory.mktemp("variants")
    model, facts = small_model(folder / "model"), small_facts_file(folder / "facts.jsonl")
    spec = small_study(model, facts, sizes=(2, 6), seeds=(0,), rates=(0.5, 1.0), match_steps=True)
    run_study(spec, Workspace(folder / "cache", device="cpu"), InThisProcess())
    return Cache(folder / "cache")


def test_cells_are_trained_at_their_rate_and_passes(cache: Cache) -> None:
    study = find_study(cache, "small")
    records = all_cells(RunFolder(cache, study.run_id))
    assert [record["key"] for record in records] == [
        "full-0-2-0-lr0.5", "full-0-2-0-lr0.5-x3", "full-0-2-0", "full-0-2-0-x3", "full-0-6-0-lr0.5", "full-0-6-0"
    ]  # fmt: skip
    assert {record["state"] for record in records} == {"done"}
    steps, rates = {}, {}
    for record in records:
        run = RunFolder(cache, record["sft"])
        steps[record["key"]] = run.manifest().summary["steps"]
        rates[record["key"]] = run.spec.params["sft"]["lr"]
    assert rates["full-0-2-0-lr0.5"] == rates["full-0-2-0"] / 2 == 0.005
    assert steps["full-0-2-0-x3"] == steps["full-0-6-0"] == 3 * steps["full-0-2-0"]
    assert [cell.repeats for cell in study.cells] == [1, 3, 1, 3, 1, 1]


def test_the_study_is_read_with_and_without_them(cache: Cache) -> None:
    results = read_study_results(cache, find_study(cache, "small").run_id)
    assert len(results.study.tables.chains) == 2
    assert results.rates.recipes("2") == [Recipe(0.5), Recipe(1), Recipe(0.5, 3), Recipe(1, 3)]
    norms = results.rates.norms()
    tuned = norms[(norms["k_percent"] == 0) & (norms["size"] == "6")].set_index("rate")["update_norm"]
    assert 0 < tuned[0.5] < tuned[1.0]
    steps = results.rates.steps()
    assert set(steps["comparison"]) == {"data", "steps"} and (steps["n"] > 0).all()
