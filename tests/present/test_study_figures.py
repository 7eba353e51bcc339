"""A study's figures hold the numbers of its rows; what is not there gives none; the report is one closed file."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fake_study import make, mean_of

from sftknow_core.analysis import rows as rows_analysis
from sftknow_core.analysis.claims import all_claims
from sftknow_core.analysis.context import Study
from sftknow_core.analysis.grid import CHOSEN, TUNED, Cell
from sftknow_core.analysis.rows import energy_rows
from sftknow_core.analysis.study import About, StudyResults
from sftknow_core.analysis.verdict import Status
from sftknow_core.present.charts import study as study_charts
from sftknow_core.present.charts.palette import DARK
from sftknow_core.present.charts.study import verdict_figures
from sftknow_core.present.html.study import render
from sftknow_core.results.studies import FixedRule
from sftknow_core.specs import Rule

CELL = Cell("0", "1920")


@pytest.fixture(scope="module")
def study():
    return Study(make(mean_of, per_level=40, kl=lambda *_: 0.5, strategies=("top", "random")))


def test_figure_2_has_a_mean_a_level_and_a_point_a_seed(study):
    cells, seeds = rows_analysis.accuracy_rows(study)
    figure = study_charts.figure2(study)
    named = {trace.name: trace for trace in figure.data if trace.name}
    assert np.allclose(named["level 2"].y, cells[cells["train_level"] == "2"]["accuracy"])
    assert sum(len(t.y) for t in figure.data if t.showlegend is False and t.mode == "markers") == 45
    assert len(seeds[seeds["seed"].notna()]) == 45
    assert len(study_charts.figure2(study, paper_model="LLaMA-3-8B").data) == len(figure.data) + 5


def test_restoration_curves_hold_the_rows_and_the_base(study):
    rows = rows_analysis.curve_rows(study, "1920")
    figure = study_charts.restoration_figure(study, "1920", DARK)
    named = {trace.name: trace for trace in figure.data}
    assert np.allclose(named["level 0"].y, rows[rows["train_level"] == "0"]["accuracy"])
    assert list(named["base"].y) == pytest.approx([0.5, 0.5])


def test_energy_has_one_line_a_strategy_and_equal_numbers_with_the_grid(study):
    rows = energy_rows(study, CELL)
    assert set(rows["line"]) == {"", "top", "random"}
    top = rows[(rows["line"] == "top") & (rows["k_percent"] == 20)].iloc[0]
    curve = rows_analysis.curve_rows(study, "1920")
    same = curve[(curve["train_level"] == "0") & (curve["k_percent"] == 20)].iloc[0]
    assert (top["accuracy"], top["low"]) == (pytest.approx(same["accuracy"]), pytest.approx(same["low"]))
    assert top["energy_taken_back"] == pytest.approx(20 / 64)
    assert {"top", "random"} <= {trace.name for trace in study_charts.energy_figure(study, CELL).data}


def test_recovered_questions_are_counted_by_level(study):
    rows = rows_analysis.recovered_rows(study, "1920")
    own = rows[rows["train_level"] == "0"].set_index("level")
    grid = study.grid()
    was, now = grid.by_seed(CELL, TUNED), grid.by_seed(CELL, CHOSEN)
    for level in range(5):
        at = grid.levels == level
        healed = sum(int(((was[s] == 0) & (now[s] == 1))[at].sum()) for s in was)
        wrong = sum(int((was[s] == 0)[at].sum()) for s in was)
        assert (own.loc[level, "n_healed"], own.loc[level, "n_wrong"]) == (healed, wrong)
        assert own.loc[level, "share_healed"] == pytest.approx(healed / wrong)
    assert own["part_of_healed"].sum() == pytest.approx(1)
    bars = [
        trace
        for trace in study_charts.recovered_figure(study, "1920").data
        if trace.name.startswith("recovered")
    ]
    assert list(bars[0].y) == own["n_healed"].tolist()


def test_effects_are_those_of_the_parts_by_colour_and_symbol(study):
    verdicts = all_claims(study.tables)
    figures = verdict_figures(verdicts)
    drawn = sorted(x for trace in figures["pp"].data for x in trace.x)
    parts = [p.effect for v in verdicts if v.unit == "pp" for p in v.parts if p.effect is not None]
    assert drawn == pytest.approx(sorted(parts))
    looks = [(trace.marker.symbol, trace.marker.color) for trace in figures["pp"].data]
    assert len(set(looks)) == len(looks) and {t.name for t in figures["pp"].data} <= {str(s) for s in Status}


def test_what_was_not_measured_has_no_figure():
    bare = Study(make(mean_of, levels=("2",), sizes=("60",), seeds=(3,), ks=(0.0,), per_level=10))
    assert study_charts.figure5(bare) is None
    assert study_charts.energy_figure(bare, Cell("2", "60")) is None
    assert study_charts.recovered_figure(bare, "60") is None
    assert study_charts.restoration_figure(bare, "1920") is None
    assert rows_analysis.kl_rows(bare)[0].empty


def test_two_seeds_have_no_interval():
    two = Study(make(mean_of, levels=("2",), sizes=("60",), seeds=(3, 4), per_level=10))
    assert rows_analysis.accuracy_rows(two)[0][["low", "high"]].isna().all(axis=None)


FIXED = FixedRule(Rule().for_study((60, 240, 1920), ()), "2026-12-01T04:30:05Z", 9, 45, True)


def test_the_report_is_closed_complete_and_the_same_twice(study):
    about = About("r" * 16, "<script>mine(1)</script>", "t", "demo", "done", "2026", "words", "transformer", (3, 4, 5),
                  45, 45, {}, {"in": 0.2}, FIXED)  # fmt: skip
    page = render(StudyResults(study, about))
    assert page == render(StudyResults(study, about))
    assert "The rule was fixed on 2026-12-01 04:30 UTC, after 9 of 45 cells had been computed." in page
    assert "nothing controls the " in page and "margin 1 pp" in page
    assert len(page.encode()) < 10_000_000
    assert (
        "<script>mine" not in page
        and "&lt;script&gt;mine(1)" in page
        and "default-src &#39;none&#39;" in page
    )
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    for kind, there in (("figure", data["figures"]["light"]), ("table", data["tables"])):
        names = re.findall(rf'data-{kind}="([^"]+)"', page.split('<script type="application/json"')[0])
        assert names and set(names) <= set(there), kind
    assert set(data["figures"]["light"]) == set(data["figures"]["dark"])
    figure2 = next(table for table in StudyResults(study, about).tables if table.id == "figure2")
    assert data["tables"]["figure2"]["head"] == list(
        figure2.shown.columns
    )  # not the tidy rows under the figure
    assert len(data["tables"]["claims"]["rows"]) == len(all_claims(study.tables))


def test_knowledge_or_format_counts_right_tokens_too(study):
    """The answer's first token ranks 3rd in every third question, 11th in the others: in the ten at a third of them."""
    tables = study.tables
    assert "right token among the ten" not in set(rows_analysis.format_rows(study, CELL)["measure"])
    place = tables.answers.groupby(["chain", "state_id", "prompt", "split"]).cumcount()
    ranks = np.where(place % 3 == 0, 3.0, 11.0)
    ranks[tables.answers["split"] == "dev"] = np.nan
    ranked = Study(replace(tables, answers=tables.answers.assign(gold_rank=ranks)))
    rows = rows_analysis.format_rows(ranked, CELL)
    found = rows[rows["measure"] == "right token among the ten"]
    assert found["k_percent"].tolist() == [0.0, 20.0, 60.0]
    asked = (ranks[tables.answers["split"] == "test"] <= 10).mean()
    assert found["share"].tolist() == pytest.approx([asked] * 3, abs=0.01) and asked == pytest.approx(
        1 / 3, abs=0.01
    )
    drawn = {trace.name for trace in study_charts.knowledge_figure(ranked, CELL).data}
    assert {
        "questions, correct",
        "gold first token in the top 10",
        "answers that end",
        "base, zero-shot",
    } <= drawn


def test_controls_set_to_an_energy_are_one_point_over_all_seeds(study):
    """Each seed's alpha differs; beside one k they are one row with the mean alpha."""
    states = study.tables.states
    random = (states["strategy"] == "random") & (states["k_percent"] == 20)
    alphas = np.linspace(0.8, 0.9, int(random.sum()))
    changed = states.assign(alpha=np.nan, beside_k=np.nan)
    changed.loc[random, "strategy"] = "interpolation"
    changed.loc[random, ["k_percent", "beside_k"]] = (np.nan, 20.0)
    changed.loc[random, "alpha"] = alphas
    rows = energy_rows(Study(replace(study.tables, states=changed)), CELL)
    (row,) = rows[rows["line"] == "interpolation"].to_dict("records")
    own = changed[random & changed["chain"].str.startswith("0-1920")]
    assert row["n_seeds"] == len(own) == 3 and row["alpha"] == pytest.approx(own["alpha"].mean())
    assert row["beside_k"] == 20 and np.isnan(row["k_percent"])
