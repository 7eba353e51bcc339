"""What is said to the engine and by it: JSON lines, checked on both sides.

To the engine, one object a line; `id` is the client's, and every answer carries it:

    {"id", "do": "evaluate", "request": EvaluateRequest}    {"id", "do": "ask", "request": AskRequest}
    {"id", "do": "recipe", "request": RecipeRequest}        {"id", "do": "sample", "request": SampleRequest}
    {"id", "do": "unload"}    {"id", "do": "ping"}    {"id", "do": "status"}    {"id", "do": "cancel", "which": id}

From the engine: {"id", "event": "started"}, {"id", "event": "progress", "text", "share"}, and at last one of
{"id", "event": "done", "result"}, {"id", "event": "failed", "kind", "message"}, {"id", "event": "cancelled"}.
Ping, status and cancel are answered at once; the others stand in one queue.

A request names its models, its state and its questions itself, so the engine has no "current" anything that
two clients could change under each other's hands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, PlainSerializer, PlainValidator, model_validator

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.specs import (
    EvaluateSpec,
    Facts,
    Listed,
    QuestionSpec,
    Restoration,
    Spec,
    between,
    one_of,
    restoration,
    wrong,
)
from sftknow_core.update.spec import RestoreSpec

StateRef = Literal["base", "tuned"] | RestoreSpec
"""Which weights are asked: those of a whole model, or a restoration of the pair."""

GROUPS = {"dev_in": ("dev", "in"), "test_in": ("test", "in"), "test_out": ("test", "out")}
"""Name of a group of questions -> (split, domain)."""
PROMPT_KINDS = ("paper", "completion")
MAX_ASKED, MAX_NEW_TOKENS, MAX_SAMPLES = 64, 256, 100


def _state(given: Any) -> StateRef:
    if isinstance(given, Mapping | RestoreSpec):
        return restoration(given)
    if given not in ("base", "tuned"):
        raise wrong("base, tuned, or a restore spec as an object")
    return "base" if given == "base" else "tuned"


def _texts(given: tuple[str, ...]) -> tuple[str, ...]:
    """As many as fit, none of them empty."""
    if not 1 <= len(given) <= MAX_ASKED or not all(text.strip() for text in given):
        raise SpecError(f"texts: got {len(given)}; allowed: 1 to {MAX_ASKED}, none of them empty")
    return given


def _plain_state(state: StateRef) -> Any:
    return state if isinstance(state, str) else state.to_json()


State = Annotated[StateRef, PlainValidator(_state), PlainSerializer(_plain_state)]
Texts = Annotated[Listed[str], AfterValidator(_texts)]
NewTokens = Annotated[int, between(1, MAX_NEW_TOKENS)]


class Models(Spec):
    """The pair a request is about; each as a user names it (a folder, a hub id, the start of a model_id)."""

    what = "models: "
    base: str = "demo"
    tuned: str | None = None
    """None: only the base can be asked."""
    base_id: str | None = None
    """The model_id that must lie there; None: whatever lies there now."""
    tuned_id: str | None = None

    def check(self, state: StateRef) -> None:
        """Raise SpecError for a state that these models do not have."""
        if state != "base" and self.tuned is None:
            raise SpecError("models: only a base is given; a tuned or restored state needs a tuned model too")


class EvaluateRequest(EvaluateSpec):
    """Ask one state a stratified set of questions; the result is a run of the cache, the same as a chain's."""

    what = "evaluate: "
    models: Models
    state: State
    questions: QuestionSpec = QuestionSpec()
    groups: Listed[str] = tuple(GROUPS)
    """Which of GROUPS are asked."""
    facts: Facts = FactsRef()
    mastery: str | None = None
    """Run id of the mastery scores that give the levels; None: those of the standard sampling."""
    max_new_tokens: NewTokens = 16
    only_prepare: bool = False
    """Only get ready what asking needs and every state shares (the base's side of the token shift); no result."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.models.check(self.state)
        if not self.groups or not set(self.groups) <= set(GROUPS):
            raise SpecError(f"groups: got {list(self.groups)}; allowed: some of {', '.join(GROUPS)}")
        return self

    @property
    def evaluate(self) -> EvaluateSpec:
        """How the questions are asked and judged."""
        return EvaluateSpec(**{name: getattr(self, name) for name in EvaluateSpec.model_fields})


class AskRequest(Spec):
    """Put free texts to one or more states of a pair: greedy answers, and what each expects first."""

    what = "ask: "
    models: Models
    texts: Texts
    states: Listed[State] = ("base", "tuned")
    prompt: Annotated[str, one_of(*PROMPT_KINDS)] = "paper"
    """paper: each text is a question in the paper's prompt; completion: each text is read as it stands."""
    max_new_tokens: NewTokens = 16

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.states:
            raise SpecError("states: got none; give base, tuned or a restoration")
        for state in self.states:
            self.models.check(state)
        return self


class RecipeRequest(Spec):
    """The recipe of a restored model (update/recipe.py): result {"recipe": text, "model_id", "n_restored"}."""

    what = "recipe: "
    models: Models
    spec: Restoration

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.models.check(self.spec)
        return self


class SampleRequest(Spec):
    """One fact's mastery samples, drawn once more: result {"completions": one list a text}."""

    what = "sample: "
    models: Models
    fact_id: str
    texts: Texts
    """The prompts the fact was asked with, in order."""
    n_samples: Annotated[int, between(1, MAX_SAMPLES)] = 10
    temperature: float = 0.7
    max_new_tokens: NewTokens = 32
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.temperature > 0:
            raise SpecError(f"temperature: got {self.temperature!r}; allowed: above 0")
        return self


Request = EvaluateRequest | AskRequest | RecipeRequest | SampleRequest
_KINDS: dict[str, type[Request]] = {
    "evaluate": EvaluateRequest,
    "ask": AskRequest,
    "recipe": RecipeRequest,
    "sample": SampleRequest,
}
WORK = tuple(_KINDS)
"""What is done with a model, one after the other."""


def to_json(request: Request) -> dict[str, Any]:
    """The plain form of a request."""
    name = next(name for name, kind in _KINDS.items() if isinstance(request, kind))
    return {"do": name, "request": request.model_dump(mode="json")}


def from_json(message: Mapping[str, Any]) -> Request:
    """The inverse of `to_json`. Raises SpecError for anything that is no request."""
    plain, name = message.get("request"), str(message.get("do"))
    if name not in _KINDS:
        raise SpecError(f"do: got {name!r}; allowed: {', '.join(_KINDS)}")
    if not isinstance(plain, Mapping):
        raise SpecError(f"request: got {plain!r}; allowed: an object")
    return _KINDS[name].model_validate(dict(plain))
