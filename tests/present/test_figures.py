"""Figures carry exactly the numbers of their tables, and tell states apart by more than colour."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import pytest

from sftknow_core.present.charts.chain import BASE_X, chains_figure, levels_figure, restoration_figure
from sftknow_core.present.charts.palette import DARK, LIGHT, Palette, faded

NUMBERS = ["accuracy", "low", "high", "n"]


def curve_table() -> pd.DataFrame:
    rows = [
        ("tuned", 0.0, 0.2, False),
        ("restored", 20.0, 0.3, True),
        ("hybrid", 100.0, 0.25, False),
        ("base", None, 0.05, False),
    ]
    return pd.DataFrame(
        [
            {"domain": d, "state": s, "k_percent": k, "chosen": c, "n": 300}
            | {"accuracy": a + shift, "low": a + shift - 0.04, "high": a + shift + 0.06}
            for d, shift in (("in", 0.0), ("out", 0.1))
            for s, k, a, c in rows
        ]
    )


def levels_table() -> pd.DataFrame:
    rows = [
        ("in", level, state, 0.1 * level + 0.2 * place)
        for level in (0, 4)
        for place, state in enumerate(("base", "tuned", "restored"))
    ]
    table = pd.DataFrame(rows, columns=["domain", "level", "state", "accuracy"])
    return table.assign(low=table["accuracy"] - 0.05, high=table["accuracy"] + 0.05, n=60)


def chains_table() -> pd.DataFrame:
    rows = []
    for run_id, level, n, seed, shift in (
        ("a", "0", 240, 0, 0.0),
        ("b", "0", 1920, 0, -0.1),
        ("c", "mixed", 240, 0, 0.1),
        ("d", "mixed", 240, 1, 0.12),
        ("e", None, None, None, 0.05),
    ):
        for state, accuracy in (("base", 0.05), ("tuned", 0.2 + shift), ("restored", 0.4 + shift)):
            about = {"run_id": run_id, "train_level": level, "n_train": n, "seed": seed, "domain": "in"}
            ends = {"low": accuracy - 0.02, "high": accuracy + 0.03, "n": 300, "k_percent": 20.0}
            rows.append(about | {"state": state, "accuracy": accuracy} | ends)
    return pd.DataFrame(rows).astype({"n_train": "Int64", "seed": "Int64"})


def named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def test_curve_band_and_lines_are_the_table() -> None:
    table = curve_table()
    figure = restoration_figure(table)
    for panel, domain in enumerate(("in", "out")):
        rows = table[table["domain"] == domain]
        curve, band = named(figure, "restored")[panel], named(figure, "95% CI")[panel]
        assert list(curve.x) == [0, 20, 100] and list(curve.y) == rows["accuracy"].tolist()[:3]
        assert list(band.y) == rows["high"].tolist()[:3] + rows["low"].tolist()[2::-1]
        base = named(figure, "base")[2 * panel]
        assert set(base.y) == {rows["accuracy"].iloc[3]}
        assert [list(point) for point in curve.customdata][1][1:] == rows[["low", "high", "n"]].iloc[
            1
        ].tolist()


def test_endpoints_are_marked_and_named() -> None:
    figure = restoration_figure(curve_table())
    ends = {t.name: (t.x[0], t.marker.symbol) for t in figure.data if t.mode == "markers"}
    assert ends == {
        "tuned": (0, "diamond"),
        "k = 100% (layers = base)": (100, "square"),
        "base": (BASE_X, "line-ew-open"),
    }
    assert {text.split("<br>")[-1] for text in figure.layout.xaxis.ticktext} >= {
        "tuned",
        "layers = base",
        "base",
    }


def test_chosen_k_is_a_vertical_line_with_its_name() -> None:
    figure = restoration_figure(curve_table())
    assert [shape.x0 for shape in figure.layout.shapes] == [20, 20]
    assert [a.text for a in figure.layout.annotations][2:] == ["k = 20%, chosen on dev"] * 2


def test_panels_share_one_scale_from_zero_and_name_n() -> None:
    figure = restoration_figure(curve_table())
    low, high = figure.layout.yaxis.range
    assert -0.05 < low < 0 and high > curve_table()["high"].max()
    assert figure.layout.yaxis2.matches == "y"
    assert "300 questions" in figure.layout.annotations[0].text


def test_one_domain_has_one_panel() -> None:
    table = curve_table()
    figure = restoration_figure(table[table["domain"] == "in"])
    assert len(named(figure, "restored")) == 1 and "yaxis2" not in figure.layout


def test_levels_have_their_three_states_with_intervals_and_no_marker_on_another() -> None:
    table = levels_table()
    figure = levels_figure(table)
    heights = []
    for state in ("base", "tuned", "restored"):
        rows, trace = table[table["state"] == state], named(figure, state)[0]
        assert list(trace.x) == rows["accuracy"].tolist()
        assert list(trace.error_x.array) == pytest.approx((rows["high"] - rows["accuracy"]).tolist())
        assert [round(y) for y in trace.y] == [0, 4]
        heights += trace.y
    assert len(set(heights)) == 6
    joined = next(t for t in figure.data if t.mode == "lines")
    assert list(joined.x) == [*table["accuracy"][:3], None, *table["accuracy"][3:], None]


def test_states_differ_in_symbol_as_well_as_in_colour() -> None:
    traces = [named(levels_figure(levels_table()), state)[0] for state in ("base", "tuned", "restored")]
    assert len({t.marker.symbol for t in traces}) == len({t.marker.color for t in traces}) == 3


def test_chains_stand_by_train_level_and_size_with_seeds_side_by_side() -> None:
    table = chains_table()
    figure = chains_figure(table, shown="b")
    tuned = named(figure, "tuned")[0]
    assert list(tuned.y) == table.loc[table["state"] == "tuned", "accuracy"].tolist()
    a, b, c, d, e = tuned.x
    assert a < b < c < d < e and b - a == 1 and d - c < 1
    assert list(figure.layout.xaxis.tickvals) == pytest.approx([a, b, (c + d) / 2, e])
    assert figure.layout.xaxis.ticktext == ("240", "1,920", "240", "")
    names = [annotation.text for annotation in figure.layout.annotations]
    assert names[1:] == ["level 0", "mixed", "given"]
    assert (figure.layout.shapes[0].x0 + figure.layout.shapes[0].x1) / 2 == b


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_are_those_of_the_theme(palette: Palette) -> None:
    figure = restoration_figure(curve_table(), palette)
    assert figure.layout.font.color == palette.text
    assert named(figure, "restored")[0].line.color == palette.restored
    assert named(figure, "95% CI")[0].fillcolor == faded(palette.restored, 0.16)


def test_faded_is_rgba() -> None:
    assert faded("#0f766e", 0.16) == "rgba(15,118,110,0.16)"


def test_tables_without_rows_make_empty_figures() -> None:
    for draw, table in (
        (restoration_figure, curve_table()),
        (levels_figure, levels_table()),
        (chains_figure, chains_table()),
    ):
        assert draw(table.iloc[:0]).data == ()
