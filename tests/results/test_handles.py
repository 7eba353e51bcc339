"""Handles: lazy, typed, and one error each for what is gone, damaged and not finished."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_chain import make_chains

from sftknow_core.errors import DamagedError, GoneError, NotFinishedError
from sftknow_core.results import Chain, Cube, Mastery, Questions, Run
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_folder import DONE
from sftknow_core.store.run_spec import RunSpec

READS: dict[str, Callable[[Chain], Any]] = {
    "states": lambda chain: chain.states,
    "curve": lambda chain: chain.curve("test"),
    "levels": lambda chain: chain.levels(),
    "measured": lambda chain: chain.measured(),
    "shifted": lambda chain: chain.shifted_questions(),
    "questions": lambda chain: chain.questions(outcome="recovered"),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, str]:
    root = tmp_path_factory.mktemp("cache")
    return Cache(root), make_chains(root, per_level=4)[0]


def test_a_handle_of_nothing_costs_nothing_and_says_so_when_asked(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for kind in (Run, Chain, Mastery, Cube):
        handle = kind(cache, "0123")
        with pytest.raises(GoneError, match=f"there is no {kind.NAME} 0123"):
            _ = handle.manifest
        with pytest.raises(GoneError):
            _ = handle.stamp


def test_a_run_of_another_kind_is_no_chain(filled: tuple[Cache, str]) -> None:
    cache, run_id = filled
    evaluation = Chain(cache, run_id).stages.evaluate.values()
    with pytest.raises(GoneError, match="there is no chain"):
        _ = Chain(cache, next(iter(evaluation))).base_id


def test_what_is_under_way_is_not_finished(tmp_path: Path) -> None:
    with (
        open_run(Cache(tmp_path), RunSpec("chain", params={"under": "way"})) as running,
        pytest.raises(NotFinishedError, match=r"is not finished \(running\)"),
    ):
        _ = Chain(Cache(tmp_path), running.run_id).states


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_stage_that_is_gone_or_damaged_is_named(
    filled: tuple[Cache, str], tmp_path: Path, read: Callable[[Chain], Any]
) -> None:
    shutil.copytree(filled[0].root, tmp_path / "copy")
    cache, run_id = Cache(tmp_path / "copy"), filled[1]
    chain = Chain(cache, run_id)
    stage = chain.stages.evaluate[chain.tuned_id]
    (part,) = (cache.run_folder(stage) / "answers").glob("*.parquet")
    part.write_bytes(b"")
    with pytest.raises(DamagedError, match=f"its run {stage}, which holds answers, is damaged .*answers"):
        read(Chain(cache, run_id))
    shutil.rmtree(cache.run_folder(stage))
    with pytest.raises(GoneError, match=f"its run {stage}, which holds answers, is gone"):
        read(Chain(cache, run_id))


def test_a_manifest_that_cannot_be_read_is_damage(filled: tuple[Cache, str], tmp_path: Path) -> None:
    shutil.copytree(filled[0].root, tmp_path / "copy")
    cache = Cache(tmp_path / "copy")
    (cache.run_folder(filled[1]) / DONE).write_text("{")
    with pytest.raises(DamagedError, match=f"chain {filled[1]} is damaged"):
        _ = Chain(cache, filled[1]).base_id


def test_states_are_those_that_the_summary_froze(filled: tuple[Cache, str]) -> None:
    """A summary of a former version holds the same numbers that the stored accuracies give."""
    chain = Chain(*filled)
    table = chain.manifest.summary["table"]
    assert [row["state_id"] for row in table] == [state.state_id for state in chain.states]
    for row, state in zip(table, chain.states, strict=True):
        assert (row["kind"], row["k_percent"]) == (state.kind, state.k_percent)
        for group, place in {
            "dev_in": ("dev", "in"),
            "test_in": ("test", "in"),
            "test_out": ("test", "out"),
        }.items():
            score = state.score(*place)
            assert score is not None and {name: getattr(score, name) for name in row[group]} == row[group]
        aligned = row["kl"].get("aligned")
        assert (aligned is None) == (state.shift is None)
        assert aligned is None or state.shift is None or aligned["mean_nats"] == state.shift.nats


def test_the_numbers_people_ask_for_first(filled: tuple[Cache, str]) -> None:
    chain = Chain(*filled)
    headline = chain.manifest.summary["headline"]
    assert (chain.level, chain.n, chain.seed) == (headline["level"], headline["n"], headline["seed"])
    assert chain.best_k == headline["chosen_k_percent"] and chain.restored.state_id == chain.chosen.state_id
    assert chain.gain is not None and chain.gain.low <= chain.gain.value <= chain.gain.high
    assert chain.gain.value == headline["gain_test_in"]
    tuned = chain.accuracy("test", "in").query("state == 'tuned' and level.isna()")
    assert tuned["accuracy"].tolist() == [headline["tuned_test_in"]]
    assert chain.shift().nats == headline["kl_level4_nats"]
    nothing = chain.shift(level=0)
    assert nothing.nats is None and nothing.reason


def test_questions_by_outcome(filled: tuple[Cache, str]) -> None:
    chain = Chain(*filled)
    recovered = chain.questions(outcome="recovered", k=20)
    assert len(recovered) and not recovered["tuned_right"].any() and recovered["restored_right"].all()
    questions = Questions(*filled)
    page = questions.page(questions.filters(outcome="recovered", k=20))
    assert page.n == len(recovered) and questions.stamp == chain.stamp


def test_handles_load_no_torch() -> None:
    names = "from sftknow_core.results import Chain, Cube, Mastery, Questions, Run, Study; import sys; "
    ran = subprocess.run(
        [sys.executable, "-c", f"{names}print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert ran.stdout.strip() == "False", ran.stderr
