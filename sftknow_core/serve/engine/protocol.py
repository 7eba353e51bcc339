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
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.matcher import matcher_named
from sftknow_core.pipeline.questions import QuestionSpec
from sftknow_core.update.spec import RestoreSpec

StateRef = Literal["base", "tuned"] | RestoreSpec
"""Which weights are asked: those of a whole model, or a restoration of the pair."""

GROUPS = {"dev_in": ("dev", "in"), "test_in": ("test", "in"), "test_out": ("test", "out")}
"""Name of a group of questions -> (split, domain)."""
PROMPT_KINDS = ("paper", "completion")
MAX_ASKED, MAX_NEW_TOKENS, MAX_SAMPLES = 64, 256, 100
T = TypeVar("T")


@dataclass(frozen=True)
class Models:
    """The pair a request is about; each as a user names it (a folder, a hub id, the start of a model_id)."""

    base: str = "demo"
    tuned: str | None = None
    """None: only the base can be asked."""
    base_id: str | None = None
    """The model_id that must lie there; None: whatever lies there now."""
    tuned_id: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, str) and (value is not None or one.name == "base"):
                raise SpecError(f"models: {one.name}: got {value!r}; allowed: text")


@dataclass(frozen=True)
class EvaluateRequest:
    """Ask one state a stratified set of questions; the result is a run of the cache, the same as a chain's."""

    models: Models
    state: StateRef
    questions: QuestionSpec = field(default_factory=QuestionSpec)
    groups: tuple[str, ...] = tuple(GROUPS)
    """Which of GROUPS are asked."""
    facts: FactsRef = field(default_factory=FactsRef)
    mastery: str | None = None
    """Run id of the mastery scores that give the levels; None: those of the standard sampling."""
    prompt: str = "paper"
    """paper, chat, five-shot, or a file that holds {question}."""
    matcher: str = "words"
    max_new_tokens: int = 16
    first_tokens: bool = True
    """Whether the token shift is measured too, as chains do."""
    only_prepare: bool = False
    """Only get ready what asking needs and every state shares (the base's side of the token shift); no result."""

    def __post_init__(self) -> None:
        _check_state(self.models, self.state)
        unknown = [group for group in self.groups if group not in GROUPS]
        if unknown or not self.groups:
            raise SpecError(f"groups: got {list(self.groups)}; allowed: some of {', '.join(GROUPS)}")
        matcher_named(self.matcher)
        _check_range("max_new_tokens", self.max_new_tokens, MAX_NEW_TOKENS)


@dataclass(frozen=True)
class AskRequest:
    """Put free texts to one or more states of a pair: greedy answers, and what each expects first."""

    models: Models
    texts: tuple[str, ...]
    states: tuple[StateRef, ...] = ("base", "tuned")
    prompt: str = "paper"
    """paper: each text is a question in the paper's prompt; completion: each text is read as it stands."""
    max_new_tokens: int = 16

    def __post_init__(self) -> None:
        if not self.states:
            raise SpecError("states: got none; give base, tuned or a restoration")
        for state in self.states:
            _check_state(self.models, state)
        if not 1 <= len(self.texts) <= MAX_ASKED or not all(text.strip() for text in self.texts):
            raise SpecError(f"texts: got {len(self.texts)}; allowed: 1 to {MAX_ASKED}, none of them empty")
        if self.prompt not in PROMPT_KINDS:
            raise SpecError(f"prompt: got {self.prompt!r}; allowed: {', '.join(PROMPT_KINDS)}")
        _check_range("max_new_tokens", self.max_new_tokens, MAX_NEW_TOKENS)


@dataclass(frozen=True)
class RecipeRequest:
    """The recipe of a restored model (update/recipe.py): result {"recipe": text, "model_id", "n_restored"}."""

    models: Models
    spec: RestoreSpec

    def __post_init__(self) -> None:
        _check_state(self.models, self.spec)


