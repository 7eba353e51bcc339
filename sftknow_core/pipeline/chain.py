"""The whole chain for one train set, top to bottom: what the paper does, in the order it does it.

facts -> mastery -> train set -> sft -> accuracy and token shift of base and tuned
                                   '-> delta -> restore k% -> accuracy and token shift again
                                                  '-> k chosen on dev, reported on test
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.topics import Topic
from sftknow_core.facts.train_set import TrainSet, draw_train_set
from sftknow_core.pipeline.chain_summary import EvaluatedState, summarise_chain
from sftknow_core.pipeline.delta import ModelPair, compare_models
from sftknow_core.pipeline.evaluate import (
    UNITS_PER_QUESTION,
    EvaluationPlan,
    evaluate,
)
from sftknow_core.pipeline.mastery import Mastery, score_facts
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.sft import UNITS_PER_EXAMPLE, fine_tune, trained_with
from sftknow_core.pipeline.states import (
    Part,
    StateLoader,
    at_equal_part,
    base_state,
    restored_state,
    tuned_state,
)
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.specs import COMPLETION, FIVE_SHOT, ChainSpec
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.model.train.methods import SftSpec

CHAIN_VERSION = 2


@dataclass(frozen=True)
class ChainPlan:
    """What a chain will do, known before anything is computed for it."""

    run_spec: RunSpec
    """Its identity: the run with this id holds the result."""
    train_set: TrainSet | None
    """None where the tuned model is given."""
    questions: tuple[Fact, ...]


@dataclass(frozen=True)
class ChainResult:
    """A finished chain: its run, and the numbers people ask for first."""

    run: RunFolder
    summary: Mapping[str, Any]
    """See chain_summary.py; the same as in the run's manifest."""


def run_chain(
    ws: Workspace,
    base: ModelHandle,
    facts: FactSet,
    topics: dict[str, Topic],
    spec: ChainSpec,
    sft: SftSpec | None = None,
    *,
    tuned: ModelHandle | None = None,
    mastery: Mastery | None = None,
    exam: EvaluationPlan | None = None,
) -> ChainResult:
    """Do the chain, or take from the cache what is there; with `tuned` nothing is trained.

    mastery: None computes it for all facts of the splits that are needed. exam: of an earlier chain with the same base,
    facts and questions; what it holds of the base is not computed again. Raises SpecError for impossible wishes
    before anything is computed where that is possible, Stopped when asked to stop.
    """
    mastery = mastery or score_facts(ws, base, facts.facts, topics)
    plan = plan_chain(base, facts, mastery, spec, sft, tuned=tuned)
    with ws.open_run(plan.run_spec, _about(base, tuned, spec, facts)) as run:
        if not run.done:
            outer, ws.parent = ws.parent, run
            try:
                exam = exam or EvaluationPlan(ws, base, facts, topics, mastery, plan.questions, spec.evaluate)
                assert (exam.questions, exam.spec) == (plan.questions, spec.evaluate)
                _do(ws, run, base, facts, spec, sft, tuned, exam, plan)
            finally:
                ws.parent = outer
        return ChainResult(run, run.summary)


def plan_chain(
    base: ModelHandle,
    facts: FactSet,
    mastery: Mastery,
    spec: ChainSpec,
    sft: SftSpec | None = None,
    *,
    tuned: ModelHandle | None = None,
    questions: tuple[Fact, ...] | None = None,
) -> ChainPlan:
    """Draw the train set and name the run that `run_chain` would make, without making it.

    questions: what `choose_questions` gave for this spec, where it was called already. Raises SpecError for a train
    set or questions that these facts cannot give.
    """
    train_set = (
        draw_train_set(facts.facts, mastery.levels, spec.level, spec.n, spec.seed) if tuned is None else None
    )
    if questions is None:
        questions = choose_questions(facts.facts, mastery.levels, spec.questions)
    _check_questions(questions)
    run_spec = _run_spec(base, tuned, facts, mastery, train_set, questions, spec, sft)
    return ChainPlan(run_spec, train_set, questions)


