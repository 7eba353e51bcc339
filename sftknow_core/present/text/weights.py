"""Numbers about the changes (results/weights.py) -> cards and sentences for the page "Parameters"."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from sftknow_core.analysis import published
from sftknow_core.present.terminal import percent
from sftknow_core.present.text.restore import compact
from sftknow_core.present.text.story import KeyNumber, Part
from sftknow_core.results.weights import Changed, Overview, Selection
from sftknow_core.update.strategies import STRATEGIES as REGISTERED

Numbers = Mapping[str, Any]
STRATEGIES = {name: REGISTERED.get(name).title for name in ("top", "largest")}
"""The two orders of this page, named as on the page "Restore"."""
DEFINITIONS = f"""\
- **Bit-identical**: the weight after fine-tuning has exactly the bits it had before. Weights stored in 16 bits round
  small changes away, and a token that no training text contains leaves its input embedding alone.
- **r** (no unit): |tuned − base| / (|base| + ε) with ε = 10⁻⁸, the relative change of a weight.
- **|d|**: |tuned − base|, in units of the weights.
- **k** (%): the first k% of the region's weights in the chosen order. The same k, region and order as on the page
  “Restore”.
- **Concentration**: the part of the region's summed r that the first k% hold (table 3 of the paper).
- **Null**: the same changes dealt out at random within each tensor, and r computed anew. Whatever it concentrates too
  comes from base weights near zero, not from which weights were changed.
- **Enrichment** (×, no unit): a group's share of what is put back / its share of the region's weights. ×1: by chance.
- **transformer**: attention and MLP of all layers, without norms. **outside**: weights in no layer.
- **Paper**: {published.CITATION}; LLaMA-3-8B, 32 layers, full fine-tuning.
"""
COLUMNS = {
    "by": ("by", "layer or module", None),
    "group": ("group", "layer or module", None),
    "n_weights": ("weights", "", "{:,.0f}"),
    "n_changed": ("changed", "weights whose bits differ", "{:,.0f}"),
    "n_same": ("identical", "weights with the same bits", "{:,.0f}"),
    "same_share": ("identical (%)", "share with the same bits", "{:.2%}"),
    "sum_r": ("summed r", "no unit", "{:,.3g}"),
    "near_zero_share": ("of it near zero", "part of the summed r from weights with |base| < 1e-6", "{:.1%}"),
    "score": ("score", "r: relative change; |d|: absolute change", None),
    "from": ("from", "lower edge of the bar", "{:.3g}"),
    "to": ("to", "upper edge, not included", "{:.3g}"),
    "share": ("share", "of what is held or put back", "{:.2%}"),
    "score_share": ("of the sum", "the bar's part of the summed score", "{:.2%}"),
    "null_share": ("null", "share had the changes been dealt out at random", "{:.1%}"),
    "share_1e-6": ("ε = 10⁻⁶", "share with this ε in r", "{:.1%}"),
    "share_1e-4": ("ε = 10⁻⁴", "share with this ε in r", "{:.1%}"),
    "paper_low": ("paper, lowest", "of ten fine-tunings of LLaMA-3-8B", "{:.1%}"),
    "paper_high": ("paper, highest", "of ten fine-tunings of LLaMA-3-8B", "{:.1%}"),
    "paper_share": ("paper", "share in LLaMA-3-8B; its N, level and k are not stated", "{:.1%}"),
    "paper_layers": ("paper's layers", "of 32, at the same depth", None),
    "layer": ("layer", "from 0", None),
    "module": ("module", "", None),
}
"""Columns of this page's tables: header, meaning, format."""


def cards(found: Overview) -> tuple[KeyNumber, ...]:
    """Four cards from Cube.overview."""
    region, model, taken = found.region, found.model, found.taken
    return (
        KeyNumber(
            "Bit-identical weights",
            (_same("region", region), _same("whole model", model)),
            "Left exactly as they were. Putting them back does nothing.",
        ),
        KeyNumber(
            "Size of the update",
            (_size("region", region), _size("whole model", model)),
            "Length of the change against length of the base weights, ‖tuned − base‖ / ‖base‖.",
        ),
        KeyNumber(
            "Near-zero base weights",
            (_near_zero("region", region), _near_zero("whole model", model)),
            "Part of the summed r from weights with |base| < 10⁻⁶: few weights, but r divides by |base|.",
        ),
        _held(taken),
    )


