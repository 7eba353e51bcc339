"""All measured ways of a pair in one table, over a made-up cache: against the rows that its runs wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest
from fake_chain import BASE, make_chains
from fake_rows import FakeState, Training, accuracy_rows, answer_rows, hashed, make_questions

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.matcher import RULES, RULES_ID
from sftknow_core.results import Chain
from sftknow_core.results.measured import WAY_COLUMNS
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

TRAINING = Training("2", 1920, 0)
Filled = tuple[Cache, str]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A chain with top at k = 5, 20, 100, whose pair was asked later with four other ways; and another pair."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    run_id, _ = make_chains(cache.root, [("2", 1920, 0), ("4", 240, 0)], per_level=4, ks=(5, 20))
    tuned = Chain(cache, run_id).manifest.summary["tuned_id"]
    measure(cache, tuned, "largest", 20, k_percent=20.0, energy_taken_back=0.6)
    measure(cache, tuned, "random", 40, {"layers": None, "seed": 3}, k_percent=40.0, energy_taken_back=0.4)
    measure(cache, tuned, "random", 40, {"layers": None, "seed": 8}, k_percent=40.0, energy_taken_back=0.41)
    measure(cache, tuned, "top", 60, {"layers": "0-1"}, k_percent=60.0, region="mlp", energy_taken_back=0.5)
    measure(cache, tuned, "interpolation", 1, alpha=0.5, energy_taken_back=0.75)
    measure(cache, tuned, "largest", 10, k_percent=10.0, prompt="chat")
    measure(cache, tuned, "block", 3, {"layers": None, "block": "mlp 0"}, energy_taken_back=0.2)
    measure(cache, tuned, "bottom", 5, k_percent=5.0, per_level=6)
    yield cache, run_id


def measure(
    cache: Cache,
    tuned_id: str,
    strategy: str,
    k: int,
    params: dict[str, object] | None = None,
    prompt: str = "paper",
    per_level: int = 4,
    **others: object,
) -> None:
    state = FakeState(hashed(strategy, k, params, prompt), "restored", k)
    questions = list(make_questions(per_level))
    answers = answer_rows(state, questions, TRAINING)
    asked = FactSet(tuple(fact for fact, _ in questions), "").data_id
    row = {"base_id": BASE.model_id, "tuned_id": tuned_id, "state_id": state.state_id, "strategy": strategy}
    row |= {"params": params or {"layers": None}, "region": "transformer", "n_region": 16, "n_restored": 2}
    with open_run(
        cache, RunSpec("evaluate", {"state": state.state_id, "questions": asked, RULES: RULES_ID})
    ) as run:
        tables = {"answers": answers, "accuracies": accuracy_rows(answers, prompt)}
        run.write_chunk(0, {**tables, "restorations": [row | others]})
        run.finish()


def test_every_way_is_there_once(filled: Filled) -> None:
    rows = Chain(*filled).ways()
    assert tuple(rows.columns) == WAY_COLUMNS
    dev = rows[rows["split"] == "dev"]
    assert (
        not dev["state_id"].duplicated(keep=False).sum() > 2
    )  # base is asked twice: with and without examples
    assert set(dev["line"]) == {
        "", "top", "largest", "random, mask 1", "random, mask 2", "top, mlp, layers 0-1", "interpolation", "block"
    }  # fmt: skip
    assert dev.loc[dev["line"] == "top", "k_percent"].tolist() == [5, 20, 100]
    assert dev.loc[dev["line"] == "top", "state"].tolist() == ["restored", "restored", "hybrid"]
    assert dev.loc[dev["line"] == "largest", "k_percent"].tolist() == [20]  # 10 was asked with another prompt
    assert set(zip(rows["split"], rows["domain"], strict=True)) == {
        ("dev", "in"),
        ("test", "in"),
        ("test", "out"),
    }


def test_ends_and_what_they_take_back(filled: Filled) -> None:
    dev = Chain(*filled).ways().query("split == 'dev' and line == ''").set_index("state")
    assert sorted(dev.index) == ["base", "tuned"]
    assert dev.loc["tuned", ["k_percent", "k_of_changed_percent", "energy_taken_back"]].tolist() == [0, 0, 0]
    assert pd.isna(dev.loc["base", "k_percent"])


def test_amounts_of_interpolation_and_blocks(filled: Filled) -> None:
    dev = Chain(*filled).ways().query("split == 'dev'").set_index("line")
    assert dev.loc["interpolation", "alpha"] == 0.5 and dev.loc["interpolation", "energy_taken_back"] == 0.75
    assert dev.loc[["interpolation", "block"], "k_percent"].isna().all()
    assert dev.loc["block", "block"] == "mlp 0" and dev.loc["random, mask 1", "seed"] == 3


def test_projections_of_rows_that_do_not_say_them(filled: Filled) -> None:
    """Rows of the version before: of whole weights it is the energy; of an interpolation it is not measured, not 0."""
    dev = Chain(*filled).ways().query("split == 'dev'").set_index("line")["projection_taken_back"]
    assert dev[["largest", "random, mask 2", "block"]].tolist() == [0.6, 0.41, 0.2]
    assert dev.isna()["interpolation"] and dev.loc[""].min() == 0
    (restored, *_) = [state for state in Chain(*filled).states if state.kind == "restored"]
    assert restored.projection_taken_back == restored.energy_taken_back and restored.projection_reason is None
    unknown = replace(restored, projection_taken_back=None)
    assert "not measured" in str(unknown.projection_reason) and "sftknow runs rm" in str(
        unknown.projection_reason
    )


def test_accuracies_are_those_of_the_curve(filled: Filled) -> None:
    mine = Chain(*filled).ways().query("split == 'test' and line == 'top'")
    curve = Chain(*filled).curve("test")
    wanted = curve[curve["state"].isin(["restored", "hybrid"])].sort_values(["domain", "k_percent"])
    for name in (
        "accuracy",
        "low",
        "high",
        "n",
        "energy_taken_back",
        "projection_taken_back",
        "question_set_id",
    ):
        assert mine[name].tolist() == wanted[name].tolist(), name


def test_other_questions_are_another_table(filled: Filled) -> None:
    cache, run_id = filled
    six = FactSet(tuple(fact for fact, _ in make_questions(6)), "").data_id
    assert set(Chain(cache, run_id).ways(six)["line"]) == {"bottom"}
    assert Chain(cache, run_id).ways("none").empty


def test_no_such_chain(filled: Filled) -> None:
    with pytest.raises(SpecError, match="no chain 0123"):
        Chain(filled[0], "0123").ways()
