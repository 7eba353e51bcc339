"""The options that several commands share, and how their text becomes values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import PydanticCustomError

from sftknow_core.errors import SpecError
from sftknow_core.facts.matcher import MATCHERS
from sftknow_core.facts.prompts import PROMPTS
from sftknow_core.measure.asking import PROBES
from sftknow_core.model.train.methods import METHODS
from sftknow_core.pipeline.study.pool import EXECUTORS
from sftknow_core.registry import Entry
from sftknow_core.specs import ChainSpec, EvaluateSpec, QuestionSpec, Restoring, Spec, whole_or_all
from sftknow_core.update.spec import Percent, percent
from sftknow_core.update.strategies import STRATEGIES

if TYPE_CHECKING:
    from sftknow_core.facts.fact import FactSet
    from sftknow_core.facts.topics import Topic
    from sftknow_core.pipeline.workspace import ModelHandle, Workspace

DEMO = "demo"


def option(kind: type[Spec], field: str, flag: str | None = None) -> Any:
    """The option of a request's field, of the same name unless `flag` is given; its help is the field's docstring."""
    help_ = kind.model_fields[field].description
    return typer.Option(flag or f"--{field.replace('_', '-')}", help=help_)


def default(kind: type[Spec], field: str) -> Any:
    """What the field of a request has where nothing is said, as the text of its option."""
    value = kind.model_fields[field].default
    return ",".join(map(str, value)) if isinstance(value, tuple) else None if value is None else str(value)


CacheOpt = Annotated[
    Path | None,
    typer.Option("--cache", help="Cache folder; else $SFTKNOW_CACHE, else ./cache.", show_default=False),
]
DeviceOpt = Annotated[str, typer.Option("--device", help="auto, cuda, mps or cpu.")]
DtypeOpt = Annotated[
    str,
    typer.Option("--dtype", help="Of loaded weights: auto (the checkpoint's), float32, bfloat16, float16."),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
SeedOpt = Annotated[int, typer.Option("--seed", help="Seed of everything drawn at random.")]
BaseOpt = Annotated[
    str, typer.Option("--base", help="Base model: demo, a folder, a hub id, or the start of a model_id.")
]
TunedOpt = Annotated[
    str, typer.Option("--tuned", help="Fine-tuned model: a folder, a hub id, or the start of a model_id.")
]
RevisionOpt = Annotated[
    str | None, typer.Option("--revision", help="Revision of a hub id.", show_default=False)
]
DataOpt = Annotated[
    str, typer.Option("--data", help="Facts: demo, the EntityQuestions zip or folder, a .csv or .jsonl file.")
]
TopicsOpt = Annotated[
    Path | None, typer.Option("--topics", help="Another topics file (JSON).", show_default=False)
]
FilterOpt = Annotated[
    str, typer.Option("--filter", help="paper: one-answer questions without repeats; all: every question.")
]
LeaksOpt = Annotated[bool, typer.Option("--keep-leaks", help="Keep test questions that also stand in train.")]
SampleOpt = Annotated[
    int | None,
    typer.Option("--sample", help="At most so many facts of each topic and split.", show_default=False),
]
QuestionsOpt = Annotated[str, option(QuestionSpec, "per_level", "--questions")]
LevelOpt = Annotated[str, option(ChainSpec, "level")]
SizeOpt = Annotated[str, option(ChainSpec, "n")]
KsOpt = Annotated[str, option(ChainSpec, "ks", "--k")]
RegionOpt = Annotated[str, option(Restoring, "region")]
LayersOpt = Annotated[str | None, option(Restoring, "layers")]
FiveShotOpt = Annotated[bool, option(ChainSpec, "five_shot", "--five-shot/--no-five-shot")]
LoraOpt = Annotated[bool, typer.Option("--lora", help="The same as --method lora.")]
LrOpt = Annotated[float | None, typer.Option("--lr", help="Peak learning rate.", show_default=False)]
EpochsOpt = Annotated[
    float | None, typer.Option("--epochs", help="Passes over the train set.", show_default=False)
]
BatchOpt = Annotated[
    int | None, typer.Option("--batch-size", help="Examples a training step.", show_default=False)
]


def strategy_option(*takes: str) -> Any:
    """`--strategy`, with the strategies that take one of these amounts. Called when the command line is built, so that
    those of plugins are listed too."""
    return typer.Option("--strategy", help=listed(s for s in STRATEGIES.entries if s.takes in takes))


def prompt_option() -> Any:
    """`--prompt`, likewise."""
    known = f"{', '.join(PROMPTS)}; {listed(PROBES.entries)}"
    return typer.Option("--prompt", help=f"{known} Or a text file that holds {{question}}.")


def matcher_option() -> Any:
    """`--matcher`, likewise."""
    return typer.Option("--matcher", help=f"Headline score: {listed(MATCHERS.entries)}")


def method_option() -> Any:
    """`--method`, likewise."""
    help_text = f"How the model is trained: {listed(METHODS.entries)} Else full."
    return typer.Option("--method", help=help_text, show_default=False)


def executor_option() -> Any:
    """`--executor`, likewise."""
    return typer.Option("--executor", help=f"Where cells are done: {listed(EXECUTORS.entries)}")


def listed(entries: Iterable[Entry]) -> str:
    """Registered names with their titles, for a help text."""
    return "; ".join(f"{found.name} ({found.title})" for found in entries) + "."


@contextmanager
def workspace(cache: Path | None, device: str = "auto", dtype: str = "auto") -> Iterator[Workspace]:
    """A workspace whose progress is shown on stderr, and put on record where this process is a job."""
    from sftknow_core.pipeline.workspace import Workspace
    from sftknow_core.serve.process import reporter

    with reporter() as shown:
        yield Workspace(cache, device=device, dtype=dtype, reporter=shown)


def read_facts(
    data: str,
    topics: Path | None,
    filter_: str = "paper",
    keep_leaks: bool = False,
    sample: int | None = None,
) -> tuple[FactSet, dict[str, Topic]]:
    """The facts a user names, and the topics they belong to."""
    from sftknow_core.facts.dataset import FactsRef

    return FactsRef(data, str(topics) if topics else None, filter_, keep_leaks, sample).load()


def evaluation(prompt: str, matcher: str) -> EvaluateSpec:
    """How questions are put and answers are judged. Raises SpecError."""
    return EvaluateSpec(prompt=prompt, matcher=matcher)


def question_spec(questions: str, seed: int = 0) -> QuestionSpec:
    """How many questions are asked. Raises SpecError."""
    return QuestionSpec(per_level=read_whole_or_all(questions, "--questions"), seed=seed)


def method_of(method: str | None, lora: bool) -> str | None:
    """The training method that both options ask for; None: the preset's. Raises SpecError."""
    if lora and method not in (None, "lora"):
        raise SpecError(f"--lora and --method {method} contradict each other; give one of them")
    return "lora" if lora else method


