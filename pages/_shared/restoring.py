"""What the page "Restore" needs of its own: k in three linked widgets, and its reads, remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
import streamlit as st

from pages._shared.reading import Key
from sftknow_core.errors import SftknowError
from sftknow_core.report import restore_words
from sftknow_core.report.restore_figures import AXES
from sftknow_core.store import cube, restore_cube, restore_views
from sftknow_core.store.cache import Cache
from sftknow_core.store.cube import PAPER_KS
from sftknow_core.update.region import REGIONS
from sftknow_core.update.spec import RestoreSpec, percent

_K, _SLIDER, _QUICK = "restore.k", "restore.slider", "restore.quick"
_FIRST_K = 20.0
_remembered = st.cache_data(show_spinner=False, max_entries=512)
Frozen = tuple[tuple[str, Any], ...]
"""A mapping that st.cache_data can tell apart."""


@contextmanager
def said() -> Iterator[None]:
    """Errors become a message, and what follows on the page is still shown."""
    try:
        yield
    except SftknowError as error:
        st.error(str(error))


def pick_spec(strategies: Mapping[str, str]) -> RestoreSpec:
    """Strategy, region, layers and k, all in the page's address. Raises SpecError for layers that are none.

    strategies: RestoreSpec's name -> what people read.
    """
    with st.container(horizontal=True, vertical_alignment="bottom"):
        strategy = st.selectbox(
            "Which weights",
            list(strategies),
            key="restore.strategy",
            help=_strategy_help(strategies),
            bind="query-params",
            width=180,
        )
        region = st.selectbox(
            "Region", list(REGIONS), key="restore.region", bind="query-params", width=180, help=_REGION_HELP
        )
        layers = st.text_input(
            "Layers", key="restore.layers", bind="query-params", placeholder="all, or e.g. 0-1", width=180
        )
    return RestoreSpec(strategy, region, layers.strip() or None, percent(f"{pick_k():.4f}"))


_REGION_HELP = (
    "transformer: attention and MLP of all layers, without norms; embedding: input and output embeddings; all: every "
    "weight of the model"
)


def _strategy_help(strategies: Mapping[str, str]) -> str:
    meant = "; ".join(f"{name}: {order}" for name, order in strategies.items())
    return f"{meant}. r: change relative to the base weight; |d|: absolute change."


def pick_k() -> float:
    """k in percent: a field (up to 4 places), a slider in halves, and the paper's seven; each moves the others."""
    _start_at()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        field, rail = st.container(width=140), st.container(width="stretch")
    with field:
        k = st.number_input("k (%)", 0.0, 100.0, step=0.5, format="%g", key=_K, bind="query-params")
    k = round(float(k), 4)
    st.session_state[_SLIDER] = round(2 * k) / 2
    st.session_state[_QUICK] = f"{k:g}" if f"{k:g}" in PAPER_KS else None
    with rail:
        st.slider(
            "Share of the region's weights put back, k (%)",
            0.0,
            100.0,
            step=0.5,
            key=_SLIDER,
            format="%g%%",
            on_change=_take_over,
            args=(_SLIDER,),
        )
    st.pills(
        "The k of the paper",
        PAPER_KS,
        format_func="{}%".format,
        key=_QUICK,
        on_change=_take_over,
        args=(_QUICK,),
    )
    return k


def _take_over(widget: str) -> None:
    if (value := st.session_state[widget]) is not None:
        st.session_state[_K] = float(value)


def _start_at() -> None:
    """k where neither the address nor a widget gives one; what is no k in the address is said."""
    given = st.query_params.get(_K)
    try:
        good = given is not None and 0 <= float(given) <= 100
    except ValueError:
        good = False
    if given is not None and not good:
        st.warning(f"k in the address is {given!r}; allowed: 0 to 100. Shown instead: k = {_FIRST_K:g}%.")
        del st.query_params[_K]
        st.session_state.pop(_K, None)
    if not good and _K not in st.session_state:
        st.session_state[_K] = _FIRST_K


@_remembered
def delta_run(key: Key, base_id: str, tuned_id: str) -> str | None:
    """See cube.delta_run."""
    return cube.delta_run(Cache(key[0]), base_id, tuned_id)


@_remembered
def taken(key: Key, delta_id: str, spec: Frozen) -> Mapping[str, Any]:
    """See restore_cube.what_is_taken."""
    return restore_cube.what_is_taken(Cache(key[0]), delta_id, RestoreSpec.from_json(dict(spec)))


