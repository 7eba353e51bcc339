"""Accuracies over k beside their floor and ceiling: log-odds, and how much of what was lost came back.

Points count the same near 0 or 1, where little can move, as in the middle. Log-odds do not, and
gain / (ceiling - tuned) says which part of the way to the few-shot ceiling restoring goes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sftknow_core.analysis.estimates import FIVE_SHOT


def beside_points(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of study_rows.curve_rows with log_odds (of the accuracy, nats) and of_ceiling (a share).

    log_odds is empty at 0 and 1. The ceiling is base after five examples, in the same domain; of_ceiling is empty
    where there is none, or where its 95% interval does not lie above tuned: there is nothing to give back.
    """
    value = rows["accuracy"].astype("float64")
    inside = value.where((value > 0) & (value < 1))
    ceiling = rows[rows["state"] == FIVE_SHOT].set_index("domain")[["accuracy", "low"]].astype("float64")
    tuned = rows[rows["state"] == "tuned"].set_index(["domain", "train_level", "size"])["accuracy"]
    keys = pd.MultiIndex.from_frame(rows[["domain", "train_level", "size"]])
    start = pd.Series(tuned.reindex(keys).to_numpy(np.float64), index=rows.index)
    top, lowest = rows["domain"].map(ceiling["accuracy"]), rows["domain"].map(ceiling["low"])
    way = (top - start).where(lowest > start)
    return rows.assign(log_odds=np.log(inside / (1 - inside)), of_ceiling=rows["gain"] / way)
