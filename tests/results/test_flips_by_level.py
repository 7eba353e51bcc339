"""A change between two states is tested as it is reported: level by level, never on counts pooled over levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sftknow_core.present.text.restore import OPPOSITE_SIGNS, flip_sentences
from sftknow_core.results.measured import _tested
from sftknow_core.stats.contrast import contrast
from sftknow_core.stats.paired import mcnemar


def answered(gained: int, lost: int, n: int, level: int) -> pd.DataFrame:
    rows = pd.DataFrame({"level": level, "was_right": [False] * n, "is_right": [False] * n})
    rows.loc[: gained - 1, "is_right"] = True
    rows.loc[gained : gained + lost - 1, "was_right"] = True
    return rows


UNEQUAL = pd.concat(
    [answered(30, 2, 200, 0), *(answered(0, 4, 10, level) for level in range(1, 5))], ignore_index=True
)
"""Level 0: 30 recovered, 2 broken of 200; levels 1 to 4: 4 broken of 10 each."""


def test_counts_pooled_over_levels_can_say_the_opposite() -> None:
    """Pooled 30 against 18, p = 0.11; level by level (0.14 - 4 x 0.4) / 5 = -0.292, and surely below 0."""
    found = _tested(UNEQUAL)
    assert (found["healed"], found["broken"]) == (30, 18)
    assert mcnemar(UNEQUAL["was_right"], UNEQUAL["is_right"]).n_gained == 30
    assert found["gain"] == pytest.approx((0.14 - 4 * 0.4) / 5)
    assert found["gain_high"] < 0 and found["p_value"] < 0.05
    change = UNEQUAL["is_right"].astype(float) - UNEQUAL["was_right"].astype(float)
    assert found["p_value"] == contrast(np.array(change), np.array(UNEQUAL["level"])).p_value


def test_the_page_says_why_signs_are_opposite() -> None:
    row = pd.DataFrame([{"domain": "in", **_tested(UNEQUAL)}])
    said = flip_sentences(row, 20.0)
    assert "30 recovered, 18 broken" in said and "Accuracy -29.2 pp" in said and said.endswith(OPPOSITE_SIGNS)
    alike = pd.concat([answered(30, 2, 200, 0), answered(4, 1, 10, 1)], ignore_index=True)
    assert OPPOSITE_SIGNS not in flip_sentences(pd.DataFrame([{"domain": "in", **_tested(alike)}]), 20.0)
