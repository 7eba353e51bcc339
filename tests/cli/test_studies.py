"""`sftknow study`: run, dry run, list and show, and how wrong files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import write_study

from sftknow_core.pipeline.study import run
from sftknow_core.pipeline.study.pool import Workers
from sftknow_core.serve.job_specs import StudyJob

from .conftest import Sftknow


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells without other processes, which take seconds to start."""
    monkeypatch.setattr(run, "Workers", lambda n, _: Workers(n, "this-process"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.usefixtures("in_this_process")
def test_dry_run_run_list_show(
    sftknow: Sftknow, cache: Path, tiny_base: Path, facts_file: Path, tmp_path: Path
) -> None:
    study = write_study(tmp_path, tiny_base, facts_file)
    common = ["--cache", cache, "--device", "cpu"]
    planned = sftknow("study", "run", study, "--dry-run", *common, "--json").json
    assert [c["state"] for c in planned["cells"]] == ["to do", "to do"]
    assert (planned["mastery_known"], planned["seconds"]) == (False, None)
    assert planned["rule"]["margin_pp"] == 1.0 and planned["rule"]["roles"]["large"] == 6
    assert planned["precision"]["assumed"]["source"].startswith("assumed: no earlier cells")
    printed = " ".join(sftknow("study", "run", study, "--dry-run", *common).out.split())
    assert "computed first" in printed
    assert "Expected half-width of the 95% CI" in printed and "no: fewer than 3 seeds" in printed
    assert list((cache / "runs").iterdir()) == []

    done = sftknow("study", "run", study, *common, "--json")
    assert done.code == 0, done.err
    assert (done.json["name"], done.json["n_done"], done.json["n_failed"]) == ("small", 2, 0)
    for cell in done.json["cells"]:
        (chain,) = cell["chains"]
        assert 0 <= chain["tuned_test_in"] <= 1
        assert chain["changed_share"] > 0.5

    shown = sftknow("study", "run", study, "--dry-run", "--base", tiny_base, *common)
    assert "2 cached of 2 cells" in shown.out
    assert "10 questions per evaluation: dev in 4, test in 4, test out 2" in shown.out
    listed = sftknow("study", "list", "--cache", cache, "--json").json
    assert [(s["name"], s["state"], s["n_done"]) for s in listed["studies"]] == [("small", "done", 2)]
    assert listed["shipped"] == ["demo", "demo-full", "objections", "paper"]
    assert "small" in sftknow("study", "list", "--cache", cache).out
    by_id = sftknow("study", "show", done.json["run_id"][:6], "--cache", cache, "--json").json
    assert by_id["cells"] == done.json["cells"]
    text = " ".join(sftknow("study", "show", "small", "--cache", cache).out.split())
    for words in ("2 of 2 cells done, 0 failed", "questions: dev in 4", "chosen on dev", "level"):
        assert words in text
    assert "The rule was fixed on" in text and "before the first cell" in text


@pytest.mark.usefixtures("in_this_process")
def test_impossible_cells(
    sftknow: Sftknow, cache: Path, tiny_base: Path, facts_file: Path, tmp_path: Path
) -> None:
    study = write_study(tmp_path, tiny_base, facts_file)
    study.write_text(study.read_text().replace("sizes = [4, 6]", "sizes = [4, 60, 600]"))
    common = ["--cache", cache, "--device", "cpu"]
    refused = sftknow("study", "run", study, *common)
    assert refused.code == 2
    assert "2 of 3 cells are impossible" in refused.err
    assert refused.err.count("in-domain train facts have mastery level 0") == 2
    done = sftknow("study", "run", study, "--skip-impossible", *common)
    assert done.code == 0, done.err
    assert done.out.count("impossible: full-0-60") == 2  # 60 and 600


@pytest.mark.usefixtures("in_this_process")
def test_a_failed_cell_gives_exit_code_1_and_all_the_results(
    sftknow: Sftknow, cache: Path, tiny_base: Path, facts_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fails(*_: object, **__: object) -> None:
        raise ValueError("what nobody foresaw")

    monkeypatch.setattr("sftknow_core.pipeline.study.cell.run_chain", fails)
    study = write_study(tmp_path, tiny_base, facts_file)
    study.write_text(study.read_text().replace("seeds = [0]", "seeds = [8]"))
    ended = sftknow("study", "run", study, "--cache", cache, "--device", "cpu", "--json")
    assert (ended.code, ended.json["n_failed"]) == (1, 2)
    assert ended.json["cells"][0]["reason"] == "ValueError: what nobody foresaw"


def test_wrong_files_are_refused(sftknow: Sftknow, cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[grid]\nlevles = [0]\n")
    ended = sftknow("study", "run", path, "--cache", cache)
    assert ended.code == 2
    assert "unknown key 'levles'; did you mean 'levels'?" in ended.err
    for given, words in (
        ("demmo", "did you mean 'demo'"),
        ("paper", "names no base model; give one with --base"),
    ):
        ended = sftknow("study", "run", given, "--cache", cache, "--device", "cpu")
        assert ended.code == 2
        assert words in ended.err
    assert sftknow("study", "run", "demo", "--workers", 0, "--cache", cache).code == 2
    refused = sftknow("study", "run", "demo", "--executor", "ray", "--cache", cache)
    assert refused.code == 2 and "executor: got 'ray'; allowed: processes, this-process" in refused.err


def test_what_is_no_study_is_not_shown(sftknow: Sftknow, cache: Path) -> None:
    assert "no run id" in sftknow("study", "show", "ffff", "--cache", cache).err


def test_a_job_gives_the_same_command() -> None:
    job = StudyJob(study="demo", base="x/y", workers=3, skip_impossible=True)
    assert job.arguments() == ("study", "run", "demo", "--base", "x/y", "--workers", "3", "--skip-impossible")
    job.check()
    with pytest.raises(Exception, match="names no base model"):
        StudyJob(study="paper").check()
    with pytest.raises(Exception, match="workers: got 0"):
        StudyJob(workers=0).check()
