"""What was measured of a pair, over a made-up cache: against the answers counted one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains

from sftknow_core.errors import GoneError, SpecError
from sftknow_core.results import Chain, measured
from sftknow_core.results.measured import FLIPS, MeasuredState
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec

TOP = RestoreSpec(k_percent="1")
Filled = tuple[Cache, list[str]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """One pair of models, measured by two chains: at k = 5, 20 and at k = 40; and another pair."""
    root = tmp_path_factory.mktemp("cache")
    runs = make_chains(root, [("2", 1920, 0)], per_level=6, ks=(5, 20))
    runs += make_chains(root, [("2", 1920, 0)], per_level=6, ks=(40,))
    return Cache(root), runs + make_chains(root, [("4", 240, 0)], per_level=6, ks=(60,))


def answers(cache: Cache, run_id: str, state_id: str, split: str) -> dict[str, dict[str, object]]:
    stage = Chain(cache, run_id).manifest.summary["stages"]["evaluate"][state_id]
    rows = RunFolder(cache, stage).read("answers").to_pylist()
    return {row["fact_id"]: row for row in rows if row["split"] == split}


def test_every_run_of_the_pair_counts_and_no_other(filled: Filled) -> None:
    cache, (first, second, _) = filled
    rows = Chain(cache, first).measured(TOP)
    means = rows[rows["level"].isna() & (rows["split"] == "dev")]
    assert means["state"].tolist() == [
        "tuned", "restored", "restored", "restored", "hybrid", "base"
    ]  # fmt: skip
    assert means["k_percent"].tolist()[:5] == [0, 5, 20, 40, 100]
    assert len(Chain(cache, second).measured(TOP)) == len(rows)
    curve = Chain(cache, first).curve("dev").set_index("k_percent")["accuracy"]
    mine = means.set_index("k_percent")["accuracy"]
    assert all(mine[k] == curve[k] for k in (0.0, 5.0, 20.0, 100.0))


def test_another_selection_has_only_the_ends(filled: Filled) -> None:
    cache, (first, *_) = filled
    for spec in (RestoreSpec("bottom", k_percent="1"), RestoreSpec(layers="0", k_percent="1")):
        rows = Chain(cache, first).measured(spec)
        assert set(rows["state"]) == {"tuned", "base"}
        assert measured.nearest_state(rows, 5, "dev") is None


def test_the_nearest_measured_k_is_shown(filled: Filled) -> None:
    rows = Chain(filled[0], filled[1][0]).measured(TOP)
    wanted = {0.0: 5, 12.0: 5, 12.5: 5, 13.0: 20, 30.0: 20, 34.9: 40, 100.0: 100}
    found = {k: measured.nearest_state(rows, k, "test") for k in wanted}
    assert {k: row.k_percent for k, row in found.items() if row} == wanted


def test_flips_are_those_of_the_answers(filled: Filled) -> None:
    cache, (first, *_) = filled
    shown = measured.nearest_state(Chain(cache, first).measured(TOP), 20, "test")
    assert shown is not None
    was = answers(cache, first, Chain(cache, first).manifest.summary["tuned_id"], "test")
    now = answers(cache, first, shown.state_id, "test")
    for row in Chain(cache, first).flip_counts(shown, "test").to_dict("records"):
        pairs = [(was[f]["words"], now[f]["words"]) for f in was if was[f]["domain"] == row["domain"]]
        healed, broken = pairs.count((False, True)), pairs.count((True, False))
        assert (row["n"], row["healed"], row["broken"]) == (30, healed, broken) and healed > 0
        assert (row["p_value"] < 0.05) == (not row["gain_low"] <= 0 <= row["gain_high"])
        assert row["gain"] == pytest.approx((healed - broken) / 30)  # levels of equal size
        listed = Chain(cache, first).flipped(shown, "test", flips=["healed"], domains=[row["domain"]])
        assert len(listed) == healed and set(listed["before_answer"].str[0]) == {"✗"}
        assert set(listed["restored_answer"].str[0]) == {"✓"}


def test_search_is_plain_text_in_any_case(filled: Filled) -> None:
    cache, (first, *_) = filled
    shown = measured.nearest_state(Chain(cache, first).measured(TOP), 20, "test")
    assert shown is not None
    everything = Chain(cache, first).flipped(shown, "test", flips=FLIPS)
    gold = everything["gold"].iloc[-1]
    found = Chain(cache, first).flipped(shown, "test", flips=FLIPS, search=gold.upper())
    assert gold in set(found["gold"]) and len(found) < len(everything)
    assert Chain(cache, first).flipped(shown, "test", search="100% _ '").empty


def test_levels_are_those_of_the_shown_state(filled: Filled) -> None:
    rows = Chain(filled[0], filled[1][0]).measured(TOP)
    shown = measured.nearest_state(rows, 40, "test")
    assert shown is not None
    table = measured.levels_at(rows, shown, "test")
    assert len(table) == 2 * 5 * 3 and set(table["state"]) == {"base", "tuned", "restored"}
    assert set(table.loc[table["state"] == "restored", "k_percent"]) == {40.0}


def test_errors_say_what_is_wrong(filled: Filled, tmp_path: Path) -> None:
    cache, (first, *_) = filled
    with pytest.raises(SpecError, match="no chain 0123"):
        Chain(cache, "0123").measured(TOP)
    shown = MeasuredState("restored", "x", "0" * 16, 5.0)
    with pytest.raises(GoneError, match=f"evaluation {shown.run_id} is gone"):
        Chain(cache, first).flip_counts(shown, "test")
    with pytest.raises(SpecError, match="flips: got 'lost'"):
        Chain(cache, first).flipped(shown, "test", flips=["lost"])
