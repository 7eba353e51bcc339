"""Judging on the page of accuracies: what is clicked stands in the CSV, and no stored verdict changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains
from streamlit.testing.v1 import AppTest

from sftknow_core.results.audit import read_audit
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE, Cache
from sftknow_core.store.catalogue import read_table

SCRIPT = """
from pages._widgets import audit
audit.section({root!r}, {run_id!r})
"""
Opened = tuple[AppTest, Path, str]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    (run_id,) = make_chains(tmp_path, [("2", 240, 0)], per_level=2, cube=False)
    at = AppTest.from_string(SCRIPT.format(root=str(tmp_path), run_id=run_id), default_timeout=60)
    return at, tmp_path, run_id


def run(at: AppTest) -> AppTest:
    at.run()
    assert not at.exception, at.exception
    return at


def test_drawn_judged_and_kept(opened: Opened) -> None:
    at, root, run_id = opened
    path = root / "audits" / f"{run_id}.csv"
    before = read_table(Cache(root), "answers")
    assert [button.key for button in run(at).button] == ["audit.draw"] and not path.exists()
    at.button(key="audit.draw").click()
    run(at)
    rows = read_audit(path).rows
    assert rows[0].question in [text.value for text in at.text]
    for key in ("right", "wrong", "unsure"):
        at.button(key=f"audit.{key}").click()
        run(at)
    assert [row.judged for row in read_audit(path).rows[:4]] == ["right", "wrong", "unsure", ""]
    at.button(key="audit.previous").click()
    run(at)
    assert rows[2].question in [text.value for text in at.text]
    at.button(key="audit.wrong").click()
    run(at)
    assert [row.judged for row in read_audit(path).rows[:4]] == ["right", "wrong", "wrong", ""]
    assert f"3 judged, 0 unsure, {len(rows) - 3} not judged yet" in at.markdown[-1].value
    assert read_table(Cache(root), "answers").equals(before)


def test_the_end(opened: Opened) -> None:
    at, root, run_id = opened
    run(at).button(key="audit.draw").click()
    run(at)
    path = root / "audits" / f"{run_id}.csv"
    audit = read_audit(path)
    for i in range(len(audit.rows)):
        audit = audit.judge(i, audit.rows[i].verdict)
    audit.save(path)
    run(at)
    assert "are judged" in at.success[0].value
    assert at.button(key="audit.right").disabled and not at.button(key="audit.previous").disabled


def test_a_file_that_was_spoiled_is_said(opened: Opened) -> None:
    at, root, run_id = opened
    path = root / "audits" / f"{run_id}.csv"
    path.parent.mkdir()
    path.write_text("nonsense")
    run(at)
    assert "line 1: the column run_id is missing" in at.error[0].value


def test_a_read_only_dashboard_keeps_no_judgements(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    assert run(opened[0]).button(key="audit.draw").disabled
