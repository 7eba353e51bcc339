"""Strategies on one chart, from a hand-made table: lines, looks, words and commands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from sftknow_core.present.charts import restore
from sftknow_core.present.text import restore_cards

_COLUMNS = [
    "line",
    "state",
    "strategy",
    "k_percent",
    "k_of_changed_percent",
    "energy_taken_back",
    "alpha",
    "block",
]
ROWS = pd.DataFrame(
    [
        ("", "base", None, None, None, None, None, None),
        ("", "tuned", None, 0, 0, 0, None, None),
        ("top", "restored", "top", 5, 6, 0.1, None, None),
        ("top", "restored", "top", 20, 24, 0.36, None, None),
        ("largest", "restored", "largest", 20, 24, 0.61, None, None),
        ("largest, mlp", "restored", "largest", 40, 48, 0.5, None, None),
        ("interpolation", "restored", "interpolation", None, None, 0.75, 0.5, None),
        ("block", "restored", "block", None, None, 0.2, None, "mlp 0"),
    ],
    columns=_COLUMNS,
).astype({"k_percent": float, "k_of_changed_percent": float, "energy_taken_back": float, "alpha": float})
ROWS = ROWS.assign(
    projection_taken_back=ROWS["energy_taken_back"].mask(ROWS["alpha"].notna(), 1 - ROWS["alpha"])
)
ROWS = ROWS.assign(domain="in", accuracy=0.4, low=0.3, high=0.5, n=125, n_level=25, state_id=range(len(ROWS)))


def of_chain(base_name: str, **evaluate: str) -> Any:
    return SimpleNamespace(
        base_name=base_name, tuned_id="0a36", spec=SimpleNamespace(params={"evaluate": evaluate})
    )


def drawn(axis: str) -> dict[str, Any]:
    return {trace.name: trace for trace in restore.strategies_figure(ROWS, axis).data}


@pytest.mark.parametrize(
    ("axis", "xs"), [("k", [0, 5, 20]), ("changed", [0, 6, 24]), ("update", [0, 10, 36])]
)
def test_a_line_starts_at_tuned_and_follows_the_axis(axis: str, xs: list[float]) -> None:
    assert list(drawn(axis)["top"].x) == xs


def test_what_has_no_k_is_on_the_axis_of_the_update_only() -> None:
    assert {"interpolation", "block"} & set(drawn("k")) == set()
    on_update = drawn("update")
    assert (
        list(on_update["interpolation"].x) == [0, 75]
        and "α = 0.5" in on_update["interpolation"].customdata[1][0]
    )
    assert list(on_update["block"].x) == [20] and on_update["block"].mode == "markers"
    assert "interpolation, block" in (restore_cards.left_out(ROWS, "k_percent") or "")
    assert restore_cards.left_out(ROWS, "energy_taken_back") is None


def test_lines_are_told_apart_without_colour() -> None:
    looks = restore.looks_of(ROWS)
    assert len({(look.symbol, look.dash) for look in looks.values()}) == len(looks) == 5
    across = drawn("k")
    names = ["base", "fine-tuned (k = 0)"]
    assert len({across[name].line.dash for name in names}) == 2


def test_equal_k_is_said_with_its_example() -> None:
    assert restore_cards.equal_k(ROWS).endswith("At k = 20%: largest 61.0%, top 36.0%.")
    assert restore_cards.equal_k(ROWS[ROWS["line"].isin(["", "top"])]) == restore_cards.EQUAL_K
    assert restore_cards.meanings(ROWS).startswith(
        "top: largest relative change; largest: largest absolute change;"
    )


def test_what_is_lacking_can_be_measured() -> None:
    assert restore_cards.lacking(ROWS) == ["random"]
    assert restore_cards.commands(of_chain("demo", prompt="paper"), ROWS) == (
        "sftknow run --base demo --tuned 0a36 --data demo --questions 25 --k 5,20,40 --strategy random"
    )
    only = ROWS[ROWS["line"] == ""]
    assert restore_cards.commands(of_chain("demo", prompt="paper"), only).count("--k 5,20,40,60") == 3
    asked = of_chain("my model", prompt="chat", matcher="exact")
    said = restore_cards.commands(asked, ROWS)
    assert (
        "'my model'" in said and "--data FACTS" in said and said.endswith("--matcher exact --strategy random")
    )
