"""What the page of accuracies shares: its choices, its cached reads, and the links from counts to questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages._widgets import addresses
from pages._widgets.questions import gathered
from pages._widgets.reading import Key, survey
from sftknow_core.analysis import published
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.charts.across import ACCURACY, KL, over_n_figure
from sftknow_core.present.charts.palette import Palette
from sftknow_core.present.text.accuracy import OFF
from sftknow_core.present.text.tokens import OUTCOMES, PROMPTS
from sftknow_core.results import accuracy
from sftknow_core.results.accuracy import Group
from sftknow_core.results.measured import ZERO_SHOT
from sftknow_core.results.states import KL_LEVEL, TrainSet
from sftknow_core.store.cache import Cache

_QUESTIONS = Path(__file__).parents[1] / "token_shifts.py"
FLIPS = {
    "right → wrong by tuning": ("tuning", "n_lost"),
    "wrong → right by tuning": ("tuning", "n_gained"),
    "healed by restoring": ("restoring", "n_gained"),
    "broken by restoring": ("restoring", "n_lost"),
}
"""A kind of flip, as the question browser calls it -> the step, and the column with its count."""
STATES = {"tuned": ("tuned",), "restored": ("restored",), "both": ("tuned", "restored")}
LEVELS = {"mean over levels": None, **{f"level {level}": level for level in range(5)}}
_PAPERS = [OFF, *published.MODELS]
_HEATS = ["tuned", "restored"]
_remembered = st.cache_data(show_spinner=False, max_entries=64)


@_remembered
def changes(root: str, run_id: str, stamp: str, k: float, prompt: str) -> dict[str, pd.DataFrame]:
    """ "levels": results.accuracy.by_level; "changes": results.accuracy.changes. stamp: Questions.stamp."""
    found = accuracy.answers(gathered(root, run_id, stamp), k, prompt)
    return {"levels": accuracy.by_level(found), "changes": accuracy.changes(found)}


@_remembered
def group_of(key: Key, run_id: str) -> Group:
    """See results.accuracy.group_of."""
    return accuracy.group_of(Cache(key[0]), survey(key), run_id)


@_remembered
def accuracies(key: Key, group: Group, prompt: str = ZERO_SHOT) -> pd.DataFrame:
    """See results.accuracy.accuracies."""
    return accuracy.accuracies(Cache(key[0]), group, prompt)


class OverN(NamedTuple):
    """A figure over N, and what it shows; nobody changes them."""

    figure: go.Figure
    cells: pd.DataFrame
    """See results.accuracy.over_seeds."""
    rows: pd.DataFrame
    """See results.accuracy.of_level."""


@st.cache_resource(show_spinner=False, max_entries=32)  # as it is: pages redraw it with each filter
def accuracy_over_n(
    key: Key,
    group: Group,
    level: int | None,
    states: tuple[str, ...],
    palette: Palette,
    paper: str | None = None,
    prompt: str = ZERO_SHOT,
) -> OverN:
    """Accuracy on one test level (None: mean over levels), beside the paper's model of that name."""
    rows = accuracy.of_level(accuracies(key, group, prompt), level, states)
    cells = accuracy.over_seeds(rows, ACCURACY.numbers, clip=(0, 1))
    beside = published.at_level(paper, level) if paper else None
    return OverN(over_n_figure(cells, rows, ACCURACY, palette, beside, paper or ""), cells, rows)


@st.cache_resource(show_spinner=False, max_entries=32)
def kl_over_n(key: Key, group: Group, states: tuple[str, ...], palette: Palette) -> OverN:
    """Mean KL on level 4."""
    rows = accuracy.of_level(accuracy.shifts(Cache(key[0]), group), KL_LEVEL, states)
    cells = accuracy.over_seeds(rows, KL.numbers)
    return OverN(over_n_figure(cells, rows, KL, palette), cells, rows)


