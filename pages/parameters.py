"""Parameters: how much of the model fine-tuning really changed, how much, and where. Reads one comparison of models."""

import streamlit as st

from pages._widgets import addresses, reading, restoring, show, slider, weights
from pages._widgets.page import open_chain
from pages._widgets.reading import Key
from sftknow_core.analysis import published
from sftknow_core.present import columns
from sftknow_core.present.charts import weights as weights_charts
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.charts.weights import heat_figure
from sftknow_core.present.text import weights as weights_text
from sftknow_core.update.spec import RestoreSpec, percent


def load(key: Key, run_id: str, colours: Palette) -> None:
    """What the page reads first."""
    details = reading.chain_details(key, run_id)
    delta_id = restoring.delta_run(key, details.base_id, details.tuned_id)
    if delta_id is None:
        return
    spec = RestoreSpec(k_percent=percent(slider.FIRST_K))
    weights.overview(key[0], delta_id, restoring.frozen(spec))
    weights.changed_shares(key[0], delta_id, "all", None)
    weights.spread(key[0], delta_id, restoring.frozen(spec))
    weights.concentration(key[0], delta_id, spec.region, spec.layers)
    weights.heat(key[0], delta_id, restoring.frozen(spec))


def draw() -> None:
    """The page."""
    key, found, run_id, details = open_chain(
        "Weight changes",
        "Weights before and after fine-tuning: number and size of changes, and location of the **k%** with the largest "
        "change. No model is restored on this page.",
    )
    weights.keep_selection()
    with show.messages():
        delta_id = restoring.delta_run(key, details.base_id, details.tuned_id)
    if delta_id is None:
        st.info(
            "The weights of these two models are not compared in this cache. In a terminal: "
            f"`sftknow delta --base {details.base_name} --tuned {details.tuned_id}`"
        )
    else:
        selection(key, run_id, delta_id)
    show.unfinished(found.unfinished)


@st.fragment  # the slider redraws this part only
def selection(key: Key, run_id: str, compared: str) -> None:
    """Everything that depends on the selection."""
    with show.messages():
        restoring.warn_invalid_params(weights_text.STRATEGIES)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            ranking = restoring.pick_ranking(weights_text.STRATEGIES)
        spec = restoring.with_k(ranking)
        weights.link("pages/restore.py", f"Restore k = {spec.k_percent}%", run_id, spec)
        numbers = weights.overview(key[0], compared, restoring.frozen(spec))
        show.numbers(weights_text.cards(numbers), "weights.numbers", 300)
        with st.expander("Glossary"):
            st.markdown(weights_text.DEFINITIONS)
        identical(key, compared, spec, weights_text.what_identical_means(numbers))
        sizes(key, compared, spec)
        addresses.warn({"weights.paper": addresses.ON_OFF})
        paper = st.toggle("Show the paper's numbers", key="weights.paper", bind="query-params")
        concentrated(key, compared, spec, paper)
        places(key, compared, spec, paper)


def identical(key: Key, compared: str, spec: RestoreSpec, said: str) -> None:
    """Which weights kept their bits."""
    st.subheader("Unchanged weights")
    st.markdown(said)
    scopes = {"all": "whole model", "region": "this region"}
    addresses.warn({"weights.scope": list(scopes.values())})
    whole = restoring.choice("Weights of", "weights.scope", scopes) == "all"
    region, layers = ("all", None) if whole else (spec.region, spec.layers)
    table = weights.changed_shares(key[0], compared, region, layers)
    alt = "Share of bit-identical weights by layer and by module"
    drawn = weights_charts.same_figure(table, show.palette())
    show.figure(drawn, table, "weights.same", alt, columns.table("weights"))


def sizes(key: Key, compared: str, spec: RestoreSpec) -> None:
    """How large the changes are."""
    st.subheader("Size of changes")
    bars = weights.spread(key[0], compared, restoring.frozen(spec))
    k = float(spec.k_percent or 0)
    st.markdown(weights_text.thresholds(bars.cuts, k))
    alt = (
        "Histograms of the relative and the absolute change of the region's weights, and the thresholds at k"
    )
    drawn = weights_charts.spread_figure(bars.bars, bars.cuts, k, show.palette())
    show.figure(drawn, weights.listed_bars(bars.bars), "weights.spread", alt, columns.table("weights"))


def concentrated(key: Key, compared: str, spec: RestoreSpec, paper: bool) -> None:
    """How much the most changed hold."""
    st.subheader("Concentration of relative change")
    rows = weights.concentration(key[0], compared, spec.region, spec.layers)
    k = float(spec.k_percent or 0)
    st.markdown(weights_text.what_concentration_means(rows, k))
    alt = "Share of the summed r in the top k%, with the null and other epsilons"
    theirs = published.concentration() if paper else None
    drawn = weights_charts.concentration_figure(rows, k, theirs, show.palette())
    show.figure(drawn, weights.listed_curve(rows), "weights.concentration", alt, columns.table("weights"))


def places(key: Key, compared: str, spec: RestoreSpec, paper: bool) -> None:
    """Where the first k% sit."""
    st.subheader(f"Location of the top {spec.k_percent}%")
    st.caption(
        f"Ranked by {weights_text.STRATEGIES[spec.strategy]}. In a cell: its share of all "
        "reverted weights, and × its enrichment (darker: above chance)."
    )
    heat = weights.heat(key[0], compared, restoring.frozen(spec))
    alt = "Layer by module: share of the reverted weights and enrichment"
    drawn = heat_figure(heat.cells, heat.layers, heat.modules, show.palette())
    show.figure(drawn, heat.cells, "weights.heat", alt, columns.table("weights"))
    if paper:
        by_layer, by_module = weights.beside_paper(heat)
        st.caption(weights_text.paper_note(len(by_layer)))
        with st.container(horizontal=True, gap="medium"):
            tables = (("layer", by_layer), ("module", by_module))
            for name, table in tables:
                with st.container(width=600):  # side by side where there is room
                    alt = f"Our share by {name} and the paper's"
                    show.listed(table, f"weights.by_{name}", alt, columns.table("weights"))


if __name__ == "__main__":
    draw()
