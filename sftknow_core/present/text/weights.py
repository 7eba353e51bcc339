"""Texts and number cards of the page "Parameters"."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from sftknow_core.analysis import published
from sftknow_core.present import glossary
from sftknow_core.present.terminal import percent
from sftknow_core.present.text.restore import NO_NULL, compact, null_part, null_said, top_said
from sftknow_core.present.text.story import KeyNumber, Part
from sftknow_core.results.weights import Changed, Overview, Selection
from sftknow_core.update.strategies import STRATEGIES as REGISTERED

Numbers = Mapping[str, Any]
_ALPHA = 0.05
STRATEGIES = {name: REGISTERED.get(name).title for name in ("top", "largest")}
"""The two rankings of this page, named as on the page "Restore"."""
DEFINITIONS = glossary.bullets(
    "changed",
    "relative change",
    "absolute change",
    "k",
    "region",
    "concentration",
    "null",
    "rank p",
    "enrichment",
) + (f"- **Paper**: {published.CITATION}; LLaMA-3-8B, 32 layers, full fine-tuning.\n")


def cards(found: Overview) -> tuple[KeyNumber, ...]:
    """Four cards from Cube.overview."""
    region, model, taken = found.region, found.model, found.taken
    return (
        KeyNumber(
            "Bit-identical weights",
            (_same("region", region), _same("whole model", model)),
            "Unchanged by fine-tuning.",
        ),
        KeyNumber(
            "Size of the update",
            (_size("region", region), _size("whole model", model)),
            "‖tuned − base‖ / ‖base‖.",
        ),
        KeyNumber(
            "Near-zero base weights",
            (_near_zero("region", region), _near_zero("whole model", model)),
            "Share of the summed r from weights with |base| < 10⁻⁶, because r divides by |base|.",
        ),
        _held(taken),
    )


def what_identical_means(found: Overview) -> str:
    """The changed share of the region, and where the current k is relative to it."""
    taken, region = found.taken, found.region
    full, k = taken.no_more_changes_from_k, taken.k_percent
    if region.n_changed == 0:
        return "Fine-tuning changed no weight of this region: there is nothing to revert."
    if isnan(full):
        return "Some changes have r = |d| = 0 (a zero that changed its sign): only k = 100% reverts them all."
    same = region.n - region.n_changed
    if same == 0:
        return "Every weight of this region changed: each k up to 100% reverts further changes."
    few = same <= region.n / 10_000
    changed = f"{region.n_changed:,}" if few else f"{percent(region.changed_share, 2)}%"
    said = (
        f"**{changed} of {f'{region.n:,}' if few else compact(region.n)} weights changed.** From k = {full:g}% on, all "
        "changes are reverted."
    )
    if k >= full:
        return f"{said} This includes the current k = {k:g}%."
    return f"{said} The current k = {k:g}% is {taken.k_of_changed_percent:.1f}% of the changed weights."


def what_concentration_means(rows: pd.DataFrame, k: float) -> str:
    """The measured share against its null at the paper's k nearest to the current one."""
    paper = rows[rows["in_paper"]]
    if paper["share"].isna().all():
        return "Nothing changed in this region, so nothing is concentrated."
    row = paper.iloc[int((paper["k_percent"] - k).abs().to_numpy().argmin())]
    share, other, top = row["share"], row["share_1e-4"], row["top_20_share"]
    return (
        f"The top {row['k_percent']:g}% contain **{percent(share)}%** of the summed r, the 20 weights of largest r "
        f"alone {percent(top)}%. {_against(row)} With ε = 10⁻⁴ (base weights below it hardly count): {percent(other)}%."
    )


def _against(row: pd.Series[Any]) -> str:
    """The share against the null's permutations: above, below, or within what they give."""
    share, null, p = row["share"], row["null_share"], row["p_two_sided"]
    if isnan(p):
        return f"Null: **{percent(null)}%** (one shuffle: these differ by points, and their spread is not measured)."
    ends = f"{percent(row['null_low'])} to {percent(row['null_high'])}%"
    said = f"Null: **{percent(null)}%** (95% of {row['n_permutations']:.0f} shuffles: {ends})."
    if p >= _ALPHA:
        return (
            f"{said} The share is within the null (rank p = {p:.2g}): it comes from base weights near zero."
        )
    side = "above" if share > null else "below"
    return f"{said} The share is {100 * abs(share - null):.1f} pp {side} the null (rank p = {p:.2g})."


def thresholds(cuts: Numbers, k: float) -> str:
    """The thresholds of r and |d| at k."""
    if k == 0:
        return "k = 0%: no weight is reverted."
    if not cuts["relative"] and not cuts["absolute"]:
        return f"k = {k:g}% reverts every change, in either ranking. Dotted: contribution to the summed r or |d|."
    parts = [f"{name} ≥ {_number(cuts[score])}" for score, name in (("relative", "r"), ("absolute", "|d|"))]
    return (
        f"Threshold at k = {k:g}%: **{parts[0]}** (largest relative change) or **{parts[1]}** (largest absolute "
        "change). Dotted: contribution to the summed r or |d|."
    )


def paper_note(n_layers: int) -> str:
    """Source of the paper's numbers, and how far they can be compared."""
    grouped = (
        ""
        if n_layers == published.N_LAYERS
        else f" Its 32 layers are grouped into {n_layers} of equal depth."
    )
    return (
        f"Paper: {published.CITATION}, tables 3, 9 and 10, LLaMA-3-8B.{grouped} Compare enrichments, not shares: "
        "tables 9 and 10 do not state N, level or k, and the modules differ in size."
    )


def _same(label: str, row: Changed) -> Part:
    return Part(label, f"{percent(1 - row.changed_share)}%", f"{compact(row.n - row.n_changed)} weights")


def _size(label: str, row: Changed) -> Part:
    size = row.relative_norm
    return Part(label, "–" if isnan(size) else f"{percent(size, 2)}%", f"{compact(row.n)} weights")


def _near_zero(label: str, row: Changed) -> Part:
    share = row.near_zero_share
    return Part(label, "–" if isnan(share) else f"{percent(share)}%", "of the summed r")


def _held(taken: Selection) -> KeyNumber:
    share = taken.share
    parts = [
        Part("these weights", "–" if isnan(share) else f"{percent(share)}%", f"k = {taken.k_percent:g}%")
    ]
    if taken.null_share is None:
        return KeyNumber("Share of the summed |d|", tuple(parts), NO_NULL)
    parts.append(null_part(taken))
    return KeyNumber("Share of the summed r", tuple(parts), f"{null_said(taken)}{top_said(taken)}")


def _number(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2g}" if value > 0 else "0 (all changes)"
