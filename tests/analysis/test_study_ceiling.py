"""Log-odds and the part of the way to the ceiling, by hand."""

import numpy as np
import pandas as pd
import pytest

from sftknow_core.analysis.estimates import beside_points

COLUMNS = ["train_level", "size", "state", "domain", "accuracy", "low", "gain"]


def rows(ceiling, low, prompt="5-shot"):
    return pd.DataFrame(
        [
            (None, None, "base", "in", ceiling, low, np.nan),
            ("2", "240", "tuned", "in", 0.40, 0.35, np.nan),
            ("2", "240", "restored", "in", 0.50, 0.45, 0.10),
            ("2", "240", "hybrid", "in", 0.0, 0.0, -0.40),
            ("2", "240", "restored", "out", 0.50, 0.45, 0.10),
        ],
        columns=COLUMNS,
    ).assign(prompt=prompt)


def test_half_of_the_way_to_the_ceiling():
    """0.4 to 0.5 of 0.4 to 0.6 is half; back to 0 is -0.4 / 0.2. log(0.4 / 0.6) = -0.405; 0 has no log-odds."""
    found = beside_points(rows(0.60, 0.55))
    assert found["of_ceiling"].tolist() == pytest.approx([np.nan, np.nan, 0.5, -2.0, np.nan], nan_ok=True)
    assert found["log_odds"].tolist() == pytest.approx([0.405, -0.405, 0, np.nan, 0], nan_ok=True, abs=0.001)


@pytest.mark.parametrize(("ceiling", "low"), [(0.45, 0.38), (0.30, 0.25), (0.60, np.nan)])
def test_a_ceiling_that_does_not_lie_above_tuned_gives_no_share(ceiling, low):
    assert beside_points(rows(ceiling, low))["of_ceiling"].isna().all()


def test_the_ceiling_of_one_prompt_is_none_for_another():
    """Rows asked zero-shot get no share, neither of their own base nor of the base after examples."""
    both = pd.concat([rows(0.60, 0.55), rows(0.60, 0.55, "zero-shot")], ignore_index=True)
    found = beside_points(both)["of_ceiling"]
    assert found.iloc[:5].tolist() == pytest.approx([np.nan, np.nan, 0.5, -2.0, np.nan], nan_ok=True)
    assert found.iloc[5:].isna().all()


def test_without_a_ceiling_there_is_no_share():
    assert beside_points(rows(0.6, 0.55).iloc[1:])["of_ceiling"].isna().all()
