"""The parts of the page "What drives it": one section an analysis, or what the study lacks for it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages._widgets import addresses, show
from pages._widgets.reading import Key
from sftknow_core.analysis.drives import Drives, read_drives
from sftknow_core.present import columns
from sftknow_core.present.charts import drives as charts
from sftknow_core.present.text import drives as text
from sftknow_core.store.cache import Cache


@st.cache_resource(  # as it is: tens of MB that nobody changes
    show_spinner="Reading answers and fitting models (a few seconds) …", max_entries=3
)
def read(key: Key, run_id: str) -> Drives:
    """All analyses of a study's finished cells; made anew when any run of the cache ends."""
    found = read_drives(Cache(key[0]), run_id)
    _ = found.rates.gains(), found.overlaps  # here, while the spinner says so
    return found


def _heading(section: str) -> None:
    st.subheader(text.TITLES[section], help=text.HELP[section])


def _select(
    label: str, key: str, options: list[str], names: dict[str, str] | None = None, first: int = 0
) -> str:
    """One of several, in the page's address; nothing is asked where there is one."""
    if len(options) == 1:
        return options[0]
    shown = names or {one: one for one in options}
    labels = [shown[one] for one in options]
    addresses.warn({key: labels})
    chosen = st.selectbox(label, labels, index=first, key=key, bind="query-params", width=260)
    return options[labels.index(str(chosen))]


def rates(found: Drives) -> None:
    """Learning rate x steps x N: heat maps first, then steps and update norms."""
    _heading("rates")
    about, colours = found.rates, show.palette()
    if not about.varied:
        st.info(text.not_run("rates", found))
    levels = about.levels()
    with st.container(key="main"):
        level = _select("Training level", "drives.level", levels, {one: text.level_name(one) for one in levels},
                        len(levels) - 1)  # fmt: skip
        if answer := text.rate_answer(found, level):
            st.markdown(answer)
        accuracies, gains = about.accuracies(), about.gains()
        drawn = charts.rate_figure(accuracies, gains, level, colours)
        if drawn is not None:
            st.caption(text.CAPTIONS["rates"])
            table = gains[gains["train_level"] == level]
            alt = "Accuracy fine-tuned and restored, and R, by learning rate and N"
            show.figure(drawn, table, "drives.rates", alt, columns.table("rates"))
    steps = about.steps()
    if (drawn := charts.step_figure(steps, level, colours)) is not None:
        st.caption(text.CAPTIONS["steps"])
        table = steps[steps["train_level"] == level]
        alt = "Difference of accuracy at equal steps, by learning rate, with 95% CI"
        show.figure(drawn, table, "drives.steps", alt, columns.table("rates"))
    elif about.varied:
        st.info(text.not_run("steps", found))
    norms = about.norms()
    if (drawn := charts.norm_figure(norms, level, colours)) is not None:
        st.caption(text.CAPTIONS["norms"])
        alt = "Accuracy over the norm of the update, fine-tuned and restored, by learning rate"
        show.figure(drawn, norms.drop(columns="chain"), "drives.norms", alt, columns.table("rates"))
    else:
        st.info(text.not_run("norms", found))


def masks(found: Drives) -> None:
    """What the mask is, and models restored with another seed's."""
    _heading("masks")
    overlaps = found.overlaps
    if overlaps.empty:
        st.info(text.not_run("masks", found))
        return
    cells = list(dict.fromkeys(overlaps["cell"]))
    cell = _select("Cell", "drives.cell", cells)
    drawn = charts.overlap_figure(overlaps, cell, show.palette())
    if drawn is not None:
        st.caption(text.CAPTIONS["masks"])
        alt = "Jaccard index of the reverted weights over k: between seeds, by chance, and from the base weight's size"
        show.figure(drawn, overlaps[overlaps["cell"] == cell], "drives.masks", alt, columns.table("masks"))
    if found.donor_test.empty:
        st.caption(text.not_run("donors", found))
    else:
        alt = "Accuracy restored with the own mask and with the mask of another seed"
        show.listed(found.donor_test, "drives.donors", alt, columns.table("masks"))


def forgotten(found: Drives) -> None:
    """Who is forgotten: coefficients, then probabilities beside seed churn."""
    _heading("forgotten")
    if found.forgetting is None:
        st.info(text.not_run("forgotten", found))
        return
    options = ["mastery", "mastery and five-shot"]
    known = _select("Known by", "drives.known", options)
    which = found.forgetting_five_shot if known == options[1] else found.forgetting
    assert which is not None
    st.caption(text.forgotten_note(found, which))
    table = text.named_terms(which.coefficients(found.large), text.levels_of(found))
    drawn = charts.forgotten_figure(table, show.palette())
    if drawn is None:
        st.info(_reasons(table))
    else:
        st.caption(text.CAPTIONS["forgotten"])
        alt = "Log-odds of an incorrect answer by property of run and fact, with 95% CI"
        show.figure(drawn, table, "drives.forgotten", alt, columns.table("forgotten"))
    probabilities = which.probabilities()
    drawn = charts.probability_figure(probabilities, show.palette())
    if drawn is not None:
        st.caption(text.CAPTIONS["probabilities"])
        alt = "Share of known facts forgotten and recovered, minus seed churn, with 95% CI"
        show.figure(drawn, probabilities, "drives.probabilities", alt, columns.table("forgotten"))


def _reasons(table: pd.DataFrame) -> str:
    """Why no model was fitted."""
    rows = table[table["reason"].notna()]
    said = [f"{row['model']}: {row['reason']}" for row in rows.to_dict("records")]
    return "Not fitted. " + "; ".join(dict.fromkeys(said)) + "."


def access(found: Drives) -> None:
    """Known but not answered."""
    _heading("access")
    about = found.accessibility
    if about.missing():
        st.info(text.not_run("access", found))
        return
    rows = about.rows()
    names = {str(cell): cell for cell in about.cells()}
    cell = names[_select("Cell", "drives.asked", list(names))]
    ways = list(dict.fromkeys(rows["way"]))
    way = _select("Asked by", "drives.way", ways)
    drawn = charts.access_figure(rows, cell.level, cell.size, way, show.palette())
    st.caption(f"{text.CAPTIONS['access']} {text.access_note(found)}")
    table = rows[(rows["train_level"] == cell.level) & (rows["size"] == cell.size) & (rows["way"] == way)]
    alt = (
        "Share of flipped questions that another way of asking still answers, by question level, with 95% CI"
    )
    if drawn is None:
        st.info("No question flipped in this cell.")
    else:
        show.figure(drawn, table, "drives.access", alt, columns.table("access"))
