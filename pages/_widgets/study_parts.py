"""The parts of the page of studies: answers, claims, scorecard, the paper's tables, and what goes beyond them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages._widgets import addresses, show
from pages._widgets.accuracy import choice
from sftknow_core.analysis import estimates as est
from sftknow_core.analysis import rows as rows_analysis
from sftknow_core.analysis.claims import halves, part_table, verdict_table
from sftknow_core.analysis.grid import Cell, Gap
from sftknow_core.analysis.paper_table import PaperTable
from sftknow_core.analysis.study import TABLES, StudyResults
from sftknow_core.analysis.verdict import Status, Verdict
from sftknow_core.present import columns, tables
from sftknow_core.present.charts import study as study_charts
from sftknow_core.present.text import study as study_text

_DOMAINS = {"in-domain": ("in", ""), "out-of-domain": ("out",), "both": ("in", "out", "")}


def answers(results: StudyResults) -> None:
    """The user's questions, each with its answer and evidence."""
    found = results.answers
    for row in (found[:2], found[2:]):
        for one, column in zip(row, st.columns(2), strict=True):
            with column.container(border=True, height="stretch", gap="xsmall"):
                st.markdown(f"**{one.question}**")
                st.markdown(f"#### {one.short}")
                st.markdown(one.text)
                for line in one.evidence:
                    st.caption(line)
    if results.advice:
        with st.expander(f"Advice with its evidence ({len(results.advice)})"):
            for advice in results.advice:
                st.markdown(f"- {advice.text}  \n  <small>{advice.evidence}</small>", unsafe_allow_html=True)


# -- claims


def claims(results: StudyResults) -> None:
    """All claims: how many of each verdict, the list with its filters, effects as figures, and how firm they are."""
    verdicts = results.verdicts
    st.markdown(study_text.counted(verdicts))
    addresses.warn(
        {
            "study.domain": list(_DOMAINS),
            "study.group": list(study_text.GROUPS),
            "study.repeat": addresses.ON_OFF,
        }
    )
    addresses.warn_each({"study.verdict": [str(one) for one in Status]})
    with st.container(horizontal=True):
        domain = choice("Test questions", "study.domain", list(_DOMAINS))
        wanted = st.pills(
            "Verdict", [str(one) for one in Status], selection_mode="multi", key="study.verdict",
            bind="query-params", help=study_text.VERDICT_HELP,
        )  # fmt: skip
    there = [v for v in verdicts if v.domain in _DOMAINS[domain]]
    shown = [v for v in there if not wanted or str(v.verdict) in wanted]
    if shown:
        table = study_text.claim_rows(verdict_table(shown, verdicts))
        alt = "Claims with verdict, effect, 95% CI, p, seeds and questions"
        show.listed(table, "study.claims", alt, columns.table("claims"))
    else:
        st.info(study_text.NO_CLAIM)
    _firm(results)
    st.caption(study_text.FIGURE_OF_CLAIMS)
    group = choice("Effects of claims about", "study.group", list(study_text.GROUPS))
    _effects([v for v in there if v.claim_id[0] in study_text.GROUPS[group]], verdicts)


def _effects(verdicts: list[Verdict], among: list[Verdict]) -> None:
    figures = study_charts.verdict_figures(verdicts, show.palette())
    if not figures:
        st.info(study_text.NO_FIGURE)
        return
    parts = part_table(verdicts, among)
    for number, (unit, drawn) in enumerate(figures.items()):
        rows = parts[(parts["unit"] == unit) & parts["effect"].notna()]
        alt = f"Effect and 95% CI of every part of these claims, unit {unit}, marked by its verdict"
        show.figure(drawn, rows, f"study.effects{number}", alt, columns.table("claims"))


def _firm(results: StudyResults) -> None:
    """Verdicts repeated in three ways (claims.repeated); four times the work, so only when asked for."""
    if st.toggle(study_text.REPEAT, key="study.repeat", bind="query-params", help=study_text.REPEAT_HELP):
        with st.spinner("Repeating all verdicts (about ten seconds) …"):
            table = results.repeated
        st.caption(study_text.REPEAT_SAID)
        alt = "Verdicts as planned, with exact match, without borderline facts, with levels of half the templates"
        show.listed(table, "study.repeated", alt, columns.table("repeats"))
        found = halves(results.study.tables)
        if isinstance(found, Gap):
            st.caption(f"Levels of half the templates: not measured, {found.reason}.")
            return
        st.caption(study_text.HALVES_SAID)
        alt = "Test questions by their level from each half of the completion templates"
        show.listed(found, "study.halves", alt, columns.table("halves"))


# -- scorecard, and one cell


