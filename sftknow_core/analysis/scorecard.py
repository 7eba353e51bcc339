"""A scorecard that going back to the base model cannot win: what was kept, what was healed, what was learnt.

Of the in-domain test questions the base knew (mastery level 3 or 4, which completion prompts told, not an answer to
the question): kept, damaged, healed, broken anew. Of the facts
trained on that the base answered wrongly: learnt, retained after restoring. And whether answers end by themselves. The
base keeps what it knows but has learnt nothing (0 by definition), the tuned model the other way round, so a state has
to do all three: `all three` is its smallest share.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from math import sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import PROMPT_NAMES, QA, prompts_of
from sftknow_core.analysis.grid import BASE_STATE, CHOSEN, HYBRID, TUNED, Cell, Grid
from sftknow_core.stats.intervals import wilson
from sftknow_core.stats.seeds import over_seeds

KNOWN_FROM = 3
"""Mastery level from which on the base counts as knowing the fact."""
STATES = {"base": BASE_STATE, "tuned": TUNED, "restored": CHOSEN, "hybrid": HYBRID}
COLUMNS = [
    "level",
    "size",
    "method",
    "prompt",
    "measure",
    "state",
    "share",
    "low",
    "high",
    "n",
    "seeds",
    "population",
]
MEANINGS = {
    "kept": "of the test questions the base knew (level 3 or 4): answered rightly",
    "damaged": "of the test questions the base knew: answered wrongly",
    "healed": "of the damaged ones: right again after restoring",
    "broken": "of the kept ones: wrong after restoring",
    "churn": "of the kept ones: wrong in the model of another seed, the floor for any such flip",
    "learnt": "of the trained facts the base answered wrongly: answered rightly",
    "retained": "of the learnt facts: still right after restoring",
    "format": "answers to test questions that end by themselves",
    "all three": "the smallest of kept, learnt and format",
}
"""Measure -> its definition, in words for a table."""

_Shares = Mapping[int, tuple[int, int]]
"""Seed -> (how many, of how many)."""


def scorecard(study: Study) -> pd.DataFrame:
    """One row a cell, prompt, measure and state (columns COLUMNS); shares 0 to 1 with 95% intervals; n in all seeds.

    Each prompt has its own rows, 5-shot first where it was asked: of the flips of test questions alone, as train
    questions were asked zero-shot, and after exemplars a model goes on with questions of its own. A measure without a
    question has no row. "all three" has no interval.
    """
    rows: list[dict[str, object]] = []
    trained = study.grid("in", split="train")
    ended = Grid.of(study.tables, split="test", domain="in", value="stopped")
    for cell in study.grid("in").cells():
        for prompt in prompts_of(study):
            found = _of_test(study.grid("in", prompt).on([cell]), cell)
            found |= _of_zero_shot(trained, ended.on([cell]), cell) if prompt == QA else {}
            rows += _rows(cell, prompt, found)
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(cell: Cell, prompt: str, found: Mapping[tuple[str, str], _Shares]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    place = {**cell._asdict(), "prompt": PROMPT_NAMES[prompt]}
    shares: dict[tuple[str, str], float] = {}
    for (measure, state), counts in found.items():
        if row := _row(counts, shared=measure not in ("learnt", "retained")):
            rows.append({**place, "measure": measure, "state": state, **row})
            shares[measure, state] = float(row["share"])  # type: ignore[arg-type]
    return rows + [{**place, **row} for row in _all_three(shares)]


def _of_test(test: Grid, cell: Cell) -> dict[tuple[str, str], _Shares]:
    """What became of the test questions that the base knew, all states under one prompt."""
    known = test.levels >= KNOWN_FROM
    right = {name: test.by_seed(cell, which) for name, which in STATES.items()}
    found: dict[tuple[str, str], _Shares] = {}
    for name, rows in right.items():
        found["kept", name] = {s: _count(row == 1, known) for s, row in rows.items()}
        found["damaged", name] = {s: _count(row == 0, known) for s, row in rows.items()}
    both = sorted(set(right["tuned"]) & set(right["restored"]))
    was, now = right["tuned"], right["restored"]
    found["healed", "restored"] = {s: _count(now[s] == 1, known & (was[s] == 0)) for s in both}
    found["broken", "restored"] = {s: _count(now[s] == 0, known & (was[s] == 1)) for s in both}
    found["churn", "tuned"] = _churn(was, known)
    return found


def _of_zero_shot(trained: Grid, ended: Grid, cell: Cell) -> dict[tuple[str, str], _Shares]:
    found = _of_trained(trained, cell)
    for name, which in STATES.items():
        rows = ended.by_seed(cell, which)
        found["format", name] = {s: _count(row == 1, ~np.isnan(row)) for s, row in rows.items()}
    return found


def _churn(right: Mapping[int, NDArray[np.float64]], known: NDArray[np.bool_]) -> _Shares:
    """By seed: its kept questions that another seed's model answers wrongly, the other seeds counted together."""
    counts: dict[int, tuple[int, int]] = {}
    for one, other in permutations(right, 2):
        flipped, n = _count(right[other] == 0, known & (right[one] == 1))
        before = counts.get(one, (0, 0))
        counts[one] = (before[0] + flipped, before[1] + n)
    return counts


