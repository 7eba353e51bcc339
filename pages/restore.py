"""Restore: revert k% of the weights to base; accuracy of the restored model and the share of the update."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from pages._widgets import (
    addresses,
    comparing,
    engine,
    exporting,
    measuring,
    reading,
    restoring,
    show,
    slider,
    weights,
)
from pages._widgets.page import Opened, open_chain
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.charts import chain, restore
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text import restore as restore_text
from sftknow_core.results import measured
from sftknow_core.results.measured import MeasuredState
from sftknow_core.results.weights import Selection
from sftknow_core.update.spec import RestoreSpec, percent


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads first."""
    details, now = reading.chain_details(key, run_id), restoring.as_it_is_now(key)
    spec = RestoreSpec(k_percent=percent(slider.FIRST_K))
    measuring.question_sets_of(now, run_id)
    restoring.measured(now, run_id, restoring.frozen(spec, k=False), None)
    comparing.measured_ways(now, run_id, None)
    delta_id = restoring.delta_run(key, details.base_id, details.tuned_id)
    if delta_id is not None:
        restoring.reverted(delta_id, restoring.frozen(spec), key[0])
        restoring.reverted_by_place(delta_id, restoring.frozen(spec), key[0])
        restoring.reverted_curve(delta_id, restoring.frozen(spec, k=False), key[0])


def draw() -> None:
    """The page."""
    chosen = open_chain(
        "Restore base weights",
        "Revert **k%** of a region's weights to their base values and keep the rest fine-tuned: move k to see the "
        "restored model's accuracy and how much of the update it reverts.",
    )
    engine.warm(chosen.key[0])
    weights.keep_selection()

    st.session_state[restoring.WHOLE] = True
    position(chosen)
    figures_there(chosen, st.session_state[restoring.PLACE], st.session_state[restoring.ANSWERED])
    show.unfinished(chosen.found.unfinished)


@st.fragment  # letting go of the slider runs this alone: accuracy comes first, the figures after it
def position(chosen: Opened) -> None:
    """The selection, and accuracy there."""
    with show.messages():
        key = restoring.as_it_is_now(chosen.key)
        restoring.warn_invalid_params(restore_text.STRATEGIES)
        addresses.warn({"restore.split": ["dev", "test"]})
        with st.container(horizontal=True, vertical_alignment="bottom"):
            ranking = restoring.pick_ranking(restore_text.STRATEGIES)
            questions = measuring.pick_questions(key, chosen.run_id)
            splits = {"dev": "dev", "test": "test"}
            split = restoring.choice("Split", "restore.split", splits, restore_text.SPLITS["test"])
        st.caption(f"{restore_text.TEST_COSTS} {restore_text.asked_here(chosen.details)}")
        place = measuring.Place(chosen.run_id, restoring.with_k(ranking), questions, split)
        taken = None
        with restoring.said():
            taken = restoring.taken_if_compared(chosen.key, chosen.details, place.spec)
        if place.spec.strategy in ("top", "largest"):
            weights.link("pages/parameters.py", "View these weights", chosen.run_id, place.spec)
        waiting = measuring.answers(chosen.key, chosen.details, place, taken)
        restoring.draw_the_rest(place, waiting)


@st.fragment
def figures_there(chosen: Opened, place: measuring.Place, answered: measuring.Place) -> None:
    """Everything that takes longer to draw. answered: the position before, while this one's k is being evaluated."""
    with show.messages():
        key, spec, split = restoring.as_it_is_now(chosen.key), place.spec, place.split
        rows = restoring.measured(key, chosen.run_id, restoring.frozen(spec, k=False), place.questions.set_id)
        if answered != place:
            st.info(restore_text.still_shown(place.k, answered.k))
        axis = answers(chosen, rows, answered)
        st.subheader("Compare rankings")
        with restoring.said():
            comparing.compare(key, chosen.run_id, split, axis, place.questions.set_id)
        with restoring.said(quietly=True):
            delta_id = restoring.delta_run(chosen.key, chosen.details.base_id, chosen.details.tuned_id)
            if delta_id is None:
                st.info(restore_text.not_compared(chosen.details))
            else:
                taken = restoring.reverted(delta_id, restoring.frozen(spec), chosen.key[0])
                put_back(chosen, delta_id, spec, taken)
        exporting.section(key, chosen.details, spec, lambda: tables(chosen, spec, rows))


def answers(chosen: Opened, rows: pd.DataFrame, place: measuring.Place) -> str:
    """The figures of accuracy and answers; returns the axis chosen."""
    taken = None
    with restoring.said(quietly=True):
        taken = restoring.taken_if_compared(chosen.key, chosen.details, place.spec)
    axis = curve(rows, place.split, float(place.k), taken)
    shown = measured.shown_state(rows, place.k, place.split)
    if shown is not None:
        levels(rows, shown, place.split)
        flips(chosen, rows, shown, place)
    return axis


