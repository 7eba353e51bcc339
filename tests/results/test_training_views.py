"""What the training page reads: loss curves, the list of runs, what a deletion takes along, speeds, base models."""

from __future__ import annotations

from typing import Any

import pytest
from fake_runs import do_run, save_weights

from sftknow_core.errors import CacheError
from sftknow_core.results.training import (
    base_models,
    loss_curve,
    plan_removal,
    run_table,
    speeds,
    state_counts,
    steps_announced,
)
from sftknow_core.store.cache import READ_ONLY_VARIABLE, Cache
from sftknow_core.store.gc import gc, remove_runs, remove_weights
from sftknow_core.store.listing import list_runs
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec


def make(
    cache: Cache,
    kind: str,
    inputs: dict[str, str],
    *,
    params: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    uses: tuple[str, ...] = (),
    weights: bool = False,
) -> str:
    """A finished run."""
    with open_run(cache, RunSpec(kind, inputs, params or {}), about=about or {}) as run:
        for stage in uses:
            run.uses(stage)
        if weights:
            run.write_folder("model", save_weights)
        run.finish(summary or {})
    return run.run_id


def test_a_curve_is_the_last_attempt_and_its_running_mean(cache: Cache) -> None:
    """Five steps of 5, 4, 3, 2, 1: means over at most the last five are 5, 4.5, 4, 3.5, 3."""
    spec = RunSpec("sft", {"base": "b"})
    with pytest.raises(ZeroDivisionError), open_run(cache, spec) as run:
        run.metric({"loss": 99.0, "learning_rate": 0.1}, step=1)
        raise ZeroDivisionError
    with open_run(cache, spec) as run:
        assert loss_curve(cache, run.run_id).empty and steps_announced(cache, run.run_id) is None
        for step in range(1, 6):
            run.metric({"loss": 6.0 - step, "learning_rate": 0.1}, step=step)
        run.metric({"something else": 1.0}, step=5)
        run.progress(5, 10, "training steps")
        curve = loss_curve(cache, run.run_id)
        assert curve["step"].tolist() == [1, 2, 3, 4, 5]
        assert curve["loss_nats"].tolist() == [5, 4, 3, 2, 1]
        assert curve["smooth_nats"].tolist() == [5, 4.5, 4, 3.5, 3]
        assert steps_announced(cache, run.run_id) == 10


def test_a_loss_that_is_no_number_is_a_gap(cache: Cache) -> None:
    with open_run(cache, RunSpec("sft", {"base": "b"})) as run:
        run.metric({"loss": float("nan"), "learning_rate": 0.1}, step=1)
        run.metric({"loss": 2.0, "learning_rate": 0.1}, step=2)
        assert loss_curve(cache, run.run_id)["loss_nats"].isna().tolist() == [True, False]


def test_the_list_says_what_a_run_is_and_weighs_a_chain_with_its_stages(cache: Cache) -> None:
    about = {"base": "demo", "level": "2", "n": 1920, "seed": 0}
    sft = make(cache, "sft", {"base": "b"}, about=about, weights=True)
    scores = do_run(cache, "a")  # mastery: shared, so not counted with the chain
    make(cache, "chain", {"base": "b"}, about={"title": "a chain"}, uses=(sft, scores))
    with pytest.raises(ZeroDivisionError), open_run(cache, RunSpec("delta", {"base": "b"})):
        raise ZeroDivisionError("by nought")
    table = run_table(cache).set_index("kind")
    assert table.loc["sft", "what"] == "demo, level 2, N = 1,920, seed 0"
    assert table.loc["chain", "what"] == "a chain" and table.loc["chain", "size_bytes"] == 0
    assert table.loc["chain", "with_stages_bytes"] == table.loc["sft", "size_bytes"] > 0
    assert table.loc["delta", "state"] == "failed" and "by nought" in table.loc["delta", "reason"]
    counts = state_counts(run_table(cache))
    assert counts[["kind", "state", "n_runs"]].to_numpy().tolist() == [
        ["chain", "done", 1],
        ["delta", "failed", 1],
        ["mastery", "done", 1],
        ["sft", "done", 1],
    ]


