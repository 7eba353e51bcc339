"""Overview: what one fine-tuning did to what the model knew, and what restoring gave back. Reads finished chains."""

from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._widgets import accuracy, addresses, jobs, reading, run_list, show, studies
from pages._widgets.page import open_chain
from pages._widgets.reading import Key
from sftknow_core.present import columns
from sftknow_core.present.charts import chain
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.html import run
from sftknow_core.present.text import restore, story, training
from sftknow_core.results import training as training_results
from sftknow_core.results.chains import comparable
from sftknow_core.results.measured import FIVE_SHOT
from sftknow_core.store.cache import Cache

_STUDIES = Path(__file__).parent / "study.py"
_MODELS = ["name", "architecture", "n_params", "dtype", "size_mb", "used_by", "model_id", "path"]
_STUDIES_SHOWN = ["name", "base_name", "n_done", "n_cells", "state", "run_id"]


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads first."""
    details = reading.chain_details(key, run_id)
    prompt = details.prompts[0]
    reading.curve(key, run_id, "test" if prompt == FIVE_SHOT else "dev", prompt)
    reading.levels(key, run_id, prompt)
    reading.shifted_questions(key, run_id, "")


def draw() -> None:
    """The page."""
    key, found, run_id, details = open_chain(
        "Knowledge lost and recovered",
        "A base model is fine-tuned on N facts of one **mastery level** and evaluated before and after. Then the "
        "**k%** most changed weights are reverted, and the restored model is evaluated again.",
        else_shown=cache_contents,
    )
    with show.messages():
        jobs.panel(Cache(key[0]), "overview", ended=False)
        show.numbers(story.key_numbers(details))
        st.caption(story.how_measured(details))
        st.download_button(
            "Export HTML report",
            partial(run.render, Cache(key[0]), run_id),
            f"sftknow-{run_id[:8]}.html",
            "text/html",
            key="overview.report",
            on_click="ignore",
            help="One file for any browser, also offline: slider over evaluated k, figures and changed answers. Takes "
            "some seconds.",
        )
        with st.expander("Glossary"):
            st.markdown(story.DEFINITIONS)

        prompt = accuracy.pick_prompt("overview", details.prompts)
        st.caption(story.comparable(details))
        st.subheader("Accuracy by share of weights reverted")
        st.caption(
            "k: reverted share of the region (%), largest relative change first unless the run's name has another "
            "ranking. Baselines: fine-tuned (k = 0), k = 100% (layers = base; embeddings, LM head and norms stay "
            f"tuned) and base. k selected on dev, zero-shot: {details.chosen.rule}."
        )
        split = _pick_split(prompt)
        table = reading.curve(key, run_id, split, prompt)
        alt = f"Accuracy on {split} questions by share k of weights reverted, with 95% CI"
        show.figure(chain.restoration_figure(table, show.palette()), table, "overview.curve", alt)

        st.subheader("Accuracy by question level")
        st.caption(
            "Test questions. Level: share of correct base completions, from 0 (never) to 4 (more than 75%). From base "
            "through fine-tuned to restored; thin lines: 95% CI."
        )
        table = reading.levels(key, run_id, prompt)
        alt = "Accuracy on test questions of each mastery level: base, tuned and restored"
        show.figure(chain.levels_figure(table, show.palette()), table, "overview.levels", alt)

        st.subheader("All runs")
        st.caption(
            "Test questions; each run restored at its own k, selected on dev. Only runs with the same base, questions "
            "and settings are shown together. One point is one seed."
        )
        table = comparable(found, run_id, prompt)
        alt = "Accuracy of all comparable runs by training level and N: base, fine-tuned and restored"
        show.figure(chain.chains_figure(table, run_id, show.palette()), table, "overview.chains", alt)

        st.subheader("Largest shifts (level 4)")
        st.caption(
            "In-domain test questions. KL(tuned || base) in nats at the answer's first token; gold: probability of the "
            "gold answer's first token; ✓ ✗: fine-tuned answer correct or incorrect. "
            + story.mean_shift(details)
        )
        search = st.text_input(
            "Search", key="overview.search", bind="query-params", placeholder="question or answer"
        )
        table = reading.shifted_questions(key, run_id, search)
        show.listed(table, "overview.shifted", "Level-4 test questions by KL of the answer's first token")

        cache_contents(key)

    show.unfinished(found.unfinished)


def _pick_split(prompt: str) -> str:
    """Which questions, of those that were asked of all states under the prompt."""
    if prompt == FIVE_SHOT:
        st.caption(restore.FIVE_SHOT_ON_TEST)
        return "test"
    addresses.warn({"overview.split": ["dev", "test"]})
    split = st.segmented_control(
        "Questions",
        ["dev", "test"],
        default="dev",
        required=True,
        key="overview.split",
        bind="query-params",
    )
    st.caption(restore.TEST_COSTS)
    return str(split)


def cache_contents(key: Key) -> None:
    """What the cache holds, in lists: base models, runs by kind and state, studies; nothing where it is empty."""
    runs = run_list.table(key)
    models = run_list.base_models(key)
    if runs.empty and models.empty:
        return
    st.subheader("Cache contents")
    st.caption(f"Folder `{key[0]}`. {columns.RUN_KINDS}.")
    if models.empty:
        st.caption("No base model yet.")
    else:
        sized = models.assign(size_mb=models["size_bytes"] / 1e6)[_MODELS]
        show.listed(sized, "overview.models", "Base models of this cache", columns.table("models"))
    st.caption(training.counted(Counter(runs["state"])) + ".")
    counts = training_results.state_counts(runs)
    counts = counts.assign(size_mb=counts.pop("size_bytes") / 1e6)
    show.listed(counts, "overview.runs", "Runs of this cache by kind and state", columns.table("runs"))
    _studies(key)


def _studies(key: Key) -> None:
    if not (found := studies.studies(key)):
        return
    st.markdown("**Studies**")
    table = pd.DataFrame(found)
    table["base_name"] = table["base_name"].where(table["base_name"] != "", table["base_id"])
    show.listed(table[_STUDIES_SHOWN], "overview.studies", "Studies of this cache", columns.table("studies"))
    st.page_link(_STUDIES, label="View studies", icon=":material/arrow_forward:")


if __name__ == "__main__":
    draw()