def what_identical_means(found: Overview) -> str:
    """Why the identical share matters at the current k."""
    taken, region = found.taken, found.region
    full, k = taken.no_more_changes_from_k, taken.k_percent
    if region.n_changed == 0:
        return "Fine-tuning changed no weight of this region: there is nothing to put back at any k."
    if isnan(full):
        return "Some changes do not show in r or |d| (a zero that changed its sign): only k = 100% puts all back."
    same = region.n - region.n_changed
    changed = f"{percent(region.changed_share, 2)}%" if same > region.n / 10_000 else f"All but {same:,}"
    if same == 0:
        return "Every weight of this region changed, if only by its last bit: each k up to 100% puts more changes back."
    said = (
        f"**{changed} of this region's {compact(region.n)} weights changed: every k from {full:g}% on puts back the "
        "same, all changes.** A larger k adds only weights that are base already."
    )
    if k >= full:
        return f"{said} The current k = {k:g}% is there."
    return f"{said} The current k = {k:g}% is {taken.k_of_changed_percent:.1f}% of the changed weights."


def what_concentration_means(rows: pd.DataFrame, k: float) -> str:
    """The measured share against its null at the paper's k nearest to the current one."""
    paper = rows[rows["in_paper"]]
    if paper["share"].isna().all():
        return "Nothing changed in this region, so nothing is concentrated."
    row = paper.iloc[int((paper["k_percent"] - k).abs().to_numpy().argmin())]
    share, null, other = row["share"], row["null_share"], row["share_1e-4"]
    verdict = (
        "less than chance gives: the concentration comes from where base is near zero"
        if null >= share
        else f"{100 * (share - null):.1f} points more than chance gives"
    )
    return (
        f"The most changed {row['k_percent']:g}% hold **{percent(share)}%** of the summed r; the null holds "
        f"**{percent(null)}%**. That is {verdict}. With ε = 10⁻⁴, which takes base weights below it out of the "
        f"fraction, the same share is {percent(other)}%."
    )


def thresholds(cuts: Numbers, k: float) -> str:
    """From which r and |d| on k% puts weights back."""
    if k == 0:
        return "k = 0%: nothing is put back."
    if not cuts["relative"] and not cuts["absolute"]:
        return f"k = {k:g}% puts back every change, in either order. Dotted: where the summed r or |d| comes from."
    parts = [f"{name} ≥ {_number(cuts[score])}" for score, name in (("relative", "r"), ("absolute", "|d|"))]
    return (
        f"k = {k:g}% puts back **{parts[0]}** when the largest r go first, **{parts[1]}** when the largest |d| do. "
        "Dotted: where the summed r or |d| comes from."
    )


def paper_note(n_layers: int) -> str:
    """What the paper's numbers beside ours are."""
    grouped = (
        ""
        if n_layers == published.N_LAYERS
        else f" Its 32 layers are brought to {n_layers} groups of equal depth."
    )
    return (
        f"Paper: {published.CITATION}, tables 3, 9 and 10, LLaMA-3-8B.{grouped} Tables 9 and 10 do not state N, "
        "level or k, and other architectures split their weights otherwise: compare enrichments, not shares."
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
    score, null = ("|d|", None) if taken.null_share is None else ("r", taken.null_share)
    share = taken.share
    parts = [
        Part("these weights", "–" if isnan(share) else f"{percent(share)}%", f"k = {taken.k_percent:g}%")
    ]
    said = "There is no null: dealing the changes out at random leaves the list of |d| as it is."
    if null is not None:
        parts.append(Part("null", "–" if isnan(null) else f"{percent(null)}%", "by chance"))
        said = "Null: the same changes dealt out at random within each tensor."
    return KeyNumber(f"Of the summed {score}", tuple(parts), said)


def _number(value: float) -> str:
    return "–" if isnan(value) else f"{value:.2g}" if value > 0 else "0 (all changes)"
