"""What the overview reads: labels, which chains may be compared, and the tables of one chain."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_chain import leave_chain, make_chains

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.results import Chain, chains
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec


@pytest.fixture(scope="module")
def filled(fast_folder: Path) -> tuple[Cache, list[str]]:
    """Level 2 with two sizes in the wrong order, a second seed, and one that asked other questions."""
    root = fast_folder / "chains"
    run_ids = make_chains(root, [("2", 1920, 0), ("2", 240, 0), ("2", 240, 1)])
    return Cache(root), run_ids + make_chains(root, [("mixed", 240, 0)], per_level=4, ks=(20,))


def test_labels(filled: tuple[Cache, list[str]]) -> None:
    cache, run_ids = filled
    labels = chains.survey(cache).finished.set_index("run_id")["label"]
    assert [labels[run_id] for run_id in run_ids] == [
        "demo · level 2 · N = 1,920 · seed 0",
        "demo · level 2 · N = 240 · seed 0",
        "demo · level 2 · N = 240 · seed 1",
        "demo · mixed levels · N = 240 · seed 0",
    ]


def test_equal_labels_are_told_apart(fast_folder: Path) -> None:
    root = fast_folder / "twice"
    run_ids = make_chains(root, per_level=2) + make_chains(root, per_level=3)
    found = chains.survey(Cache(root)).finished
    assert {label.rpartition(" · ")[2] for label in found["label"]} == {run_id[:6] for run_id in run_ids}


def test_equal_labels_name_their_learning_rates_where_they_differ() -> None:
    def info(run_id: str, seed: int, lr: float) -> Any:
        train_set = {"level": "mixed", "n": 1920, "seed": seed}
        return SimpleNamespace(
            run_id=run_id,
            summary={"base_name": "demo", "tuned_name": "t", "train_set": train_set},
            spec=SimpleNamespace(params={"sft": {"method": "full", "lr": lr}}),
        )

    labels = chains._with_rates([info("a", 0, 2e-4), info("b", 0, 8e-4), info("c", 1, 2e-4)])
    assert labels == {
        "a": "demo · mixed levels · N = 1,920 · seed 0 · rate 2.0e-04",
        "b": "demo · mixed levels · N = 1,920 · seed 0 · rate 8.0e-04",
        "c": "demo · mixed levels · N = 1,920 · seed 1",
    }


def test_results_are_sorted_and_hold_what_the_summary_holds(filled: tuple[Cache, list[str]]) -> None:
    cache, run_ids = filled
    results = chains.survey(cache).results
    assert list(dict.fromkeys(results["run_id"])) == [run_ids[1], run_ids[2], run_ids[0], run_ids[3]]
    found = results[(results["run_id"] == run_ids[0]) & (results["domain"] == "in")]
    row = found[found["prompt"] == ZERO_SHOT].set_index("state")
    headline = Chain(cache, run_ids[0]).manifest.summary["headline"]
    for state in ("base", "tuned", "restored"):
        assert row.loc[state, "accuracy"] == headline[f"{state}_test_in"]
    assert row.loc["restored", "k_percent"] == headline["chosen_k_percent"]


def test_only_chains_with_the_same_questions_are_comparable(filled: tuple[Cache, list[str]]) -> None:
    cache, run_ids = filled
    found = chains.survey(cache)
    assert set(chains.comparable(found, run_ids[0])["run_id"]) == set(run_ids[:3])
    assert set(chains.comparable(found, run_ids[3])["run_id"]) == {run_ids[3]}


@pytest.mark.parametrize("prompt", [ZERO_SHOT, FIVE_SHOT])
def test_curve_by_domain_with_the_base_under_the_same_prompt(
    filled: tuple[Cache, list[str]], prompt: str
) -> None:
    cache, (run_id, *_) = filled
    curve = Chain(cache, run_id).curve("test", prompt)
    states = ["tuned", *["restored"] * 3, "hybrid", "base"]
    assert curve["state"].tolist() == states * 2 and curve["domain"].tolist() == ["in"] * 6 + ["out"] * 6
    assert curve["k_percent"].dropna().tolist() == [0, 5, 20, 60, 100] * 2
    assert curve.groupby("domain")["question_set_id"].nunique().tolist() == [1, 1]
    chosen = Chain(cache, run_id).manifest.summary["chosen"]["k_percent"]
    assert curve.loc[curve["chosen"], "k_percent"].tolist() == [chosen, chosen]
    assert set(Chain(cache, run_id).curve("dev", prompt)["domain"]) == (
        {"in"} if prompt == ZERO_SHOT else set()
    )


def test_each_prompt_has_its_own_numbers(filled: tuple[Cache, list[str]]) -> None:
    """Each accuracy is that of the answers of its state under its prompt; the base shines after examples alone."""
    chain = Chain(filled[0], filled[1][0])
    assert chain.prompts == (FIVE_SHOT, ZERO_SHOT)
    for prompt, runs in (
        (ZERO_SHOT, chain.stages.evaluate), (FIVE_SHOT, chain.stages.five_shot_states)
    ):  # fmt: skip
        for state in chain.states:
            answers = RunFolder(chain.cache, runs[state.state_id]).read("answers").to_pylist()
            right = [a["words"] for a in answers if (a["split"], a["domain"]) == ("test", "in")]
            assert state.score("test", "in", prompt).accuracy == pytest.approx(sum(right) / len(right))
    base, tuned = chain.base, chain.tuned
    assert base.score("test", "in", FIVE_SHOT).accuracy > tuned.score("test", "in", FIVE_SHOT).accuracy
    assert base.score("test").accuracy < tuned.score("test").accuracy
    assert base.score("dev", "in", FIVE_SHOT) is None
    lost = tuned.score("test", "in", FIVE_SHOT).accuracy - base.score("test", "in", FIVE_SHOT).accuracy
    assert chain.tuning_on("in").value == pytest.approx(lost)


def test_an_older_chain_asked_its_base_alone_after_examples(tmp_path: Path) -> None:
    cache, (run_id,) = Cache(tmp_path), make_chains(tmp_path, per_level=4, cube=False, five_shot=False)
    chain = Chain(cache, run_id)
    assert chain.prompts == (ZERO_SHOT,) and chain.five_shot["test_in"].accuracy > 0
    assert chain.curve("test", FIVE_SHOT).empty and chain.tuned.score("test", "in", FIVE_SHOT) is None
    assert chain.gain_on("in", FIVE_SHOT) is None and chain.tuning_on("in") is None
    assert set(chains.survey(cache).results["prompt"]) == {ZERO_SHOT}
    assert chain.all_questions.table.prompts == (ZERO_SHOT,)


def test_levels_add_up_to_the_headline(filled: tuple[Cache, list[str]]) -> None:
    cache, (run_id, *_) = filled
    levels = {prompt: Chain(cache, run_id).levels(prompt) for prompt in (ZERO_SHOT, FIVE_SHOT)}
    means = {p: rows.groupby(["domain", "state"])["accuracy"].mean() for p, rows in levels.items()}
    found = chains.survey(cache).results.query("run_id == @run_id")
    assert len(found) == 12
    for row in found.itertuples():
        assert means[row.prompt][row.domain, row.state] == pytest.approx(row.accuracy)


def test_shifted_questions_are_level_four_test_in_domain(filled: tuple[Cache, list[str]]) -> None:
    cache, (run_id, *_) = filled
    found = Chain(cache, run_id).shifted_questions()
    summary = Chain(cache, run_id).manifest.summary
    stage = RunFolder(cache, summary["stages"]["evaluate"][summary["tuned_id"]])
    answers = {row["question"]: row for row in stage.read("answers").to_pylist()}
    assert 0 < len(found) <= 10 and found["kl_aligned_nats"].is_monotonic_decreasing
    for row in found.itertuples():
        answer = answers[row.question]
        assert (answer["split"], answer["domain"], answer["level"]) == ("test", "in", 4)
        sign = "✓" if answer["words"] else "✗"
        assert row.tuned_answer == f"{sign} {answer['completion'].strip()}"
    one = Chain(cache, run_id).shifted_questions(search=found["gold"][0].upper())
    assert found["question"][0] in set(one["question"]) and len(one) < len(found)


def test_the_stamp_follows_runs(fast_folder: Path) -> None:
    root = fast_folder / "stamp"
    stamps = [chains.catalogue_stamp(Cache(root))]
    run_id = make_chains(root, per_level=2)[0]
    stamps.append(chains.catalogue_stamp(Cache(root)))
    assert chains.catalogue_stamp(Cache(root)) == stamps[1]
    with open_run(Cache(root), RunSpec("chain", params={"under": "way"})) as run:
        stamps.append(chains.catalogue_stamp(Cache(root)))
        run.progress(1, 2)
        stamps.append(chains.catalogue_stamp(Cache(root)))
    shutil.rmtree(Cache(root).run_folder(run_id))
    stamps.append(chains.catalogue_stamp(Cache(root)))
    assert len(set(stamps)) == 5


def test_the_stamp_of_a_chain_follows_its_stages_alone(fast_folder: Path) -> None:
    cache = Cache(fast_folder / "own")
    run_id, other = make_chains(cache.root, [("0", 240, 0), ("2", 240, 0)], per_level=2)
    before = Chain(cache, run_id).stamp
    shutil.rmtree(cache.run_folder(other))
    with open_run(cache, RunSpec("chain", params={"under": "way"})) as run:
        run.progress(1, 2)
    assert Chain(cache, run_id).stamp == before
    stages = Chain(cache, run_id).manifest.summary["stages"]
    shutil.rmtree(cache.run_folder(next(iter(stages["evaluate"].values()))))
    assert Chain(cache, run_id).stamp != before
    with pytest.raises(SpecError):
        _ = Chain(cache, other).stamp


def test_unfinished_runs_with_state_reason_and_progress_but_not_their_stages(fast_folder: Path) -> None:
    root = fast_folder / "unfinished"
    leave_chain(root, "3", RuntimeError("the disk is full"))
    spec = RunSpec("chain", params={"under": "way"})
    with open_run(Cache(root), spec, about={"title": "mine"}) as chain:
        chain.progress(1, 4, "base")
        with open_run(Cache(root), RunSpec("evaluate", {"state": "x"}), parent=chain):
            found = chains.survey(Cache(root)).unfinished.set_index("what")
    assert list(found["kind"]) == ["chain", "chain"]
    assert found.loc["mine", ["state", "reason", "progress"]].tolist() == ["running", "base", 0.25]
    failed = found.loc["demo, level 3, N = 60, seed 0"]
    assert failed["state"] == "failed" and "the disk is full" in failed["reason"]


def test_an_empty_cache_has_empty_tables(fast_folder: Path) -> None:
    found = chains.survey(Cache(fast_folder / "empty"))
    assert found.finished.empty and found.results.empty and found.unfinished.empty


def test_a_chain_without_its_stages_is_refused(filled: tuple[Cache, list[str]], fast_folder: Path) -> None:
    root = fast_folder / "copy"
    shutil.copytree(filled[0].root, root)
    cache, run_id = Cache(root), filled[1][0]
    stage = next(iter(Chain(cache, run_id).manifest.summary["stages"]["evaluate"].values()))
    shutil.rmtree(cache.run_folder(stage))
    with pytest.raises(CacheError, match=f"its run {stage}, which holds answers, is gone"):
        Chain(cache, run_id).curve("test")
    with pytest.raises(SpecError, match="no chain 0123"):
        Chain(cache, "0123").levels()
