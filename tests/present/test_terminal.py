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


def test_the_demo_names_the_rate_of_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "level": "mixed", "n": 1920, "base_test_in": 0.1, "tuned_test_in": 0.3, "restored_test_in": 0.4,
        "chosen_k_percent": 20.0, "gain_test_in": 0.1, "kl_level4_nats": None,
    }  # fmt: skip
    terminal.show_demo({"chains": [row | {"learning_rate": 2e-4}, row | {"learning_rate": 8e-4}]})
    out = capsys.readouterr().out
    assert "2.0e-04" in out and "8.0e-04" in out and "peak rate" in out
    assert max(map(len, out.splitlines())) <= 120
