"""What the page of facts is shown: every number against a slow second way over the rows of a made-up run."""

from __future__ import annotations

import shutil
from collections import Counter
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from fake_mastery import MODEL, WHY, make_answers, make_chain, make_mastery

from sftknow_core.errors import DamagedError, GoneError, SpecError
from sftknow_core.measure.levels import level_of_expected
from sftknow_core.results import Chain
from sftknow_core.results import mastery_facts as facts
from sftknow_core.results.mastery import Mastery, Sampling, finished_runs
from sftknow_core.results.mastery_facts import PAGE_SIZE, SORTS, FactFilters, Mastered, Population
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder

Rows = list[dict[str, Any]]
POPULATIONS = [Population(), Population("test"), Population(None, "out"), Population("train", "in")]
NOBODY = Population("dev", "out")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cache, str]:
    root = tmp_path_factory.mktemp("mastery")
    return Cache(root), make_mastery(root)


@pytest.fixture(scope="module")
def run(made: tuple[Cache, str]) -> Mastery:
    return Mastery(*made)


@pytest.fixture(scope="module")
def rows(made: tuple[Cache, str]) -> Rows:
    """The run's own rows, in the order they were written."""
    return RunFolder(*made).read("mastery").to_pylist()


def of(rows: Rows, population: Population, scored: bool = True) -> Rows:
    return [
        row
        for row in rows
        if population.split in (None, row["split"])
        and population.domain in (None, row["domain"])
        and not (scored and row["level"] is None)
    ]


def test_all_facts_come_in_the_order_of_the_run(run: Mastery, rows: Rows) -> None:
    assert run.facts.facts.column("fact_id").to_pylist() == [row["fact_id"] for row in rows]
    assert run.facts.facts.column("place").to_pylist() == list(range(1, len(rows) + 1))
    assert run.facts.topics == ["P17", "P19", "P50"]
    assert run.facts.splits == ["train", "dev", "test"]


@pytest.mark.parametrize("population", POPULATIONS)
def test_facts_by_level(run: Mastery, rows: Rows, population: Population) -> None:
    counts = Counter(row["level"] for row in of(rows, population))
    found = run.by_level(population)
    assert found["level"].tolist() == [0, 1, 2, 3, 4]
    assert found["n_facts"].tolist() == [counts[level] for level in range(5)]
    assert found["share"].tolist() == pytest.approx([counts[level] / counts.total() for level in range(5)])


@pytest.mark.parametrize("population", POPULATIONS)
def test_facts_by_topic(run: Mastery, rows: Rows, population: Population) -> None:
    found = run.by_topic(population)
    for (topic, domain), its in found.groupby(["topic", "domain"]):
        same = [row for row in of(rows, population) if (row["topic"], row["domain"]) == (topic, domain)]
        counts = Counter(row["level"] for row in same)
        assert its["n_facts"].tolist() == [counts[level] for level in range(5)]
        assert its["share"].sum() == pytest.approx(1.0)
        assert set(its["n_topic"]) == {len(same)}
        assert its["mean_r"].iloc[0] == pytest.approx(sum(row["r"] for row in same) / len(same))
    assert found["n_facts"].sum() == len(of(rows, population))
    order = found.drop_duplicates(["topic", "domain"])
    assert order["domain"].tolist() == sorted(order["domain"])
    for _, its in order.groupby("domain"):
        assert its["mean_r"].is_monotonic_decreasing


