"""What the page "Parameters" needs of its own: its reads, remembered, its tables, and the links to and from "Restore".

The two pages show one selection: strategy, region, layers and k stand in the address under the same names
(restore.strategy, restore.region, restore.layers, restore.k), next to the chain (run).
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from sftknow_core.analysis import published
from sftknow_core.present.charts.weights import SCORES
from sftknow_core.results.weights import Cube, Heat, Overview, Spread
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

Frozen = tuple[tuple[str, Any], ...]
"""A RestoreSpec that st.cache_data can tell apart; see restoring.frozen."""
_remembered = st.cache_data(show_spinner=False, max_entries=256)  # a comparison of two models never changes


@_remembered
def overview(root: str, delta_id: str, spec: Frozen) -> Overview:
    """See Cube.overview."""
    return Cube(Cache(root), delta_id).overview(RestoreSpec.from_json(dict(spec)))


@_remembered
def changed_shares(root: str, delta_id: str, region: str, layers: str | None) -> pd.DataFrame:
    """See Cube.changed_shares."""
    return Cube(Cache(root), delta_id).changed_shares(region, layers)


@_remembered
def spread(root: str, delta_id: str, spec: Frozen) -> Spread:
    """See Cube.spread."""
    return Cube(Cache(root), delta_id).spread(RestoreSpec.from_json(dict(spec)))


@_remembered
def concentration(root: str, delta_id: str, region: str, layers: str | None) -> pd.DataFrame:
    """See Cube.concentration."""
    return Cube(Cache(root), delta_id).concentration(region, layers)


@_remembered
def heat(root: str, delta_id: str, spec: Frozen) -> Heat:
    """See Cube.heat."""
    return Cube(Cache(root), delta_id).heat(RestoreSpec.from_json(dict(spec)))


def listed_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """The bars of `Spread` as people read them."""
    names = bars["score"].map({score: name for score, (name, _) in SCORES.items()})
    return bars.assign(score=names).rename(columns={"low": "from", "high": "to"})


def listed_curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Concentration at the paper's k, with the paper's lowest and highest."""
    own = rows[rows["in_paper"]].drop(columns="in_paper")
    return own.merge(published.concentration_range(), how="left", on="k_percent")


def beside_paper(found: Heat) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Our shares by layer and by module, with the paper's."""
    kept = ["share", "weight_share", "enrichment"]
    layers = found.layers[found.layers["layer"].notna()]
    by_layer = layers[["layer", *kept]].merge(published.layer_shares(len(layers)), how="left", on="layer")
    by_module = found.modules[["module", *kept]].merge(published.module_shares(), how="left", on="module")
    return by_layer, by_module


def keep_selection() -> None:
    """The selection of the page that a reader comes from; call it before the widgets are drawn.

    Streamlit takes bound parameters out of the address when it goes from page to page. The values are still there,
    and set anew they reach the widgets and the address of this page.
    """
    for name in ("restore.k", "restore.strategy", "restore.region", "restore.layers"):
        if name in st.session_state:
            st.session_state[name] = st.session_state[name]


def link(page: str, label: str, run_id: str, spec: RestoreSpec) -> None:
    """A link that carries the chain and the whole selection; nothing where the page is in no navigation.

    page: "pages/restore.py" or "pages/parameters.py".
    """
    address = {"run": run_id, "restore.k": f"{spec.k_percent:f}"}
    usual = RestoreSpec(k_percent=spec.k_percent)
    for name in ("strategy", "region", "layers"):
        if getattr(spec, name) != getattr(usual, name):
            address[f"restore.{name}"] = str(getattr(spec, name))
    try:
        st.page_link(page, label=label, icon=":material/arrow_forward:", query_params=address)
    except StreamlitAPIException:  # this page was opened by itself
        return
