"""U2: these weights, or just less of the update? Masks are averaged in a chain; interpolations have two rivals."""

from dataclasses import replace

import numpy as np
import pytest
from fake_study import make

from sftknow_core.analysis.claims_unneeded import unneeded_claims
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import Cell, Which, mask_spread, state_index
from sftknow_core.analysis.rows import energy_rows
from sftknow_core.analysis.verdict import Status

CELL = Cell("0", "1920")
SEEDS = (3, 4, 5)
RIGHT = {
    "top": 0.575,
    "random-0": 0.475,
    "random-1": 0.5,
    "random-2": 0.525,
    "by-energy": 0.55,
    "by-projection": 0.6,
}
"""Shares of 120 questions a level: 69, 57, 60, 63, 66 and 72."""


def drawn(right=None, by_seed=None, same_masks=False):
    """Level 0 at k = 20: top, three masks of a random control, and interpolations of equal energy and projection.

    by_seed: seed -> what its masks lie above the others'.
    """
    right = right or RIGHT

    def accuracy(level, size, k, test, strategy):
        return right[strategy] if k else 0.5

    tables = make(
        accuracy, levels=("0",), sizes=("1920",), ks=(0.0, 20.0), strategies=tuple(right), noise=0.0
    )
    if by_seed:
        number = tables.answers["fact_id"].str.split("-").str[1].astype(int)
        seed = tables.answers["chain"].str.split("-").str[-1]
        for name in ("random-0", "random-1", "random-2"):
            for one, above in by_seed.items():
                own = tables.answers["state_id"].str.endswith(f"{name}-20") & (seed == str(one))
                changed = np.array(number[own] < 120 * (right[name] + above) - 0.5)
                tables.answers.loc[own, "right"] = changed
    states = tables.states.assign(
        alpha=None, region="transformer", mask=None, beside_k=None, beside_k_projection=None,
        projection_taken_back=tables.states["energy_taken_back"],
    )  # fmt: skip
    states = states.astype(dict.fromkeys(("mask", "beside_k", "beside_k_projection", "alpha"), "float64"))
    chain_seed = states["chain"].str.split("-").str[-1].astype(int)
    for number in range(3):
        own = states["strategy"] == f"random-{number}"
        states.loc[own, "mask"] = number + (0 if same_masks else 10 * chain_seed[own])
        states.loc[own, ["strategy", "beside_k", "beside_k_projection"]] = ("random", 20.0, 20.0)
    for name, alpha, column in (
        ("by-energy", 0.83, "beside_k"),
        ("by-projection", 0.69, "beside_k_projection"),
    ):
        own = states["strategy"] == name
        states.loc[own, ["strategy", "k_percent", "alpha", column]] = ("interpolation", None, alpha, 20.0)
        states.loc[own, "projection_taken_back"] = 1 - alpha
        states.loc[own, "energy_taken_back"] = 1 - alpha**2
    return replace(tables, states=states)


def claims(tables):
    return {verdict.claim_id: verdict for verdict in unneeded_claims(Study(tables))}


def test_masks_are_averaged_within_their_chain():
    """69 - mean(57, 60, 63) of 120 = 7.5 pp; the first mask alone, as before, gives 10."""
    found = claims(drawn())
    for claim_id in ("U2a", "U2b"):
        assert found[claim_id].effect == pytest.approx(7.5)
        assert found[claim_id].seeds == 3
        assert (
            "Random: mean of 3 masks a chain, whose accuracies differ by 2.5 pp" in found[claim_id].sentence
        )


def test_the_spread_of_masks_is_in_the_interval_over_seeds():
    """Masks 5 pp better with one seed and 5 worse with another: sd 5 over three seeds, t(2) 5 / sqrt(3) = 12.4."""
    same, other = claims(drawn()), claims(drawn(by_seed={3: -0.05, 5: 0.05}))
    assert other["U2a"].effect == pytest.approx(same["U2a"].effect, abs=0.1)
    half = {name: (one["U2a"].high - one["U2a"].low) / 2 for name, one in (("same", same), ("other", other))}
    assert half["same"] < 4 and half["other"] == pytest.approx((half["same"] ** 2 + 12.42**2) ** 0.5, rel=0.1)


