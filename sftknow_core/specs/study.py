"""What a study is: a grid of fine-tunings of one base model, and what each of them is asked.

A cell is one fine-tuning: a mastery level, a size, a seed and a method. Everything about a cell follows from the study
and the cell alone: its train set, its training, its questions and the restorations tried on it. A cell gives one chain
(pipeline/chain.py) for each way of restoring; the fine-tuned model and the answers before restoring are shared by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
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
    whole_or_all,
    wrong,
)
from sftknow_core.specs.chain import (
    FIVE_SHOT,
    PAPER_KS,
    RANDOM_MASKS,
    ChainSpec,
    EvaluateSpec,
    QuestionSpec,
    Restoring,
    check_comparable,
)
from sftknow_core.specs.rule import Rule
from sftknow_core.store.study_record import cell_key, variation
from sftknow_core.update.spec import RestoreSpec

LARGE = 1920
"""The paper's largest size that all levels have; analysis/study.py reads verdicts about large N there."""
AUTO = "auto"
"""The preset that fits the base model's size (pipeline/sft.py)."""
EQUAL_COUNT = ("random", "largest", "smallest")
"""What k% of the most changed weights are compared with unless a study says otherwise: as many others."""
EQUAL_PART = (*EQUAL_COUNT, "interpolation")
"""And what takes back the same part of the update: of its energy, and of its projection."""


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
    rate: float = 1.0
    """Learning rate, as a multiple of the study's."""
    repeats: float = 1.0
    """Passes over the train set, as a multiple of the study's."""

    @property
    def key(self) -> str:
        """A name that is unique within a study and fit for a file, e.g. "full-2-1920-0"."""
        return cell_key(self.method, self.level, self.size, self.seed, self.rate, self.repeats)

    @property
    def is_plain(self) -> bool:
        """Whether it is trained at the study's own learning rate and number of passes."""
        return (self.rate, self.repeats) == (1.0, 1.0)

    @property
    def size(self) -> str:
        """ "1920", or "all"."""
        return "all" if self.n is None else str(self.n)

    @property
    def label(self) -> str:
        """For people."""
        which = f"level {self.level}" if self.level.isdigit() else f"{self.level} levels"
        size = "all facts" if self.n is None else f"N = {self.n:,}"
        varied = variation(self.rate, self.repeats)
        return f"{which}, {size}, seed {self.seed}" + (", LoRA" if self.method == "lora" else "") + varied


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


def _by_size(given: Any) -> dict[int | None, Any]:
    if not isinstance(given, Mapping):
        raise wrong("a table of sizes, e.g. { 1920 = ... }")
    return {whole_or_all(size): value for size, value in given.items()}


def _as_text(given: Mapping[int | None, Any]) -> dict[str, Any]:
    return {str(size): value for size, value in zip(sizes_as_json(given), given.values(), strict=True)}


if TYPE_CHECKING:
    Controls = tuple[RestoreSpec, ...]
    SeedsBySize = Mapping[int | None, tuple[int, ...]]
    QuestionsBySize = Mapping[int | None, int | None]
