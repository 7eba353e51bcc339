"""Restore: put any k% of the update back, see what the model answers then and what that amounts to."""

import pandas as pd
import streamlit as st

from pages._widgets import addresses, comparing, engine, exporting, measuring, restoring, show, weights
from pages._widgets.page import open_chain
from sftknow_core.present.charts import chain, restore
from sftknow_core.present.text import restore as restore_text
from sftknow_core.results import measured
from sftknow_core.results.measured import MeasuredState
from sftknow_core.update.spec import RestoreSpec

opened, found, run_id, details = open_chain(
    "Put part of the update back",
    "Fine-tuning changed nearly every weight of the base model. Here **k%** of a region's weights return to their base "
    "values and the rest stays tuned: move k and see what the model answers then, and what that takes back.",
)
engine.warm(opened[0])
weights.keep_selection()

st.session_state[restoring.WHOLE] = True


@st.fragment  # letting go of the slider runs this alone: accuracy comes first, the figures after it
def position() -> None:
    """The selection, and accuracy there."""
    with show.messages():
        key = restoring.as_it_is_now(opened)
        restoring.warn_invalid_params(restore_text.STRATEGIES)
        addresses.warn({"restore.split": ["dev", "test"]})
        with st.container(horizontal=True, vertical_alignment="bottom"):
            chosen = restoring.pick_ranking(restore_text.STRATEGIES)
            questions = measuring.pick_questions(key, run_id)
            splits = {"dev": "dev", "test": "test"}
            split = restoring.choice("Shown on", "restore.split", splits, restore_text.SPLITS["test"])
        st.caption(restore_text.TEST_COSTS)
        place = measuring.Place(run_id, restoring.with_k(chosen), questions, split)
        taken = None
        with restoring.said():
            taken = restoring.taken_if_compared(opened, details, place.spec)
        if place.spec.strategy in ("top", "largest"):
            weights.link("pages/parameters.py", "How much of the model this is", run_id, place.spec)
        waiting = measuring.answers(opened, details, place, taken)
        restoring.draw_the_rest(place, waiting)


@st.fragment
def figures_there(place: measuring.Place, answered: measuring.Place) -> None:
    """Everything that takes longer to draw. answered: the position before, while this one's k is being measured."""
    with show.messages():
        key, spec, split = restoring.as_it_is_now(opened), place.spec, place.split
        rows = restoring.measured(key, run_id, restoring.frozen(spec, k=False), place.questions.set_id)
        if answered != place:
            st.info(restore_text.still_shown(place.k, answered.k))
        axis = answers(rows, answered)
        st.subheader("Several strategies on one chart")
        with restoring.said():
            comparing.compare(key, run_id, split, axis, place.questions.set_id)
        with restoring.said(quietly=True):
            taken = restoring.taken_if_compared(opened, details, spec)
            if taken is None:
                st.info(restore_text.not_compared(details))
            else:
                put_back(spec, taken)
        exporting.section(key, details, spec, lambda: tables(spec, rows))


def answers(rows: pd.DataFrame, place: measuring.Place) -> str:
    """The figures of what was answered; returns the axis chosen."""
    taken = None
    with restoring.said(quietly=True):
        taken = restoring.taken_if_compared(opened, details, place.spec)
    axis = curve(rows, place.split, place.k, taken)
    shown = measured.shown_state(rows, place.k, place.split)
    if shown is not None:
        levels(rows, shown, place.split)
        flips(rows, shown, place)
    return axis


def curve(rows: pd.DataFrame, split: str, k: float, taken: restore_text.Numbers | None) -> str:
    """Accuracy against what was put back; returns the axis chosen."""
    st.subheader("What it answers: accuracy against what was put back")
    addresses.warn({"restore.axis": list(restore_text.AXES.values())})
    axis = restoring.choice("Axis", "restore.axis", restore_text.AXES)
    headline = measured.headline(rows, split)
    now = restore.now_on(axis, k, taken)
    alt = f"Accuracy on {split} questions against what was put back, with 95% bands; base, tuned, five-shot"
    drawn = restore.measured_figure(headline, axis, now, show.palette())
    show.figure(drawn, headline, "restore.measured", alt)
    return axis


