"""Study + base + facts -> what there is to do: every cell as cached, to do or impossible, before anything runs.

Which cells are possible depends on the base model's mastery of the facts. Where that is not in the cache yet,
nothing is computed for a plan: all cells count as to do then, and the plan says that it does not know.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.topics import Topic
from sftknow_core.model.train.methods import PRESETS, SftSpec
from sftknow_core.pipeline.chain import CHAIN_VERSION, plan_chain
from sftknow_core.pipeline.estimate import Estimate, Load, estimate_study
from sftknow_core.pipeline.mastery import Mastery, score_facts
from sftknow_core.pipeline.questions import GROUPS, choose_questions
from sftknow_core.pipeline.sft import sft_spec
from sftknow_core.pipeline.workspace import DEMO_FOLDER, ModelHandle, Workspace
from sftknow_core.specs import AUTO, Cell, StudySpec, at_variation, sizes_as_json
from sftknow_core.store.cache import Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.open_run import is_hit
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.study_record import IMPOSSIBLE, KIND, TODO

CACHED = "cached"
STUDY_VERSION = 2
"""2: the rule of decision is part of the identity."""


def training_of(spec: StudySpec, cell: Cell, base: ModelHandle) -> SftSpec:
    """How the cell is trained."""
    if spec.preset == AUTO:
        own = sft_spec(base, cell.seed, **{**spec.training, "method": cell.method})
        return at_variation(own, cell)
    return spec.training_of(cell, PRESETS[spec.preset])


def study_run(spec: StudySpec, base: ModelHandle, facts: FactSet) -> RunSpec:
    """The study's identity: everything that changes a number, and the models and facts by their own ids."""
    cells = [Cell(level="0", n=1, seed=0, method=method) for method in spec.methods]
    trained = {cell.method: asdict(training_of(spec, cell, base)) for cell in cells}
    by_size: dict[str, Any] = {
        "seeds_by_size": {size: spec.seeds_of(n) for n, size in _sizes(spec.seeds_by_size)},
        "per_level_by_size": {
            size: spec.questions_of(n).per_level for n, size in _sizes(spec.per_level_by_size)
        },
    }
    return RunSpec(
        "study",
        inputs={"base": base.model_id, "facts": facts.data_id},
        params={
            "levels": spec.levels,
            "sizes": sizes_as_json(spec.sizes),
            "seeds": spec.seeds,
            "methods": spec.methods,
            "training": {
                method: {name: value for name, value in settings.items() if name != "seed"}
                for method, settings in trained.items()
            },
            "restoring": [way.model_dump() for way in spec.restoring],
            "k": [
                str(s.k_percent) for s in spec.chain_spec(spec.cells()[0], spec.restoring[0]).restore_specs()
            ],
            "controls": [one.to_json() for one in spec.control_specs()],
            "equal_energy": list(spec.equal_energy),
            **({"equal_projection": list(spec.equal_projection)} if spec.equal_projection else {}),
            **({"random_masks": spec.random_masks} if spec.draws_masks else {}),
            "control_sizes": sizes_as_json(spec.controlled_sizes()),
            "completions": spec.completions,
            "questions": spec.questions.model_dump(),
            "evaluate": spec.evaluate.model_dump(),
            "train_questions": spec.train_questions,
            "baselines": spec.baselines,
            "threads": spec.threads,
            **_varied(spec),
            **({"five_shot": True} if spec.five_shot else {}),
            "rule": spec.fixed_rule.model_dump(),
            **{name: given for name, given in by_size.items() if given},
        },
        versions={"study": STUDY_VERSION, "chain": CHAIN_VERSION},
    )


def _varied(spec: StudySpec) -> dict[str, Any]:
    """Learning rates and repeated train sets; nothing where a study has the one training, as studies always had."""
    varied: dict[str, Any] = {} if spec.rates == (1.0,) else {"rates": list(spec.rates)}
    repeats = {str(n): times for n, times in spec.repeats().items()}
    return varied | ({"repeats": repeats} if repeats else {})


