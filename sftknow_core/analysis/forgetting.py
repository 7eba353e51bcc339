"""Who is forgotten: which known test facts a fine-tuned model answers wrongly, and what goes with it.

    answers of tuned models + facts and train sets --> one row a run and known fact --> two logits; probabilities

Known: mastery R >= 0.5, in-domain test questions; `five_shot` asks in addition that the base answers after five
exemplars. y = wrong after tuning. Within questions (conditional logit): what differs from run to run, the training
level, the topic's share of the train set, whether the object was an answer there. Between questions (logit with an
intercept for every run): what differs from fact to fact, how frequent the object is, R, the answer's length. Standard
errors are clustered by seed and by question (stats/logit.py). KL comes after training, so it is no cause of
forgetting beside these: it stands in a model of its own.

P(forgotten) and P(recovered) stand beside what another seed changes. With i and j two seeds of a cell: churn is
P(wrong in i, right in j), so P(forgotten) - churn = P(wrong in i and in j), and P(recovered) - churn is how much more
of what i forgot is answered by i restored than by j.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import BASE_STATE, CHOSEN, TUNED, Array, Cell, size_number
from sftknow_core.analysis.rates import Effect, effect_of
from sftknow_core.errors import SpecError
from sftknow_core.results.train_facts import TrainFacts
from sftknow_core.stats.contrast import contrast
from sftknow_core.stats.logit import Fit, conditional_logit, logit

KNOWN_R = 0.5
"""Mastery from which a fact counts as known."""
WITHIN, BETWEEN, WITH_KL = "within questions", "between questions", "within questions, with KL"
_LEVEL = "level_"
_BETWEEN = ("log_frequency", "r_tenths", "length_tens")
ROW_COLUMNS = [
    "model", "term", "value", "low", "high", "odds_ratio", "p", "n", "n_events", "n_questions", "n_seeds", "reason",
]  # fmt: skip


@dataclass(frozen=True)
class _Known:
    """Known facts of a grid."""

    places: NDArray[np.int64]
    """In the grid's questions."""
    facts: pd.DataFrame
    """Of each: fact_id, topic, object, r, log_frequency, r_tenths, length_tens."""


