"""Tables 3, 9, 10 and 11 of the paper, for a study: how concentrated changes are, where they sit, blocks of layers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sftknow_core.analysis import estimates as est
from sftknow_core.analysis import published
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.estimates import POPULATION
from sftknow_core.analysis.grid import Which
from sftknow_core.analysis.paper_table import (
    OURS,
    PAPER,
    PaperTable,
    level_name,
    listed,
    percent,
    seeds_said,
    wide,
)
from sftknow_core.analysis.rows import cells_of
from sftknow_core.stats.seeds import MIN_SEEDS, over_seeds

_CITED = f"Paper: {published.MODEL}, its own updates ({published.CITATION})."
_SEEDS_ONLY = "95% intervals speak for other seeds"
_BESIDE = ("null_share", "null_low", "null_high", "n_permutations", "top_20_share", "energy_share")
_CONCENTRATION = ["source", "train_level", "size", "k_percent", "share", "low", "high", *_BESIDE, "n_seeds"]
_PLACES = ["share", "low", "high", "weight_share", "enrichment", "enrichment_null", "n_seeds"]
_ENRICHED = (
    "Share of the {k:g}% most changed weights that sit there, mean over {n} full fine-tunings. Enrichment: that share "
    "by the share of the region's weights; 1 is as often as chance. Null: changes permuted within each tensor, "
    "mean over permutations. {seeds} (the cells of a seed averaged). "
    "The paper names no N, level or k, and prints no share of weights. {cited}"
)


def table3(study: Study, matcher: str) -> PaperTable:
    """Share of the sum of relative changes that the top k% hold, beside a permutation null."""
    del matcher
    rows = [
        row for cell in cells_of(study) for row in _concentration(study, study.tables.chains_of(cell), cell)
    ]
    paper = published.concentration()
    paper = paper.assign(
        source=PAPER, train_level=paper["train_level"].astype(str), size=paper["n_train"].astype(str)
    )
    frame = pd.concat(
        [pd.DataFrame(rows, columns=_CONCENTRATION), paper.reindex(columns=_CONCENTRATION)], ignore_index=True
    )
    numbers = _CONCENTRATION[3:-1]
    frame[numbers] = frame[numbers].apply(pd.to_numeric).astype("float64")
    frame["n_seeds"] = pd.to_numeric(frame["n_seeds"]).astype("Int64")
    null = frame[frame["null_share"].notna()].assign(source="null")
    null = null.assign(share=null["null_share"], low=null["null_low"], high=null["null_high"])
    order = {OURS: 0, "null": 1, PAPER: 2}
    by = ["source", "size", "k_percent"]
    both = pd.concat([frame, null])
    both = both.sort_values(by, key=lambda c: c.map(order if c.name == "source" else _number), kind="stable")
    shown = wide(both, ["source", "size", "k_percent"], "train_level", percent("share"), name=level_name)
    caption = (
        "Share of the sum of relative changes |s - p| / (|p| + 1e-8) held by the k% of weights that changed most, "
        f"percent; mean over {seeds_said(study)}, all weights of the region, so there are no questions, split or "
        f"matcher. {_SEEDS_ONLY}. Null: changes permuted within each tensor, mean over permutations, in "
        "brackets the middle 95% of them; what it concentrates comes from weights near zero, which all seeds share. "
        f"{_top_said(frame)}{_CITED}"
    )
    reason = "" if rows else "NOT RUN: the weights of no chain were compared"
    return PaperTable("table3", "How concentrated the changes are", caption, frame, shown, reason)


def _concentration(study: Study, chains: list[str], cell: Any) -> list[dict[str, Any]]:
    found = study.tables.concentration
    of = found[found["chain"].isin(chains)]
    rows = []
    for k, group in of.groupby("k_percent"):
        place = {"source": OURS, "train_level": cell.level, "size": cell.size, "k_percent": float(k)}  # type: ignore[arg-type]
        beside = group.reindex(columns=list(_BESIDE)).astype(float).mean()
        means = {name: float(beside[name]) for name in _BESIDE}
        rows.append({**place, **_over_seeds(group["share"].astype(float).tolist(), "share"), **means})
    return rows


def _top_said(frame: pd.DataFrame) -> str:
    held = frame["top_20_share"].dropna()
    return f"The 20 largest weights alone hold {held.min():.1%} to {held.max():.1%}. " if len(held) else ""


def table9(study: Study, matcher: str) -> PaperTable:
    """Where the most changed weights sit, by layer."""
    del matcher
    frame = _places(study, "layer").rename(columns={"group": "layer"})
    frame["layer"] = pd.to_numeric(frame["layer"]).astype("Int64")
    frame = frame.sort_values("layer", ignore_index=True)
    if len(frame):
        paper = published.layer_shares(int(frame["layer"].max()) + 1)
        frame = frame.merge(paper.astype({"layer": "Int64"}), on="layer", how="left")
    shown = listed(frame, ["layer", *_PLACES, "paper_layers", "paper_share"])
    title = f"Where the {study.plan.enrichment_k:g}% most changed weights sit, by layer"
    return PaperTable("table9", title, _enriched(study), frame, shown, _no_places(frame))


def table10(study: Study, matcher: str) -> PaperTable:
    """The same by module, or by attention and MLP where modules were not counted."""
    del matcher
    by = "module" if (study.tables.enrichment["by"] == "module").any() else "kind"
    frame = _places(study, by).rename(columns={"group": "module"})
    paper = published.module_shares()
    if by == "kind":
        kind = paper["module"].str.startswith("mlp").map({True: "mlp", False: "attention"})
        paper = paper.groupby(kind)["paper_share"].sum().reset_index()
    frame = frame.merge(paper, on="module", how="left")
    frame = frame.sort_values("share", ascending=False, ignore_index=True)
    shown = listed(frame, ["module", *_PLACES, "paper_share"])
    title = f"Where the {study.plan.enrichment_k:g}% most changed weights sit, by kind of weights"
    return PaperTable("table10", title, _enriched(study), frame, shown, _no_places(frame))


def _places(study: Study, by: str) -> pd.DataFrame:
    """One row a group: shares and enrichments, each the mean over chains (Study.matched), intervals over seeds."""
    rows = study.tables.enrichment
    rows = study.matched(
        rows[(rows["by"] == by) & (rows["k_percent"].astype(float) == study.plan.enrichment_k)]
    )
    found = []
    if len(rows):
        rows = rows.astype({"n": float, "n_restored": float, "n_restored_null": float})
        whole = rows.groupby("chain")[["n", "n_restored", "n_restored_null"]].transform("sum")
        rows = rows.assign(
            share=rows["n_restored"] / whole["n_restored"],
            weight_share=rows["n"] / whole["n"],
            null=rows["n_restored_null"] / whole["n_restored_null"].where(whole["n_restored_null"] > 0),
        ).merge(study.tables.chains[["chain", "seed"]], on="chain")
    for group, of in rows.groupby("group", sort=False) if len(rows) else ():
        weights = float(of["weight_share"].mean())
        numbers = {
            **_over_seeds(of.groupby("seed")["share"].mean().tolist(), "share"),
            "weight_share": weights,
            "enrichment": float((of["share"] / of["weight_share"]).mean()),
            "enrichment_null": float((of["null"] / of["weight_share"]).mean()),
        }
        found.append({"group": str(group), **numbers})
    return pd.DataFrame(found, columns=["group", *_PLACES]).astype({"n_seeds": "Int64"})


def table11(study: Study, matcher: str) -> PaperTable:
    """Accuracy after putting back whole blocks of layers."""
    states = study.tables.states
    of_blocks = states.loc[states["strategy"] == "block", "layers"].dropna().unique()
    blocks = sorted(of_blocks, key=lambda block: _number(str(block).split("-")[0]))
    rows = []
    for cell in cells_of(study):
        for block in blocks:
            found = est.accuracy(study, cell, Which("restored", "block", None, str(block)))
            if found is not None:
                about = {"source": OURS, "train_level": cell.level, "size": cell.size, "layers": str(block)}
                rows.append({**about, **found.as_row()})
    columns = ["source", "train_level", "size", "layers", "accuracy", "low", "high", "n", "n_seeds"]
    paper = published.layer_blocks().assign(source=PAPER, size="240").reindex(columns=columns)
    frame = pd.concat([pd.DataFrame(rows, columns=columns), paper], ignore_index=True)
    floats = dict.fromkeys(("accuracy", "low", "high"), "float64")
    frame = frame.astype(floats).astype({"n": "Int64", "n_seeds": "Int64"})
    shown = wide(frame, ["source", "size", "layers"], "train_level", percent(), name=level_name)
    caption = (
        f"Accuracy in percent on in-domain test questions, matcher '{matcher}', {seeds_said(study)}, after putting "
        f"back every weight of one block of layers. {POPULATION}. {_CITED} It names neither N nor domain: inferred."
    )
    how = (
        "NOT RUN: blocks of layers were not put back in this study. In its file: [restoring] controls = "
        '[{ strategy = "block", block = ["0-3", "4-7"] }]'
    )
    return PaperTable("table11", "Blocks of layers", caption, frame, shown, "" if rows else how)


def _over_seeds(values: list[float], name: str) -> dict[str, Any]:
    found = over_seeds(values)
    enough = found.n >= MIN_SEEDS
    ends = {"low": found.low if enough else None, "high": found.high if enough else None}
    return {name: found.mean, **ends, "n_seeds": found.n}


def _enriched(study: Study) -> str:
    n = study.matched(study.tables.enrichment)["chain"].nunique()
    return _ENRICHED.format(k=study.plan.enrichment_k, n=n, seeds=_SEEDS_ONLY, cited=_CITED)


def _no_places(frame: pd.DataFrame) -> str:
    return (
        ""
        if len(frame)
        else "NOT RUN: where changes sit was not counted; the weights of no chain were compared"
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except ValueError:  # "all" is above every number
        return float("inf")
