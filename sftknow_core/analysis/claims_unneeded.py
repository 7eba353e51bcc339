"""Claims about what of the update is needed: U1 ("up to 90% is unnecessary") and U2 (these weights, or just less?).

U2 compares putting the most changed weights back with what knows nothing of r: U2d is the fair one for interpolations,
because at equal energy (U2c) these stay further along the update. Random masks are averaged within a chain; other
chains have other masks, so the interval over seeds speaks for masks too.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, sqrt
from typing import Any

import numpy as np
import pandas as pd

from sftknow_core.analysis.context import Study, gain, joined
from sftknow_core.analysis.grid import LEVELS, Cell, Term, Which, at_k, mask_spread
from sftknow_core.analysis.verdict import Part, Verdict, conclude, weakest

NEEDED = 0.9


def unneeded_claims(study: Study) -> list[Verdict]:
    """U1a (90% of the sum of r), U1b (90% of the energy), U2a (same count), U2b and U2c (equal energy), U2d (equal
    projection)."""
    return [
        _unneeded(study, "U1a", "share_of_r", "the summed relative change"),
        _unneeded(study, "U1b", "energy_taken_back", "the squared change (energy)"),
        _against(study, "U2a", "random", "k_percent", "as many weights drawn at random"),
        _against(
            study, "U2b", "random", "beside_k", "random weights of equal energy, and so of equal projection"
        ),
        _against(study, "U2c", "interpolation", "beside_k", "interpolating to equal energy"),
        _against(study, "U2d", "interpolation", "beside_k_projection", "interpolating to equal projection"),
    ]


_FAIR = {
    "U2c": "Equal projection (U2d) is the fair comparison: at equal energy an interpolation stays further along the "
    "update",
    "U2d": "Equal projection: both go equally far back along the update",
}


def _unneeded(study: Study, claim_id: str, column: str, words: str) -> Verdict:
    """Some k, at some level, that takes back 90% and passes on test, on train and with completion prompts."""
    cells = [Cell(level, study.plan.large) for level in LEVELS]
    parts = [
        weakest(f"{cell}, k = {k:g}%", _tests(study, cell, k), study.rule)
        for cell in cells
        for k in _ks(study, cell, column)
    ]
    if not parts:
        parts = [Part("", reason=f"no k of the grid takes back {NEEDED:.0%} of {words}")]
    title = f"Up to {NEEDED:.0%} of {words} can be taken back at no cost, at some level"
    note = "On test, on the train questions and with completion prompts alike"
    return conclude(
        claim_id, title, parts, study.rule, domain="in", table_ref="Tables 4 and 6", needs="any", note=note,
    )  # fmt: skip


def _ks(study: Study, cell: Cell, column: str) -> list[float]:
    states = _states_of(study, cell, "top")
    means = states.groupby(states["k_percent"].astype(float))[column].agg(lambda v: v.astype(float).min())
    return sorted(float(k) for k, least in means.items() if least >= NEEDED and float(k) < 100)  # type: ignore[arg-type]


def _tests(study: Study, cell: Cell, k: float) -> list[Part]:
    return [
        study.part("test", gain(cell, at_k(k)), tolerance=True),
        study.train_part("train", cell, at_k(k)),
        study.part("completion prompts", gain(cell, at_k(k)), prompt="completion", tolerance=True),
    ]


def _against(study: Study, claim_id: str, strategy: str, match: str, words: str) -> Verdict:
    """top at the chosen k - the control that matches it, mean over the levels that have one."""
    title = f"Restoring the most changed weights beats {words} (N = {study.plan.large})"
    cells = [Cell(level, study.plan.large) for level in LEVELS]
    pairs = {cell: found for cell in cells if (found := _pair(study, cell, strategy, match))}
    part = Part("mean over levels", reason=f"not run: {strategy} as a control that matches")
    controls: dict[Cell, Which] = {}
    for cell, (k, *_) in pairs.items():
        amount: dict[str, Any] = {match: k}
        controls[cell] = Which("restored", strategy)._replace(**amount)
    if pairs:
        weight = 1 / len(pairs)
        terms = [
            [Term(weight, cell, at_k(k)), Term(-weight, cell, controls[cell])]
            for cell, (k, *_) in pairs.items()
        ]
        part = study.part(f"mean over {len(pairs)} levels", joined(terms))
    said = [
        f"{cell.level}: {k:g}% ({own:.0%} against {other:.0%})" for cell, (k, own, other) in pairs.items()
    ]
    taken = "projection" if match == "beside_k_projection" else "update"
    notes = [_FAIR.get(claim_id, "")] if said else []
    notes += [f"k by level, with the {taken} taken back: {', '.join(said)}"] if said else []
    notes += [mask_sentence(study, controls)] if strategy == "random" else []
    note = ". ".join(one for one in notes if one)
    return conclude(claim_id, title, [part], study.rule, domain="in", table_ref="Table 4", note=note)


def mask_sentence(study: Study, controls: Mapping[Cell, Which]) -> str:
    """How far the masks of a random control differ within a chain; "" where nothing is known of masks."""
    grid, states = study.grid(), study.tables.states
    spreads, counts = [], []
    for cell, which in controls.items():
        for seed in sorted(grid.seeds(cell)):
            if (rows := grid.masks(cell, seed, which)) is not None:
                counts.append(len(rows))
                spreads += [found] if (found := mask_spread(rows, grid.levels)) is not None else []
    drawn = set(states.loc[states["strategy"] == "random", "mask"].dropna()) if "mask" in states else set()
    if len(counts) > 1 and len(drawn) == 1:
        return "All chains share one random mask: the spread of masks is missing from the interval"
    if not spreads:
        return ""
    return (
        f"Random: mean of {min(counts)} masks a chain, whose accuracies differ by "
        f"{100 * sqrt(float(np.mean(np.square(spreads)))):.1f} pp (standard deviation)"
    )


def _pair(study: Study, cell: Cell, strategy: str, match: str) -> tuple[float, float, float] | None:
    """(the k that most seeds chose, else the smallest restored one; what it takes back; what the control at it does).

    match: the column of the control that has to be this k. None without a control. Taken back: of the energy, of the
    projection where that is matched.
    """
    top, control = _states_of(study, cell, "top"), _states_of(study, cell, strategy)
    top = top[(top["k_percent"].astype(float) > 0) & (top["k_percent"].astype(float) < 100)]
    if top.empty or control.empty or match not in control:
        return None
    picked = top[top["chosen"].astype(bool)]
    ks = (picked if len(picked) else top)["k_percent"].astype(float)
    k = float(ks.mode().min())
    taken = "projection_taken_back" if match == "beside_k_projection" else "energy_taken_back"
    own, other = _mean(top, "k_percent", k, taken), _mean(control, match, k, taken)
    return None if isnan(other) else (k, own, other)


def _mean(states: pd.DataFrame, column: str, k: float, taken: str) -> float:
    if taken not in states:
        return float("nan")
    return float(states.loc[states[column].astype(float) == k, taken].astype(float).mean())


def _states_of(study: Study, cell: Cell, strategy: str) -> pd.DataFrame:
    states = study.tables.states_of(cell)
    return states[(states["kind"] == "restored") & (states["strategy"] == strategy)]
