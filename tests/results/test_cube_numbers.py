"""What the functions say of a small model, worked out by hand.

The region transformer has 16 weights, 8 of them changed (E = 1/256; 1 and 1 + E lie in one bin):

    layer 0   attn.q   r 4 1 1 0       |d| 2 1 1 0          layer 1   attn.q   r 1+E 1/2 0 0    |d| 1 1/2 0 0
              mlp.up   r 2 1+E 0 0     |d| 1 1 0 0                    mlp.up   r 1/2 0 0 0      |d| 1/2 0 0 0

The sum of r is 4 + 2 + (4 + 2E) + 1 = 11 + 2E, of d^2 it is 9.5. The top 25% are 4 weights: those of r = 4
and r = 2, and m = 2 of the N = 4 in the bin of 1, which hold S = 4 + 2E. Interpolated they hold S/2 = 2 + E;
in truth they are the two of 1 + E, so 2 + 2E: off by E, which is the bound (N - m)(S/N - 1) = E. Their
d^2 is 4 + 1 + 2/4 of 4 = 7, off by at most 2/4 of 4.
"""

from __future__ import annotations

import numpy as np
import pytest
from fake_cube import E_, small_model, tensor, write_cube

from sftknow_core.errors import SpecError
from sftknow_core.results.cube import open_cube
from sftknow_core.results.cube_selection import (
    CURVE_KS,
    change_summary,
    concentration_curve,
    k_at_energy,
    score_histogram,
    selection,
    where_changes_sit,
)
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import percent

SUM_R = 11 + 2 * E_


# -- the edges of a bin


