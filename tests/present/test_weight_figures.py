"""Figures and sentences about the changes, from hand-made tables."""

from __future__ import annotations

from math import log10, nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sftknow_core.analysis import published
from sftknow_core.present.charts import weights
from sftknow_core.present.charts.weights import heat_figure
from sftknow_core.present.text import weights as weights_text

BARS = pd.DataFrame(
    [
        (score, low, high, n, n / 10, part)
        for score in ("relative", "absolute")
        for low, high, n, part in (
            (0.0, 1e-40, 4, 0.0),
            (0.01, 0.1, 5, 0.1),
            (0.1, 1.0, 0, 0.0),
            (1.0, 10.0, 1, 0.9),
        )
    ],
    columns=["score", "low", "high", "n_weights", "share", "score_share"],
)


def numbers(*, null: float | None = 0.5, full: float = 50.0, **region: Any) -> Any:
    row = {"n": 16, "n_changed": 8, "changed_share": 0.5, "near_zero_share": 0.25, "relative_norm": 0.03}
    taken = {
        "k_percent": 20.0,
        "no_more_changes_from_k": full,
        "k_of_changed_percent": 37.5,
        "share": 0.6,
        "null_share": null,
        "null_low": None if null is None else null - 0.02,
        "null_high": None if null is None else null + 0.02,
        "n_permutations": 199,
        "top_20_share": 0.3,
    }
    parts = {"region": row | region, "model": row, "taken": taken}
    return SimpleNamespace(**{name: SimpleNamespace(**part) for name, part in parts.items()})


def traces(drawn: Any, name: str) -> list[Any]:
    return [trace for trace in drawn.data if trace.name == name]


def test_what_goes_back_is_split_at_the_cut() -> None:
    drawn = weights.spread_figure(BARS, {"relative": 1.0, "absolute": 10**-1.5}, 10)
    stays, back = traces(drawn, "kept"), traces(drawn, "reverted")
    assert [list(t.x) for t in stays] == [[-1.5, -0.5], [pytest.approx(-1.75)]]
    assert [list(t.x) for t in back] == [[0.5], [pytest.approx(-1.25), -0.5, 0.5]]
    assert sum(stays[1].width) + sum(back[1].width) == pytest.approx(3)
    assert [list(t.y) for t in traces(drawn, "0: unchanged")] == [[0.4], [0.4]]
    assert [shape.x0 for shape in drawn.layout.shapes] == [0, log10(10**-1.5)]


@pytest.mark.parametrize(("cut", "n_back"), [(nan, 0), (0.0, 3)])
def test_nothing_and_everything_goes_back(cut: float, n_back: int) -> None:
    drawn = weights.spread_figure(BARS, {"relative": cut, "absolute": cut}, 0)
    assert len(traces(drawn, "reverted")[0].x) == n_back and not drawn.layout.shapes


def test_a_region_without_changes_can_be_drawn() -> None:
    zeros = BARS[BARS["low"] == 0].assign(score_share=nan, share=1.0)
    drawn = weights.spread_figure(zeros, {"relative": nan, "absolute": nan}, 5)
    assert len(traces(drawn, "0: unchanged")) == 2


def test_paper_lies_under_the_curve_only_when_asked() -> None:
    columns = ["k_percent", "share", "null_share", "share_1e-6", "share_1e-4", "in_paper"]
    rows = pd.DataFrame([(0, 0, 0, 0, 0, False), (1, 0.7, 0.6, 0.5, 0.4, True)], columns=columns)
    assert len(weights.concentration_figure(rows, 1, None).data) == 5
    band, *others = weights.concentration_figure(
        rows.assign(null_low=[0, 0.55], null_high=[0, 0.65]), 1, None
    ).data
    assert len(others) == 5 and (band.name, list(band.y)) == ("95% of shuffles", [0.65, 0.55])
    assert len(weights.concentration_figure(rows.assign(null_low=nan, null_high=nan), 1, None).data) == 5
    with_paper = weights.concentration_figure(rows, 1, published.concentration())
    assert len(with_paper.data) == 15 and sum(bool(t.showlegend) for t in with_paper.data[:10]) == 1
    assert not weights.concentration_figure(rows, 0, None).layout.shapes  # 0 has no place on this axis


