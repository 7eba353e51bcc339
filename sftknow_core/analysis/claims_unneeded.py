"""Claims about what of the update is needed: U1 ("up to 90% is unnecessary") and U2 (these weights, or just less?)."""

from __future__ import annotations

from math import isnan

import pandas as pd

from sftknow_core.analysis.context import Study, gain, joined
from sftknow_core.analysis.grid import LEVELS, Cell, Term, Which, at_k
from sftknow_core.analysis.verdict import Part, Verdict, conclude, weakest

NEEDED = 0.9


def unneeded_claims(study: Study) -> list[Verdict]:
    """U1a (90% of the sum of r), U1b (90% of the energy), U2a (same count), U2b and U2c (equal energy)."""
    return [
        _unneeded(study, "U1a", "share_of_r", "the summed relative change"),
        _unneeded(study, "U1b", "energy_taken_back", "the squared change (energy)"),
        _against(study, "U2a", "random", "k_percent", "as many weights drawn at random"),
        _against(study, "U2b", "random", "beside_k", "random weights of equal energy"),
        _against(study, "U2c", "interpolation", "beside_k", "interpolating to equal energy"),
    ]


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
    if pairs:
        weight, equal = 1 / len(pairs), Which("restored", strategy)
        terms = []
        for cell, (k, *_) in pairs.items():
            control = equal._replace(beside_k=k) if match == "beside_k" else equal._replace(k_percent=k)
            terms.append([Term(weight, cell, at_k(k)), Term(-weight, cell, control)])
        part = study.part(f"mean over {len(pairs)} levels", joined(terms))
    said = [
        f"{cell.level}: {k:g}% ({own:.0%} against {other:.0%})" for cell, (k, own, other) in pairs.items()
    ]
    note = f"k by level, with the update taken back: {', '.join(said)}" if said else ""
    return conclude(claim_id, title, [part], study.rule, domain="in", table_ref="Table 4", note=note)


def _pair(study: Study, cell: Cell, strategy: str, match: str) -> tuple[float, float, float] | None:
    """(the k that most seeds chose, else the smallest restored one; energy it takes back; energy of the control at it).

    match: the column of the control that has to be this k. None without a control.
    """
    top, control = _states_of(study, cell, "top"), _states_of(study, cell, strategy)
    top = top[(top["k_percent"].astype(float) > 0) & (top["k_percent"].astype(float) < 100)]
    if top.empty or control.empty or match not in control:
        return None
    picked = top[top["chosen"].astype(bool)]
    ks = (picked if len(picked) else top)["k_percent"].astype(float)
    k = float(ks.mode().min())
    own, other = _mean_energy(top, "k_percent", k), _mean_energy(control, match, k)
    return None if isnan(other) else (k, own, other)


def _mean_energy(states: pd.DataFrame, column: str, k: float) -> float:
    return float(states.loc[states[column].astype(float) == k, "energy_taken_back"].astype(float).mean())


def _states_of(study: Study, cell: Cell, strategy: str) -> pd.DataFrame:
    states = study.tables.states_of(cell)
    return states[(states["kind"] == "restored") & (states["strategy"] == strategy)]
