"""Accuracy at the current k -> the cards that a reader watches while sliding."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.terminal_1 import percent, points
from sftknow_core.present.text.story import KeyNumber, Part

Row = Mapping[str, Any]


def accuracy_cards(
    rows: pd.DataFrame, shown: Row, split: str, changes: pd.DataFrame
) -> tuple[KeyNumber, ...]:
    """One card a domain of the split: accuracy of the shown state, and its difference to tuned.

    rows: restore_views.measured. shown: its row of the state. changes: restore_views.flip_counts against tuned;
    empty for tuned itself. On dev there is a further card: test at the k chosen on dev.
    """
    means = rows[rows["level"].isna()]
    of_split = means[means["split"] == split]
    cards = [_domain(of_split, shown, split, domain, changes) for domain in sorted(set(of_split["domain"]))]
    if split == "dev" and (card := _on_test(means)) is not None:
        cards.append(card)
    return tuple(cards)


def _domain(rows: pd.DataFrame, shown: Row, split: str, domain: str, changes: pd.DataFrame) -> KeyNumber:
    rows = rows[rows["domain"] == domain]
    here = _state(rows, rows["state_id"] == shown["state_id"])
    others = [
        f"{name} {_value(row)}"
        for name in ("tuned", "base")
        if (row := _state(rows, rows["state"] == name)) is not None
    ]
    n = 0 if here is None else int(here["n"])
    said = f"{n:,} {split} questions, mean over the mastery levels. For comparison: {', '.join(others)}."
    against = changes[changes["domain"] == domain] if len(changes) else changes
    parts = (_accuracy("accuracy", here), _difference(against))
    return KeyNumber(f"{DOMAIN_NAMES.get(domain, domain).capitalize()}, {_k(shown)}", parts, said)


def _on_test(means: pd.DataFrame) -> KeyNumber | None:
    """Test at the k that was chosen on dev; None where that k was not asked on these questions."""
    chosen = means[means["chosen"] & (means["split"] == "test")]
    if chosen.empty:
        return None
    parts = tuple(
        _accuracy(DOMAIN_NAMES.get(domain, domain), _state(chosen, chosen["domain"] == domain))
        for domain in sorted(set(chosen["domain"]))
    )
    n = int(chosen["n"].sum())
    return KeyNumber(
        f"Test, {_k(dict(chosen.iloc[0]))} chosen on dev",
        parts,
        f"{n:,} test questions, which had no say in choosing k. This card stands still while you slide.",
    )


def _difference(against: pd.DataFrame) -> Part:
    if against.empty:
        return Part("against tuned", "–", "this is tuned")
    row = against.iloc[0]
    if pd.isna(row["gain"]):
        return Part("against tuned", "–", "too few questions")
    interval = f"95%: {points(row['gain_low'])} to {points(row['gain_high'])}"
    return Part("against tuned", f"{points(row['gain'])} points", interval)


def _accuracy(label: str, row: Row | None) -> Part:
    if row is None or isnan(row["accuracy"]):
        return Part(label, "–", "not scored")
    return Part(label, _value(row), f"95%: {percent(row['low'])} to {percent(row['high'])}%")


def _value(row: Row) -> str:
    return "–" if isnan(row["accuracy"]) else f"{percent(row['accuracy'])}%"


def _k(shown: Row) -> str:
    return "tuned, k = 0%" if shown["state"] == "tuned" else f"k = {shown['k_percent']:g}%"


def _state(rows: pd.DataFrame, which: pd.Series[bool]) -> Row | None:
    found = rows[which]
    return dict(found.iloc[0]) if len(found) else None