def _do(
    ws: Workspace,
    run: Run,
    base: ModelHandle,
    facts: FactSet,
    spec: ChainSpec,
    sft: SftSpec | None,
    tuned: ModelHandle | None,
    exam: EvaluationPlan,
    plan: ChainPlan,
) -> None:
    given = tuned.model_id if tuned is not None else None
    specs, train_set, questions = spec.restore_specs(given), plan.train_set, plan.questions
    on_test = tuple(fact for fact in questions if fact.split == "test")
    stages: dict[str, Any] = {"mastery": exam.mastery.run.run_id, "evaluate": {}, "evaluate_train": {}}
    n_states = len(specs) + 2
    learnt = _train_questions(train_set, spec)
    n_asked = n_states * (len(questions) + len(learnt))
    sentences = to_complete(ws, exam, on_test) if spec.completions else None
    few = after_exemplars(ws, exam, on_test) if spec.five_shot else None
    n_asked += (spec.n_controls + (bool(sentences) + bool(few)) * n_states) * len(on_test)
    ws.reporter.expect(n_asked * UNITS_PER_QUESTION)
    if train_set is not None:
        assert sft is not None
        ws.reporter.expect(train_set.n * sft.epochs * UNITS_PER_EXAMPLE)
        tuned, sft_run = fine_tune(ws, base, train_set, sft, spec.evaluate.train_prompt)
        stages["sft"] = sft_run.run_id
    assert tuned is not None
    pair = ModelPair(base, tuned)
    stages["delta"] = compare_models(ws, pair).run_id
    masks = spec.mask_seeds(given)
    beside, along = (
        at_equal_part(ws.cache, stages["delta"], specs, strategies, part, masks)
        for part, strategies in ((Part.ENERGY, spec.equal_energy), (Part.PROJECTION, spec.equal_projection))
    )
    controls = tuple(dict.fromkeys((*spec.control_specs(given), *beside, *along)))
    ws.reporter.advance((spec.n_controls - len(controls)) * len(on_test) * UNITS_PER_QUESTION)
    loader = StateLoader(ws, base, pair, (*specs, *controls))
    only_answers = spec.evaluate.but(first_tokens=False)
    train_exam = exam.anew(questions=learnt, spec=only_answers)
    stages |= ({"completion": {}} if sentences else {}) | ({"five_shot_states": {}} if few else {})
    states = [base_state(base), tuned_state(base, tuned), *(restored_state(base, tuned, s) for s in specs)]
    for number, state in enumerate(states):
        ws.reporter.stage(f"asking {len(questions) + len(learnt):,} questions: {state.label}")
        run.progress(number, len(states), state.label)
        stages["evaluate"][state.state_id] = evaluate(exam, state, loader).run_id
        if learnt:
            stages["evaluate_train"][state.state_id] = evaluate(train_exam, state, loader).run_id
        if sentences:
            stages["completion"][state.state_id] = evaluate(sentences, state, loader).run_id
        if few and not (spec.baselines and state.kind == "base"):
            stages["five_shot_states"][state.state_id] = evaluate(few, state, loader).run_id
    compared = [restored_state(base, tuned, one) for one in controls]
    if compared:
        compare = exam.anew(questions=on_test, spec=only_answers)
        ws.reporter.stage(f"asking {len(on_test):,} questions: {len(compared)} controls")
        stages["controls"] = {s.state_id: evaluate(compare, s, loader).run_id for s in compared}
    if spec.baselines:
        stages["five_shot"] = ask_after_exemplars(ws, exam, loader)
        if few:  # the base answered the test questions there, after the same exemplars
            stages["five_shot_states"][base.model_id] = stages["five_shot"]
    of = EvaluatedState(states, compared, beside, along, stages, spec.evaluate.matcher, questions)
    ws.finish(run, summarise_chain(ws.cache, base, tuned, of, train_set, facts))


def ask_after_exemplars(ws: Workspace, exam: EvaluationPlan, loader: StateLoader) -> str | None:
    """The run of the base after five exemplars; None where a topic has too few train facts to show."""
    if (few := after_exemplars(ws, exam, exam.questions)) is None:
        return None
    ws.reporter.stage("asking the base model after five exemplars")
    ws.reporter.expect(len(exam.questions) * UNITS_PER_QUESTION)
    return evaluate(few, base_state(exam.base), loader).run_id


