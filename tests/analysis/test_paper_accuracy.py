"""The paper's numbers are those of its tables, in the columns of ours."""

from __future__ import annotations

import pytest

from sftknow_core.analysis import published
from sftknow_core.errors import SpecError


@pytest.mark.parametrize("model", published.MODELS)
def test_table_2_is_complete_and_its_means_are_those_of_its_levels(model: str) -> None:
    rows = published.by_test_level(model)
    assert len(rows) == 5 * 2 * 6 and rows["accuracy"].between(0, 1).all() and rows["sd"].gt(0).all()
    means = rows[rows["level"].isna()].set_index(["train_level", "domain"])["accuracy"]
    levels = rows[rows["level"].notna()].groupby(["train_level", "domain"])["accuracy"].mean()
    assert (means - levels).abs().max() < 0.0006  # printed with two places of a percent


def test_numbers_as_printed() -> None:
    rows = published.by_test_level("LLaMA-3-8B").set_index(["train_level", "domain", "level"])
    assert rows.loc[("0", "in", 4), ["accuracy", "sd"]].tolist() == pytest.approx([0.8346, 0.0123])
    line = published.over_n("LLaMA-3-8B").set_index(["train_level", "n_train", "domain"])
    assert line.loc[("0", 240, "in"), "accuracy"] == pytest.approx(0.5533)
    assert line.loc[("0", 1920, "out"), "accuracy"] == pytest.approx(0.4940)  # Table 2 prints 46.24
    assert set(line["source"]) == {"Table 4"} and len(line) == 20
    big = published.over_n("LLaMA-3-70B")
    assert set(big["n_train"]) == {1920} and set(big["source"]) == {"Table 2"} and len(big) == 10


def test_a_test_level_comes_from_table_2() -> None:
    rows = published.at_level("LLaMA-3-8B", 4)
    assert len(rows) == 10 and set(rows["source"]) == {"Table 2"}
    assert list(rows.columns) == list(published.at_level("LLaMA-3-8B", None).columns)


def test_other_models_are_refused() -> None:
    for read in (published.by_test_level, published.over_n):
        with pytest.raises(SpecError, match="LLaMA-3-8B, LLaMA-3-70B"):
            read("GPT-2")