def test_stages_go_along_where_nobody_else_uses_them(cache: Cache) -> None:
    own, shared = make(cache, "sft", {"base": "1"}, weights=True), make(cache, "evaluate", {"state": "b"})
    scores = do_run(cache, "a")
    first = make(cache, "chain", {"n": "1"}, uses=(own, shared, scores))
    second = make(cache, "chain", {"n": "2"}, uses=(shared, scores))
    alone = plan_removal(cache, [first, "unknown"], with_stages=False)
    assert alone.run_ids == (first,) and alone.freed_bytes == 0 and alone.still_used == {}
    plan = plan_removal(cache, [first], with_stages=True)
    assert plan.run_ids == (first, own) and dict(plan.counts) == {"chain": 1, "sft": 1}
    assert plan.freed_bytes == {info.run_id: info.size_bytes for info in list_runs(cache)}[own]
    both = plan_removal(cache, [first, second], with_stages=True)
    assert set(both.run_ids) == {first, second, own, shared}  # mastery stays
    assert plan_removal(cache, [shared], with_stages=True).still_used == {shared: (first, second)} or set(
        plan_removal(cache, [shared], with_stages=True).still_used[shared]
    ) == {first, second}
    assert remove_runs(cache, plan.run_ids) == plan.freed_bytes


def test_speeds_are_medians_of_finished_runs_of_the_base(cache: Cache) -> None:
    """Fine-tunings: 6 s for 2 epochs of 30 = 0.1 s an example, 3 s for 10 = 0.3 s; another base's does not count."""
    for base, n, epochs, seconds, method in (
        ("b", 30, 2, 6.0, "full"), ("b", 10, 1, 3.0, "full"), ("b", 10, 1, 9.0, "lora"), ("c", 1, 1, 99.0, "full"),
    ):  # fmt: skip
        params = {"sft": {"method": method, "epochs": epochs}}
        make(
            cache,
            "sft",
            {"base": base},
            params=params,
            summary={"seconds_training": seconds, "n_examples": n},
        )
    scores = make(cache, "mastery", {"model": "b"}, about={"n_facts": 10})
    found = speeds(cache, "b", "full")
    assert (found["sft"].seconds, found["sft"].n_runs) == (pytest.approx(0.2), 2)
    assert found["mastery"].n_runs == 1 and "evaluate" not in found
    assert "mastery" not in speeds(cache, "b", "lora", without=[scores])
    assert speeds(cache, "b", "lora")["sft"].seconds == pytest.approx(0.9)


def test_base_models_with_the_runs_about_them(cache: Cache) -> None:
    row = {
        "model_id": "b",
        "name": "my base",
        "path": "/models/b",
        "role": "base",
        "n_params": 7,
        "dtype": "float32",
    }
    with open_run(cache, RunSpec("mastery", {"model": "b"})) as run:
        run.write_part("models", 0, [row, {**row, "model_id": "t", "role": "tuned"}])
        run.finish()
    make(cache, "chain", {"base": "b"})
    make(cache, "chain", {"base": "other"})
    (found,) = base_models(cache).to_dict("records")
    assert (found["name"], found["n_params"], found["path"]) == ("my base", 7, "/models/b")
    assert (found["n_runs"], found["used_by"]) == (2, "1 chain, 1 mastery")


def test_an_empty_cache_has_no_rows(cache: Cache) -> None:
    assert run_table(cache).empty and base_models(cache).empty and state_counts(run_table(cache)).empty
    assert speeds(cache, "b", "full") == {} and plan_removal(cache, [], with_stages=True).run_ids == ()


def test_an_input_of_a_run_under_way_stays(cache: Cache) -> None:
    scores = do_run(cache, "a")
    tuned = make(cache, "sft", {"base": "b"}, summary={"model_id": "t"}, weights=True)
    with open_run(cache, RunSpec("chain", {"mastery": scores, "tuned": "t"})) as run:
        for used in (scores, tuned):
            with pytest.raises(
                CacheError, match=f"run {used} is an input of run {run.run_id}, which is under way"
            ):
                remove_runs(cache, [used])
        assert dict(gc(cache, dry_run=True).kept)[tuned] == f"an input of run {run.run_id}"
    assert remove_runs(cache, [scores]) > 0


def test_show_mode_deletes_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = do_run(cache, "a")
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    for delete in (
        lambda: remove_runs(cache, [run_id]),
        lambda: gc(cache),
        lambda: remove_weights(cache, run_id),
    ):
        with pytest.raises(CacheError, match="show mode"):
            delete()
    gc(cache, dry_run=True)  # only looks
    assert cache.run_folder(run_id).is_dir()
