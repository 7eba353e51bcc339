"""The page of studies: its study in the address, cached results, progress, and links to the runs of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._widgets import addresses, jobs, mode, reading, show
from pages._widgets.addresses import PARAMETER, pick_one
from pages._widgets.reading import Key
from sftknow_core.analysis.study import StudyResults, read_study_results
from sftknow_core.present import columns
from sftknow_core.present.text import study
from sftknow_core.results import studies as studies_results
from sftknow_core.results.studies import Study, StudyInfo
from sftknow_core.serve.job_specs import StudyJob
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import DONE

_PAGES = Path(__file__).parents[1]
_SHIPPED = ("demo", "demo-full", "objections")
"""Studies that need nothing but the package."""


def studies(key: Key) -> list[StudyInfo]:
    """See results.studies.list_studies."""
    return _studies(reading.at_work(key))


@st.cache_data(show_spinner=False, max_entries=8, ttl=10)  # a killed study leaves no trace: look again
def _studies(key: Key) -> list[StudyInfo]:
    return studies_results.list_studies(Cache(key[0]))


def opened(key: Key, run_id: str) -> Study:
    """The study as it stood some seconds ago at most: its info and cells are read."""
    return _opened(reading.at_work(key), run_id)


@st.cache_resource(show_spinner=False, max_entries=8, ttl=10)  # a handle reads once: a new one looks again
def _opened(key: Key, run_id: str) -> Study:
    found = Study(Cache(key[0]), run_id)
    _ = found.info, found.cells
    return found


def results(about: Study) -> StudyResults:
    """All results of the cells that are done. Raises GoneError where a chain of the study is gone."""
    chains = [way.run_id for cell in about.cells for way in cell.ways]
    there = [(about.cache.runs / run_id / DONE).exists() for run_id in chains]
    return _results(str(about.cache.root), about.run_id, tuple(zip(chains, there, strict=True)))


@st.cache_resource(  # as it is: tens of MB that nobody changes
    show_spinner="Reading answers and computing verdicts (a few seconds) …", max_entries=3
)
def _results(root: str, run_id: str, chains: tuple[tuple[str, bool], ...]) -> StudyResults:
    """chains: those of the cells that are done, and whether they are still there: a new cell is read at once."""
    found = read_study_results(Cache(root), run_id)
    _ = found.verdicts, found.advice, found.scorecard  # here, while the spinner says so
    return found


# -- which study


def pick(found: Sequence[StudyInfo]) -> str:
    """The run id of the chosen study. found: not empty; see addresses.pick_one."""
    labels = {one.run_id: study.label(one) for one in found}
    return pick_one("Study", "study.run", labels, st.query_params.get(PARAMETER), "Study")


def empty_state(cache: Cache, running: bool) -> None:
    """A cache without a study: what one is, the command, and a button that starts the demo study."""
    st.info(study.EMPTY.format(root=cache.root))
    if running:
        return
    if not mode.actions_allowed():
        mode.explain_read_only()
        return
    st.button(
        "Start the demo study", type="primary", key="study.start", on_click=jobs.start,
        args=(cache, StudyJob()),
    )  # fmt: skip


def offer(cache: Cache, running: bool) -> None:
    """Start or continue a shipped study: finished cells are not run again."""
    if not mode.actions_allowed():
        return
    with st.expander("Start or continue a study"):
        name = st.segmented_control(
            "Study", _SHIPPED, default=_SHIPPED[0], required=True, key="study.which", help=study.SHIPPED
        )
        st.caption(study.HOW_TO_START)
        st.button(
            "Start", key="study.start", disabled=running, on_click=jobs.start,
            args=(cache, StudyJob(study=str(name))), help="Disabled while another job runs." if running else None,
        )  # fmt: skip


# -- how far it is


def coverage(about: Study) -> None:
    """The grid of cells with the state of each seed, what failed and why, and what was fixed before."""
    grid, headers = study.grid(about.cells)
    st.caption(study.CELL_LEGEND)
    show.listed(
        grid, "study.grid", "Cells of the study by training level and N: status of each seed", headers
    )
    wrong = pd.DataFrame([cell for cell in about.cells if cell.reason])
    if len(wrong):
        st.markdown("**Cells without results**")
        cells = columns.of(*(f"cells.{name}" for name in ("level", "n", "seed", "method", "state", "reason")))
        show.listed(wrong[list(cells)], "study.wrong", "Cells that failed or are impossible", cells)
    with st.expander("Settings fixed before the run"):
        st.markdown(
            study.fixed_before(
                about.info, about.spec.params, about.n_questions, about.fixed_rule, about.n_questions_by_size
            )
        )


def links(about: Study) -> None:
    """From one fine-tuning of the study to its own pages."""
    done = {study.cell_name(cell): cell for cell in about.cells if cell.ways}
    addresses.warn({"study.chain": list(done)})
    name = st.selectbox("Fine-tuning", list(done), key="study.chain", bind="query-params")
    for way in done[name].ways:
        address = {"run": way.run_id}
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(study.way(way.strategy, way.region, way.layers), width="content")
            for page, label in (("overview", "Overview"), ("restore", "Restore"), ("accuracy", "Accuracy")):
                st.page_link(
                    _PAGES / f"{page}.py", label=label, icon=":material/open_in_new:", query_params=address
                )
