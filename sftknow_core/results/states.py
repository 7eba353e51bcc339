"""A finished chain's states, each with its accuracies and token shift, and the frozen records that a chain hands out.

A state's numbers come from the accuracies that are stored, whichever run measured it: a k that was measured after the
chain, on the chain's own questions and in its way, stands among the chain's own. Accuracies and probabilities are
shares (0 to 1), k is in percent, shifts are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.facts.matcher import RULES
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT, Asked, MeasuredState, measured_states
from sftknow_core.results.run import Run, check_intact, finished_stamp, stamp_of
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import NO_PROJECTION, RestoreSpec, rounded_percent, stored_projection

KL_LEVEL = 4
"""The mastery level whose questions the token shift is about: those that base knows best."""
_BY_K_ALONE = ("top", "bottom", "largest", "smallest")
"""Strategies whose states k alone tells apart."""
_ACCURACY = ("accuracy", "low", "high", "n", "reason")
_TAKEN = ("n_restored", "n_region", "share_of_r", "energy_taken_back", "k_of_changed_percent")
"""Columns of table `restorations` as they are; the projection is `stored_projection`."""


@dataclass(frozen=True)
class Accuracy:
    """One accuracy, the mean over mastery levels unless a level is named; 95% interval."""

    accuracy: float | None
    """0 to 1; None: not scored, see `reason`."""
    low: float | None
    high: float | None
    n: int
    reason: str | None = None
    """Why there is none, or what was left out."""


@dataclass(frozen=True)
class Shift:
    """A mean token shift with its 95% interval."""

    nats: float | None
    """None: nothing could be scored, see `reason`."""
    low: float | None
    high: float | None
    n: int
    """Questions that count."""
    n_questions: int
    reason: str | None = None


@dataclass(frozen=True)
class Gain:
    """Paired difference of two level-balanced accuracies on the same questions under one prompt, later minus earlier
    state: restored minus tuned, unless it says otherwise."""

    value: float
    low: float
    high: float
    p_value: float | None
    n_questions: int


@dataclass(frozen=True)
class Optimism:
    """What choosing k on the in-domain test questions themselves would have claimed."""

    k_percent: float
    optimism: float
    """By how much too much, as a share."""


@dataclass(frozen=True)
class Chosen:
    """The k chosen on dev, and what it gains on test."""

    k_percent: float
    state_id: str
    best_k_percent_on_dev: float
    rule: str
    gain: Mapping[str, Gain | None]
    """test_in, test_out -> None where it has too few questions."""
    five_shot_tuning: Mapping[str, Gain | None]
    """Tuned minus base on the same questions, both after five exemplars; empty where they were not asked so."""
    five_shot_gain: Mapping[str, Gain | None]
    """As `gain`, both after five exemplars; empty likewise."""
    test_picked: Optimism | None


@dataclass(frozen=True)
class TrainSet:
    """What was fine-tuned on."""

    level: str
    """0 to 4, mixed or natural."""
    n: int
    seed: int


@dataclass(frozen=True)
class Concentrated:
    """The share of the summed r that the k percent of largest r hold, and had changes been permuted within tensors."""

    k_percent: float
    share: float | None
    null_share: float | None
    """Mean over permutations."""
    null_low: float | None = None
    """Between `null_low` and `null_high` lie the middle 95% of the permutations; None where one alone was measured."""
    null_high: float | None = None
    n_permutations: int | None = None
    p_two_sided: float | None = None
    """Rank p of the share among the permutations."""
    top_20_share: float | None = None
    """Of the 20 largest r alone, whatever k."""


@dataclass(frozen=True)
class Stages:
    """Which run did what; state -> run where each state was asked."""

    delta: str
    evaluate: Mapping[str, str]
    evaluate_train: Mapping[str, str]
    controls: Mapping[str, str]
    completion: Mapping[str, str]
    five_shot_states: Mapping[str, str]
    """Every state on test after five exemplars; empty where only the base was asked so, or none."""
    mastery: str | None = None
    sft: str | None = None
    five_shot: str | None = None
    """The base after five exemplars."""

    @property
    def runs(self) -> list[str | None]:
        """All of them."""
        many = (
            self.evaluate,
            self.evaluate_train,
            self.controls,
            self.completion,
            self.five_shot_states,
        )
        alone = (self.mastery, self.sft, self.delta, self.five_shot)
        return [*alone, *(run for by_state in many for run in by_state.values())]


@dataclass(frozen=True)
class State:
    """One asked state of a chain: its numbers under the chain's matcher."""

    state_id: str
    kind: str
    """base, tuned, restored or hybrid."""
    k_percent: float | None
    """0 for tuned; None for base."""
    run_id: str
    """The evaluation that holds its answers."""
    scores: Mapping[tuple[str, str], Accuracy]
    """(split, domain) -> mean over levels; with the prompt that was tuned with."""
    five_shot: Mapping[tuple[str, str], Accuracy]
    """The same after five exemplars, on test; empty where it was not asked so."""
    train: Accuracy | None
    """On the questions it was trained on; None: not asked."""
    shift: Shift | None
    """Aligned, in-domain test questions of level 4; None: first tokens were not measured."""
    n_restored: int | None = None
    n_region: int | None = None
    share_of_r: float | None = None
    energy_taken_back: float | None = None
    projection_taken_back: float | None = None
    """None for base and tuned, and where it was not measured: see `projection_reason`."""
    k_of_changed_percent: float | None = None

    @property
    def label(self) -> str:
        """For people: "restored 20%"."""
        if self.k_percent is None or self.kind == "tuned":
            return self.kind
        amount = f"{Decimal(repr(self.k_percent)).normalize():f}%"
        return f"restored {amount}" if self.kind == "restored" else f"hybrid ({amount})"

    @property
    def projection_reason(self) -> str | None:
        """Why a restored model has no projection taken back; None where it has one, or nothing was restored."""
        lacks = self.energy_taken_back is not None and self.projection_taken_back is None
        return NO_PROJECTION if lacks else None

    def score(self, split: str, domain: str = "in", prompt: str = ZERO_SHOT) -> Accuracy | None:
        """None: not asked. prompt: ZERO_SHOT or FIVE_SHOT (results/measured.py)."""
        return (self.five_shot if prompt == FIVE_SHOT else self.scores).get((split, domain))


