"""Fine-tunings of one base -> the overlap of the weights that restoring picks, and models restored with another's mask.

runs or a study --> groups of fine-tuned models --compare_masks--> run "masks"  --ask_donors--> run "donors"
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.pipeline.delta import ModelPair
from sftknow_core.pipeline.evaluate import EvaluationPlan, evaluate
from sftknow_core.pipeline.mastery import Mastery
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.states import State, StateLoader
from sftknow_core.pipeline.workspace import DEMO, ModelHandle, Workspace
from sftknow_core.results.chain import Chain
from sftknow_core.results.studies import Study, find_study
from sftknow_core.specs import EvaluateSpec, QuestionSpec
from sftknow_core.store.listing import find_run
from sftknow_core.store.run import Run
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.study_record import KIND
from sftknow_core.update.spec import Percent, RestoreSpec, percent

if TYPE_CHECKING:
    from sftknow_core.model.io.load import LanguageModel

MASK_KS = tuple(map(percent, ("1", "3", "5", "10", "20", "40", "60")))
DONORS_VERSION = 1


@dataclass(frozen=True)
class Group:
    """Fine-tunings of one base that differ in their seed, or were named together."""

    label: str
    base: ModelHandle
    tuned: tuple[ModelHandle, ...]
    chains: tuple[str, ...]
    """The chain of each."""


def groups_of(ws: Workspace, names: Sequence[str]) -> list[Group]:
    """The models to compare: of two or more chains; or of a study, the seeds of each of its own cells.

    Raises SpecError for runs that are no chains, of different bases, or fewer than two; ModelError where weights are
    not kept.
    """
    if len(names) == 1:
        found = _study_groups(ws, find_study(ws.cache, names[0]))
    else:
        chains = [Chain(ws.cache, find_run(ws.cache, name)) for name in dict.fromkeys(names)]
        found = [("the runs named", chains)]
    return [_group(ws, label, chains) for label, chains in found]


def _study_groups(ws: Workspace, study: Study) -> list[tuple[str, list[Chain]]]:
    if study.kind != KIND:
        raise SpecError(f"run {study.run_id} is a {study.kind}; give two or more chains, or one study")
    cells: dict[str, list[Chain]] = {}
    for cell in study.cells:
        if cell.ways and (cell.rate, cell.repeats, cell.method) == (1.0, 1.0, "full"):
            size = "all facts" if cell.n is None else f"N = {cell.n:,}"
            cells.setdefault(f"level {cell.level}, {size}", []).append(Chain(ws.cache, cell.ways[0].run_id))
    found = [(label, chains) for label, chains in cells.items() if len(chains) > 1]
    if not found:
        raise SpecError(
            f"study {study.name}: no cell has two finished seeds; masks are compared between seeds"
        )
    return found


def _group(ws: Workspace, label: str, chains: Sequence[Chain]) -> Group:
    if len({chain.tuned_id for chain in chains}) < 2:
        raise SpecError("masks: got one fine-tuned model; allowed: two or more of one base")
    if len({chain.base_id for chain in chains}) > 1:
        raise SpecError(
            "masks: the runs have different base models; masks are compared between those of one base"
        )
    base = ws.open_model(DEMO if chains[0].base_name == DEMO else chains[0].base_id)
    unique = {chain.tuned_id: chain for chain in sorted(chains, key=lambda chain: chain.tuned_id)}
    tuned = tuple(ws.open_model(tuned_id) for tuned_id in unique)
    return Group(label, base, tuned, tuple(chain.run_id for chain in unique.values()))


def compare_masks(
    ws: Workspace,
    group: Group,
    ks: Sequence[Percent] = MASK_KS,
    *,
    strategy: str = "top",
    region: str = "transformer",
    layers: str | None = None,
) -> Run:
    """The run that holds table masks of a group. Raises SpecError, ModelError."""
    from sftknow_core.update.masks import MASKS_VERSION, overlaps

    ks = tuple(sorted(set(ks)))
    spec = RunSpec(
        "masks",
        inputs={"base": group.base.model_id, **{f"tuned{i}": m.model_id for i, m in enumerate(group.tuned)}},
        params={"k_percent": [str(k) for k in ks], "strategy": strategy, "region": region, "layers": layers},
        versions={"masks": MASKS_VERSION},
    )
    about = {"base": group.base.name, "title": f"masks of {len(group.tuned)} fine-tunings: {group.label}"}
    with ws.open_run(spec, about) as run:
        if not run.done:
            ws.reporter.stage(f"comparing masks: {group.label}")

            def tell(done: int, total: int) -> None:
                run.check_stop()
                run.progress(done, total, "bytes compared")

            pairs = [ModelPair(group.base, model).weights for model in group.tuned]
            found = overlaps(pairs, ks, strategy=strategy, region=region, layers=layers, progress=tell)
            ids = [model.model_id for model in group.tuned]
            shared = {"base_id": group.base.model_id, "strategy": strategy, "region": region}
            rows = [{**shared, **_mask_row(one, ids)} for one in found]
            run.write_chunk(0, {"masks": rows})
            ws.finish(run, {"n_models": len(ids), "n_region": rows[0]["n_region"]})
        return run


def _mask_row(one: Any, ids: Sequence[str]) -> dict[str, Any]:
    reason = "a mask is empty" if one.jaccard is None else None
    return {
        "first_id": ids[one.first],
        "second_id": None if one.second is None else ids[one.second],
        "k_percent": float(one.k_percent),
        "n_region": one.n,
        "n_first": one.n_first,
        "n_second": one.n_second,
        "n_both": one.n_both,
        "n_expected": one.n_expected,
        "jaccard": one.jaccard,
        "chance_jaccard": one.chance_jaccard,
        "expected_jaccard": one.expected_jaccard,
        "energy_share": one.energy_share,
        "own_energy_share": one.own_energy_share,
        "reason": "no weight of the first model changed" if one.energy_share is None else reason,
    }


# -- the donor test: model i restored with the mask of model j


@dataclass
class _DonorLoader(StateLoader):
    """Brings models into memory that are restored with another's mask."""

    donors: dict[str, tuple[ModelPair, RestoreSpec]] = field(default_factory=dict)
    """state_id -> whose mask."""

    def load(self, state: State) -> LanguageModel:
        """The model, until the next one is loaded."""
        from sftknow_core.update.masks import restore_by_donor

        assert self.pair is not None
        donor, spec = self.donors[state.state_id]
        working = self._working_copy()
        restore_by_donor(working.model, self.pair.weights, donor.weights, donor.plan(spec))
        return working