def curve(rows: pd.DataFrame, split: str, k: float, taken: Selection | None) -> str:
    """Accuracy by share of weights reverted; returns the axis chosen."""
    st.subheader("Accuracy over k")
    addresses.warn({"restore.axis": list(restore_text.AXES.values())})
    axis = restoring.choice("Axis", "restore.axis", restore_text.AXES)
    headline = measured.headline(rows, split)
    now = restore.now_on(axis, k, taken)
    alt = f"Accuracy on {split} questions over k, with 95% CI; base and fine-tuned"
    drawn = restore.measured_figure(headline, axis, now, show.palette())
    show.figure(drawn, headline, "restore.measured", alt)
    return axis


def levels(rows: pd.DataFrame, shown: MeasuredState, split: str) -> None:
    """The same by mastery level, for the shown state."""
    st.subheader(f"Accuracy by question level, k = {shown.k_percent:g}%")
    table = measured.levels_at(rows, shown, split)
    alt = f"Accuracy on {split} questions of each mastery level: base, tuned, restored {shown.k_percent:g}%"
    show.figure(chain.levels_figure(table, show.palette()), table, "restore.levels", alt)


def flips(chosen: Opened, rows: pd.DataFrame, shown: MeasuredState, place: measuring.Place) -> None:
    """Questions whose answer changed, against tuned or against the k before."""
    heading = st.container()
    restoring.warn_invalid_flip_params()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        state, name = restoring.pick_before(rows, shown, place)
        flip = addresses.named_choice("Outcome", "restore.flip", restore_text.OUTCOMES)
        domain = restoring.choice("Topics", "restore.domain", restore_text.DOMAIN_CHOICES)
        search = st.text_input(
            "Search", key="restore.search", bind="query-params", placeholder="question or answer", width=240
        )
    k, split = shown.k_percent, place.split
    heading.subheader(f"Changed answers: {name or 'previous k'} to k = {k:g}%")
    if state is None:
        st.info(restore_text.no_previous(name))
        return
    key = restoring.as_it_is_now(chosen.key)
    counts = restoring.flip_counts(key, chosen.run_id, shown, split, state)
    heading.markdown(restore_text.flip_sentences(counts, k, name))
    heading.caption(restore_text.FLIPS_SAY)
    table = restoring.flipped(key, chosen.run_id, shown, split, state, flip, domain, search)
    table = table.replace({"flip": restore_text.OUTCOMES})
    before = replace(columns.COLUMNS["before_answer"], header=f"answer, {name}")
    alt = f"Questions whose answer changed between {name} and k = {k:g}%"
    show.listed(table, "restore.flipped", alt, columns.COLUMNS | {"before_answer": before})


def put_back(chosen: Opened, delta_id: str, spec: RestoreSpec, taken: Selection) -> None:
    """The reverted weights at any k, from the histogram of the changes."""
    st.subheader(f"Weights reverted at k = {spec.k_percent}%")
    st.caption("Exact for any k, from the histogram of all changes; no model is evaluated.")
    show.numbers(restore_text.cards(taken, spec))
    if said := restore_text.nothing_left(taken):
        st.warning(said)
    with st.expander("Glossary"):
        st.markdown(restore_text.DEFINITIONS)
    score, k = restore_text.score_of(spec), float(spec.k_percent or 0)
    st.markdown(f"**Share in the top k%**, {restore_text.STRATEGIES[spec.strategy]}")
    curve = restoring.reverted_curve(delta_id, restoring.frozen(spec, k=False), chosen.key[0])
    alt = f"Share of the summed {score} and of the squared change in the top k%, with the null"
    drawn = restore.reverted_figure(curve, k, score, show.palette())
    show.figure(drawn, curve, "restore.taken", alt)
    st.markdown("**Location**: share of each layer and module reverted; ×: enrichment; dashed: by chance")
    alt = "Share of each layer's and each module's weights reverted, with its enrichment"
    places = restoring.reverted_by_place(delta_id, restoring.frozen(spec), chosen.key[0])
    share = restore.share_of(taken)
    drawn = restore.places_figure(places.layers, places.modules, share, show.palette())
    listed = restore.listed_places(places.layers, places.modules)
    show.figure(drawn, listed, "restore.places", alt)


def tables(chosen: Opened, spec: RestoreSpec, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of the figures, for export."""
    return {"measured": rows, **restoring.tables_of_changes(chosen.key, chosen.details, spec)}


if __name__ == "__main__":
    draw()
