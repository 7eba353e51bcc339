"""The question sets of a pair, over made-up chains: numbers of one set never meet those of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains

from sftknow_core.errors import SpecError
from sftknow_core.results import chains, restored
from sftknow_core.results.restored import finished_stamp, own_set, question_sets
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
    found = question_sets(cache, small)
    assert found["question_set"].tolist() == [own_set(cache, small), own_set(cache, large)]
    assert found["own"].tolist() == [True, False]
    assert found["n_level"].tolist() == [3, 7] and found["n"].tolist() == [45, 105]
    assert found["n_states"].tolist() == [4, 4]
    assert question_sets(cache, large)["n_level"].tolist() == [7, 3]


def test_measured_stays_within_one_set(filled: tuple[Cache, str, str]) -> None:
    cache, small, large = filled
    own = restored.measured(cache, small, TOP)
    other = restored.measured(cache, small, TOP, own_set(cache, large))
    for rows, n, ks in ((own, 3, {0, 5, 100}), (other, 7, {0, 20, 100})):
        assert set(rows.loc[rows["level"].notna(), "n"]) == {n}
        assert set(rows["k_percent"].dropna()) == ks
        assert {"base", "tuned", "five-shot"} <= set(rows["state"])
    assert not set(own["question_set_id"]) & set(other["question_set_id"])
    theirs = restored.measured(cache, large, TOP)
    assert other.drop(columns="chosen").equals(theirs.drop(columns="chosen"))
    assert restored.measured(cache, small, TOP, "0" * 16).empty


def test_what_is_missing_is_said(filled: tuple[Cache, str, str]) -> None:
    cache, small, _ = filled
    rows = restored.measured(cache, small, TOP)
    assert [restored.missing(rows, k) for k in (0, 5, 6, 100)] == [(), (), ("restored",), ()]
    assert restored.missing(rows.iloc[:0], 5) == ("base", "tuned", "restored")
    without = rows[rows["state"] != "five-shot"]
    assert restored.missing(without, 5, five_shot=True) == ("five-shot",)
    assert restored.missing(without, 6, five_shot=True) == ("restored", "five-shot")
    assert restored.n_level(rows, "dev") == 3 and restored.n_level(rows.iloc[:0], "dev") is None
    tuned = restored.shown_state(rows, 0, "dev")
    assert tuned is not None and tuned["state"] == "tuned"
    assert set(restored.levels_at(rows, tuned, "dev")["state"]) == {"base", "tuned"}


def test_any_two_states_can_be_compared(filled: tuple[Cache, str, str]) -> None:
    """From k to itself nothing flips; from tuned to k as many as by default."""
    cache, small, _ = filled
    rows = restored.measured(cache, small, TOP)
    five = restored.nearest_state(rows, 5, "test")
    tuned = restored.tuned_state(rows, "test")
    assert five is not None and tuned is not None
    same = restored.flip_counts(cache, small, five, "test", five)
    assert same[["healed", "broken"]].to_numpy().sum() == 0
    usual = restored.flip_counts(cache, small, five, "test")
    assert restored.flip_counts(cache, small, five, "test", tuned).equals(usual)
    back = restored.flip_counts(cache, small, tuned, "test", five)
    assert back["broken"].tolist() == usual["healed"].tolist()


def test_the_stamp_follows_finished_runs_alone(filled: tuple[Cache, str, str], tmp_path: Path) -> None:
    cache, small, _ = filled
    before = finished_stamp(cache)
    (cache.run_folder(small) / "events.jsonl").touch()
    assert finished_stamp(cache) == before
    (cache.run_folder(small) / "DONE.json").touch()
    assert finished_stamp(cache) != before
    assert chains.chain_summary(cache, small)
    with pytest.raises(SpecError, match="no chain 0123"):
        question_sets(cache, "0123")
