"""What the form of a fine-tuning leads to: the train set that would be drawn, and what the job would take.

Facts and scores are read once and remembered.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages._widgets import run_list, show
from pages._widgets.reading import Key
from pages._widgets.training import QUESTIONS, Wish
from sftknow_core.facts.dataset import DEMO
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.facts_ref import FactsRef
from sftknow_core.pipeline import estimate
from sftknow_core.pipeline.estimate import Estimate
from sftknow_core.present.text import training
from sftknow_core.present.text.tokens import topic_name
from sftknow_core.results import training as training_results
from sftknow_core.serve import train_preview
from sftknow_core.serve.job_specs import ChainJob
from sftknow_core.serve.train_preview import Levels, Preview
from sftknow_core.store.cache import Cache

_NAME = "fine_tune"
PREVIEW_COLUMNS = {
    "topic": ("topic", "Wikidata relation", None),
    "drawn": ("drawn", "facts that would be trained on", "{:,.0f}"),
    "available": ("there are", "in-domain train facts of the level in this topic", "{:,.0f}"),
    "question": ("question", "as it is trained on", None),
    "gold": ("answer", "as it is trained on", None),
    "level": ("level", "mastery level, 0 to 4", "{:g}"),
}


@st.cache_resource(show_spinner="Reading the facts …", max_entries=4)
def facts_of(data: str, stamp: int) -> FactSet:
    """The facts of demo or a path; stamp: when the path changed last. Nobody changes them."""
    return FactsRef(data).load()[0]


@st.cache_resource(show_spinner="Reading the scores of mastery …", max_entries=8)
def levels_of(key: Key, base_id: str | None, data: str, stamp: int) -> Levels | None:
    """See train_preview.known_levels."""
    return train_preview.known_levels(Cache(key[0]), base_id, facts_of(data, stamp))


@st.cache_data(show_spinner=False, max_entries=64)
def speeds(key: Key, base_id: str, lora: bool) -> dict[str, training_results.Speed]:
    """See training_views.speeds; scores that were shipped took nobody here any time."""
    shipped = train_preview.shipped_scores().get("run_id")
    without = [str(shipped)] if shipped else []
    return training_results.speeds(Cache(key[0]), base_id, "lora" if lora else "full", without)


def show_train_set(key: Key, wish: Wish) -> tuple[Preview | None, FactSet, Levels | None]:
    """What would be trained on; None where the job has to score mastery first. Raises DataError, SpecError."""
    stamp = _stamp(wish.job.data)
    facts = facts_of(wish.job.data, stamp)
    levels = levels_of(key, wish.base_id, wish.job.data, stamp)
    if levels is None:
        st.info(
            f"How well this model knows these {len(facts.facts):,} facts is not in this cache, so the train set cannot "
            "be shown yet. The job scores mastery first, and keeps the scores for later jobs."
        )
        return None, facts, None
    drawn = train_preview.preview(facts, levels.by_fact, wish.job.level, wish.n, wish.job.seed)
    there = train_preview.available(facts.facts, levels.by_fact)
    level = wish.job.level
    suited = there[there["level"] == int(level)] if level.isdigit() else there
    st.markdown(
        f"**{drawn.n:,} facts** would be trained on, drawn from {suited['n'].sum():,} in-domain train facts "
        f"{f'of level {level}' if level.isdigit() else 'of all levels'}. {training.shortage(drawn.shortages)}"
    )
    topics = suited.groupby("topic")["n"].sum().rename("available").to_frame()
    topics["drawn"] = drawn.drawn.groupby("topic")["n"].sum()
    table = topics.fillna({"drawn": 0}).reset_index()[["topic", "drawn", "available"]]
    named = {"topic": [topic_name(topic) for topic in table["topic"]]}
    with st.container(horizontal=True, gap="medium", key="fine_tune_preview"):
        with st.container(width="stretch"):
            show.listed(table.assign(**named), f"{_NAME}.topics", "Facts by topic", PREVIEW_COLUMNS)
        with st.container(width="stretch"):
            rows = drawn.rows[["question", "gold", *([] if level.isdigit() else ["level"])]]
            show.listed(rows, f"{_NAME}.rows", "The first facts of the train set", PREVIEW_COLUMNS)
    if not level.isdigit():
        st.caption(training.by_level(drawn.drawn.groupby("level")["n"].sum().to_dict()))
    return drawn, facts, levels


def estimated(key: Key, wish: Wish, drawn: Preview | None, facts: FactSet, levels: Levels | None) -> Estimate:
    """Time and memory of the job, as far as they can be told."""
    job, models = wish.job, run_list.base_models(key)
    chain = job if isinstance(job, ChainJob) else None
    asked = None
    if chain is not None and levels is not None:
        asked = train_preview.n_questions(facts, levels.by_fact, int(chain.questions or QUESTIONS))
    known = models[models["model_id"] == wish.base_id]
    on_disk = estimate.parameters_of(wish.folder) if wish.folder else None
    return estimate.estimate(
        speeds(key, wish.base_id, job.lora) if wish.base_id else {},
        n_train=drawn.n if drawn else wish.n,
        epochs=job.epochs or wish.preset().epochs,
        lora=job.lora,
        ks=None if chain is None else chain.ks,
        n_questions=asked,
        n_unscored=0 if levels is not None else len(facts.facts),
        n_params=int(known["n_params"].iloc[0]) if len(known) else on_disk and on_disk[0],
        dtype=str(known["dtype"].iloc[0]) if len(known) else None,
    )


def _stamp(data: str) -> int:
    path = Path(data).expanduser()
    return path.stat().st_mtime_ns if data != DEMO and path.exists() else 0
