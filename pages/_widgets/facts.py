"""What the page of facts shares: its cached reads, its widgets, its list, and which fact is opened.

The opened fact is `fact` in the page's address and the mastery run `run`; the rest is bound to it by the widgets' keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages._widgets import addresses, show
from pages._widgets.addresses import PARAMETER, pick_one
from pages._widgets.browsing import Browser, config_of
from pages._widgets.reading import Key
from sftknow_core.analysis.published import mastery_models
from sftknow_core.errors import SftknowError
from sftknow_core.present import columns
from sftknow_core.present.charts import mastery as mastery_charts
from sftknow_core.present.text import mastery as mastery_text
from sftknow_core.present.text.tokens import topic_name
from sftknow_core.results.chain import Chain
from sftknow_core.results.mastery import Mastery, Numbers, finished_runs
from sftknow_core.results.mastery_facts import (
    DOUBTS,
    PAGE_SIZE,
    SORTS,
    Evaluation,
    FactFilters,
    Mastered,
    Page,
    Places,
    Population,
    all_passing,
    fact_row,
    n_pages,
    said_by_base,
)  # fmt: skip
from sftknow_core.store.cache import Cache

# What the page of facts reads, remembered, and how it shows one opened fact.

_small = st.cache_data(show_spinner=False, max_entries=128)


@_small
def finished(key: Key) -> pd.DataFrame:
    """See results.mastery.finished_runs."""
    return finished_runs(Cache(key[0]))


@_small
def chains(key: Key, run_id: str) -> Mapping[str, str]:
    """See Mastery.chains."""
    return Mastery(Cache(key[0]), run_id).chains


@st.cache_resource(show_spinner="Reading facts …", max_entries=4)
def gathered(root: str, run_id: str, stamp: str) -> Mastery:
    """The run with its facts in memory, which nobody changes. stamp: Mastery.stamp."""
    found = Mastery(Cache(root), run_id)
    _ = found.facts  # here, while the spinner says so
    return found


@_small
def numbers(root: str, run_id: str, stamp: str, population: Population) -> Numbers:
    """See Mastery.numbers."""
    return gathered(root, run_id, stamp).numbers(population)


@_small
def table(view: str, root: str, run_id: str, stamp: str, population: Population) -> pd.DataFrame:
    """view: by_level, by_topic, histogram or against_expected, a method of Mastery."""
    found: pd.DataFrame = getattr(gathered(root, run_id, stamp), view)(population)
    return found


@st.cache_resource(show_spinner=False, max_entries=32)
def passing(root: str, run_id: str, stamp: str, filters: FactFilters) -> Places:
    """See Mastery.passing; nobody changes it."""
    return gathered(root, run_id, stamp).passing(filters)


@_small
def templates(root: str, run_id: str, stamp: str, fact_id: str) -> pd.DataFrame:
    """See Mastery.templates."""
    return Mastery(Cache(root), run_id).templates(fact_id)


@_small
def base_evaluations(key: Key, run_id: str) -> tuple[Evaluation, ...]:
    """See Mastery.base_evaluations."""
    return Mastery(Cache(key[0]), run_id).base_evaluations


@_small
def answers_of_base(root: str, asked: tuple[Evaluation, ...], fact_id: str) -> pd.DataFrame:
    """See mastery_facts.said_by_base."""
    return said_by_base(Cache(root), asked, fact_id)


def place(fact: Mapping[str, Any]) -> None:
    """Where one fact's R lies on the scale of levels."""
    alt = "R of this fact with its 95% CI and its expected mastery, on the scale of the levels"
    _drawn(mastery_charts.place_figure(fact, show.palette()), "place", alt)


def by_template(run: Mastery, stamp: str, fact: Mapping[str, Any]) -> None:
    """One fact's templates: a figure, and the prompts with how often each succeeded. stamp: Mastery.stamp."""
    rows = templates(str(run.cache.root), run.run_id, stamp, fact["fact_id"])
    prompts, note = mastery_text.prompts_of(fact, run.topics_id)
    st.markdown(f"**Correct completions of each of the {len(rows)} templates**")
    alt = "Share of correct completions of each template, sampled and expected"
    _drawn(mastery_charts.templates_figure(rows, fact["r"], show.palette()), "templates", alt)
    st.caption(note)
    table = mastery_text.template_table(rows, prompts)
    st.dataframe(
        table.assign(share=100 * table["share"], expected=100 * table["expected"]),
        hide_index=True,
        column_config=config_of(
            _TEMPLATES, list(map(str, table.columns)), _TEMPLATE_WIDTHS, "small", share=_PERCENT
        ),
        key="facts.templates.table",
        alt="Prompts of this fact, with the number of correct completions",
        placeholder="–",
        height=38 + 35 * len(table),
    )
    show.downloads(table, "facts.templates")