class Forgetting:
    """Known facts under a study's own training. study: without cells of other rates."""

    def __init__(self, study: Study, given: TrainFacts, *, five_shot: bool = False) -> None:
        self.study, self.given, self.five_shot = study, given, five_shot
        self.grid = study.grid("in")
        self.known = self._known()
        trained = given.trained.merge(given.facts[["fact_id", "topic", "object"]], on="fact_id")
        self._topics = {
            str(chain): dict(rows["topic"].value_counts(normalize=True))
            for chain, rows in trained.groupby("chain")
        }
        self._objects = {str(chain): set(rows["object"]) for chain, rows in trained.groupby("chain")}

    @property
    def n_known(self) -> int:
        """Known facts among the questions."""
        return len(self.known.places)

    def _known(self) -> _Known:
        facts = self.given.facts.drop_duplicates("fact_id").set_index("fact_id")
        frequency = facts.loc[facts["split"] == "train", "object"].value_counts()
        own = facts.reindex(self.grid.facts)
        keep = (own["r"] >= KNOWN_R).to_numpy()
        if self.five_shot:
            few = self.study.grid("in", "five-shot")
            right = few.row(Cell("", ""), 0, BASE_STATE)
            of = {} if right is None else dict(zip(few.facts, right, strict=True))
            keep = keep & np.array([of.get(fact) == 1 for fact in self.grid.facts], dtype=bool)
        own = own[keep].reset_index(names="fact_id")
        own["log_frequency"] = np.log2(1 + own["object"].map(frequency).fillna(0).astype(float))
        own["r_tenths"] = own["r"].astype(float) * 10
        own["length_tens"] = own["object"].astype(str).str.len() / 10
        return _Known(np.flatnonzero(keep), own)

    def cells(self, size: str) -> list[Cell]:
        """Fully fine-tuned cells of a size."""
        return [cell for cell in self.grid.cells() if (cell.size, cell.method) == (size, "full")]

    def sizes(self) -> list[str]:
        """Sizes, increasing."""
        return sorted({cell.size for cell in self.grid.cells() if cell.method == "full"}, key=size_number)

    def rows(self, size: str) -> pd.DataFrame:
        """One row a run of this size and known fact: chain, seed, train_level, fact_id, wrong, topic_share, seen, and
        those of the fact; kl_nats where it was measured."""
        parts = []
        for cell in self.cells(size):
            for seed, row in self.grid.by_seed(cell, TUNED).items():
                chain = self.grid.chains[cell, seed]
                facts = self.known.facts
                shares = self._topics.get(chain, {})
                seen = self._objects.get(chain, set())
                parts.append(
                    facts.assign(
                        chain=chain, seed=seed, train_level=cell.level, wrong=row[self.known.places] == 0,
                        topic_share=facts["topic"].map(shares).fillna(0.0).astype(float),
                        seen=facts["object"].isin(seen).astype(float),
                    )
                )  # fmt: skip
        if not parts:
            return pd.DataFrame()
        table = pd.concat(parts, ignore_index=True)
        shifts = self.study.tables.shifts
        kl = shifts[
            (shifts["measure"] == "aligned") & (shifts["split"] == "test") & (shifts["domain"] == "in")
        ]
        tuned = self.study.tables.states
        kl = kl[kl["state_id"].isin(tuned.loc[tuned["kind"] == "tuned", "state_id"])]
        return table.merge(kl[["chain", "fact_id", "kl_nats"]], how="left", on=["chain", "fact_id"])

    def coefficients(self, size: str) -> pd.DataFrame:
        """The models of a size, one row a term (ROW_COLUMNS): log-odds of a wrong answer with 95% CI. A term that does
        not vary, or a model that cannot be fitted, has a reason and no numbers."""
        rows = self.rows(size)
        if rows.empty:
            reason = "no known fact among the in-domain test questions" if not self.n_known else "not run"
            return _no_model([WITHIN, BETWEEN, WITH_KL], reason)
        levels = self._levels(rows)
        design = rows.assign(
            topic_share_tenths=rows["topic_share"] * 10,
            **{f"{_LEVEL}{level}": (rows["train_level"] == level).astype(float) for level in levels},
        )
        of_run = [*(f"{_LEVEL}{level}" for level in levels), "topic_share_tenths", "seen"]
        parts = [_within(WITHIN, design, of_run), self._between(design)]
        with_kl = design[design["kl_nats"].notna()]
        if len(with_kl):
            parts.append(_within(WITH_KL, with_kl, [*of_run, "kl_nats"]))
        else:
            parts.append(_no_model([WITH_KL], "KL was not measured"))
        return pd.concat(parts, ignore_index=True)

    @staticmethod
    def _levels(rows: pd.DataFrame) -> list[str]:
        """Training levels that have a coefficient: all but the one they are compared with."""
        found = sorted(set(rows["train_level"]))
        return [level for level in found if level != reference_level(found)]

    def _between(self, design: pd.DataFrame) -> pd.DataFrame:
        runs = pd.get_dummies(design["chain"], dtype=float)
        varying = [name for name in _BETWEEN if design[name].nunique() > 1]
        names = [*varying, *map(str, runs.columns)]
        x = np.column_stack([design[varying].to_numpy(np.float64), runs.to_numpy(np.float64)])
        keep = design.groupby("chain")["wrong"].transform("nunique").to_numpy() > 1
        used = np.flatnonzero([name in varying or x[keep, i].any() for i, name in enumerate(names)])
        try:
            if not keep.any():
                raise SpecError("every run answers all known facts alike")
            of = design[keep]
            fit = logit(
                of["wrong"].to_numpy(), x[np.ix_(keep, used)], [names[i] for i in used],
                (of["seed"].to_numpy(), of["fact_id"].to_numpy()),
            )  # fmt: skip
        except SpecError as error:
            return _no_model([BETWEEN], str(error))
        return _rows_of(BETWEEN, fit, _BETWEEN)

    def probabilities(self) -> pd.DataFrame:
        """One row a training level, N and outcome (forgotten, recovered): share of the known facts, churn
        what another seed gives, net (with its ends) what is left; churn and net are empty with one seed."""
        rows = []
        for size in self.sizes():
            for cell in self.cells(size):
                for outcome, found in self._outcomes(cell).items():
                    rows.append({"train_level": cell.level, "size": size, "outcome": outcome, **found})
        ends = ["share", "low", "high"]
        names = ["train_level", "size", "outcome", *ends, "churn", "net", "net_low", "net_high"]
        frame = pd.DataFrame(rows, columns=[*names, "n", "n_seeds", "reason"])
        return frame.astype(dict.fromkeys([*ends, *names[6:]], "float64"))

    def _outcomes(self, cell: Cell) -> dict[str, dict[str, Any]]:
        places = self.known.places
        tuned = {seed: row[places] for seed, row in self.grid.by_seed(cell, TUNED).items()}
        restored = {
            seed: row[places] for seed, row in self.grid.by_seed(cell, CHOSEN).items() if seed in tuned
        }
        found = {}
        for outcome, rows in (("forgotten", tuned), ("recovered", restored)):
            if not rows or len(places) < 2:
                reason = "fewer than two known facts" if rows else "not run"
                found[outcome] = {"n": len(places), "n_seeds": len(rows), "reason": reason}
                continue
            wrong = np.array([1 - tuned[seed] for seed in rows])
            now = wrong if outcome == "forgotten" else wrong * np.array(list(rows.values()))
            effect = _share(now)
            row: dict[str, Any] = {
                "share": effect.value,
                "low": effect.low,
                "high": effect.high,
                "n": effect.n,
            }
            row |= {"n_seeds": effect.n_seeds, "reason": effect.reason}
            if len(rows) > 1:
                others = (wrong.sum(axis=0) - wrong) / (len(rows) - 1)
                churn = wrong * (1 - others)
                net = _share(now - churn)
                row |= {
                    "churn": float(churn.mean()),
                    "net": net.value,
                    "net_low": net.low,
                    "net_high": net.high,
                }
            else:
                row |= {"reason": "one seed: churn is not known"}
            found[outcome] = row
        return found


