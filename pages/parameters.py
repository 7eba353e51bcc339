"""Parameters: how much of the model fine-tuning really changed, how much, and where. Reads one comparison of models."""

import streamlit as st

from pages._widgets import addresses, restoring, show, weights
from pages._widgets.page import open_chain
from sftknow_core.analysis import published
from sftknow_core.present.charts import weights as weights_charts
from sftknow_core.present.charts.weights import heat_figure
from sftknow_core.present.text import weights as weights_text
from sftknow_core.update.spec import RestoreSpec

key, found, run_id, details = open_chain(
    "How much really changed",
    "Every weight of the base model against the same weight after fine-tuning: how many moved at all, how far, and "
    "where the **k%** sit that moved most. Nothing is restored here; these are the weights that restoring would put "
    "back.",
)
weights.keep_selection()
with show.messages():
    delta_id = restoring.delta_run(key, details.base_id, details.tuned_id)


@st.fragment  # the slider redraws this part only
def page(compared: str) -> None:
    """Everything that depends on the selection."""
    with show.messages():
        restoring.warn_invalid_params(weights_text.STRATEGIES)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            ranking = restoring.pick_ranking(weights_text.STRATEGIES)
        spec = restoring.with_k(ranking)
        weights.link(
            "pages/restore.py", f"Put k = {spec.k_percent:f}% back and see the answers", run_id, spec
        )
        numbers = weights.overview(key[0], compared, restoring.frozen(spec))
        show.numbers(weights_text.cards(numbers), "weights.numbers", 300)
        with st.expander("Definitions and units"):
            st.markdown(weights_text.DEFINITIONS)
        identical(compared, spec, weights_text.what_identical_means(numbers))
        sizes(compared, spec)
        addresses.warn({"weights.paper": addresses.ON_OFF})
        paper = st.toggle("Show the paper's numbers", key="weights.paper", bind="query-params")
        concentrated(compared, spec, paper)
        places(compared, spec, paper)


def identical(compared: str, spec: RestoreSpec, said: str) -> None:
    """Which weights kept their bits."""
    st.subheader("What stayed exactly the same")
    st.markdown(said)
    scopes = {"all": "whole model", "region": "this region"}
    addresses.warn({"weights.scope": list(scopes.values())})
    whole = restoring.choice("Weights of", "weights.scope", scopes) == "all"
    region, layers = ("all", None) if whole else (spec.region, spec.layers)
    table = weights.changed_shares(key[0], compared, region, layers)
    alt = "Share of bit-identical weights by layer and by module"
    drawn = weights_charts.same_figure(table, show.palette())
    show.figure(drawn, table, "weights.same", alt, weights_text.COLUMNS)


def sizes(compared: str, spec: RestoreSpec) -> None:
    """How large the changes are."""
    st.subheader("How large the changes are")
    bars = weights.spread(key[0], compared, restoring.frozen(spec))
    k = float(spec.k_percent or 0)
    st.markdown(weights_text.thresholds(bars.cuts, k))
    alt = "Histograms of the relative and the absolute change of the region's weights, and where k cuts them"
    drawn = weights_charts.spread_figure(bars.bars, bars.cuts, k, show.palette())
    show.figure(drawn, weights.listed_bars(bars.bars), "weights.spread", alt, weights_text.COLUMNS)


def concentrated(compared: str, spec: RestoreSpec, paper: bool) -> None:
    """How much the most changed hold."""
    st.subheader("How concentrated the relative change is")
    rows = weights.concentration(key[0], compared, spec.region, spec.layers)
    k = float(spec.k_percent or 0)
    st.markdown(weights_text.what_concentration_means(rows, k))
    alt = "Share of the summed r that the first k% hold, with the null and other epsilons"
    theirs = published.concentration() if paper else None
    drawn = weights_charts.concentration_figure(rows, k, theirs, show.palette())
    show.figure(drawn, weights.listed_curve(rows), "weights.concentration", alt, weights_text.COLUMNS)


def places(compared: str, spec: RestoreSpec, paper: bool) -> None:
    """Where the first k% sit."""
    st.subheader(f"Where the first {spec.k_percent:f}% sit")
    st.caption(
        f"Ranked by {weights_text.STRATEGIES[spec.strategy]}. In a cell: its share of all weights that are put back, "
        "and × its enrichment (a stronger shade: more than its size alone gives)."
    )
    heat = weights.heat(key[0], compared, restoring.frozen(spec))
    alt = "Layer by module: share of the weights put back and enrichment"
    drawn = heat_figure(heat.cells, heat.layers, heat.modules, show.palette())
    show.figure(drawn, heat.cells, "weights.heat", alt, weights_text.COLUMNS)
    if paper:
        by_layer, by_module = weights.beside_paper(heat)
        st.caption(weights_text.paper_note(len(by_layer)))
        with st.container(horizontal=True, gap="medium"):
            tables = (("layer", by_layer), ("module", by_module))
            for name, table in tables:
                with st.container(width=600):  # side by side where there is room
                    alt = f"Our share by {name} and the paper's"
                    show.listed(table, f"weights.by_{name}", alt, weights_text.COLUMNS)


if delta_id is None:
    st.info(
        "The weights of these two models are not compared in this cache. In a terminal: "
        f"`sftknow delta --base {details.base_name} --tuned {details.tuned_id}`"
    )
else:
    page(delta_id)
show.unfinished(found.unfinished)
