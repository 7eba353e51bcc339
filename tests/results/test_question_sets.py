"""The question sets of a pair, over made-up chains: numbers of one set never meet those of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains

from sftknow_core.errors import SpecError
from sftknow_core.results import Chain, measured
from sftknow_core.results.run import finished_stamp
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

TOP = RestoreSpec(k_percent="1")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, str, str]:
    """One pair, asked 3 questions a level at k = 5 and 7 a level at k = 20; and another pair."""
    root = tmp_path_factory.mktemp("cache")
    (small,) = make_chains(root, [("2", 1920, 0)], per_level=3, ks=(5,))
    (large,) = make_chains(root, [("2", 1920, 0)], per_level=7, ks=(20,))
    make_chains(root, [("4", 240, 0)], per_level=9, ks=(20,))
    return Cache(root), small, large


def test_sets_have_their_sizes_and_states(filled: tuple[Cache, str, str]) -> None:
    """Each was asked of base, tuned, one k and the hybrid; three groups of five levels."""
    cache, small, large = filled
    found = Chain(cache, small).question_sets()
    assert found["question_set"].tolist() == [
        Chain(cache, small).asked.question_set,
        Chain(cache, large).asked.question_set,
    ]
    assert found["own"].tolist() == [True, False]
    assert found["n_level"].tolist() == [3, 7] and found["n"].tolist() == [45, 105]
    assert found["n_states"].tolist() == [4, 4]
    assert Chain(cache, large).question_sets()["n_level"].tolist() == [7, 3]


def test_measured_stays_within_one_set(filled: tuple[Cache, str, str]) -> None:
    cache, small, large = filled
    own = Chain(cache, small).measured(TOP)
    other = Chain(cache, small).measured(TOP, Chain(cache, large).asked.question_set)
    for rows, n, ks in ((own, 3, {0, 5, 100}), (other, 7, {0, 20, 100})):
        assert set(rows.loc[rows["level"].notna(), "n"]) == {n}
        assert set(rows["k_percent"].dropna()) == ks
        assert {"base", "tuned"} <= set(rows["state"])
    assert not set(own["question_set_id"]) & set(other["question_set_id"])
    theirs = Chain(cache, large).measured(TOP)
    assert other.drop(columns="chosen").equals(theirs.drop(columns="chosen"))
    assert Chain(cache, small).measured(TOP, "0" * 16).empty


def test_what_is_missing_is_said(filled: tuple[Cache, str, str]) -> None:
    cache, small, _ = filled
    rows = Chain(cache, small).measured(TOP)
    assert [measured.missing(rows, k) for k in (0, 5, 6, 100)] == [(), (), ("restored",), ()]
    assert measured.missing(rows.iloc[:0], 5) == ("base", "tuned", "restored")
    assert measured.n_level(rows, "dev") == 3 and measured.n_level(rows.iloc[:0], "dev") is None
    tuned = measured.shown_state(rows, 0, "dev")
    assert tuned is not None and tuned.state == "tuned"
    assert set(measured.levels_at(rows, tuned, "dev")["state"]) == {"base", "tuned"}


def test_any_two_states_can_be_compared(filled: tuple[Cache, str, str]) -> None:
    """From k to itself nothing flips; from tuned to k as many as by default."""
    cache, small, _ = filled
    rows = Chain(cache, small).measured(TOP)
    five = measured.nearest_state(rows, 5, "test")
    tuned = measured.tuned_state(rows, "test")
    assert five is not None and tuned is not None
    same = Chain(cache, small).flip_counts(five, "test", five)
    assert same[["healed", "broken"]].to_numpy().sum() == 0
    usual = Chain(cache, small).flip_counts(five, "test")
    assert Chain(cache, small).flip_counts(five, "test", tuned).equals(usual)
    back = Chain(cache, small).flip_counts(tuned, "test", five)
    assert back["broken"].tolist() == usual["healed"].tolist()


def test_the_stamp_follows_finished_runs_alone(filled: tuple[Cache, str, str], tmp_path: Path) -> None:
    cache, small, _ = filled
    before = finished_stamp(cache)
    (cache.run_folder(small) / "events.jsonl").touch()
    assert finished_stamp(cache) == before
    (cache.run_folder(small) / "DONE.json").touch()
    assert finished_stamp(cache) != before
    assert Chain(cache, small).manifest.summary
    with pytest.raises(SpecError, match="no chain 0123"):
        Chain(cache, "0123").question_sets()
