"""How much changed, from the cube of a made-up pair: against its 28 weights counted by hand."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from fake_cube import E_, small_model, tensor, write_cube

from sftknow_core.errors import SpecError
from sftknow_core.results import Cube
from sftknow_core.results.weights import null_curve
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

SUM_R = 11 + 2 * E_
TOP = RestoreSpec(k_percent="12.5")
Compared = tuple[Cache, str]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return cache, write_cube(cache, small_model())


def test_identical_weights_of_the_region(pair: Compared) -> None:
    """Layer 0: 3 of 4 q and 2 of 4 up changed; layer 1: 2 of 4 and 1 of 4."""
    rows = Cube(*pair).changed_shares()
    by_layer, by_module = rows[rows["by"] == "layer"], rows[rows["by"] == "module"]
    assert by_layer[["group", "n_weights", "n_same"]].values.tolist() == [["0", 8, 3], ["1", 8, 5]]
    assert by_module[["group", "n_same", "same_share"]].values.tolist() == [
        ["attn.q", 3, 0.375],
        ["mlp.up", 5, 0.625],
    ]
    assert by_module["near_zero_share"].iloc[0] == pytest.approx(4 / (6 + 1 + E_ + 0.5))


def test_identical_weights_of_the_whole_model(pair: Compared) -> None:
    rows = Cube(*pair).changed_shares("all").set_index("group")
    assert rows.loc["outside", ["n_weights", "n_same"]].tolist() == [8, 7]
    assert rows.loc[["norm.input", "lm_head", "embedding.tokens"], "n_same"].tolist() == [0, 3, 4]
    only = Cube(*pair).changed_shares(layers="1")
    assert only["n_weights"].tolist() == [8, 4, 4]


def test_overview_of_region_and_model(pair: Compared) -> None:
    found = Cube(*pair).overview(TOP)
    assert (found.region.n, found.region.n_changed) == (16, 8)
    assert (found.model.n, found.model.n_changed) == (28, 13)
    assert found.taken.share == pytest.approx(6 / SUM_R) == found.taken.null_share
    assert found.region.near_zero_share == pytest.approx(4 / SUM_R)
    assert Cube(*pair).overview(RestoreSpec("largest", k_percent="5")).taken.null_share is None


@pytest.mark.parametrize("n_bars", [1, 3, 48])
def test_bars_count_every_weight_and_sum_to_one(pair: Compared, n_bars: int) -> None:
    spread = Cube(*pair).spread(TOP, n_bars)
    weights = [t for t in small_model() if t.kind in ("attention", "mlp")]
    for score, name in (("relative", "r"), ("absolute", "d")):
        bars = spread.bars[spread.bars["score"] == score]
        values = np.concatenate([getattr(t, name) for t in weights]).astype(float)
        for bar in bars.to_dict("records"):
            inside = values[(values >= bar["low"]) & (values < bar["high"])]
            assert bar["n_weights"] == len(inside)
            assert bar["score_share"] == pytest.approx(inside.sum() / values.sum())
        assert bars["share"].sum() == pytest.approx(1) == bars["score_share"].sum()
        assert bars["n_weights"].iloc[0] == 8  # the scores 0


def test_cuts_are_the_last_weights_taken(pair: Compared) -> None:
    """The second largest r is 2; the second largest |d| is one of five 1, the third too."""
    assert Cube(*pair).spread(TOP).cuts == {"relative": 2.0, "absolute": 1.0}
    assert Cube(*pair).spread(RestoreSpec(k_percent="75")).cuts == {
        "relative": 0.0,
        "absolute": 0.0,
    }
    assert all(isnan(cut) for cut in Cube(*pair).spread(RestoreSpec(k_percent="0")).cuts.values())


def test_concentration_at_the_papers_k(pair: Compared) -> None:
    rows = Cube(*pair).concentration()
    paper = rows[rows["in_paper"]]
    assert paper["k_percent"].tolist() == [1, 3, 5, 10, 20, 40, 60]
    held = [0, 0, 0, 4, 6 + 1 + E_ / 2, 6 + 4 * (1 + E_ / 2), SUM_R]
    assert paper["share"].tolist() == pytest.approx([share / SUM_R for share in held])
    for other in ("null_share", "share_1e-6", "share_1e-4"):  # this cube's other scores repeat its r
        assert paper[other].tolist() == pytest.approx(paper["share"].tolist())
    assert paper["share_error"].iloc[3] == 0 < paper["share_error"].iloc[4]


def test_the_null_of_an_earlier_version_is_one_permutation(pair: Compared) -> None:
    rows = Cube(*pair).concentration()
    assert (rows["n_permutations"] == 1).all()
    assert rows[["null_sd", "null_low", "null_high", "p_more", "p_two_sided"]].isna().all(axis=None)
    taken = Cube(*pair).selection(TOP)
    assert (taken.n_permutations, taken.null_low, taken.null_high) == (1, None, None)
    assert rows["top_20_share"].tolist() == [1.0] * len(rows) and taken.top_20_share == 1  # 16 weights in all


def test_the_null_between_permuted_ks_is_interpolated_and_has_no_p(tmp_path: Path) -> None:
    """Means 0.4 at 10% and 0.6 at 20%: 0.5 at 15%. The 85% smallest leave what the 15% largest hold."""
    cache, at = Cache(tmp_path), ((0, 0.0), (10, 0.4), (20, 0.6), (100, 1.0))
    rows = [
        {"region": "transformer", "k_percent": k, "null_share": mean, "null_sd": 0.01, "null_low": mean - 0.1,
         "null_high": mean + 0.2, "n_permutations": 199, "p_more": 0.005, "p_two_sided": 0.01}
        for k, mean in at
    ]  # fmt: skip
    cube = Cube(cache, write_cube(cache, small_model(), tables={"null_shares": rows}))
    with cube.open() as con:
        found = null_curve(con, ["15", "10"])
        alone = null_curve(con, ["10"], layers="0")
        assert con.execute("SELECT count(*) FROM null_shares").fetchall() == [(4,)]
    assert found["null_share"].tolist() == pytest.approx([0.5, 0.4])
    assert found["p_two_sided"].tolist() == pytest.approx([nan, 0.01], nan_ok=True)
    assert alone["n_permutations"].tolist() == [1]  # some layers alone were permuted once
    top, bottom = (cube.selection(RestoreSpec(s, k_percent=k)) for s, k in (("top", "15"), ("bottom", "85")))
    assert (top.null_share, top.null_low, top.null_high) == pytest.approx((0.5, 0.4, 0.7))
    assert (bottom.null_share, bottom.null_low, bottom.null_high) == pytest.approx((0.5, 0.3, 0.6))
    assert top.n_permutations == bottom.n_permutations == 199
    assert cube.curve(RestoreSpec("largest", k_percent="5"))["null_low"].isna().all()


def test_heat_adds_up_to_its_margins(pair: Compared) -> None:
    """r = 4 sits in layer 0's q, r = 2 in its up."""
    heat = Cube(*pair).heat(TOP)
    assert heat.cells["n_restored"].tolist() == [1, 1, 0, 0] and heat.cells["share"].sum() == 1
    assert heat.cells["enrichment"].tolist() == [2, 2, 0, 0]
    assert heat.layers["share"].tolist() == [1, 0] and heat.modules["share"].tolist() == [0.5, 0.5]


def test_nothing_changed_is_no_number(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    still = cache, write_cube(cache, [tensor(0, "mlp.up", [0, 0], [0, 0], more={"base_energy": 1.0})])
    assert Cube(*still).changed_shares()["same_share"].tolist() == [1, 1]
    bars = Cube(*still).spread(TOP).bars
    assert bars["n_weights"].tolist() == [2, 2] and bars["score_share"].isna().all()
    assert Cube(*still).concentration()["share"].isna().all()
    assert isnan(Cube(*still).overview(TOP).region.near_zero_share)


def test_what_is_not_there_is_an_error(pair: Compared, tmp_path: Path) -> None:
    absent = RestoreSpec(layers="7", k_percent="5")
    for ask in (Cube.overview, Cube.spread, Cube.heat):
        with pytest.raises(SpecError, match="the model has layers 0-1"):
            ask(Cube(*pair), absent)
    with pytest.raises(SpecError, match="the model has layers 0-1"):
        Cube(*pair).changed_shares("transformer", "7")
    with pytest.raises(SpecError, match="no comparison of two models"):
        Cube(Cache(tmp_path), "0" * 16).concentration()
