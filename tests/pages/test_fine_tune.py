"""The fine-tuning page: its form and preview, jobs on record, making room, and what show mode leaves out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import do_run, spec
from streamlit.testing.v1 import AppTest

from sftknow_core.facts.demo_world import demo_facts
from sftknow_core.facts.train_set import draw_train_set
from sftknow_core.serve import jobs
from sftknow_core.serve.train_preview import demo_id, known_levels
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE, Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.store.run_state import Owner

ROOT = Path(__file__).parents[2]
PAGE = "pages/fine_tune.py"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """An empty cache that the page shows."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    yield Cache(tmp_path / "cache")


def opened(**address: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page(PAGE)
    for name, value in address.items():
        at.query_params[f"fine_tune.{name}"] = value
    at.run()
    assert not at.exception
    return at


def texts(at: AppTest) -> str:
    return "\n".join(str(part.value) for part in (*at.markdown, *at.caption))


def on_record(cache: Cache, name: str, **files: object) -> str:
    """A job folder as a process leaves it."""
    folder = cache.root / "jobs" / name
    folder.mkdir(parents=True)
    asked = {
        "arguments": ["run", "--base", "demo", "--level", "2", "--n", "1920", "--seed", "3"],
        "cwd": "/",
        "command": "sftknow run",
        "started_at": "2026-01-01T00:00:00Z",
        "started_seconds": time.time(),
    }
    for file, content in {"job": asked, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / (file.replace("__", "."))).with_suffix(
            ".txt" if file.startswith("std") else ".json"
        ).write_text(text)
    return name


ME = {"host": Owner.me().host, "pid": os.getpid(), "create_time": Owner.me().create_time}


# -- the form


def test_the_preview_is_the_set_that_would_be_drawn(cache: Cache) -> None:
    at = opened(n="60", level="3", seed="5")
    facts = demo_facts()
    levels = known_levels(cache, demo_id(), facts)
    assert levels is not None and levels.shipped
    drawn = draw_train_set(facts.facts, levels.by_fact, "3", 60, 5)
    topics, rows = (frame.value for frame in at.dataframe[:2])
    assert topics["drawn"].sum() == 60 and len(topics) == 10
    there = [
        f for f in facts.facts if f.split == "train" and f.domain == "in" and levels.by_fact[f.fact_id] == 3
    ]
    assert topics["available"].sum() == len(there)
    assert rows["question"].tolist() == [fact.question for fact in drawn.facts[:20]]
    assert f"Train set: **60 facts** of {len(there):,}" in texts(at)


def test_nothing_measured_is_no_number(cache: Cache) -> None:
    said = texts(opened())
    assert "No estimate yet for: fine-tuning, comparing the weights, asking questions." in said
    assert "About 19.2 MB" in said  # 16 bytes of each of 1,197,184 parameters


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"n": "many"}, "N: got 'many'; allowed: a whole number, or all"),
        ({"n": "60000"}, "only 2097 in-domain train facts have mastery level 2"),
        ({"k": "5, 120"}, "120"),
        ({"k": " "}, "k: got nothing"),
        ({"lr": "7"}, "lr: got 7.0; allowed: above 0 to 1"),
        ({"facts": "a path", "data": "/no/such.csv"}, "/no/such.csv"),
        ({"facts": "a path"}, "type the path"),
        ({"base": "another: a folder or hub id"}, "type the folder"),
    ],
)
def test_bad_values_are_said_and_nothing_can_be_started(
    cache: Cache, address: dict[str, str], message: str
) -> None:
    at = opened(**address)
    assert message in at.error[0].value
    assert at.button(key="fine_tune.start").disabled


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("level", "9"),
        ("method", "most"),
        ("seed", "-1"),
        ("questions", "0"),
        ("base", "none"),
        ("facts", "all"),
    ],
)
def test_what_the_form_does_not_offer_is_said(cache: Cache, name: str, value: str) -> None:
    at = opened(**{name: value})
    assert f"fine_tune.{name} = '{value}' isn't available (allowed: " in at.warning[0].value
    assert not at.button(key="fine_tune.start").disabled


