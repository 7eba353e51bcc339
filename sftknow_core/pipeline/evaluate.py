"""Stage 3: a state + questions -> answers, closed-book accuracy and token shift, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.matcher import MATCHER_VERSION, RULES, RULES_ID, STORED_RULES
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.prompts import PROMPT_VERSION, load_prompt
from sftknow_core.facts.synonyms import load_synonyms, synonyms_id
from sftknow_core.facts.topics import Topic, topics_id
from sftknow_core.measure.asking import PROBES, Probes, choose_templates
from sftknow_core.pipeline.mastery import Mastery
from sftknow_core.pipeline.states import State, StateLoader, restoration_row, state_row
from sftknow_core.pipeline.workspace import ModelHandle, Workspace
from sftknow_core.specs import EvaluateSpec
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.measure.reference import BaseReference

CHUNK_QUESTIONS = 256
UNITS_PER_QUESTION = 0.0035


@dataclass
class EvaluationPlan:
    """A base model's questions: asked of it and of every state derived from it.

    What the token shift needs of the base alone is computed once and shared by all states.
    """

    ws: Workspace
    base: ModelHandle
    facts: FactSet
    """All facts there are: exemplars and template choice come from them."""
    topics: Mapping[str, Topic]
    mastery: Mastery
    questions: tuple[Fact, ...]
    spec: EvaluateSpec = field(default_factory=EvaluateSpec)

    def anew(self, **changes: Any) -> EvaluationPlan:
        """The same with other questions or another way of asking; templates and prompts are not worked out again."""
        other = replace(self, **changes)
        other.__dict__ |= {"templates": self.templates, "probes": self.probes, "names": self.names}
        return other

    @cached_property
    def questions_id(self) -> str:
        """Identity of the questions with their answers."""
        return FactSet(self.questions, source="").data_id

    @cached_property
    def templates(self) -> Mapping[str, Any]:
        """Topic -> its completion template, frozen for the base model; whatever is asked, every topic has one."""
        topics = sorted({fact.topic for fact in self.facts.facts})
        return choose_templates(topics, self.facts.facts, self.mastery.levels, self.mastery.templates)

    @cached_property
    def reference(self) -> BaseReference:
        """The base model's side of the token shift."""
        from sftknow_core.measure.reference import BaseReference

        return BaseReference(
            self.ws.load(self.base),
            self.questions,
            self.mastery.levels,
            self.templates,
            self.probes,
            load_synonyms(),
            names=self.names,
            prompt=load_prompt(self.spec.prompt),
        )

    @cached_property
    def probes(self) -> Probes:
        """What asks for a fact by completion: the prompts that gave the facts their mastery."""
        return Probes(self.topics, self.facts.facts, int(self.mastery.run.spec.params["seed"]))

    @cached_property
    def names(self) -> KnownNames:
        """All objects of the facts: a longer one in an answer is another object."""
        return KnownNames.of(self.facts.facts, load_synonyms())

    def check(self) -> None:
        """Raise DataError for a question that cannot be asked by the probe, where one is the way."""
        if self.spec.prompt in PROBES:
            for fact in self.questions:
                self._ask.check(fact)

    @cached_property
    def _ask(self) -> Any:
        if self.spec.prompt in PROBES:
            return PROBES.get(self.spec.prompt).made_by.of(self)
        return load_prompt(self.spec.prompt)

    def run_spec(self, state: State) -> RunSpec:
        """The identity of asking one state."""
        from sftknow_core.measure.shift import SHIFT_VERSION

        named = self.spec.prompt in PROBES
        prompt = self.spec.prompt if named else self._ask.prompt_id
        inputs = {
            "state": state.state_id,
            "base": self.base.model_id,
            "questions": self.questions_id,
            "mastery": self.mastery.run.run_id,
            "topics": topics_id(self.topics),
            "synonyms": synonyms_id(load_synonyms()),
            "names": self.facts.data_id,
            RULES: RULES_ID,
        }
        if named:
            inputs["exemplars"] = self.facts.data_id
        params = {
            "prompt": prompt,
            "matcher": self.spec.matcher,
            "max_new_tokens": self.spec.max_new_tokens,
            "first_tokens": self.spec.shifts,
        }
        versions = {"matcher": MATCHER_VERSION, "prompt": PROMPT_VERSION, "shift": SHIFT_VERSION}
        return RunSpec("evaluate", inputs, params, versions | self.base.stop_versions)


