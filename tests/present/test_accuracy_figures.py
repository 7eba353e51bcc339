"""Figures of changes, flips, levels and N: traces are the table, states and levels differ by more than colour."""

from __future__ import annotations

from math import log10

import pandas as pd
import plotly.graph_objects as go
import pytest

from sftknow_core.present.charts import accuracy, across
from sftknow_core.present.charts.across import ACCURACY, KL
from sftknow_core.present.charts.palette import DARK, LIGHT, Palette, contrast, luminance, mixed


def changes() -> pd.DataFrame:
    rows = []
    for step, sign in (("tuning", -1), ("restoring", 1), ("both", -1)):
        for level, low in ((0, None), (4, -0.5), (None, -0.3)):
            rows.append(
                {
                    "domain": "in", "level": level, "step": step, "n": 20, "before": 0.6, "after": 0.5,
                    "difference": sign * 0.1, "low": low, "high": None if low is None else 0.4, "n_lost": 3,
                    "n_gained": 1, "p_value": 0.625, "p_holm": None, "reason": "no answer changed",
                }
            )  # fmt: skip
    return pd.DataFrame(rows).astype({"level": "Int64", "low": "float64", "high": "float64"})


def cells(**more: object) -> pd.DataFrame:
    rows = [
        {
            "train_level": level, "n_train": n, "state": state, "domain": "in", "level": test_level,
            "k_percent": 20.0 if state == "restored" else 0.0, "accuracy": 0.3 + n / 10_000, "low": 0.2, "high": 0.6,
            "n": 100, "n_seeds": 2,
        }
        for level in ("0", "mixed") for n in (60, 1920) for state in ("tuned", "restored")
        for test_level in (None, 0, 4)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**more).astype({"level": "Int64", "n_train": "Int64"})


def single_seeds(table: pd.DataFrame) -> pd.DataFrame:
    base = table.iloc[[0]].assign(train_level=None, n_train=None, state="base", accuracy=0.05)
    parts = [table.assign(seed=seed, accuracy=table["accuracy"] + seed / 10) for seed in (0, 1)]
    return pd.concat([*parts, base], ignore_index=True).astype({"n_train": "Int64"})


def named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def test_changes_are_in_points_with_their_intervals_and_the_mean_below() -> None:
    tuning, restoring = accuracy.change_figure(changes()).data
    assert list(tuning.x) == pytest.approx([-10, -10, -10]) and list(restoring.x) == pytest.approx([10] * 3)
    assert list(tuning.error_x.arrayminus) == pytest.approx([0, 40, 20])
    assert tuning.y[0] > tuning.y[2] and tuning.marker.symbol != restoring.marker.symbol
    assert "no answer changed" in tuning.customdata[0][0]
    assert "-50.0 to +40.0" in tuning.customdata[1][0] and "p = 0.62" in tuning.customdata[1][0]


def test_flips_lie_left_when_lost_and_right_when_gained() -> None:
    figure = accuracy.flips_figure(changes())
    bars = {bar.name: bar for bar in figure.data}
    assert list(bars["correct → incorrect by tuning"].x) == [-3, -3]
    assert list(bars["incorrect → correct by restoring"].x) == [1, 1]
    assert {bar.marker.pattern.shape for bar in bars.values()} == {"/", ""}
    assert list(bars["correct → incorrect by tuning"].text) == ["3", "3"]


def test_lines_over_n_have_a_symbol_a_level_and_a_dash_for_restored() -> None:
    table = cells().query("level.isna()")
    figure = across.over_n_figure(table, single_seeds(table))
    (tuned,), (restored,) = named(figure, "level 0"), named(figure, "level 0, restored")
    assert list(tuned.y) == pytest.approx([0.306, 0.492])
    assert [round(x, -1) for x in tuned.x] == [60, 1880] and tuned.line.dash != restored.line.dash
    assert tuned.marker.symbol != named(figure, "mixed levels")[0].marker.symbol
    assert list(figure.layout.xaxis.tickvals) == [60, 1920] and figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.range[0] < log10(60) and figure.layout.xaxis.range[1] > log10(1920)
    assert "mean of 2 seeds, 100 questions" in tuned.customdata[0][0]
    assert "k = 20%" in restored.customdata[0][0]
    seeds = [trace for trace in figure.data if trace.name is None and "seed 1" in str(trace.customdata)]
    assert len(seeds) == 4 and len(seeds[0].y) == 4


