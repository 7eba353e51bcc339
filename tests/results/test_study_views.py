"""A study's tables against the chains they are read from."""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields
from math import ceil
from pathlib import Path

import pandas as pd
import pytest
from small_chain import small_facts_file, small_model
from small_study import small_study

from sftknow_core.analysis.grid import StudyTables
from sftknow_core.errors import DamagedError, GoneError, SpecError
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.results import Run
from sftknow_core.results.studies import Headline, Study, list_studies
from sftknow_core.results.study_frames import FOLDER, keep_study_frames, read_kept, study_chains, study_frames
from sftknow_core.specs import Restoring
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import DONE, RunFolder
from sftknow_core.store.study_record import CELLS, all_cells
from sftknow_core.update.spec import RestoreSpec

CONTROLS = (
    RestoreSpec("random", k_percent="20"),  # type: ignore[arg-type]
    RestoreSpec("interpolation", alpha="0.75"),  # type: ignore[arg-type]
    RestoreSpec("block", block="0"),  # type: ignore[arg-type]
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Two sizes, restored in two ways; the larger one with three controls."""
    folder = tmp_path_factory.mktemp("study")
    spec = small_study(
        small_model(folder / "model"),
        small_facts_file(folder / "facts.jsonl"),
        seeds=(0,),
        restoring=(Restoring(), Restoring(strategy="bottom")),
        baselines=True,
        completions=True,
        five_shot=True,
        controls=CONTROLS,
        equal_energy=("random", "interpolation", "largest"),
        equal_projection=("random", "interpolation"),
    )
    run_study(spec, Workspace(folder / "cache", device="cpu"), InThisProcess())
    return Cache(folder / "cache")


@pytest.fixture(scope="module")
def run_id(cache: Cache) -> str:
    (study,) = list_studies(cache)
    return study.run_id


@pytest.fixture(scope="module")
def frames(cache: Cache, run_id: str) -> dict[str, pd.DataFrame]:
    return study_frames(cache, run_id)


def test_the_frames_are_what_statistics_read(frames: dict[str, pd.DataFrame]) -> None:
    tables = StudyTables(**frames)
    assert list(tables.chains["size"]) == ["4", "6"]
    assert list(tables.chains["n"]) == [4, 6]
    assert set(tables.chains["level"]) == {"0"}
    assert not tables.enrichment.empty


def test_states_are_tuned_both_ways_of_restoring_and_controls(frames: dict[str, pd.DataFrame]) -> None:
    states, sizes = frames["states"], frames["chains"].set_index("chain")["size"]
    ways = [
        ("tuned", "-", 0.0),
        ("restored", "top", 20.0),
        ("hybrid", "top", 100.0),
        ("restored", "bottom", 20.0),
        ("hybrid", "bottom", 100.0),
    ]
    for chain, mine in states.groupby("chain"):
        compared = mine[mine["strategy"].isin(["random", "interpolation", "block", "largest"])]
        own = mine.drop(index=compared.index)
        assert list(zip(own["kind"], own["strategy"].fillna("-"), own["k_percent"], strict=True)) == ways
        assert own["chosen"].sum() == 1 and not compared["chosen"].any()
        assert own["energy_taken_back"].iloc[0] == 0
        assert own["energy_taken_back"].iloc[2] == pytest.approx(1)
        beside, along = (compared[name] == 20 for name in ("beside_k", "beside_k_projection"))
        by, equal = compared[~beside & ~along].set_index("strategy"), compared[beside]
        assert sorted(by.index) == (
            [] if sizes[chain] == "4" else ["block", "interpolation", *["random"] * 3]
        )
        if len(by):
            energy = own.loc[own["strategy"] == "top", "energy_taken_back"].iloc[0]
            assert sorted(equal["strategy"]) == ["interpolation", "largest", *["random"] * 3]
            assert equal["energy_taken_back"].tolist() == pytest.approx([energy] * 5, abs=0.04)
            # what puts whole weights back is one state for both; an interpolation is another one
            fair = compared[along]
            assert sorted(fair["strategy"]) == ["interpolation", *["random"] * 3]
            assert fair["projection_taken_back"].tolist() == pytest.approx([energy] * 4, abs=0.04)
            one = fair.set_index("strategy").loc["interpolation"]
            assert one["alpha"] == pytest.approx(1 - energy, abs=1e-4) and pd.isna(one["beside_k"])
            masks = compared.loc[compared["strategy"] == "random", ["mask", "k_percent"]]
            assert masks["mask"].nunique() == 3 and len(masks) == 6
            assert compared.loc[compared["strategy"] != "random", "mask"].isna().all()
            # taking the largest changes, fewer weights hold as much of the update
            assert equal.loc[equal["strategy"] == "largest", "k_percent"].iloc[0] < 20
            assert by["alpha"].dropna().to_dict() == {"interpolation": 0.75}
            assert by["k_percent"]["random"].tolist() == [20] * 3 and by["layers"]["block"] == "0"
            assert by["energy_taken_back"]["interpolation"] == pytest.approx(1 - 0.75**2, abs=1e-4)


def test_kept_frames_are_those_made_of_the_chains(
    frames: dict[str, pd.DataFrame], cache: Cache, run_id: str, tmp_path: Path
) -> None:
    """The study has put them beside itself; taken away or damaged, the same come out of the chains' runs again."""
    copy = copied(cache, tmp_path)
    (folder,) = (copy.runs / run_id / FOLDER).iterdir()
    assert sorted(path.stem for path in folder.iterdir()) == sorted(frames)
    (folder / "answers.parquet").write_bytes(b"damaged")
    assert (
        read_kept(RunFolder(copy, run_id), list(study_chains(copy, run_id).summaries), list(frames)) is None
    )
    made = study_frames(copy, run_id)
    for name, kept in frames.items():
        pd.testing.assert_frame_equal(made[name], kept, check_dtype=False, obj=name)
        assert made[name].isna().equals(kept.isna())
    keep_study_frames(copy, run_id)
    assert (folder / "answers.parquet").stat().st_size > 100
    # of other chains they are no copy
    shutil.rmtree(folder)
    (folder.parent / "of-other-chains").mkdir()
    keep_study_frames(copy, run_id)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_levels_of_half_the_templates_are_recounted(frames: dict[str, pd.DataFrame], cache: Cache) -> None:
    """From the counts by template: even numbers from 0, ceil of four times the share."""
    chain = RunFolder(cache, str(frames["chains"]["chain"][0]))
    rows = RunFolder(cache, str(chain.spec.inputs["mastery"])).read("mastery_templates").to_pylist()
    answers = frames["answers"].drop_duplicates("fact_id").set_index("fact_id")
    assert len(answers) > 10
    for fact_id, row in answers.iterrows():
        for half, name in enumerate(("level_even", "level_odd")):
            own = [r for r in rows if r["fact_id"] == fact_id and r["template"] % 2 == half]
            share = sum(r["n_correct"] for r in own) / sum(r["n_samples"] for r in own)
            assert row[name] == ceil(4 * share)


def test_answers_are_those_of_the_chains(frames: dict[str, pd.DataFrame], cache: Cache) -> None:
    """Rows counted by hand: 10 questions and 2 of the train set, five states a chain; the base once."""
    answers = frames["answers"]
    tuned = answers[answers["chain"] != "base"]
    asked = tuned[tuned["prompt"] == "qa"]
    assert len(asked) == 2 * 5 * 12 + 11 * 6  # and eleven controls of one chain on the test questions
    completed = tuned[tuned["prompt"] == "completion"]
    assert len(completed) == 5 * 6 and set(completed["split"]) == {"test"}
    base = answers[answers["chain"] == "base"]
    assert len(base[base["prompt"] == "qa"]) == 10 + 2  # both train sets begin alike: they are nested
    assert len(base[base["prompt"] == "completion"]) == 6
    after_five = tuned[tuned["prompt"] == "five-shot"]
    assert len(after_five) == 5 * 6 and set(after_five["split"]) == {"test"}
    assert len(base[base["prompt"] == "five-shot"]) == 10  # its baseline holds the dev questions too
    for chain in frames["chains"]["chain"]:
        summary = RunFolder(cache, chain).manifest().summary  # type: ignore[union-attr]
        for state_id, run in summary["stages"]["evaluate"].items():
            named = "base" if state_id == summary["base_id"] else chain
            rows = {row["fact_id"]: row for row in RunFolder(cache, run).read("answers").to_pylist()}
            mine = answers[
                (answers["chain"] == named)
                & (answers["state_id"] == state_id)
                & (answers["prompt"] == "qa")
                & (answers["split"] != "train")
            ]
            assert set(mine["fact_id"]) == set(rows)
            for row in mine.to_dict("records"):
                assert row["right"] == rows[row["fact_id"]]["words"]
                assert row["topic"] == rows[row["fact_id"]]["topic"]


def test_shifts_are_those_that_count(frames: dict[str, pd.DataFrame], cache: Cache) -> None:
    shifts = frames["shifts"]
    expected = 0
    for chain in frames["chains"]["chain"]:
        summary = RunFolder(cache, chain).manifest().summary  # type: ignore[union-attr]
        for state_id, run in summary["stages"]["evaluate"].items():
            if state_id != summary["base_id"]:
                rows = RunFolder(cache, run).read("first_token").to_pylist()
                mine = shifts[(shifts["state_id"] == state_id) & (shifts["split"] != "train")]
                wanted = {
                    ("shift", r["fact_id"]): r["kl_nats"]
                    for r in rows
                    if r["kept"] and r["kl_nats"] is not None
                }
                wanted |= {
                    ("aligned", r["fact_id"]): r["kl_aligned_nats"]
                    for r in rows
                    if r["kl_aligned_nats"] is not None
                }
                found = {(r["measure"], r["fact_id"]): r["kl_nats"] for r in mine.to_dict("records")}
                assert found == wanted
                expected += len(wanted)
    assert (shifts["chain"] != "base").sum() >= expected


def test_concentration_and_enrichment(frames: dict[str, pd.DataFrame]) -> None:
    share = frames["concentration"].groupby("chain")["share"]
    assert (share.max() <= 1).all()
    assert share.apply(lambda s: s.is_monotonic_increasing).all()
    null = frames["concentration"]
    assert (null["n_permutations"] == 199).all()
    assert ((null["null_low"] <= null["null_share"]) & (null["null_share"] <= null["null_high"])).all()
    assert (
        null[["p_more", "p_two_sided"]].ge(1 / 200).all(axis=None)
        and null["top_20_share"].between(0, 1).all()
    )
    enrichment = frames["enrichment"]
    for _, rows in enrichment.groupby(["chain", "k_percent", "by"]):
        k = rows["k_percent"].iloc[0]
        assert rows["n_restored"].sum() == pytest.approx(rows["n"].sum() * k / 100, abs=1)
        assert rows["n_restored_null"].sum() == pytest.approx(rows["n_restored"].sum())


def test_cells_with_headline_numbers(cache: Cache, run_id: str) -> None:
    cells = Study(cache, run_id).frame
    assert list(cells["strategy"]) == ["top", "bottom"] * 2
    for row in cells.to_dict("records"):
        headline = RunFolder(cache, row["run_id"]).manifest().summary["headline"]  # type: ignore[union-attr]
        assert row["tuned_test_in"] == headline["tuned_test_in"]
    study = Study(cache, run_id)
    assert (study.info.n_cells, study.info.n_done, study.info.n_todo) == (2, 2, 0)
    assert [study.info] == list_studies(cache)
    said = study.to_json()
    assert {name: said[name] for name in asdict(study.info)} == asdict(study.info)
    for cell, its in zip(said["cells"], study.cells, strict=True):
        assert (cell["key"], cell["state"]) == (its.key, its.state)
        assert [Headline(**{f.name: way[f.name] for f in fields(Headline)}) for way in cell["chains"]] == [
            study.headline(way.run_id) for way in its.ways
        ]


def copied(cache: Cache, tmp_path: Path) -> Cache:
    shutil.copytree(cache.root, tmp_path / "copy")
    return Cache(tmp_path / "copy")


def test_a_study_that_is_not_finished_shows_what_it_has(cache: Cache, run_id: str, tmp_path: Path) -> None:
    partly = copied(cache, tmp_path)
    run = RunFolder(partly, run_id)
    (run.root / DONE).unlink()
    lines = (run.root / CELLS).read_text().splitlines(keepends=True)
    (run.root / CELLS).write_text(lines[0])
    assert [cell["state"] for cell in all_cells(run)] == ["done", "to do"]
    frames = study_frames(partly, run_id, enrichment=False)
    assert list(frames["chains"]["size"]) == ["4"]
    assert "enrichment" not in frames
    assert list(Study(partly, run_id).frame["state"]) == ["done", "done", "to do"]
    (run.root / CELLS).write_text("")
    empty = study_frames(partly, run_id)
    assert {name: len(frame) for name, frame in empty.items()} == dict.fromkeys(empty, 0)
    StudyTables(**empty)


def test_what_is_gone_or_no_study_is_said(cache: Cache, run_id: str, tmp_path: Path) -> None:
    chain = str(Study(cache, run_id).frame["run_id"].iloc[0])
    with pytest.raises(SpecError, match="is a chain, not a study"):
        study_frames(cache, chain)
    partly = copied(cache, tmp_path)
    shutil.rmtree(partly.run_folder(chain))
    with pytest.raises(
        GoneError, match=f"study {run_id}: its chain {chain} is gone; running the study again"
    ):
        study_frames(partly, run_id)
    assert Study(partly, run_id).frame["tuned_test_in"].isna().any()


@pytest.mark.parametrize("lost", [True, False])
def test_a_run_that_holds_answers_is_named(cache: Cache, run_id: str, tmp_path: Path, lost: bool) -> None:
    partly = copied(cache, tmp_path)
    shutil.rmtree(partly.run_folder(run_id) / FOLDER)
    chain = Run(partly, next(iter(study_chains(partly, run_id).summaries)))
    folder = partly.run_folder(next(iter(chain.manifest.summary["stages"]["evaluate"].values())))
    shutil.rmtree(folder if lost else folder / "answers")
    said = f"study {run_id}: its run {folder.name}, which holds answers, is {'gone' if lost else 'damaged'}"
    with pytest.raises(GoneError if lost else DamagedError, match=f"{said}.*sftknow runs rm"):
        study_frames(partly, run_id)


def test_facts_whose_interval_crosses_the_limit_of_a_level_are_marked(
    frames: dict[str, pd.DataFrame], cache: Cache, run_id: str
) -> None:
    chain = next(iter(study_chains(cache, run_id).summaries))
    mastery = (
        RunFolder(cache, str(RunFolder(cache, chain).spec.inputs["mastery"])).read("mastery").to_pylist()
    )
    known = {row["fact_id"]: row["borderline"] for row in mastery}
    for name in ("answers", "shifts"):
        rows = frames[name][["fact_id", "borderline"]].drop_duplicates()
        assert (
            len(rows) > 0 or name == "shifts"
        )  # this base completes nothing rightly, so no shift is measured
        for fact, marked in rows.itertuples(index=False):
            assert (None if pd.isna(marked) else bool(marked)) == known[fact]
