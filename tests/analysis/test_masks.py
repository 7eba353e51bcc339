"""Overlaps and donor tests put together by cell, worked by hand from few rows."""

import numpy as np
import pandas as pd
import pytest

from sftknow_core.analysis.masks import SEEDS, SMALLEST, donor_rows, overlap_rows

CELLS = {"a": "level 2", "b": "level 2", "c": "level 2", "z": "level 0"}


def mask(first, second, both, k=20.0, n=100):
    size = int(n * k / 100)
    either = 2 * size - both
    return {
        "first_id": first, "second_id": second, "k_percent": k, "n_region": n, "n_first": size, "n_second": size,
        "n_both": both, "jaccard": both / either, "chance_jaccard": (k / 100) / (2 - k / 100),
        "expected_jaccard": 0.3, "energy_share": 0.4, "own_energy_share": 0.8,
    }  # fmt: skip


def test_overlaps_by_hand() -> None:
    """Between a, b, c 10, 12 and 14 of 20 weights: Jaccards 10/30, 12/28, 14/26. z is of another cell."""
    pairs = [("a", "b", 10), ("a", "c", 12), ("b", "c", 14)]
    rows = [mask(*one) for one in pairs] + [mask(j, i, n) for i, j, n in pairs]
    rows += [mask(one, None, 15) for one in "abc"] + [mask("a", "z", 20)]
    table = overlap_rows(pd.DataFrame(rows), CELLS).set_index("with")
    seeds, small = table.loc[SEEDS], table.loc[SMALLEST]
    assert seeds["jaccard"] == pytest.approx(np.mean([10 / 30, 12 / 28, 14 / 26]))
    assert (seeds["lowest"], seeds["highest"], seeds["n_pairs"]) == (
        pytest.approx(1 / 3),
        pytest.approx(14 / 26),
        3,
    )
    assert seeds["share"] == pytest.approx(0.6) and seeds["chance_jaccard"] == pytest.approx(0.2 / 1.8)
    assert (small["n_pairs"], small["share"]) == (3, pytest.approx(0.75))
    assert (seeds["energy_share"], seeds["own_energy_share"]) == (pytest.approx(0.4), pytest.approx(0.8))


def test_nothing_compared_is_an_empty_table() -> None:
    empty = pd.DataFrame([mask("a", "b", 1)]).iloc[:0]
    assert overlap_rows(empty, CELLS).empty


def donor(tuned, other, accuracy):
    return {"tuned_id": tuned, "donor_id": other, "k_percent": 20.0, "accuracy": accuracy, "n": 100}


def test_donors_by_hand() -> None:
    """Own masks 0.50, 0.60, 0.70; others' 0.48 and 0.44 (mean 0.46), 0.55, 0.64: differences 4, 5 and 6 points.
    Their sd is 1 point, so the interval is 5 +- 4.303 / sqrt(3) points."""
    rows = [donor("a", "a", 0.5), donor("a", "b", 0.48), donor("a", "c", 0.44)]
    rows += [donor("b", "b", 0.6), donor("b", "a", 0.55), donor("c", "c", 0.7), donor("c", "a", 0.64)]
    (row,) = donor_rows(pd.DataFrame(rows), CELLS).to_dict("records")
    assert (row["difference"], row["n_seeds"]) == (pytest.approx(0.05), 3)
    assert row["low"] == pytest.approx(0.05 - 0.0430265 / np.sqrt(3), abs=1e-6)
    two = donor_rows(pd.DataFrame(rows[:5]), CELLS).iloc[0]
    assert np.isnan(two["low"]) and two["n_seeds"] == 2
