"""Cards of the slider, the engine's line, and the tables of a free question, against numbers worked by hand."""

from __future__ import annotations

import io
import json
import zipfile
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.text import ask, restore_cards
from sftknow_core.present.text.restore_cards import accuracy_cards
from sftknow_core.results.measured import MeasuredState
from sftknow_core.update.spec import RestoreSpec

COLUMNS = ["split", "domain", "state", "state_id", "k_percent", "accuracy", "low", "high", "n", "chosen"]
ROWS = pd.DataFrame(
    [
        ("dev", "in", "base", "b", None, 0.0, 0.0, 0.1, 50, False),
        ("dev", "in", "tuned", "t", 0.0, 0.2, 0.1, 0.3, 50, False),
        ("dev", "in", "restored", "r", 20.0, 0.34, 0.25, 0.45, 50, True),
        ("test", "in", "restored", "r", 20.0, 0.3, 0.2, 0.4, 40, True),
        ("test", "out", "restored", "r", 20.0, 0.1, 0.05, 0.2, 30, True),
    ],
    columns=COLUMNS,
).assign(level=pd.NA, run_id="e")
CHANGES = pd.DataFrame([{"domain": "in", "gain": 0.14, "gain_low": 0.02, "gain_high": 0.26}])


def shown(row: int) -> MeasuredState:
    return MeasuredState.of_row(ROWS.iloc[row])


def test_dev_shows_its_domain_and_test_at_the_chosen_k() -> None:
    dev, test = accuracy_cards(ROWS, shown(2), "dev", CHANGES)
    assert dev.name == "In-domain, k = 20%" and "tuned 20.0%, base 0.0%" in dev.sentence
    assert [part.value for part in dev.parts] == ["34.0%", "+14.0 pp"]
    assert [part.interval for part in dev.parts] == ["95% CI 25.0 to 45.0%", "95% CI +2.0 to +26.0"]
    assert test.name == "Test, k = 20% chosen on dev" and [p.value for p in test.parts] == ["30.0%", "10.0%"]
    assert test.sentence.startswith("n = 70 (test)")


def test_tuned_is_not_compared_with_itself_and_what_is_not_there_is_a_dash() -> None:
    tuned = accuracy_cards(ROWS, shown(1), "dev", pd.DataFrame())[0]
    assert tuned.name == "In-domain, tuned, k = 0%" and tuned.parts[1].value == "–"
    gone = accuracy_cards(ROWS, MeasuredState("restored", "x", "e", 5.0), "dev", CHANGES)[0]
    assert gone.parts[0].value == "–" and gone.parts[0].interval == "not scored"


def test_the_status_line_of_the_evaluation_worker() -> None:
    status = {
        "ready": True,
        "queue": ["a"],
        "current": "b",
        "device": "cuda",
        "rss_bytes": 2e9,
        "loaded_bytes": 0,
    }
    assert (
        ask.line(status)
        == "Evaluation worker: busy, 2 requests · device cuda · 2.0 GB memory, no model loaded"
    )
    assert "starting" in ask.line(None) and "starting" in ask.line({**status, "ready": False})
    assert ask.doing("queued", "", "k = 5%") == "k = 5%: queued"
    waiting = "waiting for cuda-0: another process is using it"
    assert ask.doing("running", waiting, "tuned") == f"tuned: {waiting}"


def test_a_questions_tables_sum_to_one() -> None:
    row = {"answer": "Oslo", "stopped": False, "n_tokens": 16, "mass_outside": 0.3}
    row |= {"top_tokens": [" Oslo", "<b>"], "p": [0.5, 0.2]}
    answers = [{"rows": [row]}] * 3
    assert ask.answer_table(answers, 12.5)["state"].tolist() == ["base", "tuned", "restored 12.5%"]
    tokens = ask.token_table(answers, 12.5)
    assert tokens.groupby("state")["p"].sum().tolist() == pytest.approx([1, 1, 1])
    assert tokens["rank"].tolist()[:3] == [1, 2, pd.NA] and tokens["token"].iloc[2] == ask.OTHERS
    axis = tokens_charts.first_tokens_figure(tokens).layout.yaxis
    assert list(axis.ticktext) == ["␣Oslo", "&lt;b&gt;", "all others"]


def test_the_zip_holds_the_tables_and_the_selection() -> None:
    ids: Any = SimpleNamespace(base_name="own", base_id="b1", tuned_name="t", tuned_id="t1")
    about = restore_cards.selection(ids, RestoreSpec(layers="0-1", k_percent="12.50"))
    assert about["command"].startswith("sftknow restore --base b1 --tuned t1 --k 12.5")
    assert about["selection"]["k_percent"] in ("12.5", "12.50") and about["selection"]["layers"] == "0-1"
    made = restore_cards.data_zip({"measured": ROWS}, about)
    assert made == restore_cards.data_zip({"measured": ROWS}, about)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["measured.csv", "selection.json"]
        assert json.loads(archive.read("selection.json")) == about
        assert len(archive.read("measured.csv").decode().splitlines()) == 1 + len(ROWS)
