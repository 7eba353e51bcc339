"""Claims about the token shift: T1 (size), T2 (level), T3 (does KL go with lost knowledge?). KL in nats, level 4."""

from __future__ import annotations

import numpy as np

from sftknow_core.analysis.context import Study, minus
from sftknow_core.analysis.grid import LEVELS, TUNED, Cell
from sftknow_core.analysis.verdict import Part, Verdict, conclude, part_of
from sftknow_core.errors import SpecError
from sftknow_core.stats.association import Association, conditional_logit, spearman

FIGURE = "Figure 4"


def token_claims(study: Study) -> list[Verdict]:
    """T1, T2 and the two halves of T3."""
    return [_falls_then_rises(study), _order(study), _between_runs(study), _within_questions(study)]


def _part(study: Study, label: str, after: Cell, before: Cell) -> Part:
    return part_of(label, study.kl.contrast(minus(after, before)), study.rule.margin_nats, scale=1.0)


def _falls_then_rises(study: Study) -> Verdict:
    plan = study.plan
    parts = [
        _part(
            study,
            f"level {level}: N = {size} - N = {plan.middle}",
            Cell(level, size),
            Cell(level, plan.middle),
        )
        for size in (plan.small, plan.large)
        for level in LEVELS
    ]
    title = f"KL falls from N = {plan.small} to {plan.middle} and rises to {plan.large}, at every level"
    return conclude("T1", title, parts, study.rule, unit="nats", domain="in", table_ref=FIGURE)


def _order(study: Study) -> Verdict:
    large = study.plan.large
    pairs = [("0", "1"), ("1", "2"), ("1", "3"), ("1", "4")]
    parts = [
        _part(study, f"level {more} - level {less}", Cell(more, large), Cell(less, large))
        for more, less in pairs
    ]
    title = f"At N = {large} level 0 moves the answers' first token most, then level 1, then the others"
    return conclude("T2", title, parts, study.rule, unit="nats", domain="in", table_ref="Figure 5")


def _between_runs(study: Study) -> Verdict:
    """Spearman over runs of (mean KL, accuracy at level 4), with its sign turned: KL tracks loss."""
    kl, right, runs = _pairs(study)
    label = "-Spearman(KL, accuracy) over runs"
    part = Part(label, reason="no run has both KL and accuracy at level 4")
    if runs:
        try:
            found = spearman(kl.mean(axis=1), right.mean(axis=1), _cells(runs))
            margin, n = study.rule.margin_correlation, right.shape[1]
            part = _negative(label, found, margin, _seeds(runs), n, "cells, for these questions")
        except SpecError as error:
            part = Part(label, reason=str(error))
    title = "Runs whose first tokens moved more answer fewer level-4 questions"
    note = "Cells differ in more than KL: this is between cells only"
    return conclude(
        "T3a", title, [part], study.rule, unit="rank correlation", domain="in", table_ref=FIGURE, note=note
    )


def _within_questions(study: Study) -> Verdict:
    """Log-odds of a right answer per nat, question by question; a margin of 0.1 in log-odds."""
    kl, right, runs = _pairs(study)
    label = "-log-odds of a right answer per nat, within questions"
    part = Part(label, reason="no run has both KL and answers at level 4")
    if runs:
        try:
            found = conditional_logit(right > 0.5, kl, _cells(runs))
            margin, n = study.rule.margin_correlation, right.shape[1]
            part = _negative(label, found, margin, _seeds(runs), n, "cells, for these questions")
        except SpecError as error:
            part = Part(label, reason=str(error))
    title = "The same question is answered wrongly in the runs in which its first token moved more"
    return conclude("T3b", title, [part], study.rule, unit="log-odds per nat", domain="in", table_ref=FIGURE)


def _pairs(study: Study) -> tuple[np.ndarray, np.ndarray, list[tuple[Cell, int]]]:
    """(KL [runs, questions], right [runs, questions], the runs) on the questions that have both."""
    both = sorted(set(study.kl.facts) & set(study.grid().facts))
    at_kl, at_right = ([g.facts.index(fact) for fact in both] for g in (study.kl, study.grid()))
    kl, right, runs = [], [], []
    for cell, seed in sorted(study.grid().chains):
        x, y = study.kl.row(cell, seed, TUNED), study.grid().row(cell, seed, TUNED)
        if both and x is not None and y is not None:
            kl.append(x[at_kl])
            right.append(y[at_right])
            runs.append((cell, seed))
    return np.array(kl), np.array(right), runs


def _negative(
    label: str, found: Association, margin: float, seeds: int, n: int | None, population: str
) -> Part:
    return Part(
        label,
        -found.value,
        -found.high,
        -found.low,
        found.p_value,
        None,
        n,
        n,
        seeds,
        margin,
        0.0,
        population,
    )


def _cells(runs: list[tuple[Cell, int]]) -> list[Cell]:
    """The cell of each run: its seeds are alike in KL and in accuracy, and count as one."""
    return [cell for cell, _ in runs]


def _seeds(runs: list[tuple[Cell, int]]) -> int:
    return len({seed for _, seed in runs})
