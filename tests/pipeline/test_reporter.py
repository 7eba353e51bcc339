from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftknow_core.pipeline.reporter import BarReporter, Reporter
from sftknow_core.store.progress import ProgressFile


def test_counts_units() -> None:
    with Reporter() as reporter:
        reporter.expect(10)
        reporter.advance(2.5)
        reporter.stage("asking")
    assert (reporter.total, reporter.done, reporter.text) == (10, 2.5, "asking")


def test_lines_with_time_left_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter done after 30 seconds leaves 90."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with BarReporter() as reporter:
        reporter.stage("asking")
        now = 15.0
        reporter.expect(8)
        now = 30.0
        reporter.advance(2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["  0%  asking", " 25%  asking, about 1:30 left"]


def test_a_progress_file_is_not_replaced_for_each_percent(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "progress.json")
    for percent in range(100):
        file.write(f"permuting the changes: {percent}%", percent / 100, None)
    assert json.loads((tmp_path / "progress.json").read_text())["share"] < 0.9  # twice a second at most
    file.write("another stage", None, None)
    assert json.loads((tmp_path / "progress.json").read_text())["stage"] == "another stage"
