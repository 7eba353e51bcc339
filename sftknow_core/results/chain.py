"""A finished chain as a typed, lazy, read-only handle: its states, accuracies, shifts, the chosen k and its gain.

Accuracies and probabilities are shares (0 to 1), k is in percent, shifts are in nats. `state` in tables is base,
tuned, restored or hybrid (100% of the region restored). `prompt` is ZERO_SHOT or FIVE_SHOT (measured.py), one
at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd

from sftknow_core.results.mastery import Mastery
from sftknow_core.results.measured import (
    FIVE_SHOT,
    ZERO_SHOT,
    Asked,
    MeasuredState,
    flip_counts,
    flipped,
    measured_states,
    measured_ways,
    question_sets,
)  # fmt: skip
from sftknow_core.results.question_detail import Questions
from sftknow_core.results.states import (
    KL_LEVEL,
    Accuracy,
    ChainStates,
    Concentrated,
    Gain,
    Shift,
    accuracy_of,
    shift_of,
)  # fmt: skip
from sftknow_core.results.weights import Cube
from sftknow_core.store.catalogue import read_table
from sftknow_core.update.spec import RestoreSpec

_NUMBERS = ["accuracy", "low", "high", "n"]
_TAKEN_BACK = ["energy_taken_back", "projection_taken_back"]


@dataclass(frozen=True)
class Chain(ChainStates):
    """A finished chain. Whatever reads answers raises GoneError or DamagedError where a stage of it is."""

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

    @property
    def gain(self) -> Gain | None:
        """Of the chosen k over tuned, on in-domain test questions; None where there are too few."""
        return self.gain_on("in")

    def gain_on(self, domain: str, prompt: str = ZERO_SHOT) -> Gain | None:
        """The same on the test questions of a domain, in or out, both states under the prompt."""
        gains = self.chosen.five_shot_gain if prompt == FIVE_SHOT else self.chosen.gain
        return gains.get(f"test_{domain}")

    def tuning_on(self, domain: str) -> Gain | None:
        """Tuned minus base, both after five exemplars; None where they were not asked so or there are too few."""
        return self.chosen.five_shot_tuning.get(f"test_{domain}")

    @property
    def changed_share(self) -> Mapping[str, float]:
        """Region -> share of its weights whose bits differ."""
        found: Mapping[str, float] = self._summary["changed_share"]
        return found

    @property
    def concentration(self) -> tuple[Concentrated, ...]:
        """Of the region transformer, by k."""
        names = [field.name for field in fields(Concentrated)]
        return tuple(
            Concentrated(*(row.get(name) for name in names)) for row in self._summary["concentration"]
        )

    @property
    def majority(self) -> Mapping[str, Accuracy]:
        """dev_in, test_in or test_out -> what always giving the topic's most frequent answer would score, if known."""
        return {
            group: accuracy_of(row) for group, row in (self._summary.get("majority") or {}).items() if row
        }

    @property
    def five_shot(self) -> Mapping[str, Accuracy]:
        """dev_in, test_in or test_out -> accuracy of the base after five exemplars; empty where it was not asked so."""
        return {
            group: accuracy_of(row) for group, row in (self._summary.get("five_shot") or {}).items() if row
        }

    def accuracy(
        self, split: str | None = None, domain: str | None = None, prompt: str = ZERO_SHOT
    ) -> pd.DataFrame:
        """Accuracy with n and 95% interval, one row a state, question set and level (<NA>: mean over levels).

        Columns: state, k_percent, split, domain, level, accuracy, low, high, n, n_right, reason, question_set_id,
        state_id, run_id. None: any split, domain. Under FIVE_SHOT the split is test; no rows where it was not asked.
        """
        runs = {s.state_id: s.run_id for s in self.states}
        if prompt == FIVE_SHOT:
            runs = dict(self.stages.five_shot_states) if split in (None, "test") else {}
            split = "test"  # the base alone answered dev too
        states = {state.state_id: state for state in self.states if state.state_id in runs}
        chosen = {"matcher": self.matcher, "subset": "all", "split": split, "domain": domain}
        rows = read_table(
            self.cache,
            "accuracies",
            run_ids=list(dict.fromkeys(runs.values())),
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
        return shift_of(rows.iloc[0])

    def curve(self, split: str, prompt: str = ZERO_SHOT) -> pd.DataFrame:
        """Accuracy over k of one split, by domain: tuned (k 0), restored, hybrid, then base (k NaN).

        Columns: domain, state, k_percent, accuracy, low, high, n, chosen (the k chosen on dev), energy_taken_back and
        projection_taken_back (0 for tuned, 1 for base), question_set_id.
        """
        rows = self.accuracy(split, prompt=prompt)
        rows = rows[rows["level"].isna()].sort_values(["domain", "k_percent"], kind="stable")
        rows["chosen"] = rows["state_id"] == self.chosen.state_id
        ends = {self.tuned_id: 0.0, self.base_id: 1.0}
        for name in _TAKEN_BACK:
            taken = {state.state_id: getattr(state, name) for state in self.states} | ends
            rows[name] = rows["state_id"].map(taken).astype("float64")
        kept = ["domain", "state", "k_percent", *_NUMBERS, "chosen", *_TAKEN_BACK, "question_set_id"]
        return rows[kept].sort_values("domain", kind="stable", ignore_index=True)

    def levels(self, prompt: str = ZERO_SHOT) -> pd.DataFrame:
        """Accuracy on test by domain, mastery level and state: base, tuned, and restored by the chosen k.

        A level without questions has no row, and "restored" has none where the chosen k is 0.
        """
        names = {self.chosen.state_id: "restored", self.base_id: "base", self.tuned_id: "tuned"}
        rows = self.accuracy("test", prompt=prompt)
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

    def measured(
        self,
        spec: RestoreSpec | None = None,
        question_set: str | None = None,
        prompt: str = ZERO_SHOT,
    ) -> pd.DataFrame:
        """Every measured state of its pair that a way of restoring selects at some k; see measured.measured_states.

        spec: None: the chain's own way. question_set: an id of `question_sets`; None: the chain's own questions. With
        column `chosen`: the k chosen on dev.
        """
        if question_set is None:
            self._check([self.stages.evaluate[end] for end in (self.base_id, self.tuned_id)])
        rows = measured_states(self.cache, self._asking(question_set, prompt), spec or self.restoring)
        chosen = rows["state_id"] == self.chosen.state_id
        rows.insert(rows.columns.get_loc("k_of_changed_percent"), "chosen", chosen)  # type: ignore[arg-type]
        return rows

    def ways(self, question_set: str | None = None) -> pd.DataFrame:
        """Every measured state of its pair, whatever the way of restoring; see measured.measured_ways."""
        return measured_ways(self.cache, self._asking(question_set))

    def question_sets(self) -> pd.DataFrame:
        """The sets that its pair was asked in the chain's way, its own first; see measured.question_sets."""
        return question_sets(self.cache, self.asked)

    def flip_counts(
        self, after: MeasuredState, split: str, before: MeasuredState | None = None
    ) -> pd.DataFrame:
        """See measured.flip_counts. before: None: tuned, as the chain asked it."""
        return flip_counts(self.cache, self.matcher, before or self._tuned, after, split)

    def flipped(
        self, after: MeasuredState, split: str, *, before: MeasuredState | None = None, **which: Any
    ) -> pd.DataFrame:
        """See measured.flipped, for what else can be asked. before: None: tuned, as the chain asked it."""
        return flipped(self.cache, self.matcher, before or self._tuned, after, split, **which)

    @property
    def all_questions(self) -> Questions:
        """Its questions one by one."""
        return Questions(self.cache, self.run_id)

    def questions(self, *, outcome: str = "all", k: float | None = None, **wishes: Any) -> pd.DataFrame:
        """The questions that pass, as one table; see Questions.filters for what can be asked."""
        asked = self.all_questions
        return asked.frame(asked.filters(outcome=outcome, k=k, **wishes))

    @property
    def cube(self) -> Cube:
        """What its update changed."""
        return Cube(self.cache, self.stages.delta)

    @property
    def mastery(self) -> Mastery | None:
        """The scores that its levels come from; None: none are on record."""
        return Mastery(self.cache, self.stages.mastery) if self.stages.mastery else None

    @property
    def _tuned(self) -> MeasuredState:
        return MeasuredState("tuned", self.tuned_id, self.stages.evaluate[self.tuned_id], 0.0)

    def _asking(self, question_set: str | None, prompt: str = ZERO_SHOT) -> Asked:
        changed = {} if question_set is None else {"question_set": question_set}
        changed |= {"prompt": prompt} if prompt == FIVE_SHOT else {}
        return replace(self.asked, **changed)
