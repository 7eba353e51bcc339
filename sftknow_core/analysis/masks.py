"""What the mask is: overlap of the reverted weights between seeds, against chance and against what small |p| gives.

    tables masks and donors --> one row a cell, k and comparison; one row a cell of the donor test

A cell's rows are the mean over its pairs of seeds with the smallest and the largest: pairs share seeds and are no
independent sample, so a range stands there and no interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core.stats.seeds import MIN_SEEDS, over_seeds

SEEDS, SMALLEST = "another seed", "smallest |p|"
OVERLAP_COLUMNS = [
    "cell", "k_percent", "with", "jaccard", "lowest", "highest", "chance_jaccard", "expected_jaccard", "share",
    "own_energy_share", "energy_share", "n_pairs",
]  # fmt: skip


def overlap_rows(masks: pd.DataFrame, cells: Mapping[str, str]) -> pd.DataFrame:
    """One row a cell, k and comparison (another seed, smallest |p|). masks: results.masks.masks_between; cells:
    model_id -> its cell's name. share: of the mask that is in the other; energy_share: of the model's squared change
    that lies in the other mask."""
    both = masks.assign(cell=masks["first_id"].map(cells), other=masks["second_id"].map(cells))
    kept = both[both["cell"].notna() & (both["second_id"].isna() | (both["cell"] == both["other"]))]
    kept = kept.assign(**{"with": kept["second_id"].isna().map({True: SMALLEST, False: SEEDS})})
    rows = []
    for (cell, k, kind), of in kept.groupby(["cell", "k_percent", "with"], sort=True):
        n_pairs = (
            len(of)
            if kind == SMALLEST
            else len({frozenset(p) for p in of[["first_id", "second_id"]].to_numpy()})
        )
        rows.append(
            {
                "cell": cell, "k_percent": k, "with": kind, "jaccard": of["jaccard"].mean(),
                "lowest": of["jaccard"].min(), "highest": of["jaccard"].max(),
                "share": (of["n_both"] / of["n_first"].where(of["n_first"] > 0)).mean(), "n_pairs": n_pairs,
                **{
                    name: of[name].mean()
                    for name in ("chance_jaccard", "expected_jaccard", "own_energy_share", "energy_share")
                },
            }
        )  # fmt: skip
    numbers = [name for name in OVERLAP_COLUMNS if name not in ("cell", "with", "n_pairs")]
    return pd.DataFrame(rows, columns=OVERLAP_COLUMNS).astype(dict.fromkeys(numbers, "float64"))


def donor_rows(donors: pd.DataFrame, cells: Mapping[str, str]) -> pd.DataFrame:
    """One row a cell and k: accuracy with the own mask, with those of other seeds, and the difference own - other over
    the models, with its 95% t interval (empty below three models)."""
    known = donors.assign(cell=donors["tuned_id"].map(cells), other=donors["donor_id"].map(cells))
    known = known[known["cell"].notna() & (known["cell"] == known["other"]) & known["accuracy"].notna()]
    rows = []
    for (cell, k), of in known.groupby(["cell", "k_percent"], sort=True):
        own = of[of["tuned_id"] == of["donor_id"]].set_index("tuned_id")["accuracy"]
        other = of[of["tuned_id"] != of["donor_id"]].groupby("tuned_id")["accuracy"].mean()
        moved = (own - other).dropna()
        if moved.empty:
            continue
        found = over_seeds(moved.tolist())
        sure = found.n >= MIN_SEEDS
        row: dict[str, Any] = {"cell": cell, "k_percent": k, "own": own[moved.index].mean()}
        row |= {"other": other[moved.index].mean(), "difference": found.mean, "n": int(of["n"].max())}
        row |= {"low": found.low if sure else None, "high": found.high if sure else None, "n_seeds": found.n}
        rows.append(row)
    names = ["cell", "k_percent", "own", "other", "difference", "low", "high", "n", "n_seeds"]
    return pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[1:7], "float64"))