else:
    SeedsBySize = Annotated[
        dict[int | None, Listed[int]], BeforeValidator(_by_size), PlainSerializer(_as_text)
    ]
    QuestionsBySize = Annotated[
        dict[int | None, WholeOrAll], BeforeValidator(_by_size), PlainSerializer(_as_text)
    ]
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
    seeds_by_size: SeedsBySize = Field(default_factory=dict)
    """Size -> its seeds, where they are not `seeds`: more where claims are decided."""
    methods: Listed[str] = ("full",)
    rates: Listed[float] = (1.0,)
    """Learning rates, as multiples of the preset's; 1 is among them."""
    match_steps: bool = False
    """Whether smaller train sets are also repeated until they have taken as many steps as the largest size."""
    preset: Annotated[str, one_of(AUTO, *PRESETS)] = AUTO
    """paper, demo, or auto: by the base model's size."""
    training: Training = Field(default_factory=dict)
    """Fields of SftSpec that differ from the preset."""
    ks: Listed[K] = PAPER_KS
    """Percentages restored."""
    restoring: Listed[Annotated[Restoring, BeforeValidator(_way)]] = (Restoring(),)
    controls: Controls | None = None
    """What restoring is compared with, on test questions; None: as many random, largest and smallest changes."""
    equal_energy: Listed[str] = EQUAL_PART
    """Strategies it is compared with at the energy that each k takes back."""
    equal_projection: Listed[str] = EQUAL_PART
    """And at the projection, which is fair to an interpolation; one state where the two are the same."""
    random_masks: Annotated[int, between(1)] = RANDOM_MASKS
    """Masks of every random control, drawn anew for every cell."""
    control_sizes: Listed[WholeOrAll] | None = None
    """Train-set sizes with controls, completion and five-shot prompts; None: the one that verdicts call large, the
    paper's 1,920 where the study has it, else its largest."""
    completions: bool = True
    """Whether their states are asked with completion prompts too: what they know, whatever the format."""
    five_shot: bool = True
    """Whether their states are asked the test questions after five exemplars too, as the base is."""
    questions: QuestionSpec = QuestionSpec()
    per_level_by_size: QuestionsBySize = Field(default_factory=dict)
    """Size -> its questions of each mastery level, where they are not those of `questions`. A smaller sample lies
    within the larger one, so that sizes are compared on the questions of the smaller."""
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
    rule: Rule = Rule()
    """How claims are decided; `fixed_rule` has all roles named."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        order, methods = list(LEVELS), list(METHODS)
        for name, values, key in (
            ("levels", self.levels, lambda one: order.index(one) if one in order else len(order)),
            ("sizes", self.sizes, lambda one: float("inf") if one is None else one),
            ("seeds", self.seeds, lambda one: one),
            ("methods", self.methods, lambda one: methods.index(one) if one in methods else len(methods)),
            ("rates", self.rates, lambda one: one),
            ("restoring", self.restoring, lambda one: 0),
        ):
            if not values:
                raise SpecError(f"{name}: got an empty list; allowed: at least one")
            object.__setattr__(self, name, tuple(sorted(dict.fromkeys(values), key=key)))
        self._check_by_size()
        self._check_values()
        for cell in self.cells():
            self.training_of(cell, PRESETS["paper"])
        for level, n, way in product(self.levels, self.sizes, self.restoring):
            self.chain_spec(Cell(level=level, n=n, seed=self.seeds_of(n)[0]), way)
        _ = self.fixed_rule
        return self

    def _check_by_size(self) -> None:
        """What says the same as the value for all sizes is left out, so that the same grid is the same study."""
        for name in ("seeds_by_size", "per_level_by_size"):
            for n in getattr(self, name):
                if n not in self.sizes:
                    raise SpecError(
                        f"{name}: got {sizes_as_json([n])[0]}; allowed: sizes of the study, "
                        f"{sizes_as_json(self.sizes)}"
                    )
        for n, seeds in self.seeds_by_size.items():
            if not seeds:
                raise SpecError(
                    f"seeds_by_size {sizes_as_json([n])[0]}: got an empty list; allowed: at least one"
                )
        seeds_of = {n: tuple(sorted(set(self.seeds_of(n)))) for n in self.sizes}
        asked = {n: self.questions_of(n) for n in self.sizes}  # checks them, too
        seeds_by_size = {n: seeds for n, seeds in seeds_of.items() if seeds != self.seeds}
        per_level = {n: spec.per_level for n, spec in asked.items() if spec != self.questions}
        object.__setattr__(self, "seeds_by_size", seeds_by_size)
        object.__setattr__(self, "per_level_by_size", per_level)

    def _check_values(self) -> None:
        if not self.name.strip():
            raise SpecError("name: got an empty text; allowed: a short name, e.g. the file's")
        for seed in {*self.seeds, *chain.from_iterable(self.seeds_by_size.values())}:
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
        if 1.0 not in self.rates or not all(0 < rate < float("inf") for rate in self.rates):
            raise SpecError(f"rates: got {list(self.rates)}; allowed: numbers above 0, 1 among them")
        if self.match_steps and not self.repeats():
            sizes = list(sizes_as_json(self.sizes))
            raise SpecError(f"match_steps: got the sizes {sizes}; allowed: with two numbers among them")
        check_comparable(self.equal_projection, "equal_projection")

    def cells(self) -> list[Cell]:
        """The grid, seeds outermost: after a third of three seeds' work every level and size is there once."""
        seeds = sorted({seed for n in self.sizes for seed in self.seeds_of(n)})
        repeats = self.repeats()
        return [
            Cell(level=level, n=n, seed=seed, method=method, rate=rate, repeats=times)
            for seed, method, level, n in product(seeds, self.methods, self.levels, self.sizes)
            if seed in self.seeds_of(n)
            for rate in self.rates
            for times in (1.0, *([repeats[n]] if n in repeats else ()))
        ]

    def repeats(self) -> dict[int | None, float]:
        """Size -> how often it is repeated to take as many steps as the largest size; empty unless asked for."""
        numbers = [n for n in self.sizes if n is not None] if self.match_steps else []
        return {n: max(numbers) / n for n in numbers if n < max(numbers)}

    def seeds_of(self, n: int | None) -> tuple[int, ...]:
        """The seeds of a size."""
        return self.seeds_by_size.get(n, self.seeds)

    def questions_of(self, n: int | None) -> QuestionSpec:
        """How many questions the cells of a size are asked."""
        given = self.per_level_by_size
        return self.questions.but(per_level=given[n]) if n in given else self.questions

    def question_specs(self) -> list[QuestionSpec]:
        """The different sets of questions that cells are asked, the smallest first."""
        found = dict.fromkeys(map(self.questions_of, self.sizes))
        return sorted(found, key=lambda one: float("inf") if one.per_level is None else one.per_level)

    @property
    def fixed_rule(self) -> Rule:
        """The rule with all roles named, as it is part of the study's identity."""
        return self.rule.for_study(self.sizes, self.ks)

    def chain_spec(self, cell: Cell, way: Restoring) -> ChainSpec:
        """What the cell's chain does, apart from model, facts and training."""
        controlled = cell.is_plain and cell.n in self.controlled_sizes()
        compared = way == self.restoring[0] and controlled
        return ChainSpec(
            level=cell.level,
            n=cell.n,
            seed=cell.seed,
            ks=self.ks,
            strategy=way.strategy,
            region=way.region,
            layers=way.layers,
            questions=self.questions_of(cell.n),
            evaluate=self.evaluate,
            train_questions=self.train_questions,
            baselines=self.baselines,
            completions=self.completions and controlled,
            five_shot=self.five_shot and controlled and self.evaluate.prompt != FIVE_SHOT,
            controls=self.control_specs() if compared else (),
            equal_energy=self.equal_energy if compared else (),
            equal_projection=self.equal_projection if compared else (),
            random_masks=self.random_masks,
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

    @property
    def draws_masks(self) -> bool:
        """Whether any control is a random draw of the cell's own."""
        sizes = self.controlled_sizes()
        cells = (Cell(level=self.levels[0], n=n, seed=self.seeds[0]) for n in sizes if n in self.sizes)
        return any(self.chain_spec(cell, self.restoring[0]).draws_masks for cell in cells)

    def controlled_sizes(self) -> tuple[int | None, ...]:
        """The sizes of train sets whose cells have controls, completion and five-shot prompts."""
        if self.control_sizes is not None:
            return self.control_sizes
        numbers = [size for size in self.sizes if size is not None]
        return (LARGE if LARGE in numbers else max(numbers, default=None),)

    def training_of(self, cell: Cell, preset: SftSpec) -> SftSpec:
        """How the cell is trained, from a preset. Raises SpecError."""
        own = SftSpec(**{**asdict(preset), **self.training, "method": cell.method, "seed": cell.seed})
        return at_variation(own, cell)


def at_variation(own: SftSpec, cell: Cell) -> SftSpec:
    """The study's own training at the cell's learning rate and number of passes. Raises SpecError."""
    if cell.is_plain:
        return own
    return replace(own, lr=own.lr * cell.rate, epochs=own.epochs * cell.repeats)


def sizes_as_json(sizes: Iterable[int | None]) -> Sequence[int | str]:
    """Sizes as files and specs write them: whole numbers, and "all"."""
    return ["all" if n is None else n for n in sizes]
