"""Claims about how many facts one trains on and how well the base knows them: P1 (size) and P2 (mastery level)."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
from scipy.stats import norm

from sftknow_core.analysis.context import Study, minus
from sftknow_core.analysis.grid import LEVELS, TUNED, Cell, size_number
from sftknow_core.analysis.verdict import Part, Verdict, conclude
from sftknow_core.stats.contrast import trend_weights
from sftknow_core.stats.resample import level_means, spread_interval, spread_permutation

FIGURE, TABLE = "Figure 2", "Table 2"
HARDLY_KNOWN = "level 0"
"""claim_id of `hardly_known`."""


def size_claims(study: Study) -> list[Verdict]:
    """P1a to P2e, in-domain and then out-of-domain."""
    makers = (_rise, _fall, _peak, _all_data, _spread, _falls_most, _spread_grows, _cross_harm, _best_level)
    return [make(study, domain) for domain in study.domains() for make in makers]


def _rise(study: Study, domain: str) -> Verdict:
    plan = study.plan
    parts = study.by_level(
        lambda level: study.part(
            f"level {level}", minus(Cell(level, plan.middle), Cell(level, plan.small)), domain=domain
        )
    )
    title = f"Accuracy rises from N = {plan.small} to N = {plan.middle}, at every level"
    return conclude("P1a", title, parts, study.rule, domain=domain, table_ref=FIGURE)


def _fall(study: Study, domain: str) -> Verdict:
    plan = study.plan
    parts = study.by_level(
        lambda level: study.part(
            f"level {level}", minus(Cell(level, plan.middle), Cell(level, plan.large)), domain=domain
        )
    )
    title = f"Accuracy falls from N = {plan.middle} to N = {plan.large}, whatever the level"
    note = "N is also the number of steps"
    return conclude("P1b", title, parts, study.rule, domain=domain, table_ref=FIGURE, note=note)


def _peak(study: Study, domain: str) -> Verdict:
    """Better than every other size: nobody picks a runner-up, so none is flattered, and each lead has its t interval.

    A bootstrap over three seeds calls a size the best in 95% of its draws too often, where sizes are alike.
    """
    middle = study.plan.middle
    others = [size for size in study.sizes() if size != middle] or ["another size"]
    parts = []
    for level, other in product(LEVELS, others):
        terms = minus(Cell(level, middle), Cell(level, other))
        part = study.part(f"level {level}: N = {middle} - {other}", terms, domain=domain)
        parts.append(replace(part, level=level))
    title = f"N = {middle} is the best size, at every level"
    return conclude("P1c", title, parts, study.rule, domain=domain, table_ref=FIGURE)


def _all_data(study: Study, domain: str) -> Verdict:
    """Not above any other size by more than the margin: margin - (A(all) - A(size)) > 0."""
    parts = []
    for level in LEVELS:
        for size in [s for s in study.sizes() if s != "all"] or ["another size"]:
            terms = minus(Cell(level, size), Cell(level, "all"))
            parts.append(study.part(f"level {level}, N = {size} - all", terms, domain=domain, tolerance=True))
    title = f"Training on all facts is within {study.rule.margin_pp:g} pp of the worst size, at every level"
    return conclude("P1d", title, parts, study.rule, domain=domain, table_ref=FIGURE)


def _spread(study: Study, domain: str) -> Verdict:
    """The observed spread, with an interval of the true one; p: levels dealt out again over the runs."""
    title = f"At N = {study.plan.large} the train level matters more than the seed does"
    found = _runs(study, domain, [study.plan.large])
    part = Part("largest - smallest level", reason="not run: all five levels at this size")
    note = ""
    if found is not None:
        right, levels, _ = found
        spread = spread_interval(right[0], levels)
        chance = spread_permutation(level_means(right[0], levels).mean(axis=-1))
        part = Part(
            "largest - smallest level", 100 * spread.value, 100 * spread.low, 100 * spread.high, chance.p_value, None,
            len(levels), _smallest(levels), right.shape[2], study.rule.margin_pp, 0.0, "seeds and questions",
        )  # fmt: skip
        note = (
            f"With the levels dealt out at random over the runs it would be {100 * chance.null_mean:.1f} pp"
        )
    return conclude("P2a", title, [part], study.rule, domain=domain, table_ref=TABLE, note=note)


def _falls_most(study: Study, domain: str) -> Verdict:
    plan = study.plan
    parts = []
    for level in LEVELS[1:]:
        terms = minus(Cell("0", plan.middle), Cell("0", plan.large))
        terms += minus(Cell(level, plan.large), Cell(level, plan.middle))
        parts.append(study.part(f"fall of level 0 - fall of level {level}", terms, domain=domain))
    title = f"Level 0 falls most from N = {plan.middle} to N = {plan.large}"
    return conclude("P2b", title, parts, study.rule, domain=domain, table_ref=FIGURE)


def hardly_known(study: Study) -> list[Verdict]:
    """A(D_l) - A(D_0) at the largest N, l = 1 to 4: does it hurt to train on what the base hardly knows? By domain.

    A user's question and no claim of the paper, which says that level 0 falls most (P2b), not where it ends.
    """
    large, found = study.plan.large, []
    for domain in study.domains():
        parts = [
            replace(
                study.part(
                    f"level {level} - level 0", minus(Cell(level, large), Cell("0", large)), domain=domain
                ),
                level=level,
            )
            for level in LEVELS[1:]
        ]
        title = f"Level 0 is the worst level to train on (N = {large})"
        found.append(conclude(HARDLY_KNOWN, title, parts, study.rule, domain=domain, table_ref=TABLE))
    return found


def _spread_grows(study: Study, domain: str) -> Verdict:
    """The least-squares rise of the spread over log N, from the smallest to the largest size.

    Its half-width adds those of the sizes' spreads in squares (MOVER: Zou, Huang and Zhang, Computational Statistics &
    Data Analysis 53, 2009), so it is conservative as they are. A rise of each seed's own spread would follow the noise
    of a size, which widens a spread as well. p is that of a normal estimate with this interval.
    """
    sizes = [size for size in study.sizes() if size != "all"]
    part = Part("rise of the spread", reason="not run: all five levels at two sizes")
    found = _runs(study, domain, sizes) if len(sizes) > 1 else None
    if found is not None:
        right, levels, seeds = found
        weights = trend_weights([float(np.log2(size_number(size))) for size in sizes])
        spreads = [spread_interval(of_size, levels) for of_size in right]
        rise = float(weights @ [spread.value for spread in spreads])
        half = float(np.linalg.norm(weights * [spread.half for spread in spreads]))
        margin = study.rule.margin_pp
        p, p_margin = (
            float(2 * norm.sf(norm.isf(0.025) * abs(rise - at) / half)) for at in (0.0, margin / 100)
        )
        part = Part(
            f"rise of the spread from N = {sizes[0]} to {sizes[-1]}", 100 * rise, 100 * (rise - half),
            100 * (rise + half), p, None, len(levels), _smallest(levels), len(seeds), margin, 0.0,
            "seeds and questions", p_margin,
        )  # fmt: skip
    title = "The spread between train levels grows with N"
    return conclude("P2c", title, [part], study.rule, domain=domain, table_ref=FIGURE)


def _cross_harm(study: Study, domain: str) -> Verdict:
    large = study.plan.large
    pairs = (("4", "0", 4), ("1", "4", 1))
    parts = [
        study.part(
            f"test level {test}: trained on {own} - trained on {other}",
            minus(Cell(own, large), Cell(other, large)), domain=domain, levels=[test],
        )
        for own, other, test in pairs
    ]  # fmt: skip
    title = "Training on one level harms what the base knows at the other end"
    return conclude("P2d", title, parts, study.rule, domain=domain, table_ref=TABLE)


def _best_level(study: Study, domain: str) -> Verdict:
    large = study.plan.large
    parts = [
        study.part(f"level 2 - level {level}", minus(Cell("2", large), Cell(level, large)), domain=domain)
        for level in LEVELS
        if level != "2"
    ]
    title = f"Level 2 is the best level to train on (N = {large})"
    return conclude("P2e", title, parts, study.rule, domain=domain, table_ref=TABLE)


def _runs(study: Study, domain: str, sizes: list[str]) -> tuple[np.ndarray, np.ndarray, list[int]] | None:
    """(right [sizes, levels, seeds, questions], question levels, seeds) of the tuned models; None: not all run."""
    grid = study.grid(domain)
    cells = [[Cell(level, size) for level in LEVELS] for size in sizes]
    rows = {cell: grid.by_seed(cell, TUNED) for line in cells for cell in line}
    seeds = sorted(set.intersection(*(set(found) for found in rows.values())))
    if not seeds:
        return None
    right = np.array([[[rows[cell][seed] for seed in seeds] for cell in line] for line in cells])
    return right, grid.levels, seeds


def _smallest(levels: np.ndarray) -> int:
    return int(np.unique(levels, return_counts=True)[1].min())