def levels(rows: pd.DataFrame, shown: MeasuredState, split: str) -> None:
    """The same by mastery level, for the shown state."""
    st.subheader(f"Accuracy by mastery level, k = {shown.k_percent:g}%")
    table = measured.levels_at(rows, shown, split)
    alt = f"Accuracy on {split} questions of each mastery level: base, tuned, restored {shown.k_percent:g}%"
    show.figure(chain.levels_figure(table, show.palette()), table, "restore.levels", alt)


def flips(rows: pd.DataFrame, shown: MeasuredState, place: measuring.Place) -> None:
    """Questions whose answer changed, against tuned or against the k before."""
    heading = st.container()
    restoring.warn_invalid_flip_params()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        state, name = restoring.pick_before(rows, shown, place)
        flip = restoring.choice("Change", "restore.flip", restore_text.FLIP_NAMES)
        domain = restoring.choice("Topics", "restore.domain", restore_text.DOMAIN_CHOICES)
        search = st.text_input(
            "Search", key="restore.search", bind="query-params", placeholder="question or answer", width=240
        )
    k, split = shown.k_percent, place.split
    heading.subheader(f"Questions that flipped between {name or 'the previous k'} and k = {k:g}%")
    if state is None:
        st.info(restore_text.no_previous(name))
        return
    key = restoring.as_it_is_now(opened)
    counts = restoring.flip_counts(key, run_id, shown, split, state)
    heading.markdown(restore_text.flip_sentences(counts, k, name))
    heading.caption(restore_text.FLIPS_SAY)
    table = restoring.flipped(key, run_id, shown, split, state, flip, domain, search)
    columns = {"before_answer": (f"answer, {name}", "✓ right, ✗ wrong", None)}
    alt = f"Questions whose answer changed between {name} and k = {k:g}%"
    show.listed(table, "restore.flipped", alt, columns)


def put_back(spec: RestoreSpec, taken: restore_text.Numbers) -> None:
    """What the histogram of the changes says of any k."""
    st.subheader(f"What k = {spec.k_percent:f}% puts back")
    st.caption(
        "Counted from a histogram of all changes, for any k, without the model. No question is asked here."
    )
    show.numbers(restore_text.cards(taken, spec))
    if said := restore_text.nothing_left(taken):
        st.warning(said)
    with st.expander("Definitions and units"):
        st.markdown(restore_text.DEFINITIONS)
    delta_id = restoring.delta_run(opened, details.base_id, details.tuned_id)
    score, k = restore_text.score_of(spec), float(spec.k_percent or 0)
    st.markdown(f"**How much the first k% hold**, {restore_text.STRATEGIES[spec.strategy]}")
    curve = restoring.reverted_curve(delta_id, restoring.frozen(spec, k=False), opened[0])
    alt = f"Share of the summed {score} and of the squared change that the first k% hold, with the null"
    drawn = restore.reverted_figure(curve, k, score, show.palette())
    show.figure(drawn, curve, "restore.taken", alt)
    st.markdown(
        "**Where they sit**: part of each layer and module put back; ×: enrichment; dashed: as by chance"
    )
    alt = "Share of each layer's and each module's weights that is put back, with its enrichment"
    places = restoring.reverted_by_place(delta_id, restoring.frozen(spec), opened[0])
    share = restore.share_of(taken)
    drawn = restore.places_figure(places.layers, places.modules, share, show.palette())
    listed = restore.listed_places(places.layers, places.modules)
    show.figure(drawn, listed, "restore.places", alt)


def tables(spec: RestoreSpec, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What the figures show, to take along."""
    return {"measured": rows, **restoring.tables_of_changes(opened, details, spec)}


position()
figures_there(st.session_state[restoring.PLACE], st.session_state[restoring.ANSWERED])
show.unfinished(found.unfinished)
