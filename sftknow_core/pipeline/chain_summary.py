"""Finished stages -> what a chain found: one row a state, the k chosen on dev, its gain on test.

Everything here is read from the stages' run folders; nothing is computed from a model. Accuracies are
level-balanced (the mean over mastery levels), under the chain's matcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sftknow_core.facts.fact import Fact, FactSet
from sftknow_core.facts.matcher import FactMatcher, verdict_column
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.summary import majority_answers
from sftknow_core.facts.synonyms import load_synonyms
from sftknow_core.facts.train_set import TrainSet
from sftknow_core.stats.choose import KChoice, choose_k
from sftknow_core.stats.contrast import MIN_QUESTIONS, contrast
from sftknow_core.stats.intervals import Estimate, level_balanced
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder

if TYPE_CHECKING:
    from sftknow_core.pipeline.states import State
    from sftknow_core.pipeline.workspace import ModelHandle
    from sftknow_core.update.spec import Percent, RestoreSpec

N_LEVELS = 5
GROUPS = {"dev_in": ("dev", "in"), "test_in": ("test", "in"), "test_out": ("test", "out")}
"""Name in a summary -> (split, domain)."""
Row = dict[str, Any]


@dataclass(frozen=True)
class EvaluatedState:
    """What a chain asked, and of which models."""

    states: Sequence[State]
    """Base, tuned and the restored ones of which k is chosen."""
    controls: Sequence[State]
    """Restored in other ways, to compare with."""
    beside: Mapping[RestoreSpec, Percent]
    """Control -> the k that takes back the same part of the update, for those that are there for that."""
    stages: Mapping[str, Any]
    """Stage -> run id, or state -> run id."""
    matcher: str
    questions: Sequence[Fact]


def summarise_chain(
    cache: Cache,
    base: ModelHandle,
    tuned: ModelHandle,
    of: EvaluatedState,
    train_set: TrainSet | None,
    facts: FactSet,
) -> dict[str, Any]:
    """The summary that a chain's manifest holds."""
    states, stages, matcher, questions = of.states, of.stages, of.matcher, of.questions
    asked = {s.state_id: RunFolder(cache, stages["evaluate"][s.state_id]) for s in states}
    learnt = {key: RunFolder(cache, run_id) for key, run_id in stages.get("evaluate_train", {}).items()}
    answers = {state_id: _Answers(run, matcher) for state_id, run in asked.items()}
    table = [_state_row(s, asked[s.state_id], learnt.get(s.state_id), matcher) for s in states]
    chosen = _choose(states, answers)
    delta = RunFolder(cache, stages["delta"])
    summary: dict[str, Any] = {
        "base_id": base.model_id,
        "base_name": base.name,
        "tuned_id": tuned.model_id,
        "tuned_name": tuned.name,
        "matcher": matcher,
        "stages": dict(stages),
        "states": [state.state_id for state in states],
        "table": table,
        "controls": [_control_row(cache, s, of) for s in of.controls],
        "chosen": chosen,
        "changed_share": _changed_share(delta),
        "concentration": [
            row
            for row in delta.read("concentration").to_pylist()
            if row["eps"] == 1e-8 and row["region"] == "transformer"
        ],
        "majority": _majority(facts, questions, _levels(answers[base.model_id])),
        "five_shot": _five_shot(cache, stages.get("five_shot"), matcher),
        "train_set": _described(train_set),
    }
    return summary | {"headline": _headline(summary)}


class _Answers:
    """Right or wrong by question, of one state."""

    def __init__(self, run: RunFolder, matcher: str) -> None:
        rows = [row for row in run.read("answers").to_pylist() if row["level"] is not None]
        self.levels: NDArray[np.int64] = np.array([row["level"] for row in rows], dtype=np.int64)
        self.right: NDArray[np.bool_] = np.array([row[verdict_column(matcher)] for row in rows], dtype=bool)
        self.fact_ids = [row["fact_id"] for row in rows]
        self._group = [(row["split"], row["domain"]) for row in rows]

    def of(self, group: str) -> NDArray[np.bool_]:
        """Which questions belong to a group."""
        return np.array([place == GROUPS[group] for place in self._group], dtype=bool)