def ask_donors(
    ws: Workspace, group: Group, k: Percent, *, strategy: str = "top", region: str = "transformer"
) -> Run:
    """The run that holds table donors: every model of the group restored with the mask of each, itself too.

    Asked are the in-domain test questions of the group's first chain. Raises SpecError, DataError, Stopped.
    """
    first = Chain(ws.cache, group.chains[0])
    exam = _exam(ws, first, group.base)
    wanted = RestoreSpec(strategy, region, None, k)
    spec = RunSpec(
        "donors",
        inputs={
            "base": group.base.model_id,
            "questions": exam.questions_id,
            "mastery": exam.mastery.run.run_id,
            **{f"tuned{i}": model.model_id for i, model in enumerate(group.tuned)},
        },
        params={"restore": wanted.to_json(), "evaluate": exam.spec.model_dump()},
        versions={"donors": DONORS_VERSION},
    )
    about = {
        "base": group.base.name,
        "title": f"donor masks of {len(group.tuned)} fine-tunings: {group.label}",
    }
    with ws.open_run(spec, about) as run:
        if not run.done:
            outer, ws.parent = ws.parent, run
            try:
                rows = _ask_each(ws, run, group, exam, wanted)
            finally:
                ws.parent = outer
            run.write_chunk(0, {"donors": rows})
            ws.finish(run, {"n_models": len(group.tuned), "n_questions": len(exam.questions)})
        return run


def _ask_each(
    ws: Workspace, run: Run, group: Group, exam: EvaluationPlan, wanted: RestoreSpec
) -> list[dict[str, Any]]:
    pairs = [ModelPair(group.base, model) for model in group.tuned]
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        loader = _DonorLoader(ws, group.base, pair)
        for number, donor in enumerate(pairs):
            named = [group.base.model_id, pair.tuned.model_id, donor.tuned.model_id, wanted.to_json()]
            text = json.dumps(["donor", DONORS_VERSION, *named], sort_keys=True)
            state_id = hashlib.sha256(text.encode()).hexdigest()[:16]
            loader.donors[state_id] = (donor, wanted)
            ws.reporter.stage(
                f"asking {len(exam.questions):,} questions: {pair.tuned.name}, mask of {donor.tuned.name}"
            )
            run.progress(len(rows), len(pairs) ** 2, f"donor {number + 1}")
            asked = evaluate(exam, State(state_id, "restored", group.base, pair.tuned), loader)
            rows.append(_donor_row(asked, exam, pair, donor, wanted, state_id))
    return rows


def _donor_row(
    asked: RunFolder,
    exam: EvaluationPlan,
    pair: ModelPair,
    donor: ModelPair,
    wanted: RestoreSpec,
    state_id: str,
) -> dict[str, Any]:
    place = {"split": "test", "domain": "in", "level": None, "matcher": exam.spec.matcher, "subset": "all"}
    table = asked.read("accuracies").to_pylist()
    found: dict[str, Any] = next(
        (row for row in table if all(row[name] == value for name, value in place.items())), {}
    )
    assert wanted.k_percent is not None
    return {
        "base_id": pair.base.model_id,
        "tuned_id": pair.tuned.model_id,
        "donor_id": donor.tuned.model_id,
        "k_percent": float(wanted.k_percent),
        "state_id": state_id,
        "evaluate_id": asked.run_id,
        "n": found.get("n", 0),
        **{name: found.get(name) for name in ("accuracy", "low", "high")},
        "reason": found.get("reason") if found else "no in-domain test question has a mastery level",
    }


def _exam(ws: Workspace, chain: Chain, base: ModelHandle) -> EvaluationPlan:
    about = chain.about
    if not about.get("facts") or "questions" not in about or chain.stages.mastery is None:
        raise SpecError(
            f"chain {chain.run_id} did not put on record how its questions were read; repeat its command"
        )
    facts, topics = FactsRef.from_json(about["facts"]).load()
    mastery = Mastery(RunFolder(ws.cache, chain.stages.mastery))
    questions = choose_questions(facts.facts, mastery.levels, QuestionSpec(**about["questions"]))
    on_test = tuple(fact for fact in questions if (fact.split, fact.domain) == ("test", "in"))
    asked = EvaluateSpec(**chain.spec.params["evaluate"]).but(first_tokens=False)
    return EvaluationPlan(ws, base, facts, topics, mastery, on_test, asked)