@dataclass(frozen=True)
class ChainStates(Run):
    """A finished chain as far as its states; `Chain` adds its tables and the handles of what it made.

    Whatever reads answers raises GoneError or DamagedError where a stage of it is.
    """

    KIND: ClassVar[str | None] = "chain"
    NAME: ClassVar[str] = "chain"

    @cached_property
    def _summary(self) -> Mapping[str, Any]:
        return self.manifest.summary

    @property
    def base_id(self) -> str:
        """The model before fine-tuning."""
        return str(self._summary["base_id"])

    @property
    def tuned_id(self) -> str:
        """The model after it."""
        return str(self._summary["tuned_id"])

    @property
    def base_name(self) -> str:
        """What people call it."""
        return str(self._summary["base_name"])

    @property
    def tuned_name(self) -> str:
        """What people call it."""
        return str(self._summary["tuned_name"])

    @property
    def matcher(self) -> str:
        """What decides whether an answer is right: words, substring or exact."""
        return str(self._summary["matcher"])

    @property
    def train_set(self) -> TrainSet | None:
        """None where the tuned model was given."""
        found = self._summary["train_set"]
        return TrainSet(str(found["level"]), int(found["n"]), int(found["seed"])) if found else None

    @cached_property
    def stages(self) -> Stages:
        """Which run did what."""
        found = self._summary["stages"]
        many = ("evaluate", "evaluate_train", "controls", "completion", "five_shot_states")
        alone = {f.name: found.get(f.name) for f in fields(Stages) if f.name not in many}
        return Stages(**alone, **{name: found.get(name, {}) for name in many})

    @cached_property
    def restoring(self) -> RestoreSpec:
        """How weights were put back: strategy, region, layers and seed, at k = 0; `restoring_at` gives another k."""
        return self.restoring_at(0)

    def restoring_at(self, k_percent: float) -> RestoreSpec:
        """The same way of restoring at this k. Raises SpecError."""
        way = (self.spec.params.get("restore") or [{}])[0]
        given = {name: way[name] for name in ("strategy", "region", "layers", "seed") if way.get(name)}
        return RestoreSpec(**given, k_percent=rounded_percent(k_percent))

    @cached_property
    def chosen(self) -> Chosen:
        """The k chosen on dev, and its gain on test."""
        found = self._summary["chosen"]
        after_five = found.get("five_shot") or {}
        picked = found.get("test_picked")
        return Chosen(
            k_percent=float(found["k_percent"]),
            state_id=str(found["state_id"]),
            best_k_percent_on_dev=float(found.get("best_k_percent_on_dev") or 0),
            rule=str(found["rule"]),
            gain=_gains(found["gain"]),
            five_shot_tuning=_gains(after_five.get("tuning") or {}),
            five_shot_gain=_gains(after_five.get("gain") or {}),
            test_picked=Optimism(picked["k_percent"], picked["optimism"]) if picked else None,
        )

    @property
    def best_k(self) -> float:
        """The k chosen on dev, percent; 0: nothing is put back."""
        return self.chosen.k_percent

    @property
    def asked(self) -> Asked:
        """Its pair of models, and how and what it asked them."""
        spec = self.spec
        prompt = spec.params["evaluate"]["prompt"]
        rules = self.asked_as(self.tuned_id).spec.inputs.get(RULES)
        return Asked(
            base_id=self.base_id,
            tuned_id=self.tuned_id,
            prompt=prompt,
            matcher=self.matcher,
            question_set=str(spec.inputs["questions"]),
            rules=None if rules is None else str(rules),
        )

    @property
    def prompts(self) -> tuple[str, ...]:
        """Under which base, tuned and restored were all asked: FIVE_SHOT where they were, then ZERO_SHOT."""
        return (FIVE_SHOT, ZERO_SHOT) if self.stages.five_shot_states else (ZERO_SHOT,)

    @property
    def stamp(self) -> str:
        """Changes exactly when the chain, one of its stages or a state measured later is removed or made anew."""
        later = _later_runs(self.cache, self.run_id, finished_stamp(self.cache))
        return stamp_of(self.cache, [*self.stages.runs, self.run_id, *later])

    @cached_property
    def states(self) -> tuple[State, ...]:
        """Base, tuned, then restored ones by k, whichever run measured them."""
        self._check()
        runs = self._runs_by_state
        train, five = self.stages.evaluate_train, self.stages.five_shot_states
        asked = {*runs.values(), *train.values(), *five.values()}
        read = {"run_ids": list(asked), "where": {"state_id": list(runs)}}
        scores = read_table(self.cache, "accuracies", **read)  # type: ignore[arg-type]
        scores = scores[(scores["matcher"] == self.matcher) & (scores["subset"] == "all")]
        means = scores[scores["level"].isna()]
        shifts = read_table(self.cache, "shifts", **read)  # type: ignore[arg-type]
        taken = read_table(self.cache, "restorations", **read)  # type: ignore[arg-type]
        found = [
            self._state(state_id, run_id, means, shifts, taken[taken["run_id"] == run_id])
            for state_id, run_id in runs.items()
        ]
        ends = [self.base_id, self.tuned_id]
        restored = [state for state in found if state.state_id not in ends]
        by_id = {state.state_id: state for state in found}
        return (*(by_id[end] for end in ends), *sorted(restored, key=lambda s: s.k_percent or 0.0))

    def state_at(self, k_percent: float) -> State:
        """The state restored by this k; 0: tuned. Raises SpecError naming the k there are."""
        for state in self.states:
            if state.k_percent == k_percent:
                return state
        ks = ", ".join(f"{s.k_percent:g}" for s in self.states if s.k_percent)
        raise SpecError(f"this chain was not restored by k = {k_percent:g}%; measured: {ks}")

    @property
    def base(self) -> State:
        """The model before fine-tuning."""
        return self.states[0]

    @property
    def tuned(self) -> State:
        """The model after fine-tuning."""
        return self.states[1]

    @property
    def restored(self) -> State:
        """By the chosen k; tuned where that is 0."""
        return next(state for state in self.states if state.state_id == self.chosen.state_id)

    def asked_as(self, state_id: str) -> Run:
        """The run that asked one of its own states: prompt, topics and versions."""
        return Run(self.cache, self.stages.evaluate[state_id])

    def _check(self, run_ids: list[str] | None = None) -> None:
        """Raise GoneError or DamagedError where the runs that hold its answers are not there as written."""
        check_intact(self.cache, f"chain {self.run_id}", run_ids or self.stages.evaluate.values())

    @cached_property
    def _runs_by_state(self) -> Mapping[str, str]:
        """State -> the evaluation that holds its answers: the chain's own, then those measured later."""
        later = _later(self)
        return {**self.stages.evaluate, **{state.state_id: state.run_id for state in later}}

    def _state(
        self, state_id: str, run_id: str, means: pd.DataFrame, shifts: pd.DataFrame, taken: pd.DataFrame
    ) -> State:
        own = means[(means["run_id"] == run_id) & (means["state_id"] == state_id)]
        learnt = means[means["run_id"] == self.stages.evaluate_train.get(state_id)]
        learnt = learnt[(learnt["state_id"] == state_id) & (learnt["split"] == "train")]
        after_five = means[means["run_id"] == self.stages.five_shot_states.get(state_id)]
        after_five = after_five[(after_five["state_id"] == state_id) & (after_five["split"] == "test")]
        place = {"run_id": run_id, "state_id": state_id, "split": "test", "domain": "in", "level": KL_LEVEL}
        moved = shifts[shifts["measure"] == "aligned"]
        for column, value in place.items():
            moved = moved[(moved[column] == value).fillna(False)]
        restored = taken.iloc[0] if len(taken) else None
        k = None if restored is None else _plain(restored["k_percent"])
        kinds = {self.base_id: ("base", None), self.tuned_id: ("tuned", 0.0)}
        kind, k = kinds.get(state_id, ("hybrid" if k == 100 else "restored", k))
        return State(
            state_id,
            kind,
            k,
            run_id,
            _by_group(own),
            _by_group(after_five),
            accuracy_of(learnt.iloc[0]) if len(learnt) else None,
            shift_of(moved.iloc[0]) if len(moved) else None,
            **({} if restored is None else _taken(restored)),
        )


