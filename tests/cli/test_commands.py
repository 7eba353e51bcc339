"""Every command does its work on a small model and prints one JSON object when asked to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sftknow_core import __version__

from .conftest import Sftknow

SMALL = ["--questions", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_run_prints_one_object_and_then_a_table(
    sftknow: Sftknow, cache: Path, tiny_base: Path, facts_file: Path
) -> None:
    given = [
        "run",
        "--base",
        tiny_base,
        "--data",
        facts_file,
        "--n",
        6,
        "--k",
        "20",
        "--cache",
        cache,
        *SMALL,
    ]
    ended = sftknow(*given, "--json")
    assert ended.code == 0, ended.err
    assert [row["label"] for row in ended.json["table"]] == ["base", "tuned", "restored 20%", "hybrid (100%)"]
    shown = sftknow(*given)
    for words in (
        "restored 20%",
        "k = 100% ",
        "k = 100%: layers = base",
        "chosen on dev",
        "test in-domain 2",
        "95% CI",
        "majority baseline",
    ):
        assert words in shown.out
    assert ended.json["run_id"] not in shown.err


def test_stages_one_by_one(
    sftknow: Sftknow, cache: Path, tiny_base: Path, facts_file: Path, tmp_path: Path
) -> None:
    base, data = ["--base", tiny_base], ["--data", facts_file]
    common = ["--cache", cache, "--device", "cpu", "--json"]
    scored = sftknow("mastery", *base, *data, *common).json
    assert sum(scored["n_by_level"].values()) == 27
    tuned = sftknow("sft", *base, *data, "--level", 0, "--n", 6, "--out", tmp_path / "tuned", *common).json
    assert (tmp_path / "tuned" / "model.safetensors").is_file()
    asked = sftknow("evaluate", tuned["model_id"][:8], *base, *data, "--by-topic", *common).json
    assert {row["topic"] for row in asked["by_topic"]} == {"P19", "P36", "P50"}
    assert {row["split"] for row in asked["accuracies"]} == {"dev", "test"}
    shifts = sftknow("shift", *base, "--tuned", tmp_path / "tuned", *data, *common).json
    assert {row["measure"] for row in shifts["shifts"]} >= {"shift", "aligned", "floor"}
    delta = sftknow("delta", *base, "--tuned", tuned["model_id"], *common).json
    assert delta["tuned_id"] == tuned["model_id"]
    assert delta["changed_share"] > 0.5
    out = tmp_path / "restored"
    restored = sftknow("restore", *base, "--tuned", tmp_path / "tuned", "--k", 20, "--out", out, *common).json
    assert restored["n_restored"] == restored["n_region"] // 5
    assert (out / "README.md").is_file()
    for command in (
        ["mastery", *base, *data],
        ["evaluate", tmp_path / "tuned", *base, *data, "--by-topic"],
        ["shift", *base, "--tuned", tmp_path / "tuned", *data],
        ["delta", *base, "--tuned", tmp_path / "tuned"],
    ):
        shown = sftknow(*command, "--cache", cache, "--device", "cpu")
        assert shown.code == 0 and len(shown.out.splitlines()) > 5, shown.err


def test_facts_of_the_demo_world(sftknow: Sftknow) -> None:
    found = sftknow("facts", "--json").json
    assert found["totals"]["train_in"] == 16_800
    assert len(found["rows"]) == 24 * 3
    assert "16,800 facts: train in-domain" in sftknow("facts").out


def test_runs_are_listed_and_removed(
    sftknow: Sftknow, tmp_path: Path, tiny_base: Path, facts_file: Path
) -> None:
    cache = ["--cache", tmp_path / "cache"]
    assert "no runs" in sftknow("runs", *cache).out
    sftknow("mastery", "--base", tiny_base, "--data", facts_file, *cache)
    (run,) = sftknow("runs", *cache, "--json").json["runs"]
    assert (run["kind"], run["state"]) == ("mastery", "done")
    assert "mastery" in sftknow("runs", *cache).out
    assert sftknow("reindex", *cache, "--json").json["n_runs"] == 1
    assert sftknow("runs", "gc", "--dry-run", *cache, "--json").json["removed"] == []
    assert sftknow("runs", "rm", run["run_id"][:6], *cache, "--json").json["removed"] == [run["run_id"]]
    assert sftknow("runs", *cache, "--json").json["runs"] == []
    refused = sftknow("runs", "rm", "ffffff", *cache)
    assert refused.code == 2 and "ffffff" in refused.err


def test_pretrain_makes_a_model_that_can_be_used(sftknow: Sftknow, tmp_path: Path) -> None:
    small = ["--vocab-size", 400, "--hidden-size", 16, "--layers", 1, "--mentions", "1:1"]
    small += ["--marks-documents", 900]
    made = sftknow(
        "pretrain",
        "--sample",
        1,
        *small,
        "--out",
        tmp_path / "model",
        "--cache",
        tmp_path / "cache",
        "--json",
    )
    assert made.code == 0, made.err
    assert made.json["parameters"] < 50_000
    scored = sftknow(
        "mastery", "--base", tmp_path / "model", "--sample", 1, "--cache", tmp_path / "cache", "--json"
    ).json
    assert scored["model_id"] == made.json["model_id"]
    refused = sftknow("pretrain", "--sample", 1, "--out", tmp_path / "model", "--cache", tmp_path / "cache")
    assert refused.code == 2 and "exists" in refused.err


def test_version(sftknow: Sftknow) -> None:
    assert sftknow("--version").out == f"sftknow {__version__}\n"


def test_help_needs_no_torch() -> None:
    code = "import sys; from sftknow_core.cli import app; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
