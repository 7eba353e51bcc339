"""Claims about where the update sits: C (concentration), L1 and L2 (layers and modules), L3 (blocks of layers).

One number a fully fine-tuned chain, of cells that all seeds have. Cells are averaged within a seed, so the interval
speaks for seeds; that of C1b and C2b comes from permuted changes and speaks for this base model (`_beyond`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import Cell, Term, Which
from sftknow_core.analysis.verdict import Part, Verdict, conclude


def weight_claims(study: Study) -> list[Verdict]:
    """C1a, C1b, C2a, C2b, L1, L2, L3."""
    return [
        _holds(study, "C1a", 1, 0.70),
        _beyond(study, "C1b", 1),
        _holds(study, "C2a", 20, 0.90),
        _beyond(study, "C2b", 20),
        _layers(study),
        _mlp(study),
        _blocks(study),
    ]


def _top(study: Study, k: float) -> pd.DataFrame:
    rows = study.tables.concentration
    return study.matched(rows[rows["k_percent"].astype(float) == k])


def _holds(study: Study, claim_id: str, k: float, share: float) -> Verdict:
    rows = _top(study, k)
    part = study.over_seeds(f"share beyond {share:.0%}", rows, "share", share, study.rule.margin_pp, 100)
    title = f"The top {k:g}% hold more than {share:.0%} of the total relative change"
    note = _beside(rows)
    return conclude(claim_id, title, [part], study.rule, table_ref="Table 3", note=note)


def _beside(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    names = ["share", "top_20_share", "null_share", "energy_share", "changed_share"]
    means = rows.reindex(columns=names).astype(float).mean()
    words = {
        "share": "they hold",
        "top_20_share": "the 20 largest alone",
        "null_share": "had the changes been dealt out at random",
        "energy_share": "of the squared change",
        "changed_share": "of all weights changed at all",
    }
    return "On average: " + ", ".join(
        f"{words[str(name)]} {value:.1%}" for name, value in means.items() if value == value
    )  # NaN: not measured


def _beyond(study: Study, claim_id: str, k: float) -> Verdict:
    """The measured share less that of permuted changes, decided by the permutations of every chain.

    All chains of a study start from one base: the |p| that make a share large are the same in each, and seeds are no
    replicates of it. So nothing here counts on independent chains.

    p         2 * min(largest rank p of "more" over chains, largest rank p of "less" over chains), at most 1. Each
              chain's rank p is exact given |p|; were a chain's changes as if permuted, its p alone would be below alpha
              with probability alpha at most, and the largest p is no smaller, however chains depend on one another.
              It is small only where every chain lies beyond its null on the same side, which is what the claim says.
    interval  of the excess over a permutation: mean over chains of share - null_high to share - null_low (the middle
              95% of its permutations), wider by the Monte Carlo error of the null's mean. The ends are averaged as if
              all chains deviated together, the widest that any dependence gives.
    """
    title = f"The top {k:g}% hold more than changes dealt out at random within each tensor would"
    rows = _top(study, k)
    measured = (
        study.matched(rows.dropna(subset=[c for c in _SPREAD if c in rows]))
        if _has_spread(rows)
        else rows[:0]
    )
    part = _excess(study, measured) if len(measured) else Part(_LABEL, reason=_why_not(rows))
    note = _ONE_BASE.format(n=measured["n_permutations"].min()) if len(measured) else ""
    return conclude(claim_id, title, [part], study.rule, table_ref="Table 3", note=note)


_LABEL = "share - permuted share"
_SPREAD = (
    "share",
    "null_share",
    "null_sd",
    "null_low",
    "null_high",
    "n_permutations",
    "p_more",
    "p_two_sided",
)
_ONE_BASE = (
    "Against at least {n:.0f} permutations a chain; all seeds share the weights of one base, so this holds for this "
    "base model only"
)
_POPULATION = "this base model's weights"


def _has_spread(rows: pd.DataFrame) -> bool:
    return set(_SPREAD) <= set(rows.columns)


def _why_not(rows: pd.DataFrame) -> str:
    if rows["null_share"].notna().any():
        return "measured with one permutation; measure the pair again"
    return "no cell has all seeds yet" if rows["share"].notna().any() else "not measured"


def _excess(study: Study, rows: pd.DataFrame) -> Part:
    """Of chains with many permutations each; see `_beyond`."""
    own = rows[list(_SPREAD)].astype(float)
    seeds = study.tables.chains.set_index("chain").loc[rows["chain"], "seed"].nunique()
    more = own["p_more"]
    # of the two rank p values the smaller is half the two-sided one; where that is "more", "less" is above a half
    less = (own["p_two_sided"] / 2).where(more > own["p_two_sided"] / 2, 1.0)
    error = 1.96 * float((own["null_sd"] / own["n_permutations"] ** 0.5).mean())
    effect, low, high = (
        float((own["share"] - own[name]).mean()) for name in ("null_share", "null_high", "null_low")
    )
    ends = 100 * (low - error), 100 * (high + error)
    p = min(1.0, 2 * float(min(more.max(), less.max())))
    return Part(
        _LABEL, 100 * effect, *ends, p, seeds=int(seeds), margin=study.rule.margin_pp, population=_POPULATION
    )  # fmt: skip


def _places(study: Study, by: str) -> pd.DataFrame:
    rows = study.tables.enrichment
    of_k = rows["k_percent"].astype(float) == study.plan.enrichment_k
    return study.matched(rows[(rows["by"] == by) & of_k])


def _enriched(study: Study, label: str, by: str, groups: Sequence[str], sign: int) -> Part:
    """sign * (share of the restored / share of the weights - 1) of some groups together."""
    rows = _places(study, by)
    if rows.empty or not groups:
        return Part(label, reason="not measured")
    inside = rows[rows["group"].astype(str).isin(groups)].groupby("chain")[["n", "n_restored"]].sum()
    whole = rows.groupby("chain")[["n", "n_restored"]].sum()
    both = inside.join(whole.add_suffix("_all")).astype(float)
    ratio = (both["n_restored"] / both["n_restored_all"]) / (both["n"] / both["n_all"])
    found = (sign * (ratio - 1)).rename("excess").reset_index()
    return study.over_seeds(label, found, "excess", 0.0, study.rule.margin_ratio, 1.0)


def _null_enrichment(study: Study, by: str, groups: Sequence[str]) -> str:
    """What these groups' enrichment - 1 would be had the changes been permuted within each tensor; "" if not taken."""
    rows = _places(study, by)
    rows = rows.astype({"n": float, "n_restored_null": float}).dropna(subset=["n_restored_null"])
    inside = rows[rows["group"].astype(str).isin(groups)]
    taken, weights = rows["n_restored_null"].sum(), rows["n"].sum()
    if not taken or not weights:
        return ""
    ratio = (inside["n_restored_null"].sum() / taken) / (inside["n"].sum() / weights)
    return f"With the changes permuted within each tensor it would be {ratio - 1:+.3f}"


