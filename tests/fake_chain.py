"""A cache of finished chains with plausible numbers (fake_rows.py): written through the store, without any model.

The summaries are computed from the answers by the same code as those of real chains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_cube import R_SCORES, small_model
from fake_rows import (
    Asked,
    FakeState,
    Row,
    Training,
    accuracy_rows,
    answer_rows,
    first_token_rows,
    hashed,
    make_questions,
    restoration_row,
    shift_row,
)

from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.matcher import RULES, RULES_ID
from sftknow_core.facts.train_set import TrainSet
from sftknow_core.pipeline import chain_summary
from sftknow_core.pipeline.workspace import ModelHandle
from sftknow_core.store.cache import Cache
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec

DEMO = tuple((level, n, 0) for level in ("0", "2", "4", "mixed") for n in (240, 1920))
"""The chains of `sftknow demo`."""
BASE = ModelHandle(Path("demo"), "ba5e" * 4, "demo")
_TRAIN = (
    *(Fact("P19", f"Where was {i} born?", ("Kamirou",), split="train") for i in range(4)),
    Fact("P50", "Who made it?", ("Feidre",), split="train"),
)


def make_chains(
    root: Path,
    chains: Sequence[tuple[str, int, int]] = (("2", 1920, 0),),
    *,
    per_level: int = 10,
    ks: Sequence[int] = (5, 20, 60),
    cube: bool = True,
    five_shot: bool = True,
) -> list[str]:
    """Finish a chain for each (train level, N, seed); returns their run ids, in this order.

    cube: whether the comparison of base and tuned holds tensors and a cube, those of fake_cube.small_model. five_shot:
    whether every state answered the test questions after five exemplars, or the base alone, as in older chains.
    """
    cache, questions = Cache(root), list(make_questions(per_level))
    return [_chain(cache, questions, Training(*trained), (*ks, 100), cube, five_shot) for trained in chains]


def leave_chain(root: Path, level: str, error: Exception) -> str:
    """A chain that ends with an error half-way; returns its run id."""
    spec = RunSpec("chain", {"base": BASE.model_id}, {"level": level})
    try:
        with open_run(Cache(root), spec, about=_about(Training(level, 60, 0))) as run:
            run.progress(2, 4, "tuned")
            raise error
    except type(error):
        return run.run_id


def _chain(
    cache: Cache,
    questions: list[Asked],
    training: Training,
    ks: Sequence[int],
    cube: bool,
    five_shot: bool,
) -> str:
    facts = tuple(fact for fact, _ in questions)
    asked_id = FactSet(facts, "").data_id
    name = f"demo, {training.level} x {training.n}, seed {training.seed}"
    tuned = ModelHandle(Path("tuned"), hashed(training), name)
    states = [FakeState(BASE.model_id, "base"), FakeState(tuned.model_id, "tuned", 0)]
    states += [FakeState(hashed(training, k), "hybrid" if k == 100 else "restored", k) for k in ks]
    stages: dict[str, Any] = {"delta": _delta(cache, tuned, cube), "evaluate_train": {}}
    stages["evaluate"] = {
        state.state_id: _evaluate(cache, state, questions, asked_id, training, tuned) for state in states
    }
    stages["five_shot"] = _five_shot(cache, states[0], questions, training)
    if five_shot:
        on_test = [one for one in questions if one[0].split == "test"]
        stages["five_shot_states"] = {
            state.state_id: _five_shot(cache, state, on_test, training) for state in states[1:]
        } | {BASE.model_id: stages["five_shot"]}
    restore = [{"strategy": "top", "region": "transformer", "layers": None, "k_percent": str(k)} for k in ks]
    spec = RunSpec(
        "chain",
        {"base": BASE.model_id, "mastery": "m", "questions": asked_id},
        {
            "train": [training.level, training.n, training.seed],
            "restore": restore,
            "evaluate": {"prompt": "paper"},
            **({"five_shot": True} if five_shot else {}),
        },
    )
    train_set = TrainSet(_TRAIN, training.level, training.n, training.seed, {}, (len(_TRAIN),))
    known = FactSet((*_TRAIN, *facts), "")
    of = chain_summary.EvaluatedState(states, (), {}, {}, stages, "words", facts)  # type: ignore[arg-type]
    with open_run(cache, spec, about=_about(training)) as run:
        run.finish(
            chain_summary.summarise_chain(cache, BASE, tuned, of, train_set, known)  # type: ignore[arg-type]
        )
    return run.run_id


def _about(training: Training) -> Row:
    title = f"demo, level {training.level}, N = {training.n:,}, seed {training.seed}"
    return {"base": "demo", "level": training.level, "n": training.n, "seed": training.seed, "title": title}


def _evaluate(
    cache: Cache,
    state: FakeState,
    questions: list[Asked],
    asked_id: str,
    training: Training,
    tuned: ModelHandle,
) -> str:
    inputs = {"state": state.state_id, "questions": asked_id, RULES: RULES_ID}
    with open_run(cache, RunSpec("evaluate", inputs)) as run:
        if not run.done:
            answers = answer_rows(state, questions, training)
            tokens = first_token_rows(state, questions, training)
            tables = {
                "answers": answers,
                "first_token": tokens,
                "accuracies": accuracy_rows(answers, "paper"),
                "states": [{"state_id": state.state_id, "kind": state.kind, "base_id": BASE.model_id}],
                "shifts": [shift_row(tokens, answers)],
            }
            if state.spec is not None:
                tables["restorations"] = [restoration_row(state, BASE.model_id, tuned.model_id)]
            run.write_chunk(0, tables)
            run.finish({"state_id": state.state_id})
    return run.run_id


def _five_shot(cache: Cache, state: FakeState, questions: list[Asked], training: Training) -> str:
    asked_id = FactSet(tuple(fact for fact, _ in questions), "").data_id
    inputs = {"state": state.state_id, "questions": asked_id, RULES: RULES_ID}
    with open_run(cache, RunSpec("evaluate", inputs, {"prompt": "five-shot"})) as run:
        if not run.done:
            answers = answer_rows(replace(state, five_shot=True), questions, training)
            run.write_chunk(0, {"answers": answers, "accuracies": accuracy_rows(answers, "five-shot")})
            run.finish()
    return run.run_id


def _delta(cache: Cache, tuned: ModelHandle, cube: bool) -> str:
    ids = {"base_id": BASE.model_id, "tuned_id": tuned.model_id, "sum_r": 9e4, "energy": 12.0}
    counts = {"transformer": (800_000, 799_000), "all": (1_200_000, 1_150_000)}
    shares = {1.0: (0.75, 0.7), 20.0: (0.93, 0.9)}
    with open_run(cache, RunSpec("delta", {"base": BASE.model_id, "tuned": tuned.model_id})) as run:
        if not run.done:
            deltas = [
                ids | {"region": region, "n_params": n, "n_changed": changed}
                for region, (n, changed) in counts.items()
            ]
            held = [
                {"region": "transformer", "eps": 1e-8, "k_percent": k, "share": share, "null_share": null}
                | {"null_sd": 0.01, "null_low": null - 0.02, "null_high": null + 0.02, "n_permutations": 199}
                | {"p_more": 0.005, "p_two_sided": 0.01, "top_20_share": 0.3}
                for k, (share, null) in shares.items()
            ]
            run.write_chunk(0, {"deltas": deltas, "concentration": held, **(_cube() if cube else {})})
            run.finish()
    return run.run_id


def _cube() -> dict[str, list[Row]]:
    tensors = small_model()
    bins = [
        row for score in (*R_SCORES, "absolute") for i, t in enumerate(tensors) for row in t.bins(i, score)
    ]
    return {"delta_tensors": [t.row(i) for i, t in enumerate(tensors)], "cube": bins}
