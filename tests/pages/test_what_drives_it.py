"""The page "What drives it" over small studies that were really run: with two rates, and with the one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_chain import small_facts_file, small_model
from small_study import small_study
from streamlit.testing.v1 import AppTest

from sftknow_core.analysis.drives import read_drives
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.present.text import drives
from sftknow_core.results.studies import list_studies
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, Cache

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drives-page")
    model, facts = small_model(folder / "model"), small_facts_file(folder / "facts.jsonl")
    ws = Workspace(folder / "cache", device="cpu")
    for name, changes in (("own", {}), ("varied", {"rates": (0.5, 1.0), "match_steps": True})):
        run_study(small_study(model, facts, name=name, **changes), ws, InThisProcess())
    return folder / "cache"


def opened(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/what_drives_it.py")
    at.query_params["run"] = run_of(cache, name)
    at.run()
    assert not at.exception, at.exception
    return at


def run_of(cache: Path, name: str) -> str:
    return next(one.run_id for one in list_studies(Cache(cache)) if one.name == name)


def test_rates_are_those_of_the_store(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch, "varied")
    expected = read_drives(Cache(cache), run_of(cache, "varied")).rates.gains()
    assert set(expected["rate"]) == {0.5, 1.0}
    shown = next(f.value for f in at.dataframe if "best_rate" in f.value)
    level = shown["train_level"].iloc[0]
    wanted = expected[expected["train_level"] == level]
    assert shown["effect"].tolist() == pytest.approx(wanted["effect"].tolist(), nan_ok=True)
    assert shown["best_rate"].tolist() == wanted["best_rate"].tolist()
    assert [head.value for head in at.subheader] == list(drives.TITLES.values())


def test_what_a_study_lacks_is_said_with_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch, "own")
    found = read_drives(Cache(cache), run_of(cache, "own"))
    said = [str(info.value) for info in at.info]
    assert drives.not_run("rates", found) in said
    assert drives.not_run("masks", found) in said and "sftknow masks" in drives.not_run("masks", found)


def test_without_a_study_the_page_says_how_to_run_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "none"))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/what_drives_it.py")
    at.run()
    assert not at.exception and len(at.info) == 1