def _levels(answers: _Answers) -> dict[str, int]:
    return dict(zip(answers.fact_ids, answers.levels.tolist(), strict=True))


def _state_row(state: State, run: RunFolder, learnt: RunFolder | None, matcher: str) -> Row:
    row: Row = {"state_id": state.state_id, "kind": state.kind, "label": state.label, "k_percent": _k(state)}
    accuracies = run.read("accuracies").to_pylist()
    for name, place in GROUPS.items():
        row[name] = _headline_accuracy(accuracies, *place, matcher)
        row[f"{name}_by_level"] = _level_accuracies(accuracies, *place, matcher)
    if learnt is not None:
        row["train"] = _headline_accuracy(learnt.read("accuracies").to_pylist(), "train", "in", matcher)
    restorations = run.read("restorations").to_pylist() if "restorations" in run.contents().tables else []
    for name in ("n_restored", "n_region", "share_of_r", "energy_taken_back", "k_of_changed_percent"):
        row[name] = restorations[0][name] if restorations else None
    shifts = run.read("shifts").to_pylist() if "shifts" in run.contents().tables else []
    row["kl"] = {
        measure: {key: found[key] for key in ("mean_nats", "low_nats", "high_nats", "n", "n_questions")}
        for measure in ("aligned", "shift")
        for found in shifts
        if (found["split"], found["domain"], found["level"], found["measure"]) == ("test", "in", 4, measure)
    }
    return row


def _control_row(cache: Cache, state: State, of: EvaluatedState) -> Row:
    """As `_state_row`, what was restored, and beside_k: the k that takes back the same part of the update, or None."""
    assert state.spec is not None
    k = of.beside.get(state.spec)
    run = RunFolder(cache, of.stages["controls"][state.state_id])
    row = state.spec.to_json() | _state_row(state, run, None, of.matcher)
    return row | {"beside_k": None if k is None else float(k)}


def _k(state: State) -> float | None:
    if state.kind == "tuned":
        return 0.0
    return float(state.spec.k_percent) if state.spec and state.spec.k_percent is not None else None


def _headline_accuracy(rows: Iterable[Row], split: str, domain: str, matcher: str) -> Row | None:
    found = _rows(rows, split, domain, matcher, headline=True)
    return {key: found[0][key] for key in ("accuracy", "low", "high", "n", "reason")} if found else None


def _level_accuracies(rows: Iterable[Row], split: str, domain: str, matcher: str) -> list[Row]:
    found = _rows(rows, split, domain, matcher, headline=False)
    return [{key: row[key] for key in ("level", "accuracy", "low", "high", "n")} for row in found]


def _rows(rows: Iterable[Row], split: str, domain: str, matcher: str, *, headline: bool) -> list[Row]:
    place = (split, domain, matcher, "all")
    return [
        row
        for row in rows
        if (row["split"], row["domain"], row["matcher"], row["subset"]) == place
        and (row["level"] is None) is headline
    ]


def _choose(states: Sequence[State], answers: Mapping[str, _Answers]) -> Row:
    """k chosen on in-domain dev, and what it gains on the test questions against the tuned model."""
    grid = [s for s in states if s.kind in ("tuned", "restored")]  # the hybrid is an endpoint, not a choice
    ks = {k: s.state_id for s in grid if (k := _k(s)) is not None}
    dev = {k: answers[state_id].of("dev_in") for k, state_id in ks.items()}
    right = {k: answers[state_id].right[dev[k]] for k, state_id in ks.items()}
    levels = answers[ks[0.0]].levels[dev[0.0]]
    choice = choose_k({k: _estimate(right[k], levels) for k in ks}, right, levels)
    on_test = {g: _gain(answers[ks[0.0]], answers[ks[choice.k_percent]], g) for g in ("test_in", "test_out")}
    return {
        "k_percent": choice.k_percent,
        "state_id": ks[choice.k_percent],
        "best_k_percent_on_dev": choice.best_k_percent,
        "rule": "smallest k within one standard error of the best in-domain dev accuracy",
        "gain": on_test,
        "test_picked": _optimism(ks, answers, choice),
    }


