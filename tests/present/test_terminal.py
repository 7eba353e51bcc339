"""Tables on a terminal: headers of the registry, and ids that can be copied whatever stands beside them."""

from __future__ import annotations

import pytest

from sftknow_core.present import columns, terminal

RUN_ID = "0123456789abcdef"


def test_a_long_description_leaves_the_run_id_whole(capsys: pytest.CaptureFixture[str]) -> None:
    run = {
        "run_id": RUN_ID, "kind": "evaluate", "state": "interrupted", "done": 30.0, "total": 1000.0,
        "about": {"base": "a model of a long name " * 4}, "reason": None, "seconds": 12_345.0, "size_bytes": 1e9,
    }  # fmt: skip
    terminal.show_runs({"cache": "cache", "runs": [run]})
    out = capsys.readouterr().out
    assert all(word in out for word in (RUN_ID, "evaluate", "interrupted", "30 of 1000", "12345", "1000.0"))
    assert max(map(len, out.splitlines())) <= 120


def test_headers_are_those_of_the_registry_then_those_of_the_result() -> None:
    table = terminal.table_of("title", "train_level", "terminal.recovery", more=["60", "240"])
    headers = [column.header for column in table.columns]
    assert headers == [*columns.headers("train_level", "terminal.recovery"), "60", "240"]
    assert [column.justify for column in table.columns] == ["left", "right", "right", "right"]