def _layers(study: Study) -> Verdict:
    rows = study.tables.enrichment
    numbers = sorted(
        {int(group) for group in rows.loc[rows["by"] == "layer", "group"] if str(group).isdigit()}
    )
    enough = len(numbers) > 5  # else the first three and the last two overlap
    parts = [
        _enriched(study, "layers 0-2", "layer", ["0", "1", "2"] if enough else [], 1),
        _enriched(
            study, "last two layers, below", "layer", [str(n) for n in numbers[-2:]] if enough else [], -1
        ),
    ]
    k = study.plan.enrichment_k
    title = f"Among the top {k:g}% the first three layers are over-, the last two under-represented"
    note = _null_enrichment(study, "layer", ["0", "1", "2"]) if enough else ""
    if numbers and not enough:
        note = f"The model has {len(numbers)} layers; the claim needs six"
    return conclude("L1", title, parts, study.rule, unit="enrichment - 1", table_ref="Table 9", note=note)


def _mlp(study: Study) -> Verdict:
    part = _enriched(study, "MLP", "kind", ["mlp"], 1)
    title = f"Among the top {study.plan.enrichment_k:g}% the MLP is over-represented for its size"
    note = _null_enrichment(study, "kind", ["mlp"])
    return conclude("L2", title, [part], study.rule, unit="enrichment - 1", table_ref="Table 10", note=note)


def _blocks(study: Study) -> Verdict:
    """Restoring a block that matters costs accuracy: the first block costs most, the middle one least."""
    title = "Of the blocks of layers the first matters most and the middle one least"
    states = study.tables.states
    of_blocks = states.loc[states["strategy"] == "block", "layers"].dropna().astype(str).unique()
    of_layers = [b for b in of_blocks if re.fullmatch(r"\d+(-\d+)?", b)]  # a block can be a module as well
    blocks = sorted(of_layers, key=lambda b: int(b.split("-")[0]))
    middle = len(blocks) // 2
    pairs = [(other, 0) for other in range(1, len(blocks))]
    pairs += [(middle, other) for other in range(1, len(blocks)) if other != middle]
    parts = [Part("blocks", reason="not run: at least three blocks of layers")]
    if len(blocks) >= 3:
        parts = [_block_part(study, blocks[kept], blocks[harmed]) for kept, harmed in pairs]
    return conclude("L3", title, parts, study.rule, domain="in", table_ref="Table 11")


def _block_part(study: Study, kept: str, harmed: str) -> Part:
    """Mean over the cells that have both blocks."""
    states = study.tables.states[study.tables.states["strategy"] == "block"]
    chains = study.tables.chains[study.tables.chains["chain"].isin(states["chain"])]
    chains = chains[chains["method"] == "full"]
    cells = sorted({Cell(*row) for row in chains[["level", "size", "method"]].itertuples(index=False)})
    terms = []
    for cell in cells:
        for weight, layers in ((1, kept), (-1, harmed)):
            terms.append(Term(weight / len(cells), cell, Which("restored", "block", None, layers)))
    return study.part(f"restoring {kept} - restoring {harmed}", terms)
