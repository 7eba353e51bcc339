"""Chains over train level and N: who stands with whom, and seeds as replicates, worked by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from fake_chain import make_chains

from sftknow_core.results import Chain, accuracy
from sftknow_core.results.accuracy import Group, over_seeds
from sftknow_core.results.chains import survey
from sftknow_core.store.cache import Cache

CHAINS = [("0", 240, 0), ("0", 240, 1), ("0", 1920, 0), ("2", 240, 0)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, list[str]]:
    root = tmp_path_factory.mktemp("cache")
    run_ids = make_chains(root, CHAINS, per_level=6, ks=(20,))
    run_ids += make_chains(root, [("0", 240, 0)], per_level=3, ks=(20,))  # other questions
    run_ids += make_chains(root, [("0", 240, 0)], per_level=6, ks=(5, 20))  # the same cell, other k
    return Cache(root), run_ids


def test_chains_of_other_questions_stay_out_and_a_cell_and_seed_counts_once(
    filled: tuple[Cache, list[str]],
) -> None:
    cache, run_ids = filled
    group = accuracy.group_of(cache, survey(cache), run_ids[0])
    assert group == Group(run_ids[0], tuple(sorted(run_ids[:4])), 0)
    assert accuracy.group_of(cache, survey(cache), run_ids[4]).run_ids == (run_ids[4],)
    newest = accuracy.group_of(cache, survey(cache), run_ids[2]).run_ids
    assert run_ids[5] in newest and run_ids[0] not in newest


def test_chains_tuned_or_restored_in_another_way_are_counted_and_left_out() -> None:
    usual = {"sft": {"method": "full", "seed": 0}, "restore": [{"strategy": "top", "k_percent": "5"}]}
    seed = {"sft": {"method": "full", "seed": 3}, "restore": [{"strategy": "top", "k_percent": "20"}]}
    lora = {"sft": {"method": "lora", "seed": 0}, "restore": usual["restore"]}
    bottom = {"sft": usual["sft"], "restore": [{"strategy": "bottom", "k_percent": "5"}]}
    ways = [accuracy._way(params) for params in (usual, seed, lora, bottom)]
    assert ways[0] == ways[1] and len(set(ways)) == 3


def test_accuracies_are_those_of_each_chain(filled: tuple[Cache, list[str]]) -> None:
    cache, run_ids = filled
    rows = accuracy.accuracies(cache, accuracy.group_of(cache, survey(cache), run_ids[0]))
    for run_id, (level, n, seed) in zip(run_ids[:4], CHAINS, strict=True):
        mine = rows[(rows["chain_id"] == run_id) & rows["state"].isin(["tuned", "restored"])]
        assert set(zip(mine["train_level"], mine["n_train"], mine["seed"], strict=True)) == {(level, n, seed)}
        expected = (
            Chain(cache, run_id)
            .levels()
            .set_index(["domain", "level", "state"])["accuracy"]
            .drop("base", level=2)
        )
        found = mine[mine["level"].notna()].set_index(["domain", "level", "state"])["accuracy"]
        pd.testing.assert_series_equal(
            found.sort_index(), expected.sort_index(), check_index_type=False, check_dtype=False
        )
        chosen = Chain(cache, run_id).manifest.summary["chosen"]["k_percent"]
        assert set(mine["k_percent"]) == {0.0, chosen}
    base = accuracy.base_rows(rows)
    assert len(base) == 2 * 6 and base["train_level"].isna().all()
    assert rows.groupby(["domain", "level"], dropna=False)["question_set_id"].nunique().eq(1).all()


def test_shifts_are_the_mean_kl_of_level_4(filled: tuple[Cache, list[str]]) -> None:
    cache, run_ids = filled
    rows = accuracy.shifts(cache, accuracy.group_of(cache, survey(cache), run_ids[0]))
    summary = Chain(cache, run_ids[2]).manifest.summary
    kl = {row["state_id"]: row["kl"]["aligned"] for row in summary["table"]}[summary["tuned_id"]]
    mine = rows[(rows["chain_id"] == run_ids[2]) & (rows["state"] == "tuned")].iloc[0]
    assert mine[["kl_nats", "kl_low", "kl_high", "n_scored"]].tolist() == pytest.approx(
        [kl["mean_nats"], kl["low_nats"], kl["high_nats"], kl["n"]]
    )
    assert mine["n"] == 6 and set(rows["level"]) == {4}
    assert len(rows[rows["state"] == "base"]) == 1


def seeds(*values: float) -> pd.DataFrame:
    rows = [
        {
            "train_level": "2", "n_train": 60, "seed": seed, "state": "tuned", "domain": "in", "level": None,
            "k_percent": 0.0, "accuracy": value, "low": value - 0.1, "high": value + 0.1, "n": 50,
        }
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"n_train": "Int64", "level": "Int64"})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.4,), (0.4, 0.3, 0.5)),  # one seed: its own interval
        ((0.4, 0.5), (0.45, None, None)),
        ((0.2, 0.3, 0.4), (0.3, 0.3 - 4.3027 * 0.1 / 3**0.5, 0.3 + 4.3027 * 0.1 / 3**0.5)),  # t(2), sd 0.1
        ((0.0, 0.0, 0.3), (0.1, 0.0, 0.1 + 4.3027 * 0.3 / 3)),  # sd 0.3 / sqrt(3); cut at 0
    ],
)
def test_seeds_are_replicates(values: tuple[float, ...], expected: tuple[float | None, ...]) -> None:
    cell = over_seeds(seeds(*values), ("accuracy", "low", "high"), clip=(0, 1)).iloc[0]
    found = [None if pd.isna(number) else number for number in cell[["accuracy", "low", "high"]]]
    for number, wanted in zip(found, expected, strict=True):
        assert number == (wanted if wanted is None else pytest.approx(wanted, abs=1e-4))
    assert (cell["n_seeds"], cell["n"], cell["train_level"]) == (len(values), 50, "2")


def test_rows_without_a_cell_are_no_replicates() -> None:
    table = seeds(0.4).assign(n_train=pd.array([None], dtype="Int64"), state="base")
    assert over_seeds(table, ("accuracy", "low", "high")).empty
    assert len(accuracy.of_level(table, None, ["tuned"])) == 1
    assert accuracy.of_level(table, 4, ["tuned"]).empty
    assert accuracy.of_size(table, 60, "base").empty