def after_exemplars(
    ws: Workspace, exam: EvaluationPlan, questions: tuple[Fact, ...]
) -> EvaluationPlan | None:
    """Questions after five exemplars, which depend on the facts alone and are the same for every state.

    None where a topic has too few train facts to show.
    """
    from sftknow_core.errors import DataError

    few = exam.anew(questions=questions, spec=exam.spec.but(prompt=FIVE_SHOT, first_tokens=False))
    try:
        few.check()
    except DataError as error:
        ws.reporter.say(f"no five-shot prompts: {error}")
        return None
    return few


def to_complete(ws: Workspace, exam: EvaluationPlan, questions: tuple[Fact, ...]) -> EvaluationPlan | None:
    """Questions as beginnings of sentences; None where some fact cannot be asked so."""
    from sftknow_core.errors import DataError

    sentences = exam.anew(questions=questions, spec=exam.spec.but(prompt=COMPLETION))
    try:
        sentences.check()
    except DataError as error:
        ws.reporter.say(f"no completion prompts: {error}")
        return None
    return sentences


def _train_questions(train_set: TrainSet | None, spec: ChainSpec) -> tuple[Fact, ...]:
    if train_set is None:
        return ()
    return train_set.head(spec.train_questions)


def _check_questions(questions: Sequence[Fact]) -> None:
    for split, use in (("dev", "k is chosen on it"), ("test", "results are reported on it")):
        if not any(fact.split == split and fact.domain == "in" for fact in questions):
            raise SpecError(f"the facts have no in-domain {split} question with a mastery level; {use}")


def _run_spec(
    base: ModelHandle,
    tuned: ModelHandle | None,
    facts: FactSet,
    mastery: Mastery,
    train_set: TrainSet | None,
    questions: Sequence[Fact],
    spec: ChainSpec,
    sft: SftSpec | None,
) -> RunSpec:
    inputs = {
        "base": base.model_id,
        "mastery": mastery.run.run_id,
        "facts": facts.data_id,
        "questions": FactSet(tuple(questions), source="").data_id,
    }
    if tuned is not None:
        inputs["tuned"] = tuned.model_id
    params: dict[str, Any] = {
        "restore": [s.to_json() for s in spec.restore_specs(inputs.get("tuned"))],
        "evaluate": spec.evaluate.model_dump(),
        "train_questions": spec.train_questions,
        "baselines": spec.baselines,
    }
    if controls := spec.control_specs(inputs.get("tuned")):
        params["controls"] = [one.to_json() for one in controls]
    for name in ("equal_energy", "equal_projection"):
        if strategies := getattr(spec, name):
            params[name] = list(strategies)
    if spec.draws_masks:
        params["random_masks"] = list(spec.mask_seeds(inputs.get("tuned")))
    if spec.completions:
        params["completions"] = True
    if spec.five_shot:
        params["five_shot"] = True
    params |= trained_with(
        spec.evaluate.train_prompt
    )  # a prompt file is known by what it holds, not by its path
    if train_set is not None:
        params |= {
            "level": spec.level,
            "n": train_set.n,
            "seed": spec.seed,
            "sft": asdict(sft) if sft else None,
        }
        params["train_set"] = [fact.fact_id for fact in train_set.facts]
    return RunSpec("chain", inputs, params, {"chain": CHAIN_VERSION})


def _about(base: ModelHandle, tuned: ModelHandle | None, spec: ChainSpec, facts: FactSet) -> dict[str, Any]:
    # how to read the same facts and choose the same questions again: for what is measured later
    again = {"facts": facts.ref, "questions": spec.questions.model_dump()}
    if tuned is not None:
        title = f"{base.name} against {tuned.name}"
        return {"base": base.name, "tuned": tuned.name, "title": title, **again}
    size = "all" if spec.n is None else f"{spec.n:,}"
    title = f"{base.name}, level {spec.level}, N = {size}, seed {spec.seed}"
    about = {"base": base.name, "level": spec.level, "n": spec.n, "seed": spec.seed, "title": title}
    return about | again
