"""`sftknow masks` on a study that was really run: three seeds of one cell, and what cannot be compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_chain import small_facts_file, small_model
from small_study import small_study

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.pipeline.masks import ask_donors, compare_masks, groups_of
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.results import find_study
from sftknow_core.results.chain import Chain
from sftknow_core.results.masks import Donors, Masks, donors_between, masks_between
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import percent


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A cache with a study of one cell and three seeds whose weights are kept, and its chains."""
    folder = tmp_path_factory.mktemp("masks")
    model, facts = small_model(folder / "model"), small_facts_file(folder / "facts.jsonl")
    spec = small_study(model, facts, sizes=(6,), seeds=(0, 1, 2), checkpoints="all")
    run_study(spec, Workspace(folder / "cache", device="cpu"), InThisProcess())
    study = find_study(Cache(folder / "cache"), "small")
    return folder / "cache", [cell.ways[0].run_id for cell in study.cells]


def test_three_seeds_are_compared_once(made: tuple[Path, list[str]]) -> None:
    root, runs = made
    ws = Workspace(root, device="cpu")
    (group,) = groups_of(ws, ["small"])
    assert group.label == "level 0, N = 6"
    run = compare_masks(ws, group, (percent("20"), percent("5")))
    frame = Masks(Cache(root), run.run_id).frame
    assert len(frame) == 2 * 3 * 3 and set(frame["k_percent"]) == {5.0, 20.0}
    assert (frame["n_first"] == frame["n_region"] * frame["k_percent"] // 100).all()
    assert frame["chance_jaccard"].where(frame["k_percent"] == 20).dropna().to_list() == pytest.approx(
        [0.2 / 1.8] * 9, abs=0.001
    )
    between = frame[frame["second_id"].notna()]
    assert (between["jaccard"] > between["chance_jaccard"]).all() and frame["reason"].isna().all()
    assert (frame["own_energy_share"] <= 1).all()
    again = compare_masks(ws, groups_of(ws, [*reversed(runs)])[0], (percent("5"), percent("20")))
    assert again.run_id == run.run_id
    ids = [Chain(Cache(root), one).tuned_id for one in runs]
    assert len(masks_between(Cache(root), ids)) == 18 and len(masks_between(Cache(root), ids[:1])) == 2
    assert masks_between(Cache(root), []).empty


def test_donors_are_asked_the_test_questions(made: tuple[Path, list[str]]) -> None:
    """With the own mask the restored model is the chain's: the same answers to the same questions."""
    root, runs = made
    ws = Workspace(root, device="cpu")
    (group,) = groups_of(ws, runs[:2])
    run = ask_donors(ws, group, percent("20"))
    frame = Donors(Cache(root), run.run_id).frame
    assert len(frame) == 4 and (frame["n"] == 4).all()
    assert frame["accuracy"].notna().all()
    own = frame[frame["tuned_id"] == frame["donor_id"]]
    for row in own.to_dict("records"):
        chain = next(
            Chain(Cache(root), one) for one in runs if Chain(Cache(root), one).tuned_id == row["tuned_id"]
        )
        curve = chain.accuracy("test", "in")
        same = curve[(curve["k_percent"] == 20) & curve["level"].isna()].iloc[0]
        assert row["accuracy"] == same["accuracy"]
    assert len(donors_between(Cache(root), set(frame["tuned_id"]))) == 4


def test_what_cannot_be_compared_is_refused(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, runs = made
    ws = Workspace(root, device="cpu")
    with pytest.raises(SpecError, match="one fine-tuned model"):
        groups_of(ws, [runs[0], runs[0], runs[0][:8]])
    with pytest.raises(SpecError, match="give two or more chains"):
        groups_of(ws, runs[:1])
    shutil.copytree(root, tmp_path / "copy")
    weights = next((tmp_path / "copy" / "runs").glob("*/model"))
    shutil.rmtree(weights)
    with pytest.raises(ModelError, match="not at"):
        groups_of(Workspace(tmp_path / "copy", device="cpu"), runs)
