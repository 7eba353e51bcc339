"""A finished chain as a typed, lazy, read-only handle: its states, accuracies, shifts, the chosen k and its gain.

A state's numbers come from the accuracies that are stored, whichever run measured it: a k that was measured after the
chain, on the chain's own questions and in its way, stands among the chain's own. Accuracies and probabilities are
shares (0 to 1), k is in percent, shifts are in nats. `state` in tables is base, tuned, restored, hybrid (100% of the
region restored) or five-shot (the base after five exemplars).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.results import measured
from sftknow_core.results.measured import Asked, MeasuredState
from sftknow_core.results.run import Run, check_intact, finished_stamp, stamp_of
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec, percent

if TYPE_CHECKING:
    from sftknow_core.results.mastery_facts import Mastery
    from sftknow_core.results.question_detail import Questions
    from sftknow_core.results.weights import Cube

GROUPS = {"dev_in": ("dev", "in"), "test_in": ("test", "in"), "test_out": ("test", "out")}
"""Name of a group of questions -> (split, domain)."""
KL_LEVEL = 4
"""The mastery level whose questions the token shift is about: those that base knows best."""
_BY_K_ALONE = ("top", "bottom", "largest", "smallest")
"""Strategies whose states k alone tells apart."""
_ACCURACY = ("accuracy", "low", "high", "n", "reason")
_NUMBERS = ["accuracy", "low", "high", "n"]
_TAKEN = ("n_restored", "n_region", "share_of_r", "energy_taken_back", "k_of_changed_percent")


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
    """Paired difference of two level-balanced accuracies on the same questions, restored minus tuned."""

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
    """The share of the summed r that the k percent of largest r hold, and had changes been dealt out at random."""

    k_percent: float
    share: float | None
    null_share: float | None


@dataclass(frozen=True)
class Stages:
    """Which run did what; state -> run where each state was asked."""

    delta: str
    evaluate: Mapping[str, str]
    evaluate_train: Mapping[str, str]
    controls: Mapping[str, str]
    completion: Mapping[str, str]
    mastery: str | None = None
    sft: str | None = None
    five_shot: str | None = None

    @property
    def runs(self) -> list[str | None]:
        """All of them."""
        many = (self.evaluate, self.evaluate_train, self.controls, self.completion)
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
    """(split, domain) -> mean over levels."""
    train: Accuracy | None
    """On the questions it was trained on; None: not asked."""
    shift: Shift | None
    """Aligned, in-domain test questions of level 4; None: first tokens were not measured."""
    n_restored: int | None = None
    n_region: int | None = None
    share_of_r: float | None = None
    energy_taken_back: float | None = None
    k_of_changed_percent: float | None = None

    @property
    def label(self) -> str:
        """For people: "restored 20%"."""
        if self.k_percent is None or self.kind == "tuned":
            return self.kind
        amount = f"{Decimal(repr(self.k_percent)).normalize():f}%"
        return f"restored {amount}" if self.kind == "restored" else f"hybrid ({amount})"

    def score(self, split: str, domain: str = "in") -> Accuracy | None:
        """None: not asked."""
        return self.scores.get((split, domain))


@dataclass(frozen=True)
class Chain(Run):
    """A finished chain. Whatever reads answers raises GoneError or DamagedError where a stage of it is."""

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

    @property
    def level(self) -> str | None:
        """Mastery level of the train set; None where the tuned model was given."""
        return self.train_set.level if self.train_set else None

    @property
    def n(self) -> int | None:
        """Size of the train set."""
        return self.train_set.n if self.train_set else None

    @property
    def seed(self) -> int | None:
        """What drew the train set and drove the fine-tuning."""
        return self.train_set.seed if self.train_set else None

    @property
    def method(self) -> str | None:
        """full or lora; None where the tuned model was given."""
        sft = self.spec.params.get("sft")
        return str(sft.get("method", "full")) if sft else None

    @cached_property
    def stages(self) -> Stages:
        """Which run did what."""
        found = self._summary["stages"]
        many = ("evaluate", "evaluate_train", "controls", "completion")
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
        return RestoreSpec(**given, k_percent=percent(f"{k_percent:.4f}"))

    @cached_property
    def chosen(self) -> Chosen:
        """The k chosen on dev, and its gain on test."""
        found = self._summary["chosen"]
        names = [f.name for f in fields(Gain)]
        gain = {
            group: None if one is None else Gain(**{name: one[name] for name in names})
            for group, one in found["gain"].items()
        }
        picked = found.get("test_picked")
        return Chosen(
            k_percent=float(found["k_percent"]),
            state_id=str(found["state_id"]),
            best_k_percent_on_dev=float(found.get("best_k_percent_on_dev") or 0),
            rule=str(found["rule"]),
            gain=gain,
            test_picked=Optimism(picked["k_percent"], picked["optimism"]) if picked else None,
        )

    @property
    def best_k(self) -> float:
        """The k chosen on dev, percent; 0: nothing is put back."""
        return self.chosen.k_percent

    @property
    def gain(self) -> Gain | None:
        """Of the chosen k over tuned, on in-domain test questions; None where there are too few."""
        return self.gain_on("in")

    def gain_on(self, domain: str) -> Gain | None:
        """The same on the test questions of a domain, in or out."""
        return self.chosen.gain.get(f"test_{domain}")

    @property
    def changed_share(self) -> Mapping[str, float]:
        """Region -> share of its weights whose bits differ."""
        found: Mapping[str, float] = self._summary["changed_share"]
        return found

    @property
    def concentration(self) -> tuple[Concentrated, ...]:
        """Of the region transformer, by k."""
        names = ("k_percent", "share", "null_share")
        return tuple(
            Concentrated(*(row.get(name) for name in names)) for row in self._summary["concentration"]
        )

    @property
    def majority(self) -> Mapping[str, Accuracy]:
        """Group (GROUPS) -> what always giving the topic's most frequent answer would score, where that is known."""
        return {group: _accuracy(row) for group, row in (self._summary.get("majority") or {}).items() if row}

    @property
    def five_shot(self) -> Mapping[str, Accuracy]:
        """Group (GROUPS) -> accuracy of the base after five exemplars; empty where it was not asked so."""
        return {group: _accuracy(row) for group, row in (self._summary.get("five_shot") or {}).items() if row}

    @property
    def asked(self) -> Asked:
        """Its pair of models, and how and what it asked them."""
        spec = self.spec
        prompt = spec.params["evaluate"]["prompt"]
        return Asked(self.base_id, self.tuned_id, prompt, self.matcher, str(spec.inputs["questions"]))

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
        train = self.stages.evaluate_train
        read = {"run_ids": list({*runs.values(), *train.values()}), "where": {"state_id": list(runs)}}
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

    def accuracy(self, split: str | None = None, domain: str | None = None) -> pd.DataFrame:
        """Accuracy with n and 95% interval, one row a state, question set and level (<NA>: mean over levels).

        Columns: state, k_percent, split, domain, level, accuracy, low, high, n, n_right, reason, question_set_id,
        state_id, run_id. None: any split, domain.
        """
        states = {state.state_id: state for state in self.states}
        chosen = {"matcher": self.matcher, "subset": "all", "split": split, "domain": domain}
        rows = read_table(
            self.cache,
            "accuracies",
            run_ids=list(dict.fromkeys(state.run_id for state in states.values())),
            where={"state_id": list(states)} | {name: v for name, v in chosen.items() if v is not None},
        )
        rows["state"] = rows["state_id"].map({key: state.kind for key, state in states.items()})
        rows["k_percent"] = rows["state_id"].map({key: state.k_percent for key, state in states.items()})
        rows["place"] = rows["state_id"].map({key: i for i, key in enumerate(states)})
        kept = ["state", "k_percent", "split", "domain", "level", *_NUMBERS, "n_right", "reason"]
        rows = rows.sort_values(["place", "domain", "split", "level"], kind="stable", ignore_index=True)
        return rows[[*kept, "question_set_id", "state_id", "run_id"]].astype({"k_percent": "float64"})

    def shift(self, level: int = KL_LEVEL, k_percent: float = 0.0) -> Shift:
        """Mean aligned token shift of in-domain test questions of a level; `nats` is None with a reason.

        k_percent: which state; 0 is tuned. Raises SpecError for a k that was not measured.
        """
        state = self.state_at(k_percent)
        where = {
            "state_id": state.state_id,
            "split": "test",
            "domain": "in",
            "level": level,
            "measure": "aligned",
        }
        rows = read_table(self.cache, "shifts", run_ids=[state.run_id], where=where)
        if rows.empty:
            return Shift(
                None, None, None, 0, 0, f"no question of level {level} was compared by its first token"
            )
        return _shift(rows.iloc[0])

    def curve(self, split: str) -> pd.DataFrame:
        """Accuracy over k of one split, by domain: tuned (k 0), restored, hybrid, then base and five-shot (k NaN).

        Columns: domain, state, k_percent, accuracy, low, high, n, chosen (the k chosen on dev), energy_taken_back (0
        for tuned, 1 for base), question_set_id.
        """
        rows = self.accuracy(split)
        rows = rows[rows["level"].isna()].sort_values(["domain", "k_percent"], kind="stable")
        rows["chosen"] = rows["state_id"] == self.chosen.state_id
        taken = {s.state_id: s.energy_taken_back for s in self.states} | {
            self.tuned_id: 0.0,
            self.base_id: 1.0,
        }
        rows["energy_taken_back"] = rows["state_id"].map(taken).astype("float64")
        kept = ["domain", "state", "k_percent", *_NUMBERS, "chosen", "energy_taken_back", "question_set_id"]
        five = read_table(
            self.cache,
            "accuracies",
            run_ids=[self.stages.five_shot] if self.stages.five_shot else [],
            columns=["domain", *_NUMBERS, "question_set_id"],
            where={"split": split, "matcher": self.matcher, "subset": "all", "level": None},
        ).assign(state="five-shot", chosen=False)
        tables = [rows[kept], *([five] if len(five) else [])]
        return pd.concat(tables).sort_values("domain", kind="stable", ignore_index=True)

    def levels(self) -> pd.DataFrame:
        """Accuracy on test by domain, mastery level and state: base, tuned, and restored by the chosen k.

        A level without questions has no row, and "restored" has none where the chosen k is 0.
        """
        names = {self.chosen.state_id: "restored", self.base_id: "base", self.tuned_id: "tuned"}
        rows = self.accuracy("test")
        rows = rows.assign(state=rows["state_id"].map(names))
        rows = rows[rows["level"].notna() & rows["state"].notna() & rows["accuracy"].notna()]
        kept = ["domain", "level", "state", *_NUMBERS, "question_set_id"]
        return rows.sort_values(["domain", "level"], kind="stable")[kept].reset_index(drop=True)

    def shifted_questions(self, search: str = "", limit: int = 200) -> pd.DataFrame:
        """The in-domain test questions of level 4 whose first token moved most by tuning, largest KL first.

        search: only questions with this text in question, gold or answer, whatever its case. Columns: question, gold,
        tuned_answer (marked ✓ or ✗), kl_aligned_nats, gold_p_base, gold_p_state.
        """
        self._check()
        where = {"state_id": self.tuned_id}
        run_ids = [self.stages.evaluate[self.tuned_id]]
        named = ["fact_id", "split", "domain", "question", "gold", "completion", self.matcher]
        answers = read_table(self.cache, "answers", run_ids=run_ids, columns=named, where=where)
        answers = answers.rename(columns={self.matcher: "right"}).drop_duplicates("fact_id")
        shifts = read_table(self.cache, "first_token", run_ids=run_ids, where=where)
        rows = shifts.dropna(subset=["kl_aligned_nats"]).merge(answers, how="left", on="fact_id")
        rows = rows[(rows["level"] == KL_LEVEL) & (rows["split"] == "test") & (rows["domain"] == "in")]
        rows = rows.nlargest(limit, "kl_aligned_nats").reset_index(drop=True)
        rows["tuned_answer"] = rows["right"].map({True: "✓ ", False: "✗ "}) + rows["completion"].str.strip()
        texts = rows["question"] + "\n" + rows["gold"] + "\n" + rows["completion"]
        found = texts.str.contains(search.strip(), case=False, regex=False)
        kept = ["question", "gold", "tuned_answer", "kl_aligned_nats", "gold_p_base", "gold_p_state"]
        return rows.loc[found, kept].reset_index(drop=True)

    def measured(self, spec: RestoreSpec | None = None, question_set: str | None = None) -> pd.DataFrame:
        """Every measured state of its pair that a way of restoring selects at some k; see measured.measured_states.

        spec: None: the chain's own way. question_set: an id of `question_sets`; None: the chain's own questions. With
        column `chosen`: the k chosen on dev.
        """
        if question_set is None:
            self._check([self.stages.evaluate[end] for end in (self.base_id, self.tuned_id)])
        rows = measured.measured_states(self.cache, self._asking(question_set), spec or self.restoring)
        chosen = (rows["state_id"] == self.chosen.state_id) & (rows["state"] != measured.FIVE_SHOT)
        rows.insert(rows.columns.get_loc("k_of_changed_percent"), "chosen", chosen)  # type: ignore[arg-type]
        return rows

    def ways(self, question_set: str | None = None) -> pd.DataFrame:
        """Every measured state of its pair, whatever the way of restoring; see measured.measured_ways."""
        return measured.measured_ways(self.cache, self._asking(question_set))

    def question_sets(self) -> pd.DataFrame:
        """The sets that its pair was asked in the chain's way, its own first; see measured.question_sets."""
        return measured.question_sets(self.cache, self.asked)

    def flip_counts(
        self, after: MeasuredState, split: str, before: MeasuredState | None = None
    ) -> pd.DataFrame:
        """See measured.flip_counts. before: None: tuned, as the chain asked it."""
        return measured.flip_counts(self.cache, self.matcher, before or self._tuned, after, split)

    def flipped(
        self, after: MeasuredState, split: str, *, before: MeasuredState | None = None, **which: Any
    ) -> pd.DataFrame:
        """See measured.flipped, for what else can be asked. before: None: tuned, as the chain asked it."""
        return measured.flipped(self.cache, self.matcher, before or self._tuned, after, split, **which)

    @property
    def all_questions(self) -> Questions:
        """Its questions one by one."""
        from sftknow_core.results.question_detail import Questions

        return Questions(self.cache, self.run_id)

    def questions(self, *, outcome: str = "all", k: float | None = None, **wishes: Any) -> pd.DataFrame:
        """The questions that pass, as one table; see Questions.filters for what can be asked."""
        asked = self.all_questions
        return asked.frame(asked.filters(outcome=outcome, k=k, **wishes))

    @property
    def cube(self) -> Cube:
        """What its update changed."""
        from sftknow_core.results.weights import Cube

        return Cube(self.cache, self.stages.delta)

    @property
    def mastery(self) -> Mastery | None:
        """The scores that its levels come from; None: none are on record."""
        from sftknow_core.results.mastery_facts import Mastery

        return Mastery(self.cache, self.stages.mastery) if self.stages.mastery else None

    def asked_as(self, state_id: str) -> Run:
        """The run that asked one of its own states: prompt, topics and versions."""
        return Run(self.cache, self.stages.evaluate[state_id])

    @property
    def _tuned(self) -> MeasuredState:
        return MeasuredState("tuned", self.tuned_id, self.stages.evaluate[self.tuned_id], 0.0)

    def _asking(self, question_set: str | None) -> Asked:
        asked = self.asked
        return asked if question_set is None else Asked(**{**asked.values, "question_set": question_set})

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
            {(str(row["split"]), str(row["domain"])): _accuracy(row) for _, row in own.iterrows()},
            _accuracy(learnt.iloc[0]) if len(learnt) else None,
            _shift(moved.iloc[0]) if len(moved) else None,
            **({} if restored is None else {name: _plain(restored[name]) for name in _TAKEN}),
        )


def _plain(value: Any) -> Any:
    """None for NULL, else a Python number or text."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _accuracy(row: Any) -> Accuracy:
    return Accuracy(**{name: _plain(row.get(name)) for name in _ACCURACY})


def _shift(row: Any) -> Shift:
    names = ("mean_nats", "low_nats", "high_nats", "n", "n_questions", "reason")
    return Shift(*(_plain(row[name]) for name in names))


def _later(chain: Chain) -> tuple[MeasuredState, ...]:
    """States measured after the chain: in its way, on all its questions, at a k that it has not itself."""
    ways = chain.spec.params.get("restore") or []
    if "questions" not in chain.spec.inputs or not ways or ways[0].get("strategy") not in _BY_K_ALONE:
        return ()
    rows = measured.measured_states(chain.cache, chain.asked, chain.restoring)
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
    return tuple(state.run_id for state in _later(Chain(cache, run_id)))
