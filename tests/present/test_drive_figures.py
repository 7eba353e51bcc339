"""Figures of what drives a study: each mark stands at the number of its table."""

import numpy as np
import pandas as pd
import pytest
from varied_study import frames_of

from sftknow_core.analysis.context import Study
from sftknow_core.analysis.masks import SEEDS, SMALLEST
from sftknow_core.analysis.rates import Rates, Recipe, every
from sftknow_core.present.charts import drives as charts


def accuracy_of(rate):
    return lambda level, size, k, test, strategy="top": 0.3 + 0.2 * (rate < 1) + 0.1 * (k == 20)


@pytest.fixture(scope="module")
def rates():
    worlds = {Recipe(rate): accuracy_of(rate) for rate in (0.5, 1.0)} | {Recipe(1.0, 8.0): accuracy_of(1.0)}
    frames = frames_of(
        worlds, levels=("0",), sizes=("240", "1920"), seeds=(3, 4, 5), per_level=20, ks=(0.0, 20.0)
    )
    return Rates(Study(every(frames)))


def numbers(figure, kind):
    found = [np.array(trace.z, dtype=float).ravel() for trace in figure.data if trace.type == kind]
    return [sorted(row[~np.isnan(row)]) for row in found]


def test_heat_maps_hold_the_accuracies_and_gains(rates):
    accuracies, gains = rates.accuracies(), rates.gains()
    figure = charts.rate_figure(accuracies, gains, "0")
    drawn = numbers(figure, "heatmap")
    assert len(drawn) == 3
    own = accuracies[accuracies["train_level"] == "0"]
    for found, state in zip(drawn, ("tuned", "restored"), strict=False):
        wanted = own.loc[own["state"] == state, "accuracy"].dropna()
        assert found == pytest.approx(sorted(wanted), abs=1e-6)
    effects = gains.loc[gains["train_level"] == "0", "effect"].dropna()
    assert drawn[2] == pytest.approx(sorted(100 * effects), abs=1e-6)


def test_overlap_of_masks_over_k_beside_chance():
    """k / (2 - k) at k = 20% is 1 / 9, at 60% 3 / 7."""
    shared = {
        "cell": "level 0, N = 240",
        "expected_jaccard": 0.5,
        "own_energy_share": 0.6,
        "energy_share": 0.4,
    }
    rows = pd.DataFrame(
        [
            {**shared, "k_percent": k, "with": kind, "jaccard": value, "lowest": value - 0.1, "highest": value + 0.1,
             "chance_jaccard": k / (200 - k), "share": 0.7, "n_pairs": 3}
            for kind, value in ((SEEDS, 0.4), (SMALLEST, 0.3))
            for k in (20.0, 60.0)
        ]
    )  # fmt: skip
    figure = charts.overlap_figure(rows, "level 0, N = 240")
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["between seeds"] == [0.4, 0.4] and drawn["with the smallest base weights"] == [0.3, 0.3]
    assert drawn["chance"] == pytest.approx([1 / 9, 3 / 7])
    assert charts.overlap_figure(rows, "another cell") is None
