"""The page of studies over a small study that was really run: its numbers are the store's, nothing is a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_chain import small_facts_file, small_model
from small_study import small_study
from streamlit.testing.v1 import AppTest

from sftknow_core.analysis.study import read_study_results
from sftknow_core.pipeline.study.pool import InThisProcess
from sftknow_core.pipeline.study.run import run_study
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.present.text import study
from sftknow_core.results.studies import list_studies
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE, Cache
from sftknow_core.store.run_folder import DONE
from sftknow_core.store.study_record import CELLS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Level 0, two sizes, two seeds; one k, no claim can be more than UNDECIDED."""
    folder = tmp_path_factory.mktemp("study-page")
    spec = small_study(small_model(folder / "model"), small_facts_file(folder / "facts.jsonl"))
    run_study(spec, Workspace(folder / "cache", device="cpu"), InThisProcess())
    return folder / "cache"


def opened(cache: Path, monkeypatch: pytest.MonkeyPatch, **address: str) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/study.py")
    for name, value in address.items():
        at.query_params[name.replace("__", ".")] = value
    at.run()
    assert not at.exception, at.exception
    return at


def texts(at: AppTest) -> str:
    return "\n".join(str(part.value) for part in (*at.markdown, *at.caption, *at.info))


def test_verdicts_are_those_of_the_store(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch)
    run_id = list_studies(Cache(cache))[0].run_id
    expected = read_study_results(Cache(cache), run_id).verdicts
    shown = next(f.value for f in at.dataframe if "p_holm" in f.value and "title" in f.value)
    inside = [v for v in expected if v.domain != "out"]
    assert shown["claim_id"].tolist() == [v.claim_id for v in inside]
    assert [text[2:] for text in shown["verdict"]] == [study.VERDICTS[v.verdict] for v in inside]
    assert at.query_params["run"] == [run_id] or at.query_params["run"] == run_id
    assert "p_fdr" in shown
    said = texts(at)
    assert "margin 1 pp" in said and "before the first cell." in said
    assert "Each verdict controls errors within its claim only" in said
    assert "No advice: only 2 of the 3 seeds that are needed have run." in said


def test_answers_say_undecided_or_not_tested_and_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(opened(cache, monkeypatch))
    assert "**Does more data hurt?**" in said and "#### NOT TESTED" in said
    assert "because not run: level 0, N = 240" in said


def test_the_grid_says_which_seeds_are_done(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch)
    grid = next(f.value for f in at.dataframe if "N = 4" in f.value)
    assert grid.to_dict("records") == [{"train_level": "0", "N = 4": "0 ✓, 1 ✓", "N = 6": "0 ✓, 1 ✓"}]
    assert "**Done**: 4 of 4 cells done." in texts(at)


def test_a_verdict_that_no_claim_has_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch, study__verdict="SHOWN")
    assert any("No matching claims" in info.value for info in at.info)


def test_a_cell_leads_to_its_chain(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch, study__chain="level 0, N = 6, seed 1")
    cells = [json.loads(line) for line in next(cache.glob(f"runs/*/{CELLS}")).read_text().splitlines()]
    chain = next(c for c in cells if c["key"] == "full-0-6-1")["chains"][0]["run_id"]
    links = [link.proto for link in at.get("page_link")]
    assert [link.label for link in links] == ["Overview", "Restore", "Accuracy"]
    assert all(f"run={chain}" in link.query_string for link in links)


def test_one_table_of_the_paper_at_a_time(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(cache, monkeypatch, study__table="Table 3")
    assert at.selectbox(key="study.table").value == "Table 3"
    labels = [button.proto.label for button in at.get("download_button")]
    assert labels.count("Download LaTeX") == 1


def test_flips_are_shown_when_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exact McNemar" not in texts(opened(cache, monkeypatch))
    at = opened(cache, monkeypatch, study__flips="true")
    assert "split test, matcher 'words'. p: exact McNemar within one run" in texts(at)
    shown = next(f.value for f in at.dataframe if "beyond churn" in f.value)
    assert set(shown["N"]) == {"6"} and set(shown["seeds"]) == {"0, 1"}
    labels = [button.proto.label for button in at.get("download_button")]
    assert labels.count("Download LaTeX") == 2


def test_bad_values_in_the_address_are_messages(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("table", "verdict", "group", "cell", "chain", "domain")
    at = opened(cache, monkeypatch, run="0123", **{f"study__{name}": "x" for name in names})
    assert 'Study "0123" not found' in at.warning[0].value
    assert at.selectbox(key="study.table").value == "Figure 2"
    said = [one.value for one in at.warning[1:]]
    assert len(said) == len(names)
    assert all(any(f"study.{name} = 'x' isn't available (allowed: " in one for one in said) for name in names)


def _broken(cache: Path, tmp_path: Path) -> Path:
    shutil.copytree(cache, tmp_path / "cache")
    return tmp_path / "cache"


def test_a_study_half_way_shows_what_it_has(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _broken(cache, tmp_path)
    log = next(copy.glob(f"runs/*/{CELLS}"))
    records = [json.loads(line) for line in log.read_text().splitlines()]
    bare = {"chains": [], "sft": None, "model_id": None}
    failed = {**records[1], **bare, "state": "failed", "reason": "out of memory"}
    log.write_text("".join(json.dumps(one) + "\n" for one in (records[0], failed)))
    (log.parent / DONE).unlink()
    at = opened(copy, monkeypatch)
    assert "1 of 4 cells done, 1 failed, 2 to do" in texts(at)
    wrong = next(f.value for f in at.dataframe if "reason" in f.value and "method" in f.value)
    assert wrong["reason"].tolist() == ["out of memory"]


def test_a_study_without_a_finished_cell(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _broken(cache, tmp_path)
    log = next(copy.glob(f"runs/*/{CELLS}"))
    log.write_text("")
    (log.parent / DONE).unlink()
    assert "No cell of this study is done yet" in texts(opened(copy, monkeypatch))


def test_a_chain_that_is_gone_is_a_message(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = _broken(cache, tmp_path)
    cells = [json.loads(line) for line in next(copy.glob(f"runs/*/{CELLS}")).read_text().splitlines()]
    shutil.rmtree(copy / "runs" / cells[0]["chains"][0]["run_id"])
    assert "is gone" in opened(copy, monkeypatch).error[0].value


def test_an_empty_cache_offers_the_demo_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(tmp_path / "none", monkeypatch)
    assert "`sftknow study run demo`" in texts(at)
    assert at.button(key="study.start").label == "Start the demo study"


def test_show_mode_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path / "none")
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = opened(tmp_path / "none", monkeypatch)
    assert not [b for b in at.button if b.key == "study.start"]
    assert "Read-only" in texts(at)