def _estimate(right: NDArray[np.bool_], levels: NDArray[np.int64]) -> Estimate:
    n_right = [int(right[levels == level].sum()) for level in range(N_LEVELS)]
    return level_balanced(n_right, [int((levels == level).sum()) for level in range(N_LEVELS)])


def _gain(before: _Answers, after: _Answers, group: str) -> Row | None:
    """Change of the level-balanced accuracy on one group; None where it has too few questions."""
    which = before.of(group)
    levels = before.levels[which]
    too_few = [level for level in range(N_LEVELS) if (levels == level).sum() < MIN_QUESTIONS]
    if len(too_few) == N_LEVELS:
        return None
    change = contrast(after.right[which].astype(float) - before.right[which], levels)
    names = ("value", "se", "df", "low", "high", "p_value", "n_seeds", "n_questions", "population")
    return {name: getattr(change, name) for name in names} | {"missing_levels": too_few}


def _optimism(ks: Mapping[float, str], answers: Mapping[str, _Answers], choice: KChoice) -> Row:
    """What picking k on the in-domain test questions themselves would have claimed, and by how much too much."""
    levels = answers[ks[0.0]].levels[answers[ks[0.0]].of("test_in")]
    values = {k: _estimate(answers[i].right[answers[i].of("test_in")], levels).value for k, i in ks.items()}
    best = max(sorted(values), key=lambda k: values[k])
    return {"k_percent": best, "optimism": values[best] - values[choice.k_percent]}


def _changed_share(delta: RunFolder) -> Row:
    """Region -> share of its weights whose bits differ."""
    return {row["region"]: row["n_changed"] / row["n_params"] for row in delta.read("deltas").to_pylist()}


def _majority(facts: FactSet, questions: Sequence[Fact], levels: Mapping[str, int]) -> Row:
    """The floor: always giving the topic's most frequent train answer. Group -> accuracy as elsewhere."""
    synonyms = load_synonyms()
    names = KnownNames.of(facts.facts, synonyms)
    most_frequent = majority_answers(fact for fact in facts.facts if fact.split == "train")
    found: Row = {}
    for name, (split, domain) in GROUPS.items():
        asked = [f for f in questions if (f.split, f.domain) == (split, domain) and f.fact_id in levels]
        if not asked or any(f.topic not in most_frequent for f in asked):
            found[name] = None
            continue
        right = [FactMatcher(f, synonyms, names).words(most_frequent[f.topic]) for f in asked]
        estimate = _estimate(np.array(right), np.array([levels[f.fact_id] for f in asked]))
        found[name] = {
            "accuracy": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "n": len(asked),
        }
    return found


def _five_shot(cache: Cache, run_id: str | None, matcher: str) -> Row | None:
    if run_id is None:
        return None
    rows = RunFolder(cache, run_id).read("accuracies").to_pylist()
    return {name: _headline_accuracy(rows, *place, matcher) for name, place in GROUPS.items()}


def _described(train_set: TrainSet | None) -> Row | None:
    if train_set is None:
        return None
    return {
        "level": train_set.level,
        "n": train_set.n,
        "seed": train_set.seed,
        "shortages": train_set.shortages,
    }


def _headline(summary: Mapping[str, Any]) -> Row:
    """The few flat numbers a list of chains shows."""
    of = {row["state_id"]: row for row in summary["table"]}
    tuned, chosen = of[summary["tuned_id"]], of[summary["chosen"]["state_id"]]
    train = summary["train_set"] or {}
    gain = summary["chosen"]["gain"]["test_in"] or {}
    return {
        "level": train.get("level"),
        "n": train.get("n"),
        "seed": train.get("seed"),
        "base_test_in": of[summary["base_id"]]["test_in"]["accuracy"],
        "tuned_test_in": tuned["test_in"]["accuracy"],
        "restored_test_in": chosen["test_in"]["accuracy"],
        "chosen_k_percent": summary["chosen"]["k_percent"],
        "gain_test_in": gain.get("value"),
        "kl_level4_nats": tuned["kl"].get("aligned", {}).get("mean_nats"),
        "changed_share": summary["changed_share"].get("transformer"),
    }
