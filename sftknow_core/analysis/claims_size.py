"""Claims about how many facts one trains on and how well the base knows them: P1 (size) and P2 (mastery level)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sftknow_core.analysis.context import Study, minus
from sftknow_core.analysis.grid import LEVELS, TUNED, Cell, Gap, Term, size_number
from sftknow_core.analysis.verdict import Part, Rule, Verdict, conclude, decide_parts, part_of
from sftknow_core.stats.contrast import trend_weights
from sftknow_core.stats.resample import bootstrap_best, level_means, question_variance, spread_permutation
from sftknow_core.stats.seeds import over_seeds

FIGURE, TABLE = "Figure 2", "Table 2"
BEST_IN = 0.95
"""Share of bootstraps that makes a size the best."""
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
    """Best alone in at least 95% of bootstraps, and by the margin.

    The share of bootstraps stands in for p, not adjusted, as it is a share. The interval of the lead has 5% on either
    side, so that it lies above 0 just where the share is reached; 2.5% would ask for 97.5% of the bootstraps.
    """
    title = (
        f"N = {study.plan.middle} is the best size, at every level, in at least {BEST_IN:.0%} of bootstraps"
    )
    parts = study.by_level(lambda level: _peak_part(study, domain, level))
    note = f"Intervals of a lead leave out {1 - BEST_IN:.0%} of the bootstraps on either side"
    return conclude("P1c", title, parts, study.rule, domain=domain, table_ref=FIGURE, note=note, decided=True)


def _peak_part(study: Study, domain: str, level: str) -> Part:
    label, grid = f"level {level}", study.grid(domain)
    cells = [cell for cell in grid.cells() if cell.level == level and cell.method == "full"]
    wanted = Cell(level, study.plan.middle)
    if wanted not in cells or len(cells) < 2:
        return Part(label, reason=f"not run: {wanted} beside another size")
    stack = [grid.sums([Term(1, cell)]) for cell in cells]
    found = [s for s in stack if not isinstance(s, Gap)]
    seeds = set.intersection(*(set(s[0]) for s in found)) if len(found) == len(cells) else set()
    if not seeds:
        return Part(label, reason="no seed has all sizes")
    right = np.stack([table[[i for i, s in enumerate(have) if s in seeds]] for have, table in found])
    boot, at = bootstrap_best(right, grid.levels, tail=1 - BEST_IN), cells.index(wanted)
    part = Part(
        f"{label}: best in {boot.shares[at]:.1%} of bootstraps, lead", 100 * boot.leads[at], 100 * boot.low[at],
        100 * boot.high[at], None, None, len(grid.facts), _smallest(grid.levels), len(seeds), study.rule.margin_pp,
        0.0, "seeds and questions",
    )  # fmt: skip
    return peak_decided(part, boot.shares[at], study.rule)


def peak_decided(part: Part, share: float, rule: Rule) -> Part:
    """A lead decided by the share of bootstraps that it is there in: at least BEST_IN, or at most what is left."""
    leads = part.effect is not None and part.effect > 0
    p = 1 - share if leads else share
    sure = share >= BEST_IN if leads else share <= 1 - BEST_IN
    # 1 - 0.95 is not below 0.05, yet 95% are enough
    decided = decide_parts([replace(part, p=0.0 if sure else 1.0)], rule, adjust=False)[0]
    return replace(decided, p=p, p_holm=p)


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
    title = f"At N = {study.plan.large} the train level matters more than the seed does"
    found = _runs(study, domain, [study.plan.large])
    part = Part("largest - smallest level", reason="not run: all five levels at this size")
    if found is not None:
        right, levels, _ = found
        spread = spread_permutation(level_means(right[0], levels).mean(axis=-1))
        # the range of the excess over the permuted spreads: [observed - 97.5% quantile, observed - 2.5% quantile]
        part = Part(
            "spread beyond labels dealt out at random", 100 * (spread.value - spread.null_mean),
            100 * (spread.value - spread.null_high), 100 * (spread.value - spread.null_low), spread.p_value, None,
            len(levels), _smallest(levels), right.shape[2], study.rule.margin_pp, 0.0, "seeds",
        )  # fmt: skip
    return conclude("P2a", title, [part], study.rule, domain=domain, table_ref=TABLE)


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
    """The least-squares rise of each seed's spread over log N, from the smallest to the largest size."""
    sizes = [size for size in study.sizes() if size != "all"]
    part = Part("rise of the spread", reason="not run: all five levels at two sizes")
    found = _runs(study, domain, sizes) if len(sizes) > 1 else None
    if found is not None:
        right, levels, _ = found
        weights = trend_weights([float(np.log2(size_number(size))) for size in sizes])
        of_seed = np.ptp(level_means(right, levels).mean(axis=-1), axis=1)
        values = (weights @ of_seed).tolist()
        estimate = over_seeds(values, extra_variance=question_variance(right, levels, weights))
        label = f"rise of the spread from N = {sizes[0]} to {sizes[-1]}"
        part = part_of(label, estimate, study.rule.margin_pp, n=len(levels))
        part = replace(part, n_smallest=_smallest(levels), population="seeds and questions")
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
