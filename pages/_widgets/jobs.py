"""Jobs as they are now: how far, how long yet, the loss while it falls, stop; and how the last ones ended.

Jobs are on record in the cache, whoever started them, so the panel finds them after a reload, in another browser,
and after the server was started again. While one runs the panel draws itself every second, and nothing else.
"""

from __future__ import annotations

import streamlit as st

from pages._widgets import mode, reading, show
from sftknow_core.errors import SftknowError
from sftknow_core.present.charts import chain
from sftknow_core.present.text import training
from sftknow_core.present.text.tokens import plain
from sftknow_core.results import training as training_results
from sftknow_core.serve import jobs
from sftknow_core.serve.job_specs import DemoJob, JobSpec
from sftknow_core.serve.job_state import training_run
from sftknow_core.serve.jobs import Job, JobState
from sftknow_core.store.cache import Cache

_SECONDS_BETWEEN_LOOKS = 1.0
_SEEN = "jobs_panel.running"
_REFUSED = "jobs_panel.refused"
_WAITING = "demo"
_N_ENDED = 3
_ENDS = {
    JobState.DONE: "✓ done",
    JobState.FAILED: "✗ failed",
    JobState.STOPPED: "■ stopped",
    JobState.INTERRUPTED: "✗ interrupted",
}


def panel(cache: Cache, where: str, *, ended: bool = True, command: str | None = None) -> bool:
    """Draw the jobs, running ones first; returns whether any runs.

    ended: whether the last ended ones are shown too. command: of `sftknow`, where only its jobs belong here.
    """
    running = any(job.state is JobState.RUNNING for job in _those_of(jobs.jobs(cache), command))
    every = _SECONDS_BETWEEN_LOOKS if running else None
    st.fragment(draw, run_every=every)(str(cache.root), where, ended, command)
    return running


def _those_of(found: list[Job], command: str | None) -> list[Job]:
    return [job for job in found if command in (None, job.arguments[0])]


def draw(root: str, where: str, ended: bool, command: str | None = None) -> None:
    """The panel's inside: what a tick draws again. When there is more to see, the whole page is drawn again.

    That is when a job has ended, and on a page that waits for the first finished chain, when there is one.
    """
    cache = Cache(root)
    if where == _WAITING and not reading.survey(reading.key_of_cache()).finished.empty:
        st.rerun()
    found = _those_of(jobs.jobs(cache), command)
    running = [job for job in found if job.state is JobState.RUNNING]
    seen = f"{_SEEN}.{where}"
    now, before = {job.job_id for job in running}, st.session_state.get(seen, set())
    st.session_state[seen] = now
    if before - now:
        st.rerun()
    if refused := st.session_state.pop(_REFUSED, None):
        st.error(refused)
    for job in running:
        _running(cache, job, where)
    over = [job for job in found if job.state is not JobState.RUNNING] if ended else []
    for number, job in enumerate(over[:_N_ENDED]):
        _ended(cache, job, where, with_loss=number == 0 and not running)
    if len(over) > 1 and mode.actions_allowed():
        st.button(
            f"Dismiss all {len(over):,} finished jobs", key=f"{where}.dismiss_all", on_click=_dismiss,
            args=(cache, [job.job_id for job in over]), help="Hides these notices. Results are kept.",
        )  # fmt: skip


def start(cache: Cache, spec: JobSpec) -> None:
    """What a start button calls when it is clicked; the panel shows the job, or says why it was refused."""
    try:
        jobs.start(cache, spec)
    except SftknowError as error:
        st.session_state[_REFUSED] = str(error)


def offer_demo(root: str) -> None:
    """For a cache without results: a button that starts the demo, and the jobs under way."""
    with show.messages():
        cache = Cache(root)
        running = panel(cache, _WAITING)
    if running:
        return
    if not mode.actions_allowed():
        mode.explain_read_only()
    else:
        st.button("Start the demo", type="primary", key="demo.start", on_click=start, args=(cache, DemoJob()))


def _running(cache: Cache, job: Job, where: str) -> None:
    with st.container(border=True, key=f"{where}.job.{job.job_id}"):
        st.markdown(f"**{plain(training.job_title(job.arguments))}**")
        share = (job.progress.share if job.progress else None) or 0.0
        st.progress(share, text=plain(training.how_far(job.progress, job.stopping)))
        if mode.actions_allowed():
            st.button(
                "Stop", key=f"{where}.stop.{job.job_id}", disabled=job.stopping, on_click=_stop,
                args=(cache, job.job_id), help="Start the same job again to continue.",
            )  # fmt: skip
        _loss(cache, job, where)
        st.caption("Runs in the background.")


def _ended(cache: Cache, job: Job, where: str, *, with_loss: bool) -> None:
    with st.container(border=True, key=f"{where}.job.{job.job_id}"):
        st.markdown(f"**{plain(training.job_title(job.arguments))}**: {_ENDS[job.state]}")
        if job.reason:
            st.markdown(plain(job.reason))
        with st.container(horizontal=True, vertical_alignment="center"):
            if run_id := _result_of(job):
                st.page_link(
                    "pages/overview.py",
                    label="View results",
                    icon=":material/monitoring:",
                    query_params={"run": run_id},
                )
            if mode.actions_allowed():
                st.button(
                    "Dismiss", key=f"{where}.dismiss.{job.job_id}", on_click=_dismiss,
                    args=(cache, [job.job_id]), help="Hides this notice. Results are kept.",
                )  # fmt: skip
        if with_loss:
            _loss(cache, job, where)


def _result_of(job: Job) -> str | None:
    """The chain whose results the overview can show."""
    result = job.result or {}
    chains = result.get("chains") or ([result] if "chosen" in result else [])
    return str(chains[-1]["run_id"]) if chains else None


def _loss(cache: Cache, job: Job, where: str) -> None:
    run_id = training_run(cache, job)
    if run_id is None:
        return
    curve = training_results.loss_curve(cache, run_id)
    if curve.empty:
        return
    last = curve.iloc[-1]
    steps = training_results.steps_announced(cache, run_id)
    of = f" of {steps:,}" if steps else ""
    st.caption(f"Training loss {last['smooth_nats']:.2f} nats/token (step {int(last['step']):,}{of})")
    drawn = chain.loss_figure(curve, steps, show.palette())
    alt = "Training loss of the fine-tuning, in nats per token, over its steps"
    show.figure(drawn, curve, f"{where}.loss.{job.job_id}", alt)


def _stop(cache: Cache, job_id: str) -> None:
    try:
        jobs.stop(cache, job_id)
    except SftknowError as error:
        st.session_state[_REFUSED] = str(error)


def _dismiss(cache: Cache, job_ids: list[str]) -> None:
    try:
        for job_id in job_ids:
            jobs.dismiss(cache, job_id)
    except SftknowError as error:
        st.session_state[_REFUSED] = str(error)