def test_one_mask_for_all_chains_is_said():
    tables = drawn()
    one = tables.states["mask"].isna() | (tables.states["mask"] % 10 == 0)
    states = tables.states[one].assign(mask=lambda rows: rows["mask"] * 0)
    said = claims(replace(tables, states=states))["U2a"].sentence
    assert "All chains share one random mask: the spread of masks is missing from the interval" in said


def test_interpolations_of_equal_energy_and_of_equal_projection_are_two_claims():
    """69 against 66 of 120 is +2.5 pp at equal energy, against 72 -2.5 at equal projection."""
    found = claims(drawn())
    assert found["U2c"].effect == pytest.approx(2.5) and found["U2d"].effect == pytest.approx(-2.5)
    assert found["U2d"].title.startswith(
        "Restoring the most changed weights beats interpolating to equal projection"
    )
    assert found["U2c"].sentence.index("(U2d) is the fair comparison") < found["U2c"].sentence.index(
        "k by level"
    )
    assert "with the projection taken back: 0: 20% (31% against 31%)" in found["U2d"].sentence
    assert "with the update taken back: 0: 20% (31% against 31%)" in found["U2c"].sentence


def test_without_a_control_of_equal_projection_it_is_not_tested():
    """A study of the version before: no such column, and interpolations of equal energy only."""
    tables = drawn()
    old = tables.states.drop(columns=["beside_k_projection", "projection_taken_back", "mask"])
    found = claims(replace(tables, states=old))
    assert found["U2d"].verdict is Status.NOT_TESTED
    assert found["U2c"].effect == pytest.approx(2.5)


def test_only_masks_make_several_states_one():
    """Two regions of one strategy and k are two things, of which the first listed counts."""
    index = state_index(drawn().states)
    chain = "0-1920-3"
    assert len(index[chain, Which("restored", "random", 20.0)]) == 3
    assert len(index[chain, Which("restored", "random", beside_k=20.0)]) == 3
    assert len(index[chain, Which("restored", "interpolation", beside_k_projection=20.0)]) == 1
    states = drawn().states
    elsewhere = states["state_id"].str.contains("random-1")
    index = state_index(states.assign(region=states["region"].mask(elsewhere, "mlp")))
    assert len(index[chain, Which("restored", "random", 20.0)]) == 2


def test_the_spread_of_masks_by_hand():
    """Level-balanced means 0.25 + 0.5 and 0.5 + 0.5, halved: 0.375 and 0.5, sd 0.125 / sqrt(2)."""
    rows = np.array([[1.0, 0, 0, 0, 1, 0], [1.0, 1, 0, 0, 1, 0]])
    levels = np.array([0, 0, 0, 0, 1, 1])
    assert mask_spread(rows, levels) == pytest.approx(0.125 / 2**0.5)
    assert mask_spread(rows[:1], levels) is None


def test_rows_over_the_update_hold_one_point_of_all_masks():
    """Three seeds of three masks are three seeds, not nine."""
    rows = energy_rows(Study(drawn()), CELL)
    (row,) = rows[rows["line"] == "random"].to_dict("records")
    assert (row["n_seeds"], row["n_masks"]) == (3, 3)
    assert row["accuracy"] == pytest.approx(0.5) and row["mask_sd"] == pytest.approx(0.025)
    interpolated = rows[rows["line"] == "interpolation"]
    assert interpolated["projection_taken_back"].tolist() == pytest.approx([0.17, 0.31])
    assert interpolated["energy_taken_back"].tolist() == pytest.approx([1 - 0.83**2, 1 - 0.69**2])
    assert interpolated["n_masks"].isna().all()