def _sizes(given: Iterable[int | None]) -> list[tuple[int | None, str]]:
    """Sizes and their texts."""
    return [(n, str(size)) for n, size in zip(given, sizes_as_json(given), strict=True)]


@dataclass(frozen=True)
class PlannedCell:
    """A cell and what there is to do for it."""

    cell: Cell
    state: str
    """cached, to do or impossible."""
    run_ids: tuple[str, ...] = ()
    """Its chains, in the order of the ways of restoring; empty where they cannot be named yet."""
    reason: str | None = None
    """Why it is impossible."""
    load: Load | None = None
    """How much work it is; None: nothing is known, or nothing is to do."""


@dataclass(frozen=True)
class StudyPlan:
    """A study on a base model and facts."""

    spec: StudySpec
    run_spec: RunSpec
    base: ModelHandle
    facts: FactSet
    topics: Mapping[str, Topic]
    cells: tuple[PlannedCell, ...]
    mastery_known: bool
    """Whether the facts' levels are in the cache; else nobody knows which cells are possible."""
    n_questions: Mapping[str, int]
    """Group ("dev in", "test in", "test out") -> questions asked of every state; empty before mastery is known."""
    n_questions_by_size: Mapping[str, Mapping[str, int]]
    """Size -> the same, for sizes that are asked another number."""
    n_by_level: Mapping[str, tuple[int, ...]]
    """Size -> in-domain test questions of each mastery level; empty before mastery is known."""
    estimate: Estimate

    def of(self, state: str) -> list[PlannedCell]:
        """The cells that are cached, to do or impossible."""
        return [planned for planned in self.cells if planned.state == state]

    def require_possible(self) -> None:
        """Raise SpecError that lists all impossible cells, if there are any."""
        if wrong := self.of(IMPOSSIBLE):
            lines = "".join(f"\n  {one.cell.label}: {one.reason}" for one in wrong)
            raise SpecError(
                f"study {self.spec.name}: {len(wrong)} of {len(self.cells)} cells are impossible, none was run:{lines}"
                "\nChange levels or sizes in the study, or leave these cells out with --skip-impossible."
            )


def open_base(spec: StudySpec, ws: Workspace) -> ModelHandle:
    """The study's base model. Raises SpecError when it has none, or when it changed since the study was begun."""
    if spec.base is None:
        raise SpecError(f"study {spec.name} names no base model; give one with --base")
    base = ws.open_model(spec.base)
    place = str(base.path.resolve())
    for info in list_runs(ws.cache, KIND):
        before = info.spec.inputs.get("base")
        same = (info.about.get("name"), info.about.get("base_path")) == (spec.name, place)
        if same and before != base.model_id:
            raise SpecError(
                f"base model {spec.base}: {place} holds model {base.model_id} now, and held {before} when study "
                f"{spec.name} was begun (run {info.run_id}, {info.created_at}). Numbers of two models do not belong "
                "into one study. Put the former files back; or give the study another name in its file to begin a new "
                f"one; or forget the former: sftknow runs rm {info.run_id}"
            )
    return base


def plan(spec: StudySpec, ws: Workspace) -> StudyPlan:
    """What there is to do, without doing it. Raises SpecError, DataError and ModelError for what cannot be done."""
    base = open_base(spec, ws)
    facts, topics = spec.data.load()
    mastery = known_mastery(ws, base, facts, topics)
    if mastery is None:
        cells = tuple(PlannedCell(cell, TODO) for cell in spec.cells())
        counts: dict[int | None, dict[str, int]] = {}
        by_level: dict[str, tuple[int, ...]] = {}
    else:
        of = {asked: choose_questions(facts.facts, mastery.levels, asked) for asked in spec.question_specs()}
        chosen = {n: of[spec.questions_of(n)] for n in spec.sizes}
        counts = {n: _counted(questions) for n, questions in chosen.items()}
        by_level = {size: _by_level(chosen[n], mastery) for n, size in _sizes(spec.sizes)}
        cells = tuple(
            _planned(cell, spec, ws.cache, base, facts, mastery, chosen[cell.n]) for cell in spec.cells()
        )
    loads = [planned.load for planned in cells if planned.state == TODO]
    return StudyPlan(
        spec,
        study_run(spec, base, facts),
        base,
        facts,
        topics,
        cells,
        mastery is not None,
        next((of for n, of in counts.items() if n not in spec.per_level_by_size), {}),
        {size: counts[n] for n, size in _sizes(spec.per_level_by_size) if n in counts},
        by_level,
        estimate_study(ws.cache, base.model_id, loads, spec.workers, spec.checkpoints),
    )


