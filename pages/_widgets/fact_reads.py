"""What the page of facts reads, remembered, and how it shows one opened fact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages._widgets import show
from pages._widgets.reading import Key
from sftknow_core.present.charts import mastery_fact_figures
from sftknow_core.present.text import mastery
from sftknow_core.results import mastery as mastery_results
from sftknow_core.results import mastery_facts
from sftknow_core.results.mastery import Mastered
from sftknow_core.results.mastery_facts import Places
from sftknow_core.results.mastery_filters import FactFilters, Population
from sftknow_core.store.cache import Cache

FIGURE_COLUMNS: dict[str, show.Header] = {
    "level": ("level", "mastery level, 0 to 4", "{:g}"),
    "n_facts": ("facts", "how many", "{:,.0f}"),
    "share": ("share", "of the facts with a level (of the topic, where one is named)", "{:.1%}"),
    "model": ("model", "of the paper", None),
    "topic": ("topic", "Wikidata property", None),
    "n_topic": ("facts of the topic", "with a level", "{:,.0f}"),
    "mean_r": ("mean R", "share of right completions, mean over the topic's facts", "{:.1%}"),
    "r_from": ("R above", "", "{:.0%}"),
    "r_to": ("R up to", "0: R = 0", "{:.0%}"),
    "r_bin_to": ("R up to", "cells are 5 points wide; 0: R = 0", "{:.0%}"),
    "expected_bin_to": ("expected up to", "0: at most one completion in all", "{:.0%}"),
    **{
        f"expected_{level}": (f"expected {level}", f"facts whose expected mastery is on level {level}", "{:,.0f}")
        for level in range(5)
    },
}  # fmt: skip
_small = st.cache_data(show_spinner=False, max_entries=128)


@_small
def finished(key: Key) -> pd.DataFrame:
    """See mastery_views.finished_runs."""
    return mastery_results.finished_runs(Cache(key[0]))


@_small
def details(key: Key, run_id: str) -> Mapping[str, Any]:
    """See mastery_views.mastery_details."""
    return mastery_results.mastery_details(Cache(key[0]), run_id)


@st.cache_resource(show_spinner="Reading the facts …", max_entries=4)
def gathered(root: str, run_id: str, stamp: str) -> Mastered:
    """See mastery_views.gather; nobody changes it. stamp: mastery_views.mastery_stamp."""
    return mastery_results.gather(Cache(root), run_id)


@_small
def numbers(root: str, run_id: str, stamp: str, population: Population) -> Mapping[str, Any]:
    """See mastery_views.numbers."""
    return mastery_results.numbers(gathered(root, run_id, stamp), population)


@_small
def table(view: str, root: str, run_id: str, stamp: str, population: Population) -> pd.DataFrame:
    """by_level, by_topic, histogram or against_expected of mastery_views."""
    views = {
        "by_level": mastery_results.by_level,
        "by_topic": mastery_results.by_topic,
        "histogram": mastery_results.histogram,
        "against_expected": mastery_results.against_expected,
    }
    return views[view](gathered(root, run_id, stamp), population)


@st.cache_resource(show_spinner=False, max_entries=32)
def passing(root: str, run_id: str, stamp: str, filters: FactFilters) -> Places:
    """See mastery_facts.places; nobody changes it."""
    return mastery_facts.places(gathered(root, run_id, stamp), filters)


@_small
def templates(root: str, run_id: str, stamp: str, fact_id: str) -> pd.DataFrame:
    """See mastery_facts.templates_of."""
    return mastery_facts.templates_of(Cache(root), run_id, fact_id)


@_small
def base_evaluations(key: Key, run_id: str, model_id: str) -> tuple[mastery_facts.Evaluation, ...]:
    """See mastery_facts.base_evaluations."""
    return mastery_facts.base_evaluations(Cache(key[0]), run_id, model_id)


@_small
def said_by_base(root: str, asked: tuple[mastery_facts.Evaluation, ...], fact_id: str) -> pd.DataFrame:
    """See mastery_facts.said_by_base."""
    return mastery_facts.said_by_base(Cache(root), asked, fact_id)


def place(fact: Mapping[str, Any]) -> None:
    """Where one fact's R lies on the scale of levels."""
    alt = "R of this fact with its 95% interval and its expected mastery, on the scale of the levels"
    _drawn(mastery_fact_figures.place_figure(fact, show.palette()), "place", alt)


def by_template(
    root: str, run_id: str, stamp: str, fact: Mapping[str, Any], details: Mapping[str, Any]
) -> None:
    """One fact's templates: a figure, and the prompts with how often each succeeded."""
    rows = templates(root, run_id, stamp, fact["fact_id"])
    prompts, note = mastery.prompts_of(fact, details["inputs"].get("topics"))
    st.markdown(f"**How often each of the {len(rows)} templates succeeded**")
    alt = "Share of right completions of each template, sampled and expected"
    _drawn(mastery_fact_figures.templates_figure(rows, fact["r"], show.palette()), "templates", alt)
    st.caption(note)
    table = mastery.template_table(rows, prompts)
    st.dataframe(
        table.assign(share=100 * table["share"], expected=100 * table["expected"]),
        hide_index=True,
        column_config=_TEMPLATE_COLUMNS,
        key="facts.templates.table",
        alt="The prompts of this fact, and how often each was completed rightly",
        placeholder="–",
        height=38 + 35 * len(table),
    )
    show.downloads(table, "facts.templates")


def completions(key: Key, run_id: str, details: Mapping[str, Any], fact: Mapping[str, Any]) -> None:
    """What the model wrote: not the samples, which no run keeps, but its greedy answers where a chain asked."""
    st.markdown("**What the base model wrote**")
    st.caption(mastery.NO_COMPLETIONS)
    asked = base_evaluations(key, run_id, details["model_id"])
    answers = said_by_base(key[0], asked, fact["fact_id"])
    if answers.empty:
        st.markdown("No finished chain of this cache asked the base model about this fact either.")
    else:
        st.markdown(
            "Its likeliest answers (greedy), from the chains that asked it:\n\n" + mastery.said(answers)
        )


def _drawn(figure: go.Figure, name: str, alt: str) -> None:
    show.figure_alone(figure, f"facts.{name}", alt)


_TEMPLATE_COLUMNS = {
    "template": st.column_config.NumberColumn("no.", help="number of the completion template", width=44),
    "prompt": st.column_config.TextColumn("prompt", help="what the base model wrote on from", width=330),
    "right": st.column_config.TextColumn(
        "right", help="completions that hold an answer, of those drawn", width=70
    ),
    "share": st.column_config.NumberColumn("share", help="right / drawn", format="%.1f%%", width=62),
    "expected": st.column_config.NumberColumn(
        "expected", help="probability that a completion begins with an answer", format="%.1f%%", width=76
    ),
}