@_remembered
def where_taken(key: Key, delta_id: str, spec: Frozen) -> restore_cube.Places:
    """See restore_cube.where_taken."""
    return restore_cube.where_taken(Cache(key[0]), delta_id, RestoreSpec.from_json(dict(spec)))


@_remembered
def taken_curve(key: Key, delta_id: str, spec: Frozen) -> pd.DataFrame:
    """See restore_cube.taken_curve."""
    return restore_cube.taken_curve(Cache(key[0]), delta_id, RestoreSpec.from_json(dict(spec)))


@_remembered
def measured(key: Key, run_id: str, spec: Frozen) -> pd.DataFrame:
    """See restore_views.measured."""
    return restore_views.measured(Cache(key[0]), run_id, RestoreSpec.from_json(dict(spec)))


@_remembered
def flip_counts(key: Key, run_id: str, shown: Frozen, split: str) -> pd.DataFrame:
    """See restore_views.flip_counts."""
    return restore_views.flip_counts(Cache(key[0]), run_id, dict(shown), split)


@_remembered
def flipped(
    key: Key, run_id: str, shown: Frozen, split: str, flip: str, domain: str, search: str
) -> pd.DataFrame:
    """See restore_views.flipped; domain "both" is no limit."""
    domains = ("in", "out") if domain == "both" else (domain,)
    return restore_views.flipped(
        Cache(key[0]), run_id, dict(shown), split, flips=(flip,), domains=domains, search=search
    )


def frozen(spec: RestoreSpec, k: bool = True) -> Frozen:
    """A spec as a key; without its k for what does not depend on it."""
    return tuple({**spec.to_json(), **({} if k else {"k_percent": "0"})}.items())


def state_key(shown: Mapping[str, Any]) -> Frozen:
    """A row of `measured` as a key."""
    return (("state_id", shown["state_id"]), ("run_id", shown["run_id"]))


def choice(label: str, key: str, names: Mapping[str, str]) -> str:
    """One of a few, side by side, its name in the address; the first where that names none. names: value -> name."""
    labels = {name: value for value, name in names.items()}
    chosen = str(
        st.segmented_control(
            label,
            list(labels),
            default=next(iter(labels)),
            required=True,
            key=key,
            bind="query-params",
        )
    )
    return labels[chosen]


def headline(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of `measured` that are means over levels, on one split."""
    return rows[rows["level"].isna() & (rows["split"] == split)].drop(columns=["level", "split"])


def n_level(rows: pd.DataFrame, split: str) -> int:
    """Questions of a mastery level."""
    found = rows.loc[rows["level"].notna() & (rows["split"] == split), "n"]
    return int(found.max()) if len(found) else 60


def share_of(numbers: Mapping[str, Any]) -> float:
    """What is put back of the region, in percent."""
    return 100 * float(numbers["n_restored"]) / float(numbers["n_region"])


def listed_places(found: restore_cube.Places) -> pd.DataFrame:
    """Layers and modules in one table."""
    parts = [("layer", found.layers), ("module", found.modules)]
    tables = [
        rows.rename(columns={by: "group", "n": "n_weights"}).assign(by=by, group=rows[by].astype(str))
        for by, rows in parts
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[["by", "group", *table.columns.drop(["by", "group"])]]


def now_on(axis: str, spec: RestoreSpec, numbers: Mapping[str, Any] | None) -> float:
    """The current k on an axis of restore_figures.AXES, in percent; NaN where the cube would have to say."""
    if axis == "k":
        return float(spec.k_percent or 0)
    column, factor, _ = AXES[axis]
    return float("nan") if numbers is None else factor * float(numbers[column])


def say_which(
    spec: RestoreSpec,
    shown: Mapping[str, Any] | None,
    split: str,
    details: Mapping[str, Any],
    n_level: int,
) -> None:
    """Which measured k is shown, and the command that measures the current one where that is another."""
    k = float(spec.k_percent or 0)
    if shown is None:
        st.info("Nothing was measured for these two models with this strategy, region and layers.")
    else:
        st.markdown(restore_words.which_is_shown(k, shown, split))
    if k and (shown is None or shown["k_percent"] != k):
        st.markdown(f"To measure k = {k:g}%, in a terminal (the models and their own answers are kept):")
        st.code(restore_words.command(details, spec, n_level), language="sh", wrap_lines=True)