def _of_trained(trained: Grid, cell: Cell) -> dict[tuple[str, str], _Shares]:
    """Learnt and retained, of each seed's own train facts that the base answered wrongly (all, if it was not asked)."""
    found: dict[tuple[str, str], _Shares] = {}
    rows = {name: trained.by_seed(cell, which) for name, which in STATES.items()}
    for name in STATES:
        counts = {}
        for seed in sorted(set(rows[name]) & set(rows["tuned"])):
            counts[seed] = _count(rows[name][seed] == 1, _new(rows, seed))
        found["learnt", name] = counts
    retained = {}
    for seed in sorted(set(rows["tuned"]) & set(rows["restored"])):
        learnt = _new(rows, seed) & (rows["tuned"][seed] == 1)
        retained[seed] = _count(rows["restored"][seed] == 1, learnt)
    return found | {("retained", "restored"): retained}


def _new(rows: Mapping[str, Mapping[int, NDArray[np.float64]]], seed: int) -> NDArray[np.bool_]:
    own: NDArray[np.bool_] = ~np.isnan(rows["tuned"][seed])
    base = rows["base"].get(seed)
    return own if base is None else own & (base == 0)


def _count(hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> tuple[int, int]:
    return int((hit & among).sum()), int(among.sum())


def _row(counts: _Shares, *, shared: bool) -> dict[str, object] | None:
    """Share with interval; shared: all seeds answered the same questions, so drawing them adds its own variance."""
    used = {seed: (k, n) for seed, (k, n) in counts.items() if n}
    if not used:
        return None
    n = sum(of for _, of in used.values())
    about = {"n": n, "seeds": len(used)}
    if len(used) == 1:
        ((k, of),) = used.values()
        low, high = wilson(k, of)
        return {"share": k / of, "low": low, "high": high, "population": "questions", **about}
    share = float(np.mean([k / of for k, of in used.values()]))
    # a share of 0 or 1 still has a spread over other questions: one more of each (Agresti and Coull)
    drawn = n / len(used) if shared else float(n)
    smooth = (share * drawn + 1) / (drawn + 2)
    estimate = over_seeds([k / of for k, of in used.values()], extra_variance=smooth * (1 - smooth) / drawn)
    half = (estimate.high or 0) - share if estimate.high is not None else sqrt(smooth * (1 - smooth) / drawn)
    ends = {"low": max(0.0, share - half), "high": min(1.0, share + half)}
    return {"share": share, **ends, "population": "seeds and questions", **about}


def _all_three(shares: Mapping[tuple[str, str], float]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for state in STATES:
        found = [shares.get((measure, state)) for measure in ("kept", "learnt", "format")]
        if all(value is not None for value in found):
            smallest = min(value for value in found if value is not None)
            rows.append({"measure": "all three", "state": state, "share": smallest})
    return rows