@dataclass(frozen=True)
class SampleRequest:
    """One fact's mastery samples, drawn once more: result {"completions": one list a text}."""

    models: Models
    fact_id: str
    texts: tuple[str, ...]
    """The prompts the fact was asked with, in order."""
    n_samples: int = 10
    temperature: float = 0.7
    max_new_tokens: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.texts) <= MAX_ASKED or not all(text.strip() for text in self.texts):
            raise SpecError(f"texts: got {len(self.texts)}; allowed: 1 to {MAX_ASKED}, none of them empty")
        if not self.temperature > 0:
            raise SpecError(f"temperature: got {self.temperature!r}; allowed: above 0")
        _check_range("n_samples", self.n_samples, MAX_SAMPLES)
        _check_range("max_new_tokens", self.max_new_tokens, MAX_NEW_TOKENS)


Request = EvaluateRequest | AskRequest | RecipeRequest | SampleRequest
_NAMES: dict[str, type[Any]] = {
    "evaluate": EvaluateRequest,
    "ask": AskRequest,
    "recipe": RecipeRequest,
    "sample": SampleRequest,
}
WORK = tuple(_NAMES)
"""What is done with a model, one after the other."""


def to_json(request: Request) -> dict[str, Any]:
    """The plain form of a request."""
    plain = {one.name: _plain(getattr(request, one.name)) for one in fields(request)}
    name = next(name for name, kind in _NAMES.items() if isinstance(request, kind))
    return {"do": name, "request": plain}


def from_json(message: Mapping[str, Any]) -> Request:
    """The inverse of `to_json`. Raises SpecError for anything that is no request."""
    plain = message.get("request")
    if not isinstance(plain, Mapping):
        raise SpecError(f"request: got {plain!r}; allowed: an object")
    values: dict[str, Any] = dict(plain)
    for name, parse in _PARSERS.items():
        if name in values:
            values[name] = parse(values[name])
    name = str(message.get("do"))
    if name not in _NAMES:
        raise SpecError(f"do: got {name!r}; allowed: {', '.join(_NAMES)}")
    made: Request = _made(_NAMES[name], values, name)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, RestoreSpec):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Models | FactsRef | QuestionSpec):
        return asdict(value)
    return value


def _state(value: Any) -> StateRef:
    if value in ("base", "tuned"):
        return "base" if value == "base" else "tuned"
    if isinstance(value, Mapping):
        return _restore_spec(value)
    raise SpecError(f"state: got {value!r}; allowed: base, tuned, or a restore spec as an object")


def _restore_spec(value: Mapping[str, Any]) -> RestoreSpec:
    try:
        return RestoreSpec.from_json(value)
    except TypeError as error:  # a value of a wrong type, such as a list where text belongs
        raise SpecError(f"restore spec: got {dict(value)!r} ({error})") from error


def _list(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SpecError(f"got {value!r}; allowed: a list")
    return tuple(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not all(isinstance(text, str) for text in _list(value)):
        raise SpecError(f"got {value!r}; allowed: a list of texts")
    return tuple(value)


_PARSERS = {
    "models": lambda value: _made(Models, value, "models"),
    "facts": lambda value: _made(FactsRef, value, "facts"),
    "questions": lambda value: _made(QuestionSpec, value, "questions"),
    "state": _state,
    "spec": lambda value: _restore_spec(value if isinstance(value, Mapping) else {"strategy": value}),
    "states": lambda value: tuple(_state(item) for item in _list(value)),
    "groups": _texts,
    "texts": _texts,
}


def _made(kind: type[T], values: Any, what: str) -> T:
    """A dataclass from an object; SpecError names what does not fit."""
    if not isinstance(values, Mapping):
        raise SpecError(f"{what}: got {values!r}; allowed: an object")
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]  # only dataclasses come here
    if unknown := sorted(set(values) - known):
        raise SpecError(f"{what}: unknown field {unknown[0]!r}; allowed: {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:  # a field is missing, or a value cannot be compared with its bounds
        raise SpecError(f"{what}: {error}") from error


def _check_state(models: Models, state: StateRef) -> None:
    if state != "base" and models.tuned is None:
        raise SpecError("models: only a base is given; a tuned or restored state needs a tuned model too")


def _check_range(name: str, value: int, most: int) -> None:
    if not isinstance(value, int) or not 1 <= value <= most:
        raise SpecError(f"{name}: got {value!r}; allowed: 1 to {most}")