def reference_level(levels: Sequence[str]) -> str:
    """What the other training levels are compared with: mixed where it is there, else the highest."""
    return "mixed" if "mixed" in levels else max(levels)


def _share(x: Array) -> Effect:
    """A share of the known facts, every one counting the same."""
    found = effect_of(contrast(x, np.zeros(x.shape[1])))
    return found


def _within(model: str, design: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    both = design.groupby("fact_id")["wrong"].transform("nunique") > 1
    informative = design[both]
    varying = [n for n in names if (informative.groupby("fact_id")[n].nunique() > 1).any()]
    if not varying:
        return _no_model(
            [model], "no question is right in some runs and wrong in others, or no column varies there"
        )
    try:
        fit = conditional_logit(
            design["wrong"].to_numpy(), design[varying].to_numpy(np.float64), varying, design["fact_id"].to_numpy(),
            (design["seed"].to_numpy(), design["fact_id"].to_numpy()),
        )  # fmt: skip
    except SpecError as error:
        return _no_model([model], str(error))
    return _rows_of(model, fit, names)


def _rows_of(model: str, fit: Fit, names: Sequence[str]) -> pd.DataFrame:
    known = {one.name: one for one in fit.coefficients}
    counts = {
        "n": fit.n,
        "n_events": fit.n_events,
        "n_seeds": fit.n_clusters[0],
        "n_questions": fit.n_clusters[1],
    }
    rows: list[dict[str, Any]] = []
    for name in names:
        row: dict[str, Any] = {"model": model, "term": name, **counts}
        if name in known:
            one = known[name]
            row |= {"value": one.value, "low": one.low, "high": one.high, "p": one.p_value}
            row["odds_ratio"] = float(np.exp(one.value))
        else:
            row["reason"] = "does not vary"
        rows.append(row)
    return _typed(rows)


def _no_model(models: Sequence[str], reason: str) -> pd.DataFrame:
    return _typed([{"model": model, "term": None, "reason": reason} for model in models])


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=ROW_COLUMNS)
    numbers = dict.fromkeys(("value", "low", "high", "odds_ratio", "p"), "float64")
    counts = dict.fromkeys(("n", "n_events", "n_questions", "n_seeds"), "Int64")
    return frame.astype({**numbers, **counts, "reason": "object", "term": "object"})