def evaluate(exam: EvaluationPlan, state: State, loader: StateLoader) -> RunFolder:
    """The run that holds answers, first_token, accuracies and shifts of one state.

    From the cache where it is there. Raises Stopped when asked to stop; goes on at the first missing chunk.
    """
    ws = exam.ws
    about = {"state": state.label, "base": exam.base.name, "tuned": state.tuned.name if state.tuned else None}
    units = len(exam.questions) * UNITS_PER_QUESTION
    with ws.open_run(exam.run_spec(state), about) as run:
        if run.done:
            ws.reporter.advance(units)
        else:
            _ask_all(exam, run, state, loader, units)
            _finish(exam, run, state, loader)
        return run


def _ask_all(exam: EvaluationPlan, run: Run, state: State, loader: StateLoader, units: float) -> None:
    from sftknow_core.measure.accuracy import answer_and_keep, answer_questions
    from sftknow_core.measure.shift import first_token_rows

    tables = ("answers", "first_token") if exam.spec.shifts else ("answers",)
    n = len(exam.questions)
    missing = [i for i in range(-(-n // CHUNK_QUESTIONS)) if not run.has_chunk(i, tables)]
    reference = exam.reference if exam.spec.shifts and missing else None
    lm = loader.load(state) if missing else None
    done = n - sum(len(_chunk(exam, i)) for i in missing)
    exam.ws.reporter.advance(units * done / max(n, 1))
    for index in missing:
        assert lm is not None
        facts = _chunk(exam, index)
        how: dict[str, Any] = {
            "names": exam.names,
            "ask": exam._ask,
            "matcher": exam.spec.matcher,
            "max_new_tokens": exam.spec.max_new_tokens,
            "first_row": index * CHUNK_QUESTIONS,
            "progress": _teller(exam, run, done, n, units),
        }
        if reference is None:
            answers = answer_questions(lm, facts, exam.mastery.levels, load_synonyms(), **how)
        else:
            answers, logits = answer_and_keep(lm, facts, exam.mastery.levels, load_synonyms(), **how)
        rows = {"answers": [row | {"state_id": state.state_id} for row in answers]}
        if reference is not None:
            found = first_token_rows(lm, reference, facts, after_question=logits)
            rows["first_token"] = [row | {"state_id": state.state_id} for row in found]
        run.write_chunk(index, rows)
        done += len(facts)
        run.progress(done, n, "questions")
        run.check_stop()


def _teller(exam: EvaluationPlan, run: Run, done: int, n: int, units: float) -> Callable[[int, int], None]:
    """Tells after every batch of a chunk how many questions are answered, and stops there when asked to."""
    told = 0

    def tell(answered: int, _: int) -> None:
        nonlocal told
        run.progress(done + answered, n, "questions")
        exam.ws.reporter.advance(units * (answered - told) / n)
        told = answered
        run.check_stop()

    return tell


def _chunk(exam: EvaluationPlan, index: int) -> Sequence[Fact]:
    return exam.questions[index * CHUNK_QUESTIONS : (index + 1) * CHUNK_QUESTIONS]


def _finish(exam: EvaluationPlan, run: Run, state: State, loader: StateLoader) -> None:
    from sftknow_core.measure.accuracy import summarise_accuracy
    from sftknow_core.measure.shift_summary import summarise_shift

    answers = run.read("answers").to_pylist()
    accuracies = [
        row | {"state_id": state.state_id}
        for matcher in dict.fromkeys((*STORED_RULES, exam.spec.matcher))
        for row in summarise_accuracy(answers, matcher, exam.spec.prompt)
    ]
    tables: dict[str, Any] = {"accuracies": accuracies, "states": [state_row(state)]}
    if exam.spec.shifts:
        place = {row["fact_id"]: (row["split"], row["domain"]) for row in answers}
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in run.read("first_token").to_pylist():
            groups.setdefault(place[row["fact_id"]], []).append(row)
        tables["shifts"] = [
            row | {"state_id": state.state_id, "split": split, "domain": domain}
            for (split, domain), group in sorted(groups.items())
            for row in summarise_shift(group)
        ]
    if (report := loader.report(state)) is not None:
        tables["restorations"] = [restoration_row(state, report)]
    run.write_chunk(0, tables)
    exam.ws.finish(run, {"state_id": state.state_id, "kind": state.kind, "n_questions": len(exam.questions)})
