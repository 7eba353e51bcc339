"""Facts and mastery: what the base model knew before any fine-tuning. Reads one finished mastery run."""

import streamlit as st

from pages._widgets import facts as reads
from pages._widgets import samples, show
from pages._widgets.page import head
from sftknow_core.present import columns
from sftknow_core.present.charts import mastery
from sftknow_core.present.text import mastery as mastery_text
from sftknow_core.present.text import tokens
from sftknow_core.results.mastery import Mastered, Population, mastery_stamp
from sftknow_core.store.cache import Cache

st.html(reads.STYLE)
key, found = head(
    "What the base model knows",
    "Before any fine-tuning, the base model completes 21 sentences about each fact, several times each. **R** is the "
    "share of right completions; it puts the fact on a **mastery level** from 0 (never right) to 4 (right in more than "
    "three of four). All other pages speak of these levels.",
)
with show.messages():
    runs = reads.finished(key)
    if runs.empty:
        reads.empty_state(key[0], found.unfinished)
    run_id = reads.pick_run(key, runs)
    details = reads.details(key, run_id)
    stamp = mastery_stamp(Cache(key[0]), run_id)
    mastered = reads.gathered(key[0], run_id, stamp)


def together(population: Population) -> None:
    """All facts of a split and domain."""
    which = (key[0], run_id, stamp, population)
    numbers = reads.numbers(*which)
    show.numbers(mastery_text.cards(numbers, details), width=208)
    if said := mastery_text.not_scored(numbers["reasons"]):
        st.caption(said)

    st.subheader("How many facts are on each level")
    models = reads.pick_paper_models()
    paper, said = mastery_text.beside_paper(population.split, population.domain, models)
    table = reads.table("by_level", *which)
    st.caption(f"Share of the facts with a level, and how many: n = {numbers['n_scored']:,}. {said}")
    alt = "Share of the facts on each mastery level, beside the models of the paper"
    drawn = mastery.distribution_figure(table, paper, show.palette())
    both = mastery_text.both(table, paper)
    show.figure(drawn, both, "facts.levels", alt, columns.table("facts"))

    st.subheader("By topic")
    st.caption(
        "Each row is a topic with its number of facts, best known on top; from left to right: level 0 to level 4, as "
        "shares of the topic's facts. Written are shares of 6% and more."
    )
    table = reads.table("by_topic", *which)
    names = mastery_text.topic_names(table)
    alt = "Shares of the mastery levels in each topic"
    drawn = mastery.topics_figure(table, names, show.palette())
    show.figure(drawn, table, "facts.topics", alt, columns.table("facts"))

    st.subheader("How R is spread")
    st.caption(
        f"Facts by their share of right completions; dotted: borders of levels. n = {numbers['n_scored']:,}."
    )
    table = reads.table("histogram", *which)
    alt = "Histogram of R over the facts, with the borders of the levels"
    show.figure(
        mastery.histogram_figure(table, show.palette()),
        table,
        "facts.spread",
        alt,
        columns.table("facts"),
    )

    st.subheader("Sampled against expected mastery")
    st.caption(mastery_text.agreement(numbers))
    cells = reads.table("against_expected", *which)
    alt = "Heat map of facts by R and by expected mastery; agreement lies on the diagonal"
    drawn = mastery.expected_figure(cells, show.palette())
    show.figure(drawn, mastery_text.cell_table(cells), "facts.expected", alt, columns.table("facts"))
    st.markdown("**Facts by both levels**: rows by R, columns by expected mastery")
    confusion = mastery_text.confusion_table(numbers["agreement"].confusion)
    alt = "How many facts have which level by R and which by expected mastery"
    show.listed(confusion, "facts.confusion", alt, columns.table("facts"))


def one_by_one(mastered: Mastered, population: Population) -> None:
    """The list of facts, and the opened one."""
    filters = reads.pick_filters(mastered, population)
    passing = reads.passing(key[0], run_id, stamp, filters)
    opened = reads.opened_in(mastered, passing)
    st.caption(f"{len(passing):,} of {mastered.facts.num_rows:,} facts pass the filters.")
    with st.container(horizontal=True, key="facts_beside", gap="medium"):
        left, right = st.container(key="facts_left"), st.container(key="facts_right")
    with left:
        page = reads.pick_page(mastered, passing, opened)
        reads.listed(mastered, passing, page, opened)
    with right:
        reads.BROWSER.turn(page)
        if opened is None:
            st.info("No fact is open. Loosen the filters, or follow a link to one.")
            return
        st.subheader(tokens.plain(opened["question"]), anchor=False)
        st.caption(mastery_text.about(opened, page.place, page.n))
        st.markdown(mastery_text.verdict(opened))
        if opened["level"] is not None:
            reads.place(opened)
            reads.by_template(key[0], run_id, stamp, opened, details)
        reads.completions(key, run_id, details, opened)
        samples.drawn_again(key[0], details, opened)


with show.messages():
    st.caption(mastery_text.how_measured(details))
    reads.warn_invalid_params(mastered)
    with st.container(horizontal=True):
        view = reads.pick_view()
        population = reads.pick_population(mastered)
    with st.expander("Definitions and units"):
        st.markdown(mastery_text.DEFINITIONS)
    if view == reads.ALL:
        together(population)
    else:
        one_by_one(mastered, population)
show.unfinished(found.unfinished)