def test_a_missing_interval_is_said_and_not_drawn() -> None:
    table = cells(low=float("nan"), high=float("nan")).query("level.isna()")
    figure = across.over_n_figure(table, single_seeds(table))
    line = named(figure, "level 0")[0]
    assert set(line.error_y.array) == {0} and "too few seeds" in line.customdata[0][0]


def test_the_papers_numbers_are_faint_and_named_once() -> None:
    table = cells().query("level.isna() and state == 'tuned'")
    paper = pd.DataFrame(
        {
            "train_level": ["0", "0", "1"],
            "n_train": [240, 1920, 240],
            "domain": "in",
            "accuracy": 0.9,
            "source": "T",
        }
    )
    figure = across.over_n_figure(table, single_seeds(table), ACCURACY, LIGHT, paper, "M")
    theirs = named(figure, "paper: M")
    assert [len(trace.x) for trace in theirs] == [2, 1]
    assert [trace.showlegend for trace in theirs] == [True, False]
    assert list(figure.layout.xaxis.tickvals) == [60, 240, 1920] and figure.layout.yaxis.range[1] > 0.9


def test_kl_has_its_own_axis_and_base() -> None:
    table = (
        cells()
        .query("level == 4")
        .rename(columns={"accuracy": "kl_nats", "low": "kl_low", "high": "kl_high"})
    )
    table["n_scored"] = 90
    rows = single_seeds(table.rename(columns={"kl_nats": "accuracy"})).rename(columns={"accuracy": "kl_nats"})
    figure = across.over_n_figure(table, rows, KL)
    assert figure.layout.yaxis.title.text == "mean KL (nats)" and named(figure, KL.base)
    assert "90 questions" in named(figure, "level 0")[0].customdata[0][0]


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_levels_are_an_ordered_scale(palette: Palette) -> None:
    inks = [luminance(across.level_colour(str(level), palette)) for level in range(5)]
    assert inks == sorted(inks, reverse=palette is LIGHT)
    contrasts = [
        contrast(across.level_colour(level, palette), palette.background)
        for level in ("0", "1", "2", "3", "4", "mixed")
    ]
    assert min(contrasts) >= 3
    assert len({across.level_symbol(level) for level in ("0", "1", "2", "3", "4", "mixed")}) == 6


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_each_cell_of_the_heat_map_says_its_number_and_can_be_read(palette: Palette) -> None:
    table = cells().query("n_train == 1920 and state == 'tuned'")
    base = table.assign(state="base", train_level=None, accuracy=1.0)
    paper = pd.DataFrame({"train_level": ["0"], "domain": ["in"], "level": [4], "accuracy": [0.8346]})
    figure = accuracy.heat_figure(table, base.drop_duplicates(["state", "level"]), "tuned", palette, paper)
    trained, ours, theirs, grey, grey_texts = figure.data
    assert trained.z[0] == pytest.approx([0.492, 0.492]) and list(trained.z[2]) == [None, None]
    assert set(ours.text) == {"49.2"} and list(theirs.text) == ["(83.5)"]
    assert [z for (z,) in grey.z if z is not None] == [1, 1, 1]
    assert list(grey_texts.text) == ["100.0"] * 3
    for colour, share, ink in ((palette.tuned, 0.492, ours), (palette.base, 1, grey_texts)):
        ground = mixed(colour, palette.background, 0.08 + 0.92 * share)
        assert contrast(ink.textfont.color[0], ground) >= 3.9
    assert (
        "question level 4" in trained.customdata[5][0]
        and "100 questions, 2 seeds" in trained.customdata[5][0]
    )


def test_tables_without_rows_make_empty_figures() -> None:
    none = changes().iloc[:0]
    for figure in (accuracy.change_figure(none), accuracy.flips_figure(none)):
        assert figure.data == ()
    table = cells().iloc[:0]
    assert across.over_n_figure(table, table.assign(seed=0)).data == ()
    assert accuracy.heat_figure(table, table, "tuned").data == ()