def test_an_unknown_base_is_scored_first(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    at = opened(base="another: a folder or hub id", other_base=str(tmp_path / "base"))
    assert "is not in this cache" in at.info[0].value
    assert not at.button(key="fine_tune.start").disabled
    assert "scoring mastery" in texts(at)


def test_start_starts_what_the_form_says(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(jobs, "_spawn", lambda folder, arguments, nice: started.append(arguments))
    at = opened(n="1,920", level="mixed", seed="4", method="LoRA", lr="0.002", k="5,20", questions="7")
    at.button(key="fine_tune.start").click().run()
    assert not at.exception
    expected = (
        "run --base demo --data demo --level mixed --n 1920 --seed 4 --lora --lr 0.002 --k 5,20 --questions 7"
    )
    assert started[0][:-3] == tuple(expected.split())
    assert "Fine-tune, restore and evaluate: demo, mixed levels, N \\= 1,920" in texts(
        at
    ) or "mixed levels" in texts(at)
    assert at.button(key=f"fine_tune.stop.{jobs.jobs(cache)[0].job_id}") is not None


# -- jobs


def test_a_running_job_is_found_with_its_loss_and_time_left(cache: Cache) -> None:
    told = {"stage": "fine-tuning on 1,920 facts", "share": 0.25, "seconds_left": 40.0}
    job_id = on_record(cache, "20260101T000000-a", process=ME, progress=told)
    run_spec = RunSpec("sft", {"base": "b"}, {"sft": {"method": "full"}})
    with open_run(cache, run_spec, about={"base": "demo"}) as run:
        for step, loss in ((1, 4.0), (2, 2.0)):
            run.metric({"loss": loss, "learning_rate": 1e-3}, step=step)
            run.progress(step, 480, "training steps")
        at = opened()
        assert at.get("progress")[0].proto.text.replace("\\", "") == (
            "Fine-tuning on 1,920 facts · 25% done · about 40 s left"
        )
        curve = json.loads(at.get("plotly_chart")[0].proto.spec)
        assert curve["data"][0]["y"] == [4.0, 2.0] and curve["data"][1]["y"] == [4.0, 3.0]
        assert curve["layout"]["xaxis"]["range"][1] == pytest.approx(1.02 * 480)
        run.metric({"loss": 0.0, "learning_rate": 1e-3}, step=3)
        at.run()  # what a tick does
        assert json.loads(at.get("plotly_chart")[0].proto.spec)["data"][1]["y"] == [4.0, 3.0, 2.0]
        (cache.root / "jobs" / job_id / "ended.json").write_text('{"code": 0, "at": "2026-01-01T00:01:00Z"}')
        assert not at.run().exception and not at.get("progress")
        assert "✓ done" in texts(at)


def test_a_waiting_job_says_so(cache: Cache) -> None:
    told = {"stage": "waiting for cuda-0: another process is using it", "share": None, "seconds_left": None}
    on_record(cache, "20260101T000000-a", process=ME, progress=told)
    said = opened().get("progress")[0].proto.text.replace("\\", "")
    assert said == "Waiting for cuda-0: another process is using it · estimating time left"


def test_a_failed_job_says_why_and_can_be_dismissed(cache: Cache) -> None:
    on_record(
        cache, "20260101T000000-a", process=ME, ended={"code": 1}, stderr="sftknow: error: the disk is full\n"
    )
    at = opened()
    assert "✗ failed" in texts(at) and "the disk is full" in texts(at)
    at.button(key="fine_tune.dismiss.20260101T000000-a").click().run()
    assert not at.exception and jobs.jobs(cache) == [] and "✗ failed" not in texts(at)


def test_a_done_chain_leads_to_its_results(cache: Cache) -> None:
    result = json.dumps({"run_id": "0123456789abcdef", "chosen": {}, "stages": {}})
    on_record(cache, "20260101T000000-a", process=ME, ended={"code": 0}, stdout=result)
    link = opened().get("page_link")[0].proto
    assert link.label == "View results" and "run=0123456789abcdef" in link.query_string


# -- making room


def ticked(at: AppTest, rows: list[int]) -> AppTest:
    """Choose rows of the list of runs: its key ends with a stamp of the list."""
    (key,) = [f.key for f in at.dataframe if f.key and "fine_tune.runs" in f.key] or [None]
    at.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    return at.run()


def test_chosen_runs_are_deleted_after_what_goes_was_said(cache: Cache) -> None:
    kept, gone = do_run(cache, "a"), do_run(cache, "b")
    at = opened(show="all")
    listed = next(f for f in at.dataframe if "run_id" in f.value and "what" in f.value).value
    at = ticked(at, [listed["run_id"].tolist().index(gone)])
    assert "**1 run** (1 mastery), which frees **" in texts(at)
    at.button(key="fine_tune.delete").click().run()
    assert not at.exception and "Deleted 1 run" in at.success[0].value
    assert [info.run_id for info in list_runs(cache)] == [kept]


def test_what_a_running_job_uses_stays(cache: Cache) -> None:
    used = do_run(cache, "a")
    with open_run(cache, RunSpec("chain", {"mastery": used}, {})) as run:
        at = opened(show="all")
        listed = next(f for f in at.dataframe if "run_id" in f.value and "what" in f.value).value
        at = ticked(at, [listed["run_id"].tolist().index(used)])
        at.button(key="fine_tune.delete").click().run()
        assert f"an input of run {run.run_id}, which is under way" in at.error[0].value
    assert cache.run_folder(used).is_dir()


# -- show mode


def test_show_mode_offers_nothing_and_says_why(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    do_run(cache, "a")
    on_record(cache, "20260101T000000-a", process=ME, ended={"code": 1}, stderr="sftknow: error: no\n")
    with open_run(cache, spec("b")):
        monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
        at = opened(show="all")
        assert [button.label for button in at.button] == []
        assert not at.text_input and "Read-only" in texts(at)
        assert "✗ failed" in texts(at)
        assert any("run_id" in frame.value for frame in at.dataframe)
        monkeypatch.delenv(READ_ONLY_VARIABLE)


def test_the_page_loads_no_torch(cache: Cache) -> None:
    program = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        "at = AppTest.from_file('app.py', default_timeout=60)\n"
        f"at.switch_page('{PAGE}'); at.run()\n"
        "print(len(at.dataframe), len(at.exception), {'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout.split("\n")[-2] == "2 0 set()", ran.stderr
    shutil.rmtree(cache.root)
