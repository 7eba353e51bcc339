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
    ("axis", "xs"),
    [("k", [0, 5, 20]), ("changed", [0, 6, 24]), ("update", [0, 10, 36]), ("projection", [0, 10, 36])],
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
    assert list(drawn("projection")["interpolation"].x) == [0, 50]
    assert "75.0% of the squared update norm, 50.0% of its projection" in str(
        on_update["interpolation"].customdata[1]
    )
    assert list(on_update["block"].x) == [20] and on_update["block"].mode == "markers"
    assert "interpolation, block" in (restore_cards.left_out(ROWS, "k_percent") or "")
    assert restore_cards.left_out(ROWS, "energy_taken_back") is None
    assert restore_cards.left_out(ROWS, "projection_taken_back") is None
    older = ROWS.assign(projection_taken_back=ROWS["projection_taken_back"].mask(ROWS["alpha"].notna()))
    said = restore_cards.left_out(older, "projection_taken_back") or ""
    assert said.startswith(
        "Not on this axis: interpolation. Projection taken back: not measured by the version"
    )


def test_masks_of_a_random_draw_are_one_ranking_with_a_spread() -> None:
    """Three masks at k = 20: one name in sentences, one look, and the lowest and highest accuracy."""
    assert restore_cards.masks(ROWS) is None
    one = ROWS[(ROWS["line"] == "top") & (ROWS["k_percent"] == 20)]
    drawn = [
        one.assign(line=f"random, mask {number}", strategy="random", accuracy=0.3 + 0.01 * number, state_id=40 + number,
                   energy_taken_back=0.2, projection_taken_back=0.2)
        for number in (1, 2, 3)
    ]  # fmt: skip
    rows = pd.concat([ROWS, *drawn])
    said = restore_cards.masks(rows) or ""
    assert "at k = 20%: random, in-domain: 3 masks, accuracy 31.0 to 33.0%, mean 32.0%." in said
    assert restore_cards.equal_k(rows).endswith("At k = 20%: largest 61.0%, top 36.0%, random 20.0%.")
    assert restore_cards.lacking(rows) == []
    looks = restore.looks_of(rows)
    assert looks["random, mask 1"] == looks["random, mask 3"] != looks["top"]


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
    command = (
        "sftknow run --base demo --tuned 0a36 --data demo --questions 25 --k 5,20,40 --strategy random --seed"
    )
    said = restore_cards.commands(of_chain("demo", prompt="paper"), ROWS)
    assert said.splitlines() == [f"{command} {seed}" for seed in range(3)]  # three masks
    only = ROWS[ROWS["line"] == ""]
    assert restore_cards.commands(of_chain("demo", prompt="paper"), only).count("--k 5,20,40,60") == 5
    asked = of_chain("my model", prompt="chat", matcher="exact")
    said = restore_cards.commands(asked, ROWS)
    assert (
        "'my model'" in said
        and "--data FACTS" in said
        and said.endswith("--matcher exact --strategy random --seed 2")
    )
