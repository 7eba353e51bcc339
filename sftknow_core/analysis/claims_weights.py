"""Claims about where the update sits: C (concentration), L1 and L2 (layers and modules), L3 (blocks of layers).

One number a fully fine-tuned chain; cells are averaged within a seed, so the interval speaks for seeds. Only cells
that all seeds have count.
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
    means = rows[["share", "null_share", "energy_share", "changed_share"]].astype(float).mean()
    words = {
        "share": "they hold",
        "null_share": "had the changes been dealt out at random",
        "energy_share": "of the squared change",
        "changed_share": "of all weights changed at all",
    }
    return "On average: " + ", ".join(
        f"{words[str(name)]} {value:.1%}" for name, value in means.items() if value == value
    )  # NaN: not measured


def _beyond(study: Study, claim_id: str, k: float) -> Verdict:
    rows = _top(study, k).dropna(subset=["share", "null_share"])
    rows = rows.assign(excess=rows["share"].astype(float) - rows["null_share"].astype(float))
    part = study.over_seeds("share - permuted share", rows, "excess", 0.0, study.rule.margin_pp, 100)
    title = f"The top {k:g}% hold more than changes dealt out at random within each tensor would"
    return conclude(claim_id, title, [part], study.rule, table_ref="Table 3")


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
    rows = rows.astype({"n": float, "n_restored_null": float})
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
