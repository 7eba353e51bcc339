"""What a study is: a grid of fine-tunings of one base model, and what each of them is asked.

A cell is one fine-tuning: a mastery level, a size, a seed and a method. Everything about a cell follows from the study
and the cell alone: its train set, its training, its questions and the restorations tried on it. A cell gives one chain
(pipeline/chain.py) for each way of restoring; the fine-tuned model and the answers before restoring are shared by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from itertools import chain, product
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Self,
)

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.train_set import LEVELS
from sftknow_core.model.train.methods import METHODS, PRESETS, SftSpec
from sftknow_core.specs.base import (
    Facts,
    K,
    Listed,
    NumberOrText,
    Spec,
    Training,
    WholeOrAll,
    between,
    choice,
    field_names,
    one_of,
    restoration,
    wrong,
)
from sftknow_core.specs.chain import (
    FIVE_SHOT,
    PAPER_KS,
    ChainSpec,
    EvaluateSpec,
    QuestionSpec,
    Restoring,
    check_comparable,
)
from sftknow_core.update.spec import RestoreSpec

LARGE = 1920
"""The paper's largest size that all levels have; analysis/study.py reads verdicts about large N there."""
AUTO = "auto"
"""The preset that fits the base model's size (pipeline/sft.py)."""
EQUAL_COUNT = ("random", "largest", "smallest")
"""What k% of the most changed weights are compared with unless a study says otherwise: as many others."""
EQUAL_ENERGY = (*EQUAL_COUNT, "interpolation")
"""And what takes back the same part of the update."""


class Checkpoints(StrEnum):
    """Which fine-tuned weights stay after a cell; all can be made again from the study and the seed."""

    NONE = "none"
    BEST = "best"
    """The cell with the highest in-domain accuracy on dev before restoring."""
    ALL = "all"


class Cell(Spec):
    """One fine-tuning of the grid."""

    level: str
    """Mastery level of the train set: 0 to 4, mixed or natural."""
    n: int | None
    """Size of the train set; None: all facts of the level."""
    seed: int
    method: str = "full"
    """full or lora."""

    @property
    def key(self) -> str:
        """A name that is unique within a study and fit for a file, e.g. "full-2-1920-0"."""
        return f"{self.method}-{self.level}-{self.size}-{self.seed}"

    @property
    def size(self) -> str:
        """ "1920", or "all"."""
        return "all" if self.n is None else str(self.n)

    @property
    def label(self) -> str:
        """For people."""
        which = f"level {self.level}" if self.level.isdigit() else f"{self.level} levels"
        size = "all facts" if self.n is None else f"N = {self.n:,}"
        return f"{which}, {size}, seed {self.seed}" + (", LoRA" if self.method == "lora" else "")


def _way(given: Any) -> Any:
    return {"strategy": given} if isinstance(given, str) else given


def _controls(given: Any) -> tuple[RestoreSpec, ...]:
    """A restoration or its plain form, or an object with k, alpha or block as a list: one for each of them."""
    if isinstance(given, RestoreSpec):
        return (given,)
    if not isinstance(given, Mapping):
        raise wrong(
            '{ strategy = "random", k = [20, 40] }, or with alpha = [...] or block = [...] instead of k'
        )
    if "k_percent" in given:
        return (restoration(given),)
    names = [{"k_percent": "k"}.get(name, name) for name in field_names(RestoreSpec)]
    if unknown := [name for name in given if name not in names]:
        raise PydanticCustomError("unknown", "unknown field", {"name": unknown[0], "names": names})
    amounts = [name for name in ("k", "alpha", "block") if name in given]
    if len(amounts) != 1:
        got = " and ".join(amounts) or "none of them"
        raise PydanticCustomError("wrong", "{got}", {"got": got, "allowed": "one of k, alpha, block"})
    shared = {name: value for name, value in given.items() if name != amounts[0]}
    if not isinstance(each := given[amounts[0]], list | tuple):
        raise wrong(f"a list of {amounts[0]}")
    field = "k_percent" if amounts == ["k"] else amounts[0]
    return tuple(restoration({**shared, field: str(amount)}) for amount in each)


if TYPE_CHECKING:
    Controls = tuple[RestoreSpec, ...]
else:
    Controls = Annotated[
        Listed[Annotated[Any, PlainValidator(_controls)]],
        AfterValidator(lambda given: tuple(chain.from_iterable(given))),
        PlainSerializer(lambda given: [one.to_json() for one in given]),
    ]


