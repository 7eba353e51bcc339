"""What the engine does for its clients: evaluate a state on a question set, put free texts to some states.

An evaluation goes through `runs.evaluate` and leaves the same run in the cache that a chain leaves, so each of
the two finds what the other has computed. Free texts leave nothing.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.prompts import PROMPTS, load_prompt
from sftknow_core.facts.topics import Topic
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.evaluate import (
    FIVE_SHOT,
    UNITS_PER_QUESTION,
    EvaluateSpec,
    EvaluationPlan,
    evaluate,
)
from sftknow_core.pipeline.mastery import Mastery, score_facts
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.states import State, base_state, restored_state, tuned_state
from sftknow_core.pipeline.workspace import ModelHandle
from sftknow_core.serve.engine.model import EngineWorkspace, OpenPair
from sftknow_core.serve.engine.protocol import (
    GROUPS,
    AskRequest,
    EvaluateRequest,
    Models,
    RecipeRequest,
    SampleRequest,
    StateRef,
)
from sftknow_core.store.open_run import is_hit
from sftknow_core.store.run_folder import RunFolder

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel

# Free texts -> what a model answers, and which tokens it expects first.
#
# Answers are greedy. The first token's probabilities are over the whole vocabulary; the ten most probable tokens
# stand with what lies outside them, and all of it sums to 1.

Row = dict[str, Any]


def answers(lm: LanguageModel, request: AskRequest) -> list[Row]:
    """One row a text: text, answer, stopped, n_tokens, top_ids, top_tokens, p, mass_outside.

    stopped: whether the model ended its answer itself. Raises SpecError for a text the model cannot read whole.
    """
    import torch

    from sftknow_core.model.generate.decode import generate
    from sftknow_core.model.generate.logits import next_token_logits

    prompts = _encoded(lm, request)
    written = generate(lm, prompts, max_new_tokens=request.max_new_tokens)
    logits = torch.cat([part.cpu() for _, part in next_token_logits(lm, prompts)])
    return [
        {"text": text, "answer": c.text.strip(), "stopped": c.stopped, "n_tokens": len(c.ids), **first}
        for text, c, first in zip(request.texts, written, _first_tokens(lm, logits), strict=True)
    ]


def _encoded(lm: LanguageModel, request: AskRequest) -> list[list[int]]:
    from sftknow_core.model.generate.encode import encode_prompts, encode_questions

    if request.prompt == "completion":
        prompts = encode_prompts(lm.tokenizer, request.texts)
    else:
        prompts = encode_questions(lm.tokenizer, request.texts, PROMPTS[request.prompt])
    room = getattr(lm.plain.config, "max_position_embeddings", None)
    longest = max(map(len, prompts))
    if room is not None and longest + request.max_new_tokens > room:
        raise SpecError(
            f"texts: the longest has {longest} tokens, and {request.max_new_tokens} new ones are asked for; "
            f"the model reads at most {room}. Shorten it."
        )
    return prompts


def _first_tokens(lm: LanguageModel, logits: Any) -> list[Row]:
    """From a tensor of logits [n, V]: top_ids, top_tokens, p (over the whole vocabulary), mass_outside; highest first.

    The ten p and the mass outside them sum to 1.
    """
    from sftknow_core.measure.kl import NextTokens

    after = NextTokens.of(logits)
    chosen = logits.gather(1, after.top).double()
    p = (chosen - after.log_total[:, None]).exp()
    outside = -(chosen.logsumexp(dim=1) - after.log_total).clamp(max=0).expm1()
    return [
        {"top_ids": ids, "top_tokens": [lm.tokenizer.decode([i]) for i in ids], "p": ps, "mass_outside": rest}
        for ids, ps, rest in zip(after.top.tolist(), p.tolist(), outside.tolist(), strict=True)
    ]


class TaskRunner:
    """Where requests are worked on; remembers the last pair, facts and question set.

    Of question sets two are kept: the last one asked after five examples (key True), and the last one asked otherwise.
    """

    def __init__(self, ws: EngineWorkspace) -> None:
        self.ws = ws
        self._facts: tuple[Hashable, FactSet, dict[str, Topic]] | None = None
        self._mastery: tuple[Hashable, Mastery] | None = None
        self._exams: dict[bool, tuple[Hashable, EvaluationPlan]] = {}
        self._models: dict[str, ModelHandle] = {}

    @property
    def in_use(self) -> bool:
        """Whether there is anything to let go of."""
        return self.ws.slot.n_bytes > 0 or self.ws.pair is not None or self._facts is not None

    @property
    def device(self) -> str:
        """What "auto" came to be."""
        from sftknow_core.model.io.load import pick_device

        return str(pick_device(self.ws.device))

    def evaluate(self, request: EvaluateRequest) -> Row:
        """The run of a state on a question set: run_id, state_id, cached, n_questions, accuracies, shifts.

        cached: whether it was in the cache before. Raises Stopped when cancelled; the chunks that are done stay.
        """
        base, tuned = self._open(request.models)
        state = _state(request.state, base, tuned)
        exam = self._exam_of(request, base)
        self.ws.n_questions = len(exam.questions)
        if request.only_prepare:
            return self._prepare(exam)
        run = RunFolder(self.ws.cache, exam.run_spec(state).run_id)
        cached = is_hit(run)
        if not cached:
            self.ws.reporter.stage(f"asking {len(exam.questions):,} questions: {state.label}")
            self.ws.reporter.expect(len(exam.questions) * UNITS_PER_QUESTION)
            run = evaluate(exam, state, self.ws.loader(base))
        there = run.contents().tables
        return {
            "run_id": run.run_id,
            "state_id": state.state_id,
            "label": state.label,
            "cached": cached,
            "n_questions": len(exam.questions),
            "accuracies": run.read("accuracies").to_pylist(),
            "shifts": run.read("shifts").to_pylist() if "shifts" in there else [],
            "restorations": run.read("restorations").to_pylist() if "restorations" in there else [],
        }

    def _prepare(self, exam: EvaluationPlan) -> Row:
        if exam.spec.shifts:
            self.ws.reporter.stage(f"getting ready for {len(exam.questions):,} questions")
            _ = exam.reference
        return {}

    def recipe(self, request: RecipeRequest) -> Row:
        """The recipe of a restored model as text, its model_id, and how many weights go back."""
        from sftknow_core.pipeline.export import export_restored

        base, tuned = self._open(request.models)
        assert tuned is not None  # requests are checked
        with TemporaryDirectory(prefix="sftknow-recipe-") as folder:
            path = Path(folder) / "recipe.json"
            made = export_restored(self.ws, base, tuned, request.spec, recipe=path)
            text = path.read_text(encoding="utf-8")
        return {"recipe": text, "model_id": made["model_id"], "n_restored": made["n_restored"]}

    def ask(self, request: AskRequest) -> Row:
        """Greedy answers and first tokens: {"answers": one entry a state, each with one row a text}."""
        base, tuned = self._open(request.models)
        states = [_state(ref, base, tuned) for ref in request.states]
        self.ws.reporter.expect(len(states))
        found: dict[str, Row] = {}
        # what is in memory comes first: every other state costs a pass over the weights
        for state in sorted(states, key=lambda state: state.state_id != self.ws.slot.holds):
            if state.state_id not in found:
                lm = self.ws.slot.bring(state, self.ws.pair)
                self.ws.reporter.stage(f"asking {state.label}")
                found[state.state_id] = {
                    "state_id": state.state_id,
                    "label": state.label,
                    "rows": answers(lm, request),
                }
            self.ws.reporter.advance(1)
        return {"answers": [found[state.state_id] for state in states]}

    def sample(self, request: SampleRequest) -> Row:
        """The completions behind one fact's mastery, by prompt."""
        from sftknow_core.measure.mastery import MasterySpec, completions_of

        base, _ = self._open(request.models)
        lm = self.ws.slot.bring(base_state(base), self.ws.pair)
        self.ws.reporter.stage(f"drawing {len(request.texts) * request.n_samples:,} completions again")
        spec = MasterySpec(request.n_samples, request.temperature, request.max_new_tokens, request.seed)
        return {"completions": completions_of(lm, request.fact_id, request.texts, spec)}

    def forget(self) -> None:
        """Let go of models, facts and question sets."""
        self._facts = self._mastery = None
        self._exams.clear()
        self.ws.unload()

    def _open(self, models: Models) -> tuple[ModelHandle, ModelHandle | None]:
        """Both models as they lie on the disk now, and their pair opened where it is not the last one."""
        base = self._named("base", models.base, models.base_id)
        tuned = None if models.tuned is None else self._named("tuned", models.tuned, models.tuned_id)
        last = self.ws.pair
        if last is not None and not last.fits(base, tuned):
            last.close()
            self.ws.pair = last = None
        if last is None and tuned is not None:
            self.ws.pair = OpenPair(ModelPair(base, tuned))
        return base, tuned

    def _named(self, role: str, ref: str, model_id: str | None) -> ModelHandle:
        found = self._found(ref)
        if model_id is not None and found.model_id != model_id:
            raise ModelError(
                f"{role}: {found.path} holds model {found.model_id} now, not {model_id}: its files were changed. "
                "Choose the model again."
            )
        return found

    def _found(self, ref: str) -> ModelHandle:
        """What `ref` names now: its files are looked at anew, but no catalogue or hub is searched for it again."""
        known = self._models.get(ref)
        if known is not None and not Path(ref).expanduser().is_dir():
            with suppress(ModelError):  # moved or removed meanwhile
                again = self.ws.open_model(known.path)
                if again.model_id == known.model_id:
                    return known
        self._models[ref] = self.ws.open_model(ref)
        return self._models[ref]

    def _exam_of(self, request: EvaluateRequest, base: ModelHandle) -> EvaluationPlan:
        """The question set; the last one is kept, with the base's answers to it."""
        facts, topics, facts_key = self._facts_of(request.facts)
        mastery = self._mastery_of(request, base, facts, topics, facts_key)
        prompt = FIVE_SHOT if request.prompt == FIVE_SHOT else load_prompt(request.prompt).prompt_id
        spec = EvaluateSpec(request.prompt, request.matcher, request.max_new_tokens, request.first_tokens)
        key = (base, facts_key, mastery.run.run_id, request.questions, request.groups, prompt, spec)
        of = request.prompt == FIVE_SHOT
        if of not in self._exams or self._exams[of][0] != key:
            wanted = {GROUPS[group] for group in request.groups}
            chosen = choose_questions(facts.facts, mastery.levels, request.questions)
            questions = tuple(fact for fact in chosen if (fact.split, fact.domain) in wanted)
            if not questions:
                raise SpecError(f"there is no question with a mastery level in {', '.join(request.groups)}")
            if not of:  # a base beside the one model serves the token shift
                self.ws.drop_bases()
            self._exams[of] = (key, EvaluationPlan(self.ws, base, facts, topics, mastery, questions, spec))
        return self._exams[of][1]

    def _facts_of(self, ref: FactsRef) -> tuple[FactSet, dict[str, Topic], Hashable]:
        """The facts as they lie on the disk now."""
        key = (ref, _file_state(ref.data), _file_state(ref.topics))
        if self._facts is None or self._facts[0] != key:
            self._facts = (key, *ref.load())
        return self._facts[1], self._facts[2], key

    def _mastery_of(
        self,
        request: EvaluateRequest,
        base: ModelHandle,
        facts: FactSet,
        topics: dict[str, Topic],
        facts_key: Hashable,
    ) -> Mastery:
        """The scores that give the questions their levels; the last ones are kept."""
        key = (request.mastery, base.model_id, facts_key)
        if self._mastery is None or self._mastery[0] != key or not is_hit(self._mastery[1].run):
            if request.mastery is None:
                found = score_facts(self.ws, base, facts.facts, topics)
            else:
                found = self._named_mastery(request.mastery, base)
            self._mastery = (key, found)
        return self._mastery[1]

    def _named_mastery(self, run_id: str, base: ModelHandle) -> Mastery:
        run = RunFolder(self.ws.cache, run_id)
        if not is_hit(run) or run.spec.kind != "mastery" or run.spec.inputs.get("model") != base.model_id:
            raise SpecError(
                f"mastery: run {run_id!r} holds no finished mastery scores of {base.name}; "
                "`sftknow runs --kind mastery` lists those there are"
            )
        return Mastery(run)


def _state(ref: StateRef, base: ModelHandle, tuned: ModelHandle | None) -> State:
    if ref == "base":
        return base_state(base)
    assert tuned is not None  # requests are checked
    if ref == "tuned" or ref.is_tuned:
        return tuned_state(base, tuned)
    return restored_state(base, tuned, ref)


def _file_state(named: str | None) -> Hashable:
    """Changes when a file, or one in a folder, does; None for what is no path."""
    if named is None or not (path := Path(named).expanduser()).exists():
        return None
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = ((file, file.stat()) for file in files)
    return tuple((str(file), state.st_ino, state.st_size, state.st_mtime_ns) for file, state in states)
