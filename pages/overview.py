"""Overview: what one fine-tuning did to what the model knew, and what restoring gave back. Reads finished chains."""

from functools import partial

import streamlit as st

from pages._widgets import addresses, contents, jobs, reading, show
from pages._widgets.page import open_chain
from sftknow_core.present.charts import chain
from sftknow_core.present.html import run
from sftknow_core.present.text import restore, story
from sftknow_core.results.chains import comparable
from sftknow_core.store.cache import Cache

key, found, run_id, details = open_chain(
    "What fine-tuning took, and what comes back",
    "A base model is fine-tuned on N facts that it knew to one degree (their **mastery level**), and asked other "
    "questions before and after. Then the most changed **k%** of its weights are put back, and it is asked again.",
    else_shown=contents.everything,
)
with show.messages():
    jobs.panel(Cache(key[0]), "overview", ended=False)
    show.numbers(story.key_numbers(details))
    st.caption(story.how_measured(details))
    st.download_button(
        "Download the report",
        partial(run.render, Cache(key[0]), run_id),
        f"sftknow-{run_id[:8]}.html",
        "text/html",
        key="overview.report",
        on_click="ignore",
        help="One file with the slider over measured k, the figures and the flipped questions; opens offline in any "
        "browser. It takes some seconds to make.",
    )
    with st.expander("Definitions and units"):
        st.markdown(story.DEFINITIONS)

    st.subheader("Accuracy against the share put back")
    st.caption(
        "k: share of the region's weights put back to base (%), largest relative change r first unless the run's name "
        "says otherwise. Three endpoints: tuned (k = 0), hybrid (k = 100%: embeddings, LM head, norms stay tuned) and "
        f"base. k was chosen on dev: {details.chosen.rule}."
    )
    addresses.warn({"overview.split": ["dev", "test"]})
    split = st.segmented_control(
        "Questions", ["dev", "test"], default="dev", required=True, key="overview.split", bind="query-params"
    )
    st.caption(restore.TEST_COSTS)
    table = reading.curve(key, run_id, split)
    alt = f"Accuracy on {split} questions against the share k of weights put back, with 95% bands"
    show.figure(chain.restoration_figure(table, show.palette()), table, "overview.curve", alt)

    st.subheader("Accuracy by mastery level of the question")
    st.caption(
        "Test questions. Level: share of right completions when base was sampled; 0 never, 4 more than three in four. "
        "From base through tuned to restored; thin lines are 95% intervals."
    )
    table = reading.levels(key, run_id)
    alt = "Accuracy on test questions of each mastery level: base, tuned and restored"
    show.figure(chain.levels_figure(table, show.palette()), table, "overview.levels", alt)

    st.subheader("All chains at a glance")
    st.caption(
        "Test questions; each chain restored by its own k, chosen on dev. Drawn together: only chains that asked the "
        "same base the same questions in the same way; choose one of the others above to see those. One point is one "
        "seed, so differences between columns include those between seeds."
    )
    table = comparable(found, run_id)
    alt = "Accuracy of all comparable chains by train level and N: base, tuned and restored"
    show.figure(chain.chains_figure(table, run_id, show.palette()), table, "overview.chains", alt)

    st.subheader("Level-4 questions whose answer moved most")
    st.caption(
        "In-domain test questions that base knows best. KL in nats at the answer's first token, tuned against base; "
        "gold: probability of the right answer's first token; ✓ ✗: is the tuned answer right? "
        + story.mean_shift(details)
    )
    search = st.text_input(
        "Search", key="overview.search", bind="query-params", placeholder="question or answer"
    )
    table = reading.shifted_questions(key, run_id, search)
    show.listed(table, "overview.shifted", "Level-4 test questions by KL of the answer's first token")

    contents.everything(key)

show.unfinished(found.unfinished)