@pytest.mark.parametrize("n_modules", [2, 12])
def test_cells_hold_their_numbers(n_modules: int) -> None:
    names = [f"mlp.part_number_{i}" for i in range(n_modules)]
    cells = pd.DataFrame(
        [(layer, name, 1 / n_modules, 2.0, 0.5) for layer in (0, pd.NA) for name in names],
        columns=["layer", "module", "share", "enrichment", "weight_share"],
    ).astype({"layer": "Int64"})
    layers, modules = cells[cells["module"] == names[0]], cells.iloc[:n_modules]
    (heat,) = heat_figure(cells, layers.drop(columns="module"), modules.drop(columns="layer")).data
    assert list(heat.y) == ["0", "outside", "<b>all layers</b>"] and len(heat.x) == n_modules + 1
    assert (
        heat.text[0][0] == ("50.0%  ×2.00" if n_modules == 2 else "×2.00") and heat.text[2][n_modules] == ""
    )


def test_where_nothing_is_put_back_every_cell_says_so() -> None:
    cells = pd.DataFrame(
        [(layer, name, nan, nan, 0.25) for layer in (0, 1) for name in ("attn.q", "mlp.up")],
        columns=["layer", "module", "share", "enrichment", "weight_share"],
    ).astype({"layer": "Int64"})
    layers, modules = cells[cells["module"] == "attn.q"], cells.iloc[:2]
    (heat,) = heat_figure(cells, layers.drop(columns="module"), modules.drop(columns="layer")).data
    assert [list(row) for row in heat.text] == [["–", "–", "–"], ["–", "–", "–"], ["–", "–", ""]]
    assert np.isfinite(heat.z).all()  # else plotly leaves the row out


def test_few_identical_weights_are_counted() -> None:
    rows = pd.DataFrame(
        [("layer", "0", 0, 9, 0.0), ("layer", "1", 1, 99_999, 1e-5), ("module", "mlp.up", 5, 10, 0.5)],
        columns=["by", "group", "n_same", "n_weights", "same_share"],
    )
    left, right = weights.same_figure(rows).data
    assert list(left.text) == ["0.0%", "1 weight"] and list(right.text) == ["50.0%"]


def test_sentences_about_identical_weights() -> None:
    said = weights_text.what_identical_means(numbers())
    assert said.startswith("**50.00% of 16 weights changed.** From k = 50% on, all changes are reverted.")
    assert said.endswith("The current k = 20% is 37.5% of the changed weights.")
    assert "no weight" in weights_text.what_identical_means(numbers(n_changed=0))
    assert "Every weight of this region changed" in weights_text.what_identical_means(numbers(n_changed=16))
    hidden = numbers(full=nan)
    assert "only k = 100%" in weights_text.what_identical_means(hidden)


def test_cards_hold_region_and_model() -> None:
    same, size, near, held = weights_text.cards(numbers(n_changed=12, changed_share=0.75))
    assert [part.value for part in same.parts] == ["25.0%", "50.0%"]
    assert [part.value for part in (*size.parts, *near.parts)] == ["3.00%", "3.00%", "25.0%", "25.0%"]
    assert [part.value for part in held.parts] == ["60.0%", "50.0%"] and held.name == "Share of the summed r"
    assert held.parts[1].interval == "48.0 to 52.0%" and "199 shuffles" in held.sentence
    assert "alone contain 30.0%" in held.sentence
    assert weights_text.cards(numbers(null=None))[3].name == "Share of the summed |d|"


@pytest.mark.parametrize(
    ("null", "p", "said"),
    [
        (0.6, 0.01, "20.0 pp above the null (rank p = 0.01)"),
        (0.9, 0.02, "10.0 pp below the null"),
        (0.79, 0.4, "within the null (rank p = 0.4): it comes from base weights near zero"),
        (0.79, nan, "one shuffle"),
    ],
)
def test_concentration_is_said_against_its_null(null: float, p: float, said: str) -> None:
    columns = ["k_percent", "share", "null_share", "p_two_sided", "share_1e-4", "in_paper"]
    rows = pd.DataFrame([(20, 0.8, null, p, 0.5, True), (60, 0.9, 0.9, p, 0.9, True)], columns=columns)
    rows = rows.assign(null_low=null - 0.02, null_high=null + 0.02, n_permutations=199, top_20_share=0.31)
    found = weights_text.what_concentration_means(rows, 33)
    assert said in found and "20% contain **80.0%**" in found and "largest r alone 31.0%" in found
    assert ("95% of 199 shuffles" in found) == (p == p)
    assert "nothing is concentrated" in weights_text.what_concentration_means(rows.assign(share=nan), 5)