def sft_options(
    base: ModelHandle,
    method: str | None,
    lr: float | None,
    epochs: float | None,
    batch_size: int | None,
    seed: int,
) -> dict[str, Any]:
    """Keyword arguments for pipeline.sft.sft_spec."""
    given = {"lr": lr, "epochs": epochs, "batch_size": batch_size, "method": method}
    return {"base": base, "seed": seed, **{key: value for key, value in given.items() if value is not None}}


def read_whole_or_all(text: str, flag: str) -> int | None:
    """A whole number; None for "all". Raises SpecError naming the option."""
    try:
        return whole_or_all(text)
    except PydanticCustomError:
        raise SpecError(f"{flag}: got {text!r}; allowed: a whole number, or all") from None


def percentages(text: str) -> tuple[Percent, ...]:
    """The k of "1,3,5". Raises SpecError for one that is none, and when there are none."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        usual = default(ChainSpec, "ks")
        raise SpecError(f"--k: got {text!r}; allowed: percentages with commas between, e.g. {usual}")
    return tuple(map(percent, parts))


def emit(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], None]) -> None:
    """Print a result: as one JSON object, or for people."""
    if as_json:
        print_json(result)
    else:
        show(result)


def print_json(result: dict[str, Any]) -> None:
    """Print a result as one JSON object."""
    from sftknow_core.store.line_log import plain_json

    sys.stdout.write(plain_json(result) + "\n")
