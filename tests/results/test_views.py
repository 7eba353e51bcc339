"""Tidy tables of a chain: base, tuned, two restored states and the hybrid."""

from __future__ import annotations

from typing import Any

import pytest
from fake_runs import accuracy_row, spec

from sftknow_core.errors import SpecError
from sftknow_core.results.views import accuracy_by_level, list_chains, most_shifted, restoration_curve
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run

STATES = ("base", "tuned", "top5", "top20", "hybrid")
KINDS = ("base", "tuned", "restored", "restored", "hybrid")
K_PERCENT = {"top5": 5.0, "top20": 20.0, "hybrid": 100.0}


def restoration(state_id: str, k_percent: float) -> dict[str, Any]:
    ids = {"base_id": "base", "tuned_id": "tuned", "state_id": state_id, "strategy": "top", "params": {}}
    counts = {
        "region": "transformer",
        "k_percent": k_percent,
        "n_region": 1000,
        "n_restored": int(10 * k_percent),
    }
    return {**ids, **counts, "energy_taken_back": k_percent / 200, "share_of_r": 0.9}


def make_chain(cache: Cache) -> tuple[str, str]:
    """Headline accuracies 0.1, 0.2, ...; the run_ids of the chain and of the evaluation."""
    with open_run(cache, spec("e", "evaluate")) as run:
        rows = [
            accuracy_row(state, level, 0.1 * (number + 1) + (level or 0) / 100)
            for number, state in enumerate(STATES)
            for level in (4, None, 0)
        ]
        rows.append(accuracy_row("tuned", 0, 0.9, subset="no_answer_in_question"))
        rows.append(accuracy_row("somebody else", 0, 0.9))
        run.write_part("accuracies", 0, rows)
        kinds = zip(STATES, KINDS, strict=True)
        run.write_part("states", 0, [{"state_id": state, "kind": kind} for state, kind in kinds])
        run.write_part("restorations", 0, [restoration(*item) for item in K_PERCENT.items()])
        common = {"state_id": "tuned", "kept": True, "kept_within3": True}
        shifts = [("f1", 0.5), ("f2", 2.5), ("f3", None), ("f4", 1.5)]
        tokens = [
            {**common, "fact_id": fact, "kl_nats": kl, "reason": None if kl else "gone"}
            for fact, kl in shifts
        ]
        run.write_part("first_token", 0, tokens)
        answer: dict[str, Any] = {
            "state_id": "tuned",
            "topic": "P19",
            "split": "test",
            "domain": "in",
            "question": "Where?",
        }
        answer |= {"gold": "Oslo", "completion": "Rome", "stopped": True, "n_tokens": 1}
        answer |= {"words": False, "substring": False, "exact": False, "answer_in_question": False}
        run.write_part("answers", 0, [{**answer, "fact_id": "f2"}, {**answer, "fact_id": "f1"}])
        run.write_part("models", 0, [{"model_id": "base", "name": "demo", "path": "x", "role": "base"}])
        run.finish()
    with open_run(cache, spec("c", "chain")) as chain:
        chain.finish(
            {
                "stages": {"sft": "x", "evaluate": dict.fromkeys(STATES, run.run_id)},
                "base_id": "base",
                "tuned_id": "tuned",
                "states": STATES,
                "headline": {"accuracy_tuned": 0.2, "gain": None},
            }
        )
    return chain.run_id, run.run_id


def test_list_chains(cache: Cache) -> None:
    assert list(list_chains(cache).columns[:2]) == ["run_id", "state"] and list_chains(cache).empty
    chain, _ = make_chain(cache)
    with open_run(cache, spec("d", "chain")) as running:
        rows = list_chains(cache).set_index("run_id")
        assert rows["state"].to_dict() == {chain: "done", running.run_id: "running"}
    assert rows.loc[chain, "base_name"] == "demo" and rows.loc[chain, "headline_accuracy_tuned"] == 0.2
    assert rows.loc[chain, "n_states"] == 5 and rows.loc[running.run_id, "n_states"] == 0


def test_accuracy_by_level(cache: Cache) -> None:
    chain, _ = make_chain(cache)
    rows = accuracy_by_level(cache, chain)
    assert list(dict.fromkeys(rows["state_id"])) == list(STATES)
    assert list(dict.fromkeys(zip(rows["state_id"], rows["state_kind"], strict=True))) == list(
        zip(STATES, KINDS, strict=True)
    )
    assert rows["level"].fillna(9).to_list() == [0, 4, 9] * 5  # the headline after the levels
    assert rows["accuracy"][:3].round(6).to_list() == [0.1, 0.14, 0.1]
    assert len(accuracy_by_level(cache, chain, subset=None)) == 16
    assert accuracy_by_level(cache, chain, matcher="exact").empty


def test_restoration_curve_with_its_three_endpoints(cache: Cache) -> None:
    chain, _ = make_chain(cache)
    curve = restoration_curve(cache, chain).set_index("state_id")
    assert curve["accuracy"].round(6).to_dict() == {s: round(0.1 * (i + 1), 6) for i, s in enumerate(STATES)}
    assert curve["k_percent"].dropna().to_dict() == {"tuned": 0.0, **K_PERCENT}
    assert curve["endpoint"].dropna().to_dict() == {"base": "base", "tuned": "tuned", "hybrid": "hybrid"}
    assert curve["energy_taken_back"].to_dict() == {
        "base": 1.0, "tuned": 0.0, "top5": 0.025, "top20": 0.1, "hybrid": 0.5,
    }  # fmt: skip


def test_most_shifted(cache: Cache) -> None:
    _, evaluation = make_chain(cache)
    rows = most_shifted(cache, evaluation, "tuned", limit=2)
    assert rows["fact_id"].to_list() == ["f2", "f4"]
    assert rows["question"].to_list()[0] == "Where?" and rows["question"].isna().to_list() == [False, True]
    assert most_shifted(cache, evaluation, "base").empty


def test_other_runs_are_refused(cache: Cache) -> None:
    _, evaluation = make_chain(cache)
    with pytest.raises(SpecError, match="there is no chain"):
        accuracy_by_level(cache, evaluation)
    with pytest.raises(SpecError, match="there is no chain 0123"):
        accuracy_by_level(cache, "0123")
    with (
        open_run(cache, spec("d", "chain")) as running,
        pytest.raises(SpecError, match=r"is not finished \(running\)"),
    ):
        restoration_curve(cache, running.run_id)
