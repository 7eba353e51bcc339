"""Restore: put any k% of the update back and see what that amounts to, and what was measured. Reads finished runs."""

import streamlit as st

from pages._shared import restoring, show
from pages._shared.page import open_chain
from sftknow_core.report import figures, restore_figures, restore_words
from sftknow_core.store import restore_views
from sftknow_core.update.spec import RestoreSpec

key, found, run_id, details = open_chain(
    "Put part of the update back",
    "Fine-tuning changed nearly every weight of the base model. Here **k%** of a region's weights return to their base "
    "values and the rest stays tuned: move k and see at once what that takes back, and, where it was measured, what "
    "the model answers then.",
)
with show.messages():
    delta_id = restoring.delta_run(key, details["base_id"], details["tuned_id"])


@st.fragment  # the slider redraws this part only
def slider() -> None:
    """Everything that depends on the selection."""
    with show.messages():
        spec = restoring.pick_spec(restore_words.STRATEGIES)
        taken = None
        with restoring.said():
            taken = from_weights(spec)
        from_answers(spec, taken)


def from_weights(spec: RestoreSpec) -> restore_words.Numbers | None:
    """What the histogram of the changes says of any k; None where the two models were not compared."""
    st.subheader(f"What k = {spec.k_percent:f}% puts back")
    if delta_id is None:
        st.info(
            "The weights of these two models are not compared in this cache. In a terminal: "
            f"`sftknow delta --base {details['base_name']} --tuned {details['tuned_id']}`"
        )
        return None
    st.caption(
        "Counted from a histogram of all changes, for any k, without the model. No question is asked here."
    )
    taken = restoring.taken(key, delta_id, restoring.frozen(spec))
    show.numbers(restore_words.cards(taken, spec))
    if said := restore_words.nothing_left(taken):
        st.warning(said)
    with st.expander("Definitions and units"):
        st.markdown(restore_words.DEFINITIONS)
    score, k = restore_words.score_of(spec), float(spec.k_percent)
    st.markdown(f"**How much the first k% hold**, {restore_words.STRATEGIES[spec.strategy]}")
    curve = restoring.taken_curve(key, delta_id, restoring.frozen(spec, k=False))
    alt = f"Share of the summed {score} and of the squared change that the first k% hold, with the null"
    drawn = restore_figures.taken_figure(curve, k, score, show.palette())
    show.figure(drawn, curve, "restore.taken", alt)
    st.markdown(
        "**Where they sit**: part of each layer and module put back; ×: enrichment; dashed: as by chance"
    )
    alt = "Share of each layer's and each module's weights that is put back, with its enrichment"
    found = restoring.where_taken(key, delta_id, restoring.frozen(spec))
    share = restoring.share_of(taken)
    drawn = restore_figures.places_figure(found.layers, found.modules, share, show.palette())
    show.figure(drawn, restoring.listed_places(found), "restore.places", alt)
    return taken


def from_answers(spec: RestoreSpec, taken: restore_words.Numbers | None) -> None:
    """What the model answered at the k that were measured."""
    st.subheader("What it answers: accuracy against what was put back")
    with st.container(horizontal=True):
        split = restoring.choice("Questions", "restore.split", {"dev": "dev", "test": "test"})
        axis = restoring.choice("Axis", "restore.axis", restore_words.AXES)
    st.caption(restore_words.SPLITS[split])
    rows = restoring.measured(key, run_id, restoring.frozen(spec, k=False))
    headline = restoring.headline(rows, split)
    now = restoring.now_on(axis, spec, taken)
    alt = f"Accuracy on {split} questions against what was put back, with 95% bands; base, tuned, five-shot"
    drawn = restore_figures.measured_figure(headline, axis, now, show.palette())
    show.figure(drawn, headline, "restore.measured", alt)
    shown = restore_views.nearest_state(rows, float(spec.k_percent), split)
    restoring.say_which(spec, shown, split, details, restoring.n_level(rows, split))
    if shown is None:
        return
    st.subheader(f"Accuracy by mastery level, k = {shown['k_percent']:g}%")
    table = restore_views.levels_at(rows, shown, split)
    alt = (
        f"Accuracy on {split} questions of each mastery level: base, tuned, restored {shown['k_percent']:g}%"
    )
    show.figure(figures.levels_figure(table, show.palette()), table, "restore.levels", alt)

    st.subheader(f"Questions that flipped between tuned and k = {shown['k_percent']:g}%")
    counts = restoring.flip_counts(key, run_id, restoring.state_key(shown), split)
    st.markdown(restore_words.flip_sentences(counts, shown["k_percent"]))
    st.caption(
        "Healed: wrong → right; broken: right → wrong. A test at one k, decided "
        "before looking; over many k the smallest p is too small by chance."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        flip = restoring.choice("Change", "restore.flip", restore_words.FLIP_NAMES)
        domain = restoring.choice("Topics", "restore.domain", restore_words.DOMAIN_CHOICES)
        search = st.text_input(
            "Search", key="restore.search", bind="query-params", placeholder="question or answer", width=240
        )
    table = restoring.flipped(key, run_id, restoring.state_key(shown), split, flip, domain, search)
    show.listed(table, "restore.flipped", "Questions whose answer changed between tuned and restored")


slider()
show.unfinished(found.unfinished)