class StudySpec(Spec):
    """A whole study. Raises SpecError for what is impossible whatever the models and facts.

    Lists are put into one order and repeated entries count once, so that the same grid is the same study.
    """

    name: str
    """For people, and for telling that a base model changed between two runs of one study."""
    base: str | None = None
    """demo, a folder, a hub id or the start of a model_id; None: to be given with --base."""
    data: Facts = FactsRef()
    levels: Listed[NumberOrText] = ("0", "1", "2", "3", "4", "mixed")
    sizes: Listed[WholeOrAll] = (60, 240, 1920)
    """Of the train sets; None: all facts of the level."""
    seeds: Listed[int] = (0, 1, 2)
    methods: Listed[str] = ("full",)
    preset: Annotated[str, one_of(AUTO, *PRESETS)] = AUTO
    """paper, demo, or auto: by the base model's size."""
    training: Training = Field(default_factory=dict)
    """Fields of SftSpec that differ from the preset."""
    ks: Listed[K] = PAPER_KS
    """Percentages restored."""
    restoring: Listed[Annotated[Restoring, BeforeValidator(_way)]] = (Restoring(),)
    controls: Controls | None = None
    """What restoring is compared with, on test questions; None: as many random, largest and smallest changes."""
    equal_energy: Listed[str] = EQUAL_ENERGY
    """Strategies it is compared with at the energy that each k takes back."""
    control_sizes: Listed[WholeOrAll] | None = None
    """Train-set sizes with controls, completion and five-shot prompts; None: the one that verdicts call large, the
    paper's 1,920 where the study has it, else its largest."""
    completions: bool = True
    """Whether their states are asked with completion prompts too: what they know, whatever the format."""
    five_shot: bool = True
    """Whether their states are asked the test questions after five exemplars too, as the base is."""
    questions: QuestionSpec = QuestionSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    train_questions: WholeOrAll = 300
    """At most so many train-set questions are asked of each state; None: all; 0: none."""
    baselines: bool = True
    """Whether the base is asked after five exemplars too."""
    checkpoints: Annotated[Checkpoints, choice(Checkpoints)] = Checkpoints.NONE
    threads: Annotated[int, between(1)] = 1
    """Torch threads of one cell. Sums are rounded in another order with other threads, so they belong to the study."""
    workers: Annotated[int, between(1)] = 2
    """Processes at work at once. They change no number."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        order, methods = list(LEVELS), list(METHODS)
        for name, values, key in (
            ("levels", self.levels, lambda one: order.index(one) if one in order else len(order)),
            ("sizes", self.sizes, lambda one: float("inf") if one is None else one),
            ("seeds", self.seeds, lambda one: one),
            ("methods", self.methods, lambda one: methods.index(one) if one in methods else len(methods)),
            ("restoring", self.restoring, lambda one: 0),
        ):
            if not values:
                raise SpecError(f"{name}: got an empty list; allowed: at least one")
            object.__setattr__(self, name, tuple(sorted(dict.fromkeys(values), key=key)))
        self._check_values()
        for cell in self.cells():
            self.training_of(cell, PRESETS["paper"])
        for level, n, way in product(self.levels, self.sizes, self.restoring):
            self.chain_spec(Cell(level=level, n=n, seed=self.seeds[0]), way)
        return self

    def _check_values(self) -> None:
        if not self.name.strip():
            raise SpecError("name: got an empty text; allowed: a short name, e.g. the file's")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise SpecError(f"seeds: got {seed}; allowed: 0 to 2**32 - 1")
        if (self.train_questions or 0) < 0:
            raise SpecError(f"train_questions: got {self.train_questions}; allowed: 0 or more")
        for n in self.control_sizes or ():
            if n not in self.sizes:
                size = sizes_as_json([n])[0]
                raise SpecError(
                    f"control_sizes: got {size}; allowed: sizes of the study, {sizes_as_json(self.sizes)}"
                )
        check_comparable(self.equal_energy)

    def cells(self) -> list[Cell]:
        """The grid, seeds outermost: after a third of three seeds' work every level and size is there once."""
        every = product(self.seeds, self.methods, self.levels, self.sizes)
        return [Cell(level=level, n=n, seed=seed, method=method) for seed, method, level, n in every]

    def chain_spec(self, cell: Cell, way: Restoring) -> ChainSpec:
        """What the cell's chain does, apart from model, facts and training."""
        compared = way == self.restoring[0] and cell.n in self.controlled_sizes()
        return ChainSpec(
            level=cell.level,
            n=cell.n,
            seed=cell.seed,
            ks=self.ks,
            strategy=way.strategy,
            region=way.region,
            layers=way.layers,
            questions=self.questions,
            evaluate=self.evaluate,
            train_questions=self.train_questions,
            baselines=self.baselines,
            completions=self.completions and cell.n in self.controlled_sizes(),
            five_shot=self.five_shot
            and cell.n in self.controlled_sizes()
            and self.evaluate.prompt != FIVE_SHOT,
            controls=self.control_specs() if compared else (),
            equal_energy=self.equal_energy if compared else (),
        )

    def control_specs(self) -> tuple[RestoreSpec, ...]:
        """What restoring is compared with, at the sizes that have controls."""
        if self.controls is not None:
            return self.controls
        way = self.restoring[0]
        return tuple(
            RestoreSpec(name, way.region, way.layers, k)
            for name in EQUAL_COUNT
            for k in self.ks
            if name != way.strategy
        )

    def controlled_sizes(self) -> tuple[int | None, ...]:
        """The sizes of train sets whose cells have controls, completion and five-shot prompts."""
        if self.control_sizes is not None:
            return self.control_sizes
        numbers = [size for size in self.sizes if size is not None]
        return (LARGE if LARGE in numbers else max(numbers, default=None),)

    def training_of(self, cell: Cell, preset: SftSpec) -> SftSpec:
        """How the cell is trained, from a preset. Raises SpecError."""
        return SftSpec(**{**asdict(preset), **self.training, "method": cell.method, "seed": cell.seed})


def sizes_as_json(sizes: Iterable[int | None]) -> Sequence[int | str]:
    """Sizes as files and specs write them: whole numbers, and "all"."""
    return ["all" if n is None else n for n in sizes]
