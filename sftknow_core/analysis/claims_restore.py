"""Claims about restoring: R1 (it helps), R2 (the fit is kept), R3 and R4 (where more), R5 (how much), R6 (collapse).

k is the one each chain chose on dev, unless it is stated; accuracies are test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sftknow_core.analysis.context import Study, gain, joined
from sftknow_core.analysis.grid import CHOSEN, LEVELS, TUNED, Cell, Term, Which, at_k, size_number
from sftknow_core.analysis.verdict import Part, Status, Verdict, conclude, decide_parts
from sftknow_core.stats.contrast import trend_weights

TABLE = "Table 4"
COLLAPSE_K = 60.0


def restore_claims(study: Study) -> list[Verdict]:
    """R1a to R6, in-domain and then out-of-domain (R2 once, on the train questions)."""
    found = []
    for domain in study.domains():
        found += [_helps(study, domain, CHOSEN), _helps(study, domain, at_k(study.plan.fixed_k))]
        found += [_fit_kept(study)] if domain == "in" else []
        found += [_more_at_larger(study, domain), _more_at_lower(study, domain)]
        found += [_tolerance(study, domain), _collapse(study, domain)]
    return found


def _helps(study: Study, domain: str, which: Which) -> Verdict:
    large, fixed = study.plan.large, which.k_percent
    parts = study.by_level(
        lambda level: study.part(f"level {level}", gain(Cell(level, large), which), domain=domain)
    )
    how = "with k chosen on dev" if fixed is None else f"with k = {fixed:g}%"
    title = f"Restoring helps at N = {large}, at every level, {how}"
    claim_id = "R1a" if fixed is None else "R1b"
    note = optimism_note(study, domain) if fixed is None else ""
    return conclude(claim_id, title, parts, study.rule, domain=domain, table_ref=TABLE, note=note)


def optimism_note(study: Study, domain: str) -> str:
    """By how much picking k on these test questions would have flattered the gain; "" if unknown.

    Chain by chain, as k was chosen: max_k A(k) - A(k chosen on dev), both on test, mean over the chains of the
    largest N. A k picked for the mean over seeds would have less noise to profit from.
    """
    grid = study.grid(domain)
    flattered = []
    for level in study.levels():
        cell = Cell(level, study.plan.large)
        for seed in sorted(grid.seeds(cell)):
            picked = grid.row(cell, seed, CHOSEN)
            rows = [picked, *(grid.row(cell, seed, at_k(k)) for k in (0.0, *study.ks()))]
            if picked is not None:
                values = [_balanced(row, grid.levels) for row in rows if row is not None]
                flattered.append(max(values) - values[0])
    if not flattered:
        return ""
    return f"Picking k on test would have claimed {100 * np.mean(flattered):.1f} pp more"


def _balanced(row: np.ndarray, levels: np.ndarray) -> float:
    """Right answers [Q], 0 or 1, as an accuracy: mean over the mastery levels [Q] present."""
    return float(np.mean([row[levels == level].mean() for level in np.unique(levels)]))


def _fit_kept(study: Study) -> Verdict:
    large = study.plan.large
    parts = study.by_level(lambda level: study.train_part(f"level {level}", Cell(level, large), CHOSEN))
    title = (
        f"What was trained is kept: not more than {study.rule.margin_pp:g} pp lower on the train questions"
    )
    return conclude("R2", title, parts, study.rule, domain="in", table_ref="Table 6")


def _more_at_larger(study: Study, domain: str) -> Verdict:
    """Least-squares rise of the gain over log N, from the smallest to the largest size, mean over levels."""
    sizes = [size for size in study.sizes() if size != "all"]
    title = "Restoring gains more at larger N"
    part = Part("rise of the gain", reason="not run: two sizes")
    if len(sizes) > 1:
        weights = trend_weights([float(np.log2(size_number(size))) for size in sizes])
        levels = [v for v in study.levels() if all(study.grid(domain).seeds(Cell(v, s)) for s in sizes)]
        terms = joined(
            gain(Cell(level, size), CHOSEN, float(w) / len(levels))
            for level in levels
            for size, w in zip(sizes, weights, strict=True)
        )
        part = study.part(f"rise of the gain from N = {sizes[0]} to {sizes[-1]}", terms, domain=domain)
    return conclude("R3", title, [part], study.rule, domain=domain, table_ref=TABLE)


def _more_at_lower(study: Study, domain: str) -> Verdict:
    """Least-squares rise of the gain from level 4 down to level 0."""
    large, levels = study.plan.large, study.levels()
    title = f"Restoring gains more at lower mastery (N = {large})"
    part = Part("rise of the gain", reason="not run: two levels")
    levels = [level for level in levels if study.grid(domain).seeds(Cell(level, large))]
    if len(levels) > 1:
        weights = trend_weights([-float(level) for level in levels])
        terms = joined(
            gain(Cell(level, large), CHOSEN, float(w)) for level, w in zip(levels, weights, strict=True)
        )
        part = study.part(f"rise of the gain from level {levels[-1]} to {levels[0]}", terms, domain=domain)
    return conclude("R4", title, [part], study.rule, domain=domain, table_ref=TABLE)


def _tolerance(study: Study, domain: str) -> Verdict:
    """SHOWN when at every level and N some k above 0 is not worse by more than the margin."""
    cells = [Cell(level, size) for size in study.sizes() or [study.plan.large] for level in LEVELS]
    parts = [_tolerated(tolerance(study, domain, cell), cell) for cell in cells]
    cost = f"at most {study.rule.margin_pp:g} pp"
    title = f"Part of the update can be taken back for {cost}, at every level and N"
    note = "k* is the largest such k; its range: shown to be tolerable, to not shown to be harmful"
    return conclude(
        "R5", title, parts, study.rule, unit="% of the region", domain=domain, table_ref=TABLE, note=note
    )


def tolerance(study: Study, domain: str, cell: Cell) -> tuple[Part, ...]:
    """One decided part a k: A(k) - A(0) > -margin; one is enough, so Holm over the grid of k."""
    parts = [
        replace(study.part(f"{k:g}", gain(cell, at_k(k)), domain=domain, tolerance=True), k=k)
        for k in study.ks()
    ]
    return decide_parts(parts, study.rule, needs="any")


def _tolerated(parts: Sequence[Part], cell: Cell) -> Part:
    """k* with its range; p is that of the best k, whose Holm family was the grid, and p_margin that of "every k of the
    grid costs more", the largest of theirs."""
    measured = [p for p in parts if p.effect is not None]
    if not measured:
        reason = parts[0].reason if parts else "no k was run"
        return Part(f"k* at {cell}", reason=reason, level=cell.level, size=cell.size)
    null = measured[0].null
    k_star = max((p.k or 0.0 for p in measured if p.effect is not None and p.effect > null), default=0.0)
    sure = max((p.k or 0.0 for p in measured if p.status is Status.SHOWN), default=0.0)
    open_to = max((p.k or 0.0 for p in measured if p.high is not None and p.high > null), default=0.0)
    p = min((p.p_holm for p in measured if p.p_holm is not None and p.status is Status.SHOWN), default=None)
    costly = [1.0 if p.effect is None or p.effect > null or p.p is None else p.p for p in measured]
    weakest = min((p.n_smallest for p in measured if p.n_smallest is not None), default=None)
    first = measured[0]
    return Part(
        f"k* at {cell}", k_star, sure, max(open_to, sure), p, None, first.n, weakest, first.seeds,
        min(p.k or 0.0 for p in measured), 0.0, first.population, max(costly), level=cell.level, size=cell.size,
    )  # fmt: skip


def _collapse(study: Study, domain: str) -> Verdict:
    large = study.plan.large
    which = at_k(COLLAPSE_K)
    parts = study.by_level(
        lambda level: study.part(
            f"level {level}: A(0) / 2 - A({COLLAPSE_K:g})",
            [Term(0.5, Cell(level, large), TUNED), Term(-1, Cell(level, large), which)],
            domain=domain,
        )
    )
    title = f"Restoring {COLLAPSE_K:g}% halves the accuracy, at every level (N = {large})"
    return conclude("R6", title, parts, study.rule, domain=domain, table_ref=TABLE)