def choice(label: str, key: str, options: Sequence[str], default: str | None = None) -> str:
    """One of a few, in the address under `key`; the first where that names none."""
    return str(
        st.segmented_control(
            label, list(options), default=default or options[0], required=True, key=key, bind="query-params"
        )
    )


def warn_invalid_params(page: str) -> None:
    """What the address asks of the figures over N, and no widget offers."""
    addresses.warn({f"{page}.state": list(STATES), f"{page}.level": list(LEVELS), f"{page}.paper": _PAPERS})


def pick_states(page: str) -> tuple[str, ...]:
    """Which states a figure over N shows."""
    return STATES[choice("Shown", f"{page}.state", list(STATES))]


def pick_level(page: str) -> int | None:
    """The test questions' level; None: the mean over levels."""
    return LEVELS[choice("Test questions", f"{page}.level", list(LEVELS))]


def pick_prompt(page: str, prompts: Sequence[str]) -> str:
    """The prompt of base, tuned and restored: 5-shot where all were asked so. prompts: of the run."""
    addresses.warn({f"{page}.prompt": list(prompts)})
    names = {prompt: PROMPTS[prompt] for prompt in prompts}
    return addresses.named_choice("Prompt", f"{page}.prompt", names)


def pick_paper() -> str | None:
    """The paper's model whose numbers are laid over ours; None: off."""
    model = choice("The paper's numbers", "accuracy.paper", _PAPERS)
    return None if model == OFF else model


def pick_heat(rows: pd.DataFrame, train_set: TrainSet) -> tuple[int, str]:
    """One of the N there are, the chosen chain's where the address names none; and the model asked."""
    sizes = sorted({int(n) for n in rows["n_train"].dropna()})
    names = {f"{n:,}": n for n in sizes}
    default = f"{train_set.n:,}" if train_set.n in sizes else next(iter(names))
    addresses.warn({"accuracy.n": list(names), "accuracy.heat": _HEATS}, {"accuracy.n": default})
    with st.container(horizontal=True):
        n = names[choice("N facts fine-tuned on", "accuracy.n", list(names), default)]
        return n, choice("Model", "accuracy.heat", _HEATS)


def links(table: pd.DataFrame, run_id: str, k: float, prompt: str) -> None:
    """Counts of flips of one domain that lead to the questions behind them, one row a kind of flip.

    table: results.accuracy.changes.
    """
    domain = {DOMAIN_NAMES[d]: d for d in table["domain"].unique() if d in DOMAIN_NAMES}
    names = list(domain)
    addresses.warn({"accuracy.domain": names})
    chosen = domain[choice("Topics", "accuracy.domain", names)]
    here = table[table["domain"] == chosen]
    for flip, (step, count) in FLIPS.items():
        rows = here[here["step"] == step]
        if rows.empty:
            continue
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
            st.markdown(f"**{OUTCOMES.get(flip, flip)}**", width=235)
            width = 96 if rows[count].max() < 1000 else 116
            for row in rows.sort_values("level", na_position="first").to_dict("records"):
                _link(row, count, _address(run_id, flip, chosen, row["level"], k, prompt), width)


def _link(row: Mapping[Any, Any], count: str, address: Mapping[str, Any], width: int) -> None:
    where = "all" if pd.isna(row["level"]) else f"level {row['level']}"
    n = int(row[count])
    st.page_link(
        _QUESTIONS, label=f"{where}: {n:,}", disabled=n == 0, query_params=dict(address), width=width
    )


def _address(run_id: str, flip: str, domain: str, level: Any, k: float, prompt: str) -> dict[str, Any]:
    """The address of the question browser with its filters set; `k` 0 leaves that to the browser."""
    found: dict[str, Any] = {"run": run_id, "token_shifts.change": flip, "token_shifts.domain": domain}
    found |= {"token_shifts.split": "test", "token_shifts.prompt": prompt}
    if not pd.isna(level):
        found["token_shifts.levels"] = str(level)
    if k:
        found["token_shifts.k"] = f"{k:g}"
    return found