@pytest.mark.parametrize("population", POPULATIONS)
def test_the_histogram_has_a_bar_for_zero_and_borders_at_edges(
    run: Mastery, rows: Rows, population: Population
) -> None:
    found = run.histogram(population)
    counts = Counter(-(-20 * row["n_correct"] // row["n_samples"]) for row in of(rows, population))
    assert found["n_facts"].tolist() == [counts[i] for i in range(21)]
    assert found["r_to"].tolist() == pytest.approx([i / 20 for i in range(21)])
    by_level = found.groupby("level")["n_facts"].sum()
    assert by_level.tolist() == run.by_level(population)["n_facts"].tolist()


def test_a_fact_on_an_edge_belongs_below_it(tmp_path: Path) -> None:
    """R = 21 / 210 = 0.1 as float32 is a little more than 0.1; counted in whole numbers it is in (0.05, 0.1]."""
    columns = {"n_correct": [21, 105, 106, 210, 0], "n_samples": [210] * 5, "level": [1, 2, 3, 4, 0]}
    table = pd.DataFrame(columns).assign(split="test", domain="in")
    run = Mastery(Cache(tmp_path), "0123")
    vars(run)["facts"] = Mastered(pa.Table.from_pandas(table))
    found = run.histogram()
    assert found.loc[found["n_facts"] > 0, "r_to"].tolist() == pytest.approx([0, 0.1, 0.5, 0.55, 1.0])
    assert found.loc[found["n_facts"] > 0, "level"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("population", POPULATIONS)
def test_sampled_against_expected(run: Mastery, rows: Rows, population: Population) -> None:
    def expected_bin(row: dict[str, Any]) -> int:
        value = row["expected_mastery"]
        return 0 if value <= 1 / row["n_samples"] else max(1, ceil(20 * value))

    both = of(rows, population)
    counts = Counter((-(-20 * row["n_correct"] // row["n_samples"]), expected_bin(row)) for row in both)
    found = run.against_expected(population)
    assert {(r, e): n for r, e, n in found.itertuples(index=False)} == counts

    numbers = run.numbers(population)
    agreement = numbers.agreement
    ranks = [pd.Series([row[name] for row in both]).rank() for name in ("r", "expected_mastery")]
    assert agreement.spearman == pytest.approx(ranks[0].corr(ranks[1]))
    differences = [abs(row["r"] - row["expected_mastery"]) for row in both]
    assert agreement.mean_abs_difference == pytest.approx(sum(differences) / len(both))
    same = [level_of_expected(row["expected_mastery"], row["n_samples"]) == row["level"] for row in both]
    assert numbers.same_level == pytest.approx(sum(same) / len(same))


def test_numbers_count_the_unscored_apart(run: Mastery, rows: Rows) -> None:
    numbers = run.numbers(Population())
    scored = of(rows, Population())
    assert (numbers.n, numbers.n_scored) == (len(rows), len(rows) - 1)
    assert numbers.reasons == {WHY: 1}
    assert numbers.mean_r == pytest.approx(sum(row["r"] for row in scored) / len(scored))
    assert numbers.n_borderline == sum(row["borderline"] for row in scored) > 0
    assert numbers.n_level0 == sum(row["level"] == 0 for row in scored)
    assert numbers.n_marked == sum(row["expected_level0_marked"] for row in scored) > 0


def test_a_population_of_nobody_has_no_numbers(run: Mastery) -> None:
    numbers = run.numbers(NOBODY)
    assert (numbers.n, numbers.mean_r, numbers.same_level, numbers.agreement.n) == (
        0,
        None,
        None,
        0,
    )
    assert run.by_level(NOBODY)["n_facts"].tolist() == [0] * 5
    assert run.by_topic(NOBODY).empty
    assert run.against_expected(NOBODY).empty


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        (FactFilters(), lambda row: True),
        (FactFilters(levels=(0, 4)), lambda row: row["level"] in (0, 4)),
        (FactFilters(topics=("P17",)), lambda row: row["topic"] == "P17"),
        (
            FactFilters(Population("test", "out")),
            lambda row: (row["split"], row["domain"]) == ("test", "out"),
        ),
        (FactFilters(doubt="borderline"), lambda row: row["borderline"]),
        (FactFilters(doubt="not borderline"), lambda row: row["borderline"] is False),
        (FactFilters(doubt="level 0, yet expected"), lambda row: row["expected_level0_marked"]),
        (FactFilters(doubt="not scored"), lambda row: row["level"] is None),
        (FactFilters(search=" nAmE1"), lambda row: "Name1" in row["question"]),
        (FactFilters(search="gold12"), lambda row: "Gold12" in row["gold"]),
        (FactFilters(search="%' OR TRUE --"), lambda row: False),
    ],
)
def test_filters(run: Mastery, rows: Rows, filters: FactFilters, passes: Any) -> None:
    found = run.passing(filters)
    assert found.tolist() == [i for i, row in enumerate(rows) if passes(row)]
    whole = facts.all_passing(run.facts, found)
    assert whole["fact_id"].tolist() == [rows[i]["fact_id"] for i in found]
    assert "place" not in whole and "searched" not in whole


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_sorting_puts_what_is_missing_last(run: Mastery, rows: Rows, sort: str, descending: bool) -> None:
    def value(row: dict[str, Any], place: int) -> Any:
        if row["r"] is None and sort not in ("order of the run", "question", "answer", "topic"):
            return None
        return {
            "order of the run": place,
            "R": row["r"],
            "expected mastery": row["expected_mastery"],
            "R minus expected": (row["r"] or 0) - (row["expected_mastery"] or 0),
            "distance to a border": min(abs((row["r"] or 0) - border) for border in (0.25, 0.5, 0.75)),
            "width of the interval": (row["r_high"] or 0) - (row["r_low"] or 0),
            "question": row["question"],
            "answer": row["gold"],
            "topic": row["topic"],
        }[sort]

    found = [value(rows[i], i) for i in run.passing(FactFilters(sort=sort, descending=descending))]
    there = [one for one in found if one is not None]
    assert there == sorted(there, reverse=descending)
    assert found[len(there) :] == [None] * (len(rows) - len(there))


def test_pages_and_neighbours(run: Mastery, rows: Rows) -> None:
    passing = run.passing(FactFilters(sort="question"))
    ordered = [rows[i]["fact_id"] for i in passing]
    page = run.page(passing, 2, ordered[60])
    assert page.rows["fact_id"].tolist() == ordered[PAGE_SIZE : 2 * PAGE_SIZE]
    assert (page.n, page.number, page.place) == (len(rows), 2, 61)
    assert (page.previous_id, page.next_id) == (ordered[59], ordered[61])
    assert run.page(passing, 99).number == 3
    assert run.page(passing, 1, ordered[0]).previous_id is None
    assert run.page(passing, 1, ordered[-1]).next_id is None


def test_a_fact_that_is_not_listed_has_no_place(run: Mastery, rows: Rows) -> None:
    passing = run.passing(FactFilters(topics=("P17",)))
    page = run.page(passing, 1, rows[0]["fact_id"])  # of P19
    assert (page.place, page.previous_id, page.next_id) == (None, None, rows[2]["fact_id"])
    nobody = run.page(run.passing(FactFilters(search="nobody")))
    assert (nobody.n, nobody.number, len(nobody.rows)) == (0, 1, 0)


def test_one_fact(made: tuple[Cache, str], run: Mastery, rows: Rows) -> None:
    found = facts.fact_row(run.facts, rows[7]["fact_id"])
    assert found is not None and found["n_correct"] == rows[7]["n_correct"]
    assert facts.fact_row(run.facts, "0123") is None
    templates = run.templates(rows[7]["fact_id"])
    assert templates["template"].tolist() == list(range(21))
    assert templates["n_correct"].sum() == rows[7]["n_correct"]
    assert templates["share"].mean() == pytest.approx(rows[7]["r"])
    assert run.templates(rows[-1]["fact_id"]).empty


def test_wishes_there_are_not_are_errors() -> None:
    with pytest.raises(SpecError, match="sort: got 'age'"):
        FactFilters(sort="age")
    with pytest.raises(SpecError, match="level is: got 'shaky'; allowed: all, borderline"):
        FactFilters(doubt="shaky")


def test_what_the_base_wrote(tmp_path: Path) -> None:
    cache, run_id = Cache(tmp_path), make_mastery(tmp_path, 12)
    fact_id = RunFolder(cache, run_id).read("mastery").to_pylist()[2]["fact_id"]
    assert Mastery(cache, run_id).base_evaluations == ()
    assert facts.said_by_base(cache, (), fact_id).empty
    make_answers(tmp_path, run_id, fact_id)
    asked = Mastery(cache, run_id).base_evaluations
    assert {(one.how, one.matcher) for one in asked} == {("question", "words"), ("five-shot", "words")}
    found = facts.said_by_base(cache, asked, fact_id).set_index("how")
    assert found.loc["completion"].tolist() == [4, "Gold2, of course", True]
    assert found["text"].to_dict() == {
        "completion": "Gold2, of course",
        "question": "Gold2.",
        "five-shot": "Oslo",
    }
    assert found["is_right"].to_dict() == {"completion": True, "question": True, "five-shot": False}
    assert facts.said_by_base(cache, asked, "another").empty
    assert facts.base_evaluations(cache, run_id, "another") == ()


def test_runs_details_and_the_chain_that_used_one(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert finished_runs(cache).empty
    run_id, other = make_mastery(tmp_path, 12), make_mastery(tmp_path, 12, seed=1)
    chain = make_chain(tmp_path, run_id)
    found = finished_runs(cache).set_index("run_id")
    assert set(found.index) == {run_id, other}
    assert found.loc[other, "label"] == "demo · 12 facts · 10 samples a prompt · seed 1"
    assert Chain(cache, chain).mastery == Mastery(cache, run_id)
    for no_chain in (run_id, "0123"):
        with pytest.raises(GoneError, match=f"no chain {no_chain}"):
            _ = Chain(cache, no_chain).mastery
    run = Mastery(cache, run_id)
    assert (run.model, run.model_id, run.chains) == ("demo", MODEL, {chain: "a chain"})
    assert run.sampling == Sampling(10, 0.7, 8, 0, "words") and sum(map(sum, run.split_half)) > 0
    for no_mastery_run in ("0123", chain):
        with pytest.raises(GoneError, match=f"no mastery run {no_mastery_run}"):
            _ = Mastery(cache, no_mastery_run).model


def test_a_lost_part_is_named(tmp_path: Path) -> None:
    cache, run_id = Cache(tmp_path), make_mastery(tmp_path, 12)
    stamp = Mastery(cache, run_id).stamp
    assert stamp == Mastery(cache, run_id).stamp
    next((cache.run_folder(run_id) / "mastery").glob("*.parquet")).unlink()
    with pytest.raises(DamagedError, match=f"{run_id} is damaged.*mastery"):
        _ = Mastery(cache, run_id).facts
    shutil.rmtree(cache.run_folder(run_id))
    with pytest.raises(GoneError, match=f"there is no mastery run {run_id}"):
        _ = Mastery(cache, run_id).stamp
