"""What a study is: a grid of fine-tunings of one base model, and what each of them is asked.

A cell is one fine-tuning: a mastery level, a size, a seed and a method. Everything about a cell follows from the study
and the cell alone: its train set, its training, its questions and the restorations tried on it. A cell gives one chain
(pipeline/chain.py) for each way of restoring; the fine-tuned model and the answers before restoring are shared by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.train_set import LEVELS
from sftknow_core.model.train.methods import METHODS
from sftknow_core.model.train.sft_spec import PRESETS, SftSpec
from sftknow_core.pipeline.chain import CHAIN_VERSION, PAPER_KS, ChainSpec
from sftknow_core.pipeline.evaluate import EvaluateSpec
from sftknow_core.pipeline.questions import QuestionSpec
from sftknow_core.pipeline.sft import sft_spec
from sftknow_core.pipeline.states import check_comparable
from sftknow_core.store.run_spec import RunSpec

if TYPE_CHECKING:
    from sftknow_core.pipeline.workspace import ModelHandle
    from sftknow_core.update.spec import RestoreSpec

STUDY_VERSION = 1
LARGE = 1920
"""The paper's largest size that all levels have; analysis/study.py reads verdicts about large N there."""
AUTO = "auto"
"""The preset that fits the base model's size (pipeline/sft.py)."""
_SEED = "seed"


class Checkpoints(StrEnum):
    """Which fine-tuned weights stay after a cell; all can be made again from the study and the seed."""

    NONE = "none"
    BEST = "best"
    """The cell with the highest in-domain accuracy on dev before restoring."""
    ALL = "all"


@dataclass(frozen=True)
class Cell:
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


@dataclass(frozen=True)
class Restoring:
    """One way of choosing what is put back."""

    strategy: str = "top"
    region: str = "transformer"
    layers: str | None = None


EQUAL_COUNT = ("random", "largest", "smallest")
"""What k% of the most changed weights are compared with unless a study says otherwise: as many others."""
EQUAL_ENERGY = (*EQUAL_COUNT, "interpolation")
"""And what takes back the same part of the update."""


