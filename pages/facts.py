"""Facts and mastery: what the base model knew before any fine-tuning. Reads one finished mastery run."""

from typing import NamedTuple

import streamlit as st

from pages._widgets import facts as reads
from pages._widgets import samples, show
from pages._widgets.page import head
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.charts import mastery
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import mastery as mastery_text
from sftknow_core.present.text import tokens
from sftknow_core.results.mastery import Mastery
from sftknow_core.results.mastery_facts import Population
from sftknow_core.store.cache import Cache


class MasteryRun(NamedTuple):
    """The chosen run."""

    key: Key
    run_id: str
    stamp: str
    """See Mastery.stamp."""
    mastery: Mastery
    """With its facts in memory."""


def opened_run(key: Key, run_id: str) -> MasteryRun:
    """What the page reads of a finished run at once."""
    stamp = Mastery(Cache(key[0]), run_id).stamp
    return MasteryRun(key, run_id, stamp, reads.gathered(key[0], run_id, stamp))


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads first: of the newest mastery run, whichever run_id is."""
    runs = reads.finished(key)
    if runs.empty:
        return
    run = opened_run(key, str(runs["run_id"].iloc[0]))
    which = key[0], run.run_id, run.stamp, Population()
    reads.numbers(*which)
    for view in ("by_level", "by_topic", "histogram", "against_expected"):
        reads.table(view, *which)


def draw() -> None:
    """The page."""
    st.html(reads.STYLE)
    key, found = head(
        "Knowledge of the base model",
        "Before fine-tuning, the base model completes 21 sentences about each fact, several times each. **R** is the "
        "share of correct completions. It gives the **mastery level**, from 0 (never correct) to 4 (more than 75%).",
    )
    with show.messages():
        runs = reads.finished(key)
        if runs.empty:
            reads.empty_state(key[0], found.unfinished)
        run_id = reads.pick_run(key, runs)
        run = opened_run(key, run_id)
    with show.messages():
        n_chains = len(reads.chains(key, run_id))
        st.caption(mastery_text.how_measured(run.mastery.model, run.mastery.sampling, n_chains))
        reads.warn_invalid_params(run.mastery.facts)
        with st.container(horizontal=True):
            view = reads.pick_view()
            population = reads.pick_population(run.mastery.facts)
        with st.expander("Glossary"):
            st.markdown(mastery_text.DEFINITIONS)
        if view == reads.ALL:
            together(run, population)
        else:
            one_by_one(run, population)
    show.unfinished(found.unfinished)


def together(run: MasteryRun, population: Population) -> None:
    """All facts of a split and domain."""
    which = (run.key[0], run.run_id, run.stamp, population)
    numbers = reads.numbers(*which)
    show.numbers(mastery_text.cards(numbers, run.mastery.split_half), width=208)
    if said := mastery_text.not_scored(numbers.reasons):
        st.caption(said)

    st.subheader("Facts by mastery level")
    models = reads.pick_paper_models()
    paper, said = mastery_text.beside_paper(population.split, population.domain, models)
    table = reads.table("by_level", *which)
    st.caption(f"Share of the facts with a level, and how many: n = {numbers.n_scored:,}. {said}")
    alt = "Share of the facts on each mastery level, with the paper's models"
    drawn = mastery.distribution_figure(table, paper, show.palette())
    both = mastery_text.both(table, paper)
    show.figure(drawn, both, "facts.levels", alt, columns.table("facts"))

    st.subheader("By topic")
    st.caption(
        "One row per topic, best known first; from left to right: level 0 to 4, as shares of the topic's facts. "
        "Labels shown for shares of 6% or more."
    )
    table = reads.table("by_topic", *which)
    names = mastery_text.topic_names(table)
    alt = "Shares of the mastery levels in each topic"
    drawn = mastery.topics_figure(table, names, show.palette())
    show.figure(drawn, table, "facts.topics", alt, columns.table("facts"))

    st.subheader("Distribution of R")
    st.caption(f"Facts by share of correct completions; dotted: level boundaries. n = {numbers.n_scored:,}.")
    table = reads.table("histogram", *which)
    alt = "Histogram of R over the facts, with the borders of the levels"
    show.figure(
        mastery.histogram_figure(table, show.palette()),
        table,
        "facts.spread",
        alt,
        columns.table("facts"),
    )

    st.subheader("Sampled vs. expected mastery")
    st.caption(mastery_text.agreement(numbers))
    cells = reads.table("against_expected", *which)
    alt = "Heat map of facts by R and by expected mastery; agreement lies on the diagonal"
    drawn = mastery.expected_figure(cells, show.palette())
    show.figure(drawn, mastery_text.cell_table(cells), "facts.expected", alt, columns.table("facts"))
    st.markdown("**Facts by both levels**: rows by R, columns by expected mastery")
    confusion = mastery_text.confusion_table(numbers.agreement.confusion)
    alt = "Facts by level from R and level from expected mastery"
    show.listed(confusion, "facts.confusion", alt, columns.table("facts"))


def one_by_one(run: MasteryRun, population: Population) -> None:
    """The list of facts, and the opened one."""
    filters = reads.pick_filters(run.mastery.facts, population)
    passing = reads.passing(run.key[0], run.run_id, run.stamp, filters)
    opened = reads.opened_in(run.mastery, passing)
    shown, known = len(passing), run.mastery.facts.facts.num_rows
    st.caption(f"{known:,} facts" if shown == known else f"{shown:,} of {known:,} facts")
    with st.container(horizontal=True, key="facts_beside", gap="medium"):
        left, right = st.container(key="facts_left"), st.container(key="facts_right")
    with left:
        page = reads.pick_page(run.mastery, passing, opened)
        reads.listed(run.mastery, passing, page, opened)
    with right:
        reads.BROWSER.turn(page)
        if opened is None:
            st.info("No matching facts. Clear filters.")
            return
        st.subheader(tokens.plain(opened["question"]), anchor=False)
        st.caption(mastery_text.about(opened, page.place, page.n))
        st.markdown(mastery_text.verdict(opened))
        if opened["level"] is not None:
            reads.place(opened)
            reads.by_template(run.mastery, run.stamp, opened)
        reads.completions(run.key, run.mastery, opened)
        samples.drawn_again(run.key[0], run.mastery, opened)


if __name__ == "__main__":
    draw()