def test_every_bin_has_the_edges_of_its_float32_patterns(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    numbers = np.arange(0x7F80, dtype=np.uint32)
    with open_cube(cache, run_id) as con:
        query = "SELECT lower_edge(i), upper_edge(i) FROM range($n) AS bins(i) ORDER BY i"
        edges = np.array(con.execute(query, {"n": len(numbers)}).fetchall())
    np.testing.assert_array_equal(edges[:, 0], (numbers << 16).view(np.float32))
    np.testing.assert_array_equal(edges[:, 1], (numbers << 16 | 0xFFFF).view(np.float32))


# -- what is selected


def test_selection_by_hand(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        rows = selection(con, [25, "0", 100, 3])
    assert rows["k_percent"].to_list() == [25, 0, 100, 3]
    assert rows["n_restored"].to_list() == [4, 0, 16, 0]  # floor(16 * 3 / 100) = 0
    assert set(rows["n_region"]) == {16} and set(rows["n_changed"]) == {8}
    quarter, none, whole, _ = rows.to_dict("records")
    assert quarter["boundary_bin"] == 0x3F80 and quarter["threshold_low"] == 1
    assert quarter["threshold_high"] == 1 + 2**-7 - 2**-23
    assert quarter["n_changed_restored"] == 4 and quarter["k_of_changed_percent"] == 50
    assert quarter["share"] == pytest.approx((8 + E_) / SUM_R, rel=1e-12)
    assert quarter["share_error"] == pytest.approx(E_ / SUM_R, rel=1e-9)
    assert quarter["energy_taken_back"] == pytest.approx(7 / 9.5)
    assert quarter["energy_error"] == pytest.approx(2 / 9.5)
    assert not quarter["share_flagged"] and quarter["energy_flagged"]
    assert set(rows["no_more_changes_from_k"]) == {50.0}
    assert rows["boundary_bin"].isna().to_list() == [False, True, False, True]
    assert [none[name] for name in ("n_changed_restored", "share", "share_error", "energy_taken_back")] == [
        0
    ] * 4
    assert np.isnan(none["threshold_low"])
    assert whole["share"] == whole["energy_taken_back"] == 1 and whole["n_changed_restored"] == 8
    assert whole["boundary_bin"] == 0 and whole["share_error"] == whole["energy_error"] == 0


def test_selection_by_absolute_change_lowest_first(cache: Cache) -> None:
    """Lowest |d|: eight 0, two 1/2, five 1, one 2. 75% are 12 weights: 0 + 1/2 + 2 of the 5 of 1.

    They share one value, so nothing is open: 3 of the sum 8, and 2.5 of the energy 9.5.
    """
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        (row,) = selection(con, [75], score="absolute", direction="lowest").to_dict("records")
    assert (row["n_restored"], row["n_changed_restored"]) == (12, 4)
    assert row["share"] == pytest.approx(3 / 8) and row["energy_taken_back"] == pytest.approx(2.5 / 9.5)
    assert row["share_error"] == row["energy_error"] == 0 and not row["energy_flagged"]
    assert np.isnan(row["no_more_changes_from_k"])


def test_the_k_of_an_energy_is_the_inverse_of_the_energy_of_a_k(cache: Cache) -> None:
    """By r, 4 of 16 weights hold 7 of 9.5 (above), all changes sit in 8 of them, and half a weight too few is 21.875%.

    By |d| from below, 12 of 16 hold 2.5 of 9.5, and from above the one of 2 holds 4 of them.
    """
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        assert k_at_energy(con, [7 / 9.5, 0, 1, 6.5 / 9.5]) == [percent(k) for k in (25, 0, 50, "21.875")]
        assert k_at_energy(con, [2.5 / 9.5], score="absolute", direction="lowest") == [percent(75)]
        assert k_at_energy(con, [4 / 9.5], score="absolute") == [percent("6.25")]
        assert k_at_energy(con, [1], layers="1") == [percent("37.5")]
        with pytest.raises(SpecError, match="direction"):
            k_at_energy(con, [0.5], direction="up")
    unchanged = write_cube(cache, [tensor(0, "attn.q", [0] * 4, [0] * 4)], base="same")
    with open_cube(cache, unchanged) as con:
        assert k_at_energy(con, [0, 0.5]) == [None, None]


def test_a_change_that_hides_among_the_zeros_is_not_counted_as_restored(cache: Cache) -> None:
    """4 weights, 2 changed, one of them 0.0 to -0.0: at k = 50 one is surely taken, at 75 still one, at 100 both."""
    run_id = write_cube(cache, [tensor(0, "attn.q", [1, 0, 0, 0], [1, 0, 0, 0], n_hidden=1)])
    with open_cube(cache, run_id) as con:
        rows = selection(con, [50, 75, 100])
    assert rows["n_changed_restored"].to_list() == [1, 1, 2] and rows["no_more_changes_from_k"].isna().all()


def test_the_k_from_which_nothing_more_is_reverted_is_rounded_up(cache: Cache) -> None:
    """One of three: 33.3333% of 3 is 0 weights, 33.3334% is one."""
    run_id = write_cube(cache, [tensor(0, "attn.q", [1, 0, 0], [1, 0, 0])])
    with open_cube(cache, run_id) as con:
        rows = selection(con, ["33.3333", "33.3334"])
    assert rows["n_changed_restored"].to_list() == [0, 1]
    assert rows["no_more_changes_from_k"].to_list() == [33.3334] * 2


def test_nothing_changed(cache: Cache) -> None:
    run_id = write_cube(cache, [tensor(0, "attn.q", [0] * 4, [0] * 4, more={"base_energy": 1.0})])
    with open_cube(cache, run_id) as con:
        rows = selection(con, [0, 50, 100])
        assert rows["n_restored"].to_list() == [0, 2, 4] and set(rows["n_changed_restored"]) == {0}
        assert rows[["share", "energy_taken_back", "k_of_changed_percent"]].isna().all(axis=None)
        assert set(rows["no_more_changes_from_k"]) == {0.0} and not rows["share_flagged"].any()
        assert concentration_curve(con)["share"].isna().all()
        summary = change_summary(con, ["transformer"]).iloc[0]
        assert summary["relative_norm"] == 0 and np.isnan(summary["near_zero_share"])
        histogram = score_histogram(con)
        assert histogram["n"].to_list() == [4] and histogram["low"].to_list() == [0]
        assert where_changes_sit(con, 50)["share"].to_list() == [1]
        assert con.execute("SELECT count(*) FROM table3_concentration").fetchall() == [(7,)]


# -- how concentrated, where, how much


def test_concentration_curve(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        curve = concentration_curve(con, [25, 50])
        assert curve["score"].to_list() == [
            name for name in ("relative", "relative_1e-6", "relative_1e-4", "permuted") for _ in range(2)
        ]
        assert curve["eps"].to_list() == [1e-8] * 2 + [1e-6] * 2 + [1e-4] * 2 + [1e-8] * 2
        assert curve["share"].to_list() == pytest.approx([(8 + E_) / SUM_R, 1] * 4)
        assert curve["error"].to_list() == pytest.approx([E_ / SUM_R, 0] * 4) and not curve["flagged"].any()
        assert curve["n_restored"].to_list() == [4, 8] * 4
        fine = concentration_curve(con, layers="1")
    assert len(fine) == 4 * len(CURVE_KS) and {0, 0.01, 1, 3, 99.5, 100} <= set(fine["k_percent"])
    assert fine.loc[fine["k_percent"] == 12.5, "share"].to_list() == pytest.approx([(1 + E_) / (2 + E_)] * 4)


def test_where_changes_sit_by_hand(cache: Cache) -> None:
    """Of the four taken, layer 0 has r = 4 and 2; three of the boundary bin's four are its, one is layer 1's.

    Split in proportion, 2 of them: 1.5 and 0.5. In truth layer 0 has 1 or 2 of them: off by at most 0.5.
    """
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        by_layer = where_changes_sit(con, 25)
        assert by_layer["layer"].to_list() == [0, 1] and by_layer["n"].to_list() == [8, 8]
        assert by_layer["n_restored"].to_list() == [3.5, 0.5]
        assert (
            by_layer["share"].to_list() == [0.875, 0.125] and by_layer["weight_share"].to_list() == [0.5] * 2
        )
        assert by_layer["enrichment"].to_list() == [1.75, 0.25]
        assert by_layer["share_error"].to_list() == [0.125, 0.125]
        assert list(by_layer.columns) == [
            "layer", "n", "n_restored", "share", "weight_share", "enrichment", "share_error",
        ]  # fmt: skip
        by_module = where_changes_sit(con, 25, "module").set_index("module")
        assert by_module["n_restored"].to_dict() == {"attn.q": 2.5, "mlp.up": 1.5}
        by_kind = where_changes_sit(con, 25, "kind").set_index("kind")
        assert by_kind["n_restored"].to_dict() == {"attention": 2.5, "mlp": 1.5}
        heat = where_changes_sit(con, 25, "layer x module")
        assert list(zip(heat["layer"], heat["module"], strict=True)) == [
            (0, "attn.q"), (0, "mlp.up"), (1, "attn.q"), (1, "mlp.up"),
        ]  # fmt: skip
        assert heat["n_restored"].to_list() == [2, 1.5, 0.5, 0]
        everything = where_changes_sit(con, 100, "layer", region="all")
        assert everything["layer"].fillna(-1).to_list() == [0, 1, -1]
        assert everything["share"].to_list() == everything["weight_share"].to_list()
        assert everything["share_error"].to_list() == [0] * 3
        assert where_changes_sit(con, 0)["share"].isna().all()
        lowest = where_changes_sit(
            con, "56.25", score="absolute", direction="lowest"
        )  # 9: all 0, 1 of 2 of 1/2
        assert lowest["n_restored"].to_list() == [3, 6]


def test_change_summary_by_hand(cache: Cache) -> None:
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        rows = change_summary(con, layers=[None, "1"]).set_index(["region", "layers"])
        named = change_summary(con, ["mlp"], ["0", "1"])
    assert [key[0] for key in rows.index] == [
        "transformer", "transformer", "attention", "attention", "mlp", "mlp", "embedding", "all", "all",
    ]  # fmt: skip
    whole = rows.loc["transformer"].iloc[0]
    assert (whole["n"], whole["n_changed"], whole["changed_share"]) == (16, 8, 0.5)
    assert whole["sum_r"] == SUM_R and whole["near_zero_share"] == pytest.approx(4 / SUM_R)
    assert whole["energy"] == 9.5 and whole["relative_norm"] == pytest.approx((9.5 / 152) ** 0.5)
    assert rows.loc["all"].iloc[0]["n"] == 28 and rows.loc["embedding"].iloc[0]["n_changed"] == 1
    assert named["layers"].to_list() == ["0", "1"] and named["n_changed"].to_list() == [2, 1]


def test_score_histogram_by_hand(cache: Cache) -> None:
    """r above 0 goes from 1/2 to 4: three bars of one octave and a little, so 1 falls in the first of them."""
    run_id = write_cube(cache, small_model())
    with open_cube(cache, run_id) as con:
        rows = score_histogram(con, 3)
        assert rows["low"][0] == 0 and rows["n"].to_list() == [8, 6, 1, 1]
        assert rows["low"][1] == 0.5 and rows["high"].iloc[-1] == 4 * (1 + 2**-7)
        assert rows["low"][2:].to_list() == rows["high"][1:3].to_list()  # no gap
        assert rows["share"].sum() == 1
        fine = score_histogram(con, 100_000, score="permuted", layers="0")
    assert fine["n"].sum() == 8 and len(fine) == 2 + 2 * 128  # no more bars than bins from 1 to 4
    assert fine.loc[fine["low"] == 1, "n"].to_list() == [3]