def scorecard(results: StudyResults) -> Cell:
    """All cells' scores, then one cell's shares; returns the chosen cell."""
    rows = results.scorecard
    scores = study_text.scores(rows)
    show.listed(scores, "study.scores", "Smallest share of kept, learnt and format by cell and model",
                columns.table("scores"))  # fmt: skip
    keys = rows[["level", "size", "method"]].drop_duplicates().itertuples(index=False)
    cells = {str(cell): cell for cell in (Cell(*map(str, key)) for key in keys)}
    first = list(cells).index(str(results.cell)) if str(results.cell) in cells else 0
    addresses.warn({"study.cell": list(cells)}, {"study.cell": list(cells)[first]})
    name = st.selectbox("Cell", list(cells), index=first, key="study.cell", bind="query-params")
    own = study_text.shares_of(rows, cells[name])
    show.listed(own, "study.shares", f"Kept, recovered, learnt, retained: {name}", columns.table("scores"))
    return cells[name]


# -- the paper's


_DRAWN: dict[str, Callable[..., go.Figure | None]] = {
    "figure2": study_charts.figure2,
    "figure4": study_charts.figure4,
    "figure5": study_charts.figure5,
}
_OF_PROMPT = ("figure2", "figure4")
"""Figures with one drawing a prompt."""


def paper(results: StudyResults) -> None:
    """One of the paper's tables or figures at a time, this study's numbers beside the paper's."""
    names = {study_text.table_name(table_id): table_id for table_id in TABLES}
    addresses.warn({"study.table": list(names)})
    name = st.selectbox("Table or figure", list(names), key="study.table", bind="query-params", width=220)
    table = results.table(names[name])
    st.markdown(f"**{table.title}**")
    st.caption(table.caption)
    if table.reason:
        st.info(table.reason)
    prompts = est.prompts_of(results.study) if table.id in _OF_PROMPT else (None,)
    for prompt in prompts if table.id in _DRAWN else ():
        _draw(results, table, prompt)
    if len(table.shown):
        st.dataframe(table.shown, hide_index=True, key=f"study.shown.{table.id}", alt=table.title)
    _downloads(table)


def _draw(results: StudyResults, table: PaperTable, prompt: str | None) -> None:
    """One figure of the paper; prompt: of the models in it, None where it has none."""
    name, rows, how = f"study.{table.id}", table.frame, {}
    if prompt is not None:
        asked = est.PROMPT_NAMES[prompt]
        rows, how = rows[rows["prompt"] == asked], {"prompt": prompt}
        name += f".{asked}"
        st.markdown(f"**{asked}**")
    drawn = _DRAWN[table.id](results.study, palette=show.palette(), **how)
    if drawn is not None:
        show.figure(drawn, rows, name, table.title, columns.table("paper"))


def _downloads(table: PaperTable) -> None:
    with st.container(horizontal=True):
        csv, latex = tables.to_csv(table), tables.to_latex(table)
        about: dict[str, Any] = {"on_click": "ignore"}
        st.download_button(
            "Download CSV", csv, f"{table.id}.csv", "text/csv", key=f"study.csv.{table.id}", **about
        )
        show.parquet_button(table.frame, table.id, f"study.parquet.{table.id}")
        st.download_button(
            "Download LaTeX",
            latex,
            f"{table.id}.tex",
            "application/x-tex",
            key=f"study.tex.{table.id}",
            **about,
        )


# -- beyond the paper


def beyond(results: StudyResults, cell: Cell) -> None:
    """Further figures for the chosen cell and its N."""
    study, colours = results.study, show.palette()
    prompts = {prompt: est.PROMPT_NAMES[prompt] for prompt in est.prompts_of(study)}
    parts: list[tuple[str, str, go.Figure | None, pd.DataFrame]] = [
        *(
            (
                f"restored.{asked}",
                f"Restored vs. base, {asked}, N = {cell.size}",
                study_charts.restoration_figure(study, cell.size, colours, prompt),
                rows_analysis.curve_rows(study, cell.size, prompt=prompt),
            )
            for prompt, asked in prompts.items()
        ),
        (
            "format",
            f"Knowledge and format: {cell}",
            study_charts.knowledge_figure(study, cell, colours),
            rows_analysis.format_rows(study, cell),
        ),
        (
            "energy",
            f"Rankings at equal update size, zero-shot: {cell}",
            study_charts.energy_figure(study, cell, colours),
            rows_analysis.energy_rows(study, cell),
        ),
        *(
            (
                f"healed.{asked}",
                f"Recovered questions, {asked}, N = {cell.size}",
                study_charts.recovered_figure(study, cell.size, colours, prompt),
                rows_analysis.recovered_rows(study, cell.size, prompt=prompt),
            )
            for prompt, asked in prompts.items()
        ),
    ]
    for name, title, drawn, table in parts:
        if drawn is not None and len(table):
            st.markdown(f"**{title}**")
            st.caption(study_text.BEYOND[name.split(".")[0]])
            show.figure(drawn, table, f"study.{name}", title, columns.table("paper"))


def flips(results: StudyResults) -> None:
    """Every run's changed questions, tested and beside the churn between seeds; only when asked for."""
    if not st.toggle(study_text.FLIPS, key="study.flips", bind="query-params", help=study_text.FLIPS_HELP):
        return
    table = results.flips
    if table.reason:
        st.info(table.reason)
        return
    st.caption(table.caption)
    st.dataframe(table.shown, hide_index=True, key="study.shown.flips", alt=table.title)
    _downloads(table)