def completions(key: Key, run: Mastery, fact: Mapping[str, Any]) -> None:
    """What the model wrote: not the samples, which no run keeps, but its greedy answers where a chain asked."""
    st.markdown("**Answers of the base model**")
    st.caption(mastery_text.NO_COMPLETIONS)
    asked = base_evaluations(key, run.run_id)
    answers = answers_of_base(key[0], asked, fact["fact_id"])
    if answers.empty:
        st.markdown("No finished run of this cache evaluated the base model on this fact.")
    else:
        st.markdown("Greedy answers, from runs that evaluated it:\n\n" + mastery_text.said(answers))


def _drawn(figure: go.Figure, name: str, alt: str) -> None:
    show.figure_alone(figure, f"facts.{name}", alt)


_TEMPLATES = columns.of("template", "prompt", "templates.right", "templates.share", "templates.expected")
_TEMPLATE_WIDTHS = {"template": 44, "prompt": 330, "right": 70, "share": 62, "expected": 76}


_NAME = "facts"
_FACT = "fact"
_ANY = "all"
_DOMAINS = {_ANY: None, "in-domain": "in", "out-of-domain": "out"}
ALL, SINGLE = "all facts together", "fact by fact"
STYLE = """<style>
.st-key-facts_beside > div {flex: 1 1 470px !important; min-width: min(470px, 100%)}
.st-key-facts_filters > div {min-width: 120px}
</style>"""
"""List and detail share a row where both have 470 px, else stand below each other."""
_PERCENT = "%.1f%%"
_SHARES = ["r", "r_low", "r_high", "expected_mastery"]
_COLUMNS = columns.of(
    "question", "gold", "facts.level", "r", "flag", "r_low", "r_high", "expected_mastery", "n_correct", "n_samples",
    "topic", "domain", "split", "facts.reason",
)  # fmt: skip
_WIDTHS = {"question": 270, "gold": 110, "level": 58, "r": 62, "flag": 66}
BROWSER = Browser(_NAME, _FACT, "fact", PAGE_SIZE)


def empty_state(root: str, unfinished: pd.DataFrame) -> NoReturn:
    """The page of a cache without a finished mastery run: what to do next, what is under way, and no more."""
    st.info(
        f"No finished mastery run in `{root}` yet. In a terminal, `sftknow mastery` scores the facts of the demo "
        "(seconds: its scores are shipped), `sftknow mastery --base MODEL --data FACTS` your own; every "
        "`sftknow run` starts with it. Then reload this page."
    )
    show.unfinished(unfinished)
    st.stop()


def pick_run(key: Key, runs: pd.DataFrame) -> str:
    """The mastery run that the address names, itself or by a chain that used it; see pick_one. runs: `finished`."""
    labels = dict(zip(runs["run_id"], runs["label"], strict=True))
    wanted = st.query_params.get(PARAMETER)
    if wanted and wanted not in labels:
        with suppress(SftknowError):  # no finished chain: pick_one says that there is no such run
            wanted = Chain(Cache(key[0]), wanted).stages.mastery or wanted
    return pick_one("Base model and facts", f"{_NAME}.run", labels, wanted, "Mastery run", _FACT)


def pick_view() -> str:
    """ALL or SINGLE; a link to a fact opens the second."""
    usual = SINGLE if _FACT in st.query_params else ALL
    return str(_widget(st.segmented_control, "Show", "view", [ALL, SINGLE], default=usual, required=True))


def pick_population(mastered: Mastered) -> Population:
    """Split and domain."""
    split = _widget(
        st.segmented_control, "Split", "split", [_ANY, *mastered.splits], default=_ANY, required=True
    )
    domain = _widget(st.segmented_control, "Topics", "domain", list(_DOMAINS), default=_ANY, required=True)
    return Population(None if split == _ANY else split, _DOMAINS[domain])