def _taken(row: Any) -> dict[str, Any]:
    return {name: _plain(row[name]) for name in _TAKEN} | {"projection_taken_back": stored_projection(row)}


def _by_group(rows: pd.DataFrame) -> dict[tuple[str, str], Accuracy]:
    return {(str(row["split"]), str(row["domain"])): accuracy_of(row) for _, row in rows.iterrows()}


def _gains(found: Mapping[str, Any]) -> dict[str, Gain | None]:
    """Group -> what a chain's summary says of a difference."""
    names = [f.name for f in fields(Gain)]
    return {
        group: None if one is None else Gain(**{name: one[name] for name in names})
        for group, one in found.items()
    }


def _plain(value: Any) -> Any:
    """None for NULL, else a Python number or text."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def accuracy_of(row: Any) -> Accuracy:
    """From a row of table `accuracies`, or a part of a chain's summary."""
    return Accuracy(**{name: _plain(row.get(name)) for name in _ACCURACY})


def shift_of(row: Any) -> Shift:
    """From a row of table `shifts`."""
    names = ("mean_nats", "low_nats", "high_nats", "n", "n_questions", "reason")
    return Shift(*(_plain(row[name]) for name in names))


def _later(chain: ChainStates) -> tuple[MeasuredState, ...]:
    """States measured after the chain: in its way, on all its questions, at a k that it has not itself."""
    ways = chain.spec.params.get("restore") or []
    if "questions" not in chain.spec.inputs or not ways or ways[0].get("strategy") not in _BY_K_ALONE:
        return ()
    rows = measured_states(chain.cache, chain.asked, chain.restoring)
    rows = rows[rows["level"].isna()]
    groups = _groups(rows[rows["state"] == "tuned"])
    own = {float(way["k_percent"]) for way in ways}
    restored = rows[rows["state"].isin(["restored", "hybrid"]) & ~rows["k_percent"].isin(own)]
    found: dict[float, MeasuredState] = {}
    for _, group in restored.groupby(["k_percent", "state_id", "run_id"]):
        one = MeasuredState.of_row(group.iloc[0])
        if _groups(group) == groups and not RunFolder(chain.cache, one.run_id).problems():
            found.setdefault(one.k_percent, one)
    return tuple(found.values())


def _groups(rows: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(rows["split"], rows["domain"], strict=True))


@lru_cache(maxsize=256)
def _later_runs(cache: Cache, run_id: str, finished: str) -> tuple[str, ...]:
    """The runs of `_later`; finished: finished_stamp, which alone can change them."""
    return tuple(state.run_id for state in _later(ChainStates(cache, run_id)))
