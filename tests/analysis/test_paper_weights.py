"""The paper's tables beside ours: some of its printed numbers, and layers brought together."""

from __future__ import annotations

import pytest

from sftknow_core.analysis import published


def test_numbers_as_printed() -> None:
    rows = published.concentration().set_index(["n_train", "train_level", "k_percent"])["share"]
    assert (
        len(rows) == 70
        and rows[240, 0, 1] == pytest.approx(0.7059)
        and rows[240, 0, 5] == pytest.approx(0.8235)
    )
    modules = published.module_shares().set_index("module")["paper_share"]
    assert modules["mlp.down"] == pytest.approx(0.2891) and modules.sum() == pytest.approx(1, abs=0.001)


def test_range_holds_every_fine_tuning() -> None:
    rows = published.concentration().merge(published.concentration_range(), on="k_percent")
    assert len(rows) == 70
    assert rows["share"].between(rows["paper_low"], rows["paper_high"]).all()


@pytest.mark.parametrize("n_layers", [1, 4, 12, 32, 40])
def test_layers_are_brought_together_and_none_is_lost(n_layers: int) -> None:
    rows = published.layer_shares(n_layers)
    assert rows["paper_share"].sum() == pytest.approx(1, abs=0.002)
    assert len(rows) == min(n_layers, 32) and rows["layer"].is_unique and rows["layer"].max() < n_layers


def test_named_by_the_papers_layers() -> None:
    four = published.layer_shares(4)
    assert four["paper_layers"].tolist() == ["0-7", "8-15", "16-23", "24-31"]
    assert published.layer_shares(32)["paper_layers"].tolist()[:2] == ["0", "1"]
    assert published.layer_shares(32)["paper_share"][0] == pytest.approx(0.0377)
