"""Before and after on the same questions: ten of them, worked by hand.

level 0: base ✗✗, tuned ✗✗, restored ✗✗
level 4: base ✓✓✓✓✓✓✗✗, tuned ✗✗✗✗✓✓✓✗, restored ✓✓✗✗✓✗✓✗    (lost 4, gained 1; then lost 1, gained 2)
"""

from __future__ import annotations

from math import comb
from pathlib import Path

import pandas as pd
import pytest
from fake_chain import make_chains
from scipy import stats

from sftknow_core.errors import SpecError
from sftknow_core.results import Chain, Questions, accuracy, questions
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.questions import Filters
from sftknow_core.store.cache import Cache


def table() -> pd.DataFrame:
    marks = {"base": "0011111100", "tuned": "0000001110", "restored": "0011001010"}
    states = {name: [mark == "1" for mark in text] for name, text in marks.items()}
    return pd.DataFrame({"fact_id": list("abcdefghij"), "domain": "in", "level": [0, 0] + [4] * 8, **states})


def test_accuracies_by_level() -> None:
    rows = accuracy.by_level(table()).set_index(["level", "state"])
    assert rows.loc[(4, "base"), ["accuracy", "n", "n_right"]].tolist() == [0.75, 8, 6]
    assert rows.loc[(4, "tuned"), "n_right"] == 3 and rows.loc[(4, "restored"), "n_right"] == 4
    low, high = rows.loc[(0, "base"), ["low", "high"]]
    assert low == 0 and high == pytest.approx(0.6576, abs=1e-4)  # Wilson of 0 of 2: z^2 / (2 + z^2)


def test_changes_are_paired_and_tested() -> None:
    rows = accuracy.changes(table()).set_index(["step", "level"])
    tuning = rows.loc[("tuning", 4)]
    assert tuning[["n", "before", "after", "difference", "n_lost", "n_gained"]].tolist() == [
        8, 0.75, 0.375, -0.375, 4, 1,
    ]  # fmt: skip
    assert tuning["p_value"] == pytest.approx(2 * (comb(5, 0) + comb(5, 1)) / 2**5)  # exact, 4 against 1
    d = pd.Series([-1, -1, -1, -1, 0, 0, 1, 0])
    half = 2.3646 * d.std() / 8**0.5  # t(7)
    assert tuning[["low", "high"]].tolist() == pytest.approx([d.mean() - half, d.mean() + half], abs=1e-4)
    assert tuning["p_holm"] == pytest.approx(2 * tuning["p_value"])  # two levels, the other's p is 1
    nothing = rows.loc[("tuning", 0)]
    floor = 12.7062 / 4  # t(1) times 1 / (n + 2): as if about one of the two questions had changed
    assert (
        nothing[["low", "high"]].tolist() == pytest.approx([-floor, floor], abs=1e-4)
        and nothing["p_value"] == 1
    )
    assert rows.loc[("restoring", 4), ["n_lost", "n_gained"]].tolist() == [1, 2]
    assert rows.loc[("both", 4), "difference"] == pytest.approx(-0.25)


def test_the_mean_counts_levels_alike() -> None:
    rows = accuracy.changes(table())
    mean = rows[rows["level"].isna() & (rows["step"] == "tuning")].iloc[0]
    assert mean[["before", "after", "difference"]].tolist() == pytest.approx([0.375, 0.1875, -0.1875])
    assert (mean["n"], mean["n_lost"], mean["n_gained"]) == (10, 4, 1) and pd.isna(mean["p_holm"])
    # level 0: nothing changed in two questions, se 1 / 4; level 4: sd 0.74402 of 8; df by Satterthwaite, as scipy
    of_level = [1 / 4**2 / 4, 0.74402**2 / 8 / 4]
    df = sum(of_level) ** 2 / (of_level[0] ** 2 / 1 + of_level[1] ** 2 / 7)
    se = sum(of_level) ** 0.5
    assert mean["p_value"] == pytest.approx(2 * stats.t.sf(0.1875 / se, df), abs=1e-4)
    half = stats.t.isf(0.025, df) * se
    assert mean[["low", "high"]].tolist() == pytest.approx([-0.1875 - half, -0.1875 + half], abs=1e-4)


def test_a_level_of_one_question_is_in_no_mean_and_says_why() -> None:
    rows = accuracy.changes(table().iloc[1:])
    assert rows.loc[rows["level"] == 0, "reason"].eq("one question has no spread").all()
    mean = rows[rows["level"].isna() & (rows["step"] == "tuning")].iloc[0]
    assert mean["difference"] == pytest.approx(-0.375) and mean["n"] == 8


def test_without_a_restored_state_there_is_one_step() -> None:
    rows = accuracy.changes(table().drop(columns="restored"))
    assert set(rows["step"]) == {"tuning"}
    assert accuracy.changes(table().iloc[:0]).empty and accuracy.by_level(table().iloc[:0]).empty


def test_answers_are_the_chains_and_agree_with_the_browsers_flips(
    tmp_path: Path,
) -> None:
    cache, (run_id,) = Cache(tmp_path), make_chains(tmp_path, per_level=8, ks=(5, 20))
    asked, k = (
        Questions(cache, run_id).table,
        float(Chain(cache, run_id).manifest.summary["chosen"]["k_percent"]),
    )
    found = accuracy.answers(asked, k, ZERO_SHOT)
    expected = Chain(cache, run_id).levels()[["domain", "level", "state", "accuracy", "low", "high", "n"]]
    got = accuracy.by_level(found)[expected.columns]
    order = ["domain", "level", "state"]
    pd.testing.assert_frame_equal(
        got.sort_values(order).reset_index(drop=True),
        expected.sort_values(order).reset_index(drop=True),
        check_dtype=False,
    )
    rows = accuracy.changes(accuracy.answers(asked, k, FIVE_SHOT))
    mean = rows[rows["level"].isna() & (rows["domain"] == "in")].set_index("step")
    counts = questions.flip_counts(asked, Filters(k, FIVE_SHOT, split="test", domain="in"))
    assert counts["right → wrong by tuning"] == mean.loc["tuning", "n_lost"]
    assert counts["wrong → right by tuning"] == mean.loc["tuning", "n_gained"]
    assert counts["healed by restoring"] == mean.loc["restoring", "n_gained"]
    assert counts["broken by restoring"] == mean.loc["restoring", "n_lost"]
    assert "restored" not in accuracy.answers(asked, 0.0, ZERO_SHOT)
    with pytest.raises(SpecError, match="prompt"):
        accuracy.answers(asked, k, "asked twice")
