"""Ids of runs that are in people's caches: a request that is declared or read in another way still names them.

The demo's are those of the finished demo of the version before requests were pydantic models; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftknow_core.facts.dataset import FactsRef
from sftknow_core.pipeline.chain import plan_chain
from sftknow_core.pipeline.delta import ModelPair, compare_models
from sftknow_core.pipeline.demo import DEMO_KS, DEMO_TRAIN_QUESTIONS
from sftknow_core.pipeline.evaluate import EvaluationPlan
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.sft import fine_tune, sft_spec
from sftknow_core.pipeline.states import base_state, restored_state
from sftknow_core.pipeline.study.plan import study_run
from sftknow_core.pipeline.study.read import read_study
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.specs import ChainSpec, EvaluateSpec, QuestionSpec, StudySpec
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.update.spec import RestoreSpec, percent

DEMO_TUNED = ModelHandle(Path("/nowhere"), "0a3660b340154d4b", "tuned")


class Opened(Exception):
    """A run was about to be opened."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    ws = Workspace(tmp_path_factory.mktemp("ids"), device="cpu")
    facts, topics = FactsRef().load()
    base = ws.open_model("demo")
    return ws, base, facts, topics, score_facts(ws, base, facts.facts, topics)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def open_run(self: Workspace, spec: RunSpec, *_: Any, **__: Any) -> Any:
        raise Opened(spec.run_id)

    monkeypatch.setattr(Workspace, "open_run", open_run)

    def run_id(work: Callable[..., Any], *args: Any) -> str:
        with pytest.raises(Opened) as caught:
            work(*args)
        return str(caught.value)

    return run_id


def test_the_shipped_mastery_scores_still_count(demo: Any) -> None:
    mastery = demo[-1]
    assert mastery.run.run_id == "54aeba4afc31ef68"
    assert mastery.run.spec.params == {
        "expected": True, "matcher": "words", "max_new_tokens": 8, "n_samples": 10, "seed": 0, "temperature": 0.7
    }  # fmt: skip


@pytest.mark.parametrize(
    ("level", "n", "run_id"), [("2", 240, "8b86e7756a63a57a"), ("mixed", 1920, "df127957a159dbd3")]
)
def test_chains_of_the_demo(demo: Any, level: str, n: int, run_id: str) -> None:
    _, base, facts, _, mastery = demo
    spec = ChainSpec(
        level=level,
        n=n,
        ks=DEMO_KS,
        questions=QuestionSpec(per_level=25),
        train_questions=DEMO_TRAIN_QUESTIONS,
    )
    assert plan_chain(base, facts, mastery, spec, sft_spec(base, 0)).run_spec.run_id == run_id


def test_a_chain_with_all_that_can_be_said_of_it(demo: Any) -> None:
    _, base, facts, _, mastery = demo
    controls = (
        RestoreSpec("block", block="mlp"),
        RestoreSpec("random", k_percent=percent("12.5"), seed=3),
    )
    spec = ChainSpec(
        n=60, seed=3, ks=("0.5", "20.0"), strategy="largest", region="mlp", layers="0,1",
        questions=QuestionSpec(per_level=10, seed=1), evaluate=EvaluateSpec(max_new_tokens=4),
        train_questions=None, baselines=False, completions=True, controls=controls, equal_energy=("random",),
    )  # fmt: skip
    lora = sft_spec(base, 3, method="lora", epochs=2)
    trained = plan_chain(base, facts, mastery, spec, lora).run_spec.run_id
    given = plan_chain(base, facts, mastery, spec, tuned=DEMO_TUNED).run_spec
    # its random controls of equal energy are three masks of its own, where all chains had one
    assert (trained, given.run_id) == ("c738c55576c52d52", "fc0d626075ddc90a")
    without = spec.but(equal_energy=("interpolation",))
    trained = plan_chain(base, facts, mastery, without, lora).run_spec.run_id
    given = plan_chain(base, facts, mastery, without, tuned=DEMO_TUNED).run_spec
    assert (trained, given.run_id) == ("c2c37b15418f34e7", "e95d4296da63219b")


def test_masks_are_no_part_of_a_study_without_random_controls(demo: Any) -> None:
    _, base, facts, *_ = demo
    spec = StudySpec(
        name="x", base="demo", controls=(RestoreSpec("block", block="mlp"),), equal_energy=("interpolation",),
        equal_projection=(),
    )  # fmt: skip
    assert study_run(spec, base, facts).run_id == "dcf2fa31f921e762"
    for changed in (
        {"random_masks": 5},
        {"controls": (RestoreSpec("random", k_percent=percent(5), seed=2),)},
    ):
        assert "random_masks" not in study_run(spec.but(**changed), base, facts).params
    fair = study_run(spec.but(equal_projection=("interpolation",)), base, facts)
    assert fair.run_id != "dcf2fa31f921e762" and fair.params["equal_projection"] == ["interpolation"]


def test_fine_tunings_and_comparisons_of_the_demo(demo: Any, opens: Callable[..., str]) -> None:
    ws, base, facts, _, mastery = demo
    train_set = plan_chain(
        base, facts, mastery, ChainSpec(level="2", questions=QuestionSpec(per_level=1))
    ).train_set
    assert opens(fine_tune, ws, base, train_set, sft_spec(base, 0)) == "2ef86d01ac228065"
    assert opens(compare_models, ws, ModelPair(base, DEMO_TUNED)) == "b19bd66e37433a02"


def test_evaluations_of_the_demo(demo: Any) -> None:
    ws, base, facts, topics, mastery = demo
    questions = choose_questions(facts.facts, mastery.levels, QuestionSpec(per_level=25))
    exam = EvaluationPlan(ws, base, facts, topics, mastery, questions)
    assert exam.run_spec(base_state(base)).run_id == "c919c89a492f7b52"
    five = restored_state(base, DEMO_TUNED, RestoreSpec(k_percent=percent("5")))
    assert exam.run_spec(five).run_id == "143a83d87414af82"
    after_examples = EvaluationPlan(
        ws, base, facts, topics, mastery, questions, EvaluateSpec(prompt="five-shot", first_tokens=False)
    )
    assert after_examples.run_spec(base_state(base)).run_id == "9050825b7c8d9418"


@pytest.mark.parametrize(
    ("name", "run_id"),
    [("demo", "614fb14262d37763"), ("demo-full", "4b05bcdcdb873b88"), ("paper", "964a074368a94524")],
)
def test_studies_that_come_with_the_package(demo: Any, name: str, run_id: str) -> None:
    _, base, facts, *_ = demo
    """Five-shot prompts are part of a study, as they are asked by default."""
    study = read_study(name)
    assert study_run(study.but(five_shot=False), base, facts).run_id == run_id
    assert study_run(study, base, facts).run_id != run_id