def pick_paper_models() -> list[str]:
    """Which of the paper's models stand beside; all at first."""
    models = mastery_models()
    chosen: list[str] = _widget(
        st.pills, "Compare with the paper's models", "paper", models, default=models, selection_mode="multi"
    )
    return chosen


def pick_filters(mastered: Mastered, population: Population) -> FactFilters:
    """The widgets above the list."""
    with st.container(horizontal=True, key="facts_filters", vertical_alignment="bottom"):
        search = _widget(st.text_input, "Search", "search", placeholder="question or answer", width=220)
        levels = _widget(
            st.multiselect, "Mastery level", "levels", list(range(5)), placeholder="all", width=200
        )
        topics = _widget(
            st.multiselect,
            "Topic",
            "topics",
            mastered.topics,
            placeholder="all",
            width=260,
            format_func=topic_name,
        )
        doubt = _widget(st.selectbox, "Level certainty", "sure", list(DOUBTS), width=200)
        sort = _widget(st.selectbox, "Sort by", "sort", list(SORTS), width=200)
        descending = _widget(st.toggle, "largest first", "descending")
    return FactFilters(population, tuple(levels), tuple(topics), doubt, search, sort, descending)


def _widget(widget: Any, label: str, name: str, options: Sequence[Any] | None = None, **how: Any) -> Any:
    """A widget in the address that leads back to the first page when it changes."""
    given = () if options is None else (options,)
    key = f"{_NAME}.{name}"
    return widget(label, *given, key=key, bind="query-params", on_change=BROWSER.first_page, **how)


def warn_invalid_params(mastered: Mastered) -> None:
    """What the address asks for and no widget offers."""
    usual = SINGLE if _FACT in st.query_params else ALL
    one = {
        "view": [usual, *({ALL, SINGLE} - {usual})],
        "split": [_ANY, *mastered.splits],
        "domain": list(_DOMAINS),
        "sure": list(DOUBTS),
        "sort": list(SORTS),
        "descending": addresses.ON_OFF,
    }
    several = {
        "paper": mastery_models(),
        "levels": [*map(str, range(5))],
        "topics": [topic_name(topic) for topic in mastered.topics],
    }
    addresses.warn({f"{_NAME}.{name}": choices for name, choices in one.items()})
    addresses.warn_each({f"{_NAME}.{name}": choices for name, choices in several.items()})


def opened_in(run: Mastery, found: Places) -> dict[str, Any] | None:
    """The fact that the address names, as a row of Mastered.facts; else the first of the list, if any.

    A fact that the run does not hold is said so.
    """
    wanted = st.query_params.get(_FACT)
    fact = fact_row(run.facts, wanted) if wanted else None
    if wanted and fact is None:
        st.warning(f'Fact "{wanted}" not found. Showing the first of the list.')
    if fact is None and len(found):
        return fact_row(run.facts, run.page(found).rows["fact_id"].iloc[0])
    return fact


def pick_page(run: Mastery, found: Places, opened: Mapping[str, Any] | None) -> Page:
    """The page of the list that is turned to, with the choice of it; a link to a fact turns to the fact's."""
    fact_id = opened["fact_id"] if opened else None
    if BROWSER.page_key not in st.session_state and BROWSER.page_key not in st.query_params:
        place = run.page(found, 1, fact_id).place or 1
        BROWSER.turn_to((place - 1) // PAGE_SIZE + 1)
    number = BROWSER.pick_number(n_pages(len(found)))
    return run.page(found, number, fact_id)


def listed(run: Mastery, found: Places, page: Page, opened: Mapping[str, Any] | None) -> None:
    """The page's rows, of which one can be opened (the opened one is ticked), and a download of all that pass."""
    shown = _shown(page.rows)
    BROWSER.listed(
        page,
        shown,
        config_of(_COLUMNS, list(shown.columns), _WIDTHS, "small", share=_PERCENT),
        opened,
        partial(all_passing, run.facts, found),
        "Facts with gold answer, mastery level, R and its 95% CI, and expected mastery",
    )


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns of the list."""
    border = rows["borderline"].map({True: "⚠", False: ""}).fillna("–")
    flag = border.mask(rows["expected_level0_marked"].eq(True), "0⚠")
    chosen = [name for name in _COLUMNS if name != "reason" or rows["reason"].notna().any()]
    percent = {name: 100 * rows[name].astype(float) for name in _SHARES}
    return rows.assign(flag=flag, topic=rows["topic"].map(topic_name), **percent)[chosen]