def _counted(questions: Iterable[Fact]) -> dict[str, int]:
    counted = Counter((f.split, f.domain) for f in questions)
    return {f"{split} {domain}": counted[split, domain] for split, domain in GROUPS}


def _by_level(questions: Iterable[Fact], mastery: Mastery) -> tuple[int, ...]:
    tests = (fact for fact in questions if (fact.split, fact.domain) == ("test", "in"))
    return tuple(n for _, n in sorted(Counter(mastery.levels[fact.fact_id] for fact in tests).items()))


def _planned(
    cell: Cell,
    spec: StudySpec,
    cache: Cache,
    base: ModelHandle,
    facts: FactSet,
    mastery: Mastery,
    questions: tuple[Any, ...],
) -> PlannedCell:
    sft = training_of(spec, cell, base)
    plans = []
    for way in spec.restoring:
        try:
            found = plan_chain(base, facts, mastery, spec.chain_spec(cell, way), sft, questions=questions)
        except SpecError as error:
            if not any(f.split == "dev" for f in questions) or not any(f.split == "test" for f in questions):
                raise  # the questions', not the cell's
            return PlannedCell(cell, IMPOSSIBLE, reason=str(error))
        plans.append(found)
    run_ids = tuple(one.run_spec.run_id for one in plans)
    if all(is_hit(RunFolder(cache, run_id)) for run_id in run_ids):
        return PlannedCell(cell, CACHED, run_ids)
    assert plans[0].train_set is not None
    n = plans[0].train_set.n
    n_learnt = n if spec.train_questions is None else min(n, spec.train_questions)
    chains = [spec.chain_spec(cell, way) for way in spec.restoring]
    n_restored = sum(len(chain.restore_specs()) for chain in chains)
    on_test = sum(fact.split == "test" for fact in questions)
    # tuned and restored states; base on the train set; more prompts and controls on test questions
    asked = (1 + n_restored) * (len(questions) + n_learnt) + n_learnt
    more = chains[0].completions + chains[0].five_shot
    asked += ((1 + n_restored) * more + chains[0].n_controls) * on_test
    return PlannedCell(cell, TODO, run_ids, load=Load(cell.method, n * sft.epochs, asked))


def known_mastery(
    ws: Workspace, base: ModelHandle, facts: FactSet, topics: Mapping[str, Topic]
) -> Mastery | None:
    """The facts' mastery where it costs nothing: in the cache, or shipped with the package; else None."""
    try:
        return score_facts(_OnlyLook(ws), base, facts.facts, dict(topics))
    except _NotThereError as error:
        shipped = DEMO_FOLDER / "mastery.json"
        if shipped.is_file() and json.loads(shipped.read_text("utf-8")).get("run_id") == error.run_id:
            return score_facts(ws, base, facts.facts, dict(topics))
        return None


class _NotThereError(Exception):
    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id


class _OnlyLook(Workspace):
    """A workspace in which a run that is not in the cache is an error instead of work."""

    def __init__(self, ws: Workspace) -> None:
        super().__init__(ws.cache.root, device=ws.device, dtype=ws.dtype)

    def open_run(self, spec: RunSpec, about: Mapping[str, Any], *, need: tuple[str, ...] = ()) -> Any:
        """The run, if it is finished. Raises _NotThereError."""
        if not is_hit(RunFolder(self.cache, spec.run_id), need):
            raise _NotThereError(spec.run_id)
        return super().open_run(spec, about, need=need)