@dataclass(frozen=True)
class StudySpec:
    """A whole study. Raises SpecError for what is impossible whatever the models and facts.

    Lists are put into one order and repeated entries count once, so that the same grid is the same study.
    """

    name: str
    """For people, and for telling that a base model changed between two runs of one study."""
    base: str | None = None
    """demo, a folder, a hub id or the start of a model_id; None: to be given with --base."""
    data: FactsRef = field(default_factory=FactsRef)
    levels: tuple[str, ...] = ("0", "1", "2", "3", "4", "mixed")
    sizes: tuple[int | None, ...] = (60, 240, 1920)
    """Of the train sets; None: all facts of the level."""
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = ("full",)
    preset: str = AUTO
    """paper, demo, or auto: by the base model's size."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SftSpec that differ from the preset."""
    ks: tuple[str, ...] = PAPER_KS
    """Percentages restored."""
    restoring: tuple[Restoring, ...] = (Restoring(),)
    controls: tuple[RestoreSpec, ...] | None = None
    """What restoring is compared with, on test questions; None: as many random, largest and smallest changes."""
    equal_energy: tuple[str, ...] = EQUAL_ENERGY
    """Strategies it is compared with at the energy that each k takes back."""
    control_sizes: tuple[int | None, ...] | None = None
    """Train-set sizes with controls and completion prompts; None: the one that verdicts call large, the paper's 1,920
    where the study has it, else its largest."""
    completions: bool = True
    """Whether their states are asked with completion prompts too: what they know, whatever the format."""
    questions: QuestionSpec = field(default_factory=QuestionSpec)
    evaluate: EvaluateSpec = field(default_factory=EvaluateSpec)
    train_questions: int | None = 300
    """At most so many train-set questions are asked of each state; None: all; 0: none."""
    baselines: bool = True
    """Whether the base is asked after five exemplars too."""
    checkpoints: Checkpoints = Checkpoints.NONE
    threads: int = 1
    """Torch threads of one cell. Sums are rounded in another order with other threads, so they belong to the study."""
    workers: int = 2
    """Processes at work at once. They change no number."""

    def __post_init__(self) -> None:
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
        self._check_numbers()
        for cell in self.cells():
            self.training_of(cell, PRESETS["paper"])
        for level, n, way in product(self.levels, self.sizes, self.restoring):
            self.chain_spec(Cell(level, n, self.seeds[0]), way).check()

    def _check_numbers(self) -> None:
        if not self.name.strip():
            raise SpecError("name: got an empty text; allowed: a short name, e.g. the file's")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise SpecError(f"seeds: got {seed}; allowed: 0 to 2**32 - 1")
        for name, number, least in (
            ("threads", self.threads, 1),
            ("workers", self.workers, 1),
            ("train_questions", self.train_questions or 0, 0),
        ):
            if number < least:
                raise SpecError(f"{name}: got {number}; allowed: {least} or more")
        if self.preset != AUTO and self.preset not in PRESETS:
            raise SpecError(f"preset: got {self.preset!r}; allowed: {AUTO}, {', '.join(PRESETS)}")
        for n in self.control_sizes or ():
            if n not in self.sizes:
                size = sizes_as_json([n])[0]
                raise SpecError(
                    f"control_sizes: got {size}; allowed: sizes of the study, {sizes_as_json(self.sizes)}"
                )
        check_comparable(self.equal_energy)
        if self.checkpoints not in list(Checkpoints):
            raise SpecError(f"checkpoints: got {self.checkpoints!r}; allowed: {', '.join(Checkpoints)}")

    def cells(self) -> list[Cell]:
        """The grid, seeds outermost: after a third of three seeds' work every level and size is there once."""
        every = product(self.seeds, self.methods, self.levels, self.sizes)
        return [Cell(level, n, seed, method) for seed, method, level, n in every]

    def chain_spec(self, cell: Cell, way: Restoring) -> ChainSpec:
        """What the cell's chain does, apart from model, facts and training."""
        compared = way == self.restoring[0] and cell.n in self._controlled()
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
            completions=self.completions and cell.n in self._controlled(),
            controls=self._controls() if compared else (),
            equal_energy=self.equal_energy if compared else (),
        )

    def _controls(self) -> tuple[RestoreSpec, ...]:
        if self.controls is not None:
            return self.controls
        from sftknow_core.update.spec import RestoreSpec, percent

        way = self.restoring[0]
        return tuple(
            RestoreSpec(name, way.region, way.layers, percent(k))
            for name in EQUAL_COUNT
            for k in self.ks
            if name != way.strategy
        )

    def _controlled(self) -> tuple[int | None, ...]:
        if self.control_sizes is not None:
            return self.control_sizes
        numbers = [size for size in self.sizes if size is not None]
        return (LARGE if LARGE in numbers else max(numbers, default=None),)

    def sft(self, cell: Cell, base: ModelHandle) -> SftSpec:
        """How the cell is trained."""
        if self.preset == AUTO:
            return sft_spec(base, cell.seed, **{**self.training, "method": cell.method})
        return self.training_of(cell, PRESETS[self.preset])

    def training_of(self, cell: Cell, preset: SftSpec) -> SftSpec:
        """How the cell is trained, from a preset. Raises SpecError."""
        return SftSpec(**{**asdict(preset), **self.training, "method": cell.method, _SEED: cell.seed})

    def run_spec(self, base: ModelHandle, facts: FactSet) -> RunSpec:
        """The study's identity: everything that changes a number, and the models and facts by their own ids."""
        trained = {method: asdict(self.sft(Cell("0", 1, 0, method), base)) for method in self.methods}
        return RunSpec(
            "study",
            inputs={"base": base.model_id, "facts": facts.data_id},
            params={
                "levels": self.levels,
                "sizes": sizes_as_json(self.sizes),
                "seeds": self.seeds,
                "methods": self.methods,
                "training": {
                    method: {name: value for name, value in settings.items() if name != _SEED}
                    for method, settings in trained.items()
                },
                "restoring": [asdict(way) for way in self.restoring],
                "k": [
                    str(s.k_percent)
                    for s in self.chain_spec(self.cells()[0], self.restoring[0]).restore_specs()
                ],
                "controls": [one.to_json() for one in self._controls()],
                "equal_energy": list(self.equal_energy),
                "control_sizes": sizes_as_json(self._controlled()),
                "completions": self.completions,
                "questions": asdict(self.questions),
                "evaluate": asdict(self.evaluate),
                "train_questions": self.train_questions,
                "baselines": self.baselines,
                "threads": self.threads,
            },
            versions={"study": STUDY_VERSION, "chain": CHAIN_VERSION},
        )


def sizes_as_json(sizes: Iterable[int | None]) -> Sequence[int | str]:
    """Sizes as files and specs write them: whole numbers, and "all"."""
    return ["all" if n is None else n for n in sizes]
