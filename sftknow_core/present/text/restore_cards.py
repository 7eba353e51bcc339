"""Accuracy cards at the current k, the comparison of rankings, and the exports of a selection."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd

from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.present.terminal import percent, points
from sftknow_core.present.text.story import KeyNumber, Part
from sftknow_core.registry import plugin_arguments
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import MASK, MeasuredState
from sftknow_core.specs import RANDOM_MASKS
from sftknow_core.update.spec import NO_PROJECTION, RestoreSpec
from sftknow_core.update.strategies import STRATEGIES

# Accuracy at the current k.

Row = Mapping[str, Any]


def accuracy_cards(
    rows: pd.DataFrame, shown: MeasuredState, split: str, changes: pd.DataFrame
) -> tuple[KeyNumber, ...]:
    """One card a domain of the split: accuracy of the shown model, and its difference to tuned.

    rows: Chain.measured. shown: one of its models. changes: Chain.flip_counts against tuned; empty for tuned itself.
    On dev there is a further card: test at the k chosen on dev.
    """
    means = rows[rows["level"].isna()]
    of_split = means[means["split"] == split]
    cards = [_domain(of_split, shown, split, domain, changes) for domain in sorted(set(of_split["domain"]))]
    if split == "dev" and (card := _on_test(means)) is not None:
        cards.append(card)
    return tuple(cards)


def _domain(
    rows: pd.DataFrame, shown: MeasuredState, split: str, domain: str, changes: pd.DataFrame
) -> KeyNumber:
    rows = rows[rows["domain"] == domain]
    here = _state(rows, rows["state_id"] == shown.state_id)
    others = [
        f"{name} {_value(row)}"
        for name in ("tuned", "base")
        if (row := _state(rows, rows["state"] == name)) is not None
    ]
    n = 0 if here is None else int(here["n"])
    said = f"n = {n:,} ({split}), mean over the mastery levels. Compare: {', '.join(others)}."
    against = changes[changes["domain"] == domain] if len(changes) else changes
    parts = (_accuracy("accuracy", here), _difference(against))
    return KeyNumber(f"{DOMAIN_NAMES.get(domain, domain).capitalize()}, {_k(shown)}", parts, said)


def _on_test(means: pd.DataFrame) -> KeyNumber | None:
    """Test at the k that was chosen on dev; None where that k is not evaluated on these questions."""
    chosen = means[means["chosen"] & (means["split"] == "test")]
    if chosen.empty:
        return None
    parts = tuple(
        _accuracy(DOMAIN_NAMES.get(domain, domain), _state(chosen, chosen["domain"] == domain))
        for domain in sorted(set(chosen["domain"]))
    )
    n = int(chosen["n"].sum())
    return KeyNumber(
        f"Test, {_k(MeasuredState.of_row(chosen.iloc[0]))} chosen on dev",
        parts,
        f"n = {n:,} (test). Held-out; independent of the slider.",
    )


def _difference(against: pd.DataFrame) -> Part:
    if against.empty:
        return Part(_AGAINST, "–", "k = 0% is tuned")
    row = against.iloc[0]
    if pd.isna(row["gain"]):
        return Part(_AGAINST, "–", "too few questions")
    interval = f"95% CI {points(row['gain_low'])} to {points(row['gain_high'])}"
    return Part(_AGAINST, f"{points(row['gain'])} pp", interval)


def _accuracy(label: str, row: Row | None) -> Part:
    if row is None or isnan(row["accuracy"]):
        return Part(label, "–", "not scored")
    return Part(label, _value(row), f"95% CI {percent(row['low'])} to {percent(row['high'])}%")


def _value(row: Row) -> str:
    return "–" if isnan(row["accuracy"]) else f"{percent(row['accuracy'])}%"


def _k(shown: MeasuredState) -> str:
    return "tuned, k = 0%" if shown.state == "tuned" else f"k = {shown.k_percent:g}%"


def _state(rows: pd.DataFrame, which: pd.Series[bool]) -> Row | None:
    found = rows[which]
    return dict(found.iloc[0]) if len(found) else None


OTHERS = ("top", "largest", "random")
"""Rankings to evaluate first: the paper's, the one that reverts most of the update, and random."""
_AGAINST = "vs. fine-tuned"
EQUAL_K = (
    "**Same k, different update size.** At the same k the rankings revert very different shares of the squared update "
    "norm. Select the axis “update taken back” to compare at equal shares; with an interpolation compare on "
    "“projection taken back”, because at an equal share it stays further along the update. 95% CI over questions, for "
    "this run only; the best of many points is optimistically biased."
)


def meanings(rows: pd.DataFrame) -> str:
    """Definitions of the rankings in the figure."""
    there = [found for found in STRATEGIES.entries if (rows["strategy"] == found.stored_name).any()]
    said = "; ".join(f"{found.stored_name}: {found.title}" for found in there)
    return f"{said}. r: change relative to the base weight; |d|: absolute change. Bars: 95% CI."


def equal_k(rows: pd.DataFrame) -> str:
    """EQUAL_K, with the example of a k that is evaluated for at least two rankings."""
    restored = rows[(rows["state"] == "restored") & rows["k_percent"].notna()].drop_duplicates("state_id")
    restored = restored.assign(line=_without_mask(restored["line"]))
    lines = restored.groupby("k_percent")["line"].nunique()
    shared = lines[lines == lines.max()] if len(lines) else lines
    if shared.empty or shared.iloc[0] < 2:
        return EQUAL_K
    k = min(shared.index, key=lambda value: abs(value - 20))
    at_k = restored[restored["k_percent"] == k].groupby("line")["energy_taken_back"].mean()
    parts = [f"{line} {percent(share)}%" for line, share in at_k.sort_values(ascending=False).items()]
    return f"{EQUAL_K} At k = {k:g}%: {', '.join(parts)}."


def masks(rows: pd.DataFrame) -> str | None:
    """How far random masks differ, at the k nearest to 20% that several were evaluated at; None where none was."""
    drawn = rows[rows["line"].str.contains(MASK, regex=False) & (rows["state"] == "restored")]
    drawn = drawn.assign(line=_without_mask(drawn["line"]))
    found = drawn.groupby(["k_percent", "line", "domain"])["accuracy"].agg(["min", "max", "mean", "count"])
    found = found[found["count"] > 1].reset_index()
    if found.empty:
        return None
    k = min(found["k_percent"], key=lambda value: abs(value - 20))
    said = [
        f"{row['line']}, {DOMAIN_NAMES.get(row['domain'], row['domain'])}: {row['count']} masks, accuracy "
        f"{percent(row['min'])} to {percent(row['max'])}%, mean {percent(row['mean'])}%"
        for row in found[found["k_percent"] == k].to_dict("records")
    ]
    return f"Spread over random masks at k = {k:g}%: {'; '.join(said)}. Compare with their mean, not with one of them."


def _without_mask(lines: pd.Series[str]) -> pd.Series[str]:
    return lines.str.partition(MASK)[0] if len(lines) else lines


def left_out(rows: pd.DataFrame, column: str) -> str | None:
    """Which evaluated models have no place on the axis; None where all have."""
    missing = rows[(rows["line"] != "") & rows[column].isna()]
    if missing.empty:
        return None
    said = f"Not on this axis: {', '.join(dict.fromkeys(missing['line']))}."
    if column == "projection_taken_back":
        return f"{said} {NO_PROJECTION[0].upper()}{NO_PROJECTION[1:]}."
    return f"{said} Select “update taken back”."


def lacking(rows: pd.DataFrame) -> list[str]:
    """Of OTHERS, those that are not evaluated for the whole transformer region."""
    there = set(_without_mask(rows["line"]))
    return [name for name in OTHERS if name not in there]


def commands(details: Chain, rows: pd.DataFrame) -> str:
    """The commands that evaluate what is lacking, at the evaluated k, for the same models and questions.

    rows: not empty.
    """
    ks = rows.loc[(rows["state"] == "restored") & rows["k_percent"].notna(), "k_percent"]
    wanted = ",".join(f"{k:g}" for k in sorted(set(ks))) or "5,20,40,60"
    base, asked = details.base_name, details.spec.params["evaluate"]
    n_level = int(rows["n_level"].max())
    words = ["sftknow", *plugin_arguments(), "run", "--base", base, "--tuned", details.tuned_id]
    words += ["--data", "demo" if base == "demo" else "FACTS", "--questions", str(n_level), "--k", wanted]
    for name, value in (("prompt", "paper"), ("matcher", "words")):
        if asked.get(name, value) != value:
            words += [f"--{name}", str(asked[name])]
    lines = []
    for name in lacking(rows):
        # one mask says nothing of masks: each seed draws another one for this tuned model
        draws = range(RANDOM_MASKS) if STRATEGIES.get(name).seeded else [None]
        seeds = [[] if seed is None else ["--seed", str(seed)] for seed in draws]
        lines += [shlex.join([*words, "--strategy", name, *seed]) for seed in seeds]
    return "\n".join(lines)


# Downloads for a slider position: the tables of its figures as one zip, and the selection as JSON.

_WHEN = (1980, 1, 1, 0, 0, 0)
"""Equal tables give equal files."""


def selection(details: Chain, spec: RestoreSpec) -> dict[str, Any]:
    """Which weights of which two models are reverted: enough for `sftknow restore` to make the model.

    A recipe holds the threshold too, which takes a pass over the weights to find.
    """
    names = ("base_name", "base_id", "tuned_name", "tuned_id")
    plain = {name: value for name, value in spec.to_json().items() if value is not None}
    return {
        **{name: getattr(details, name) for name in names},
        "selection": plain,
        "command": command(details, spec),
    }


def command(details: Chain, spec: RestoreSpec) -> str:
    """The command that writes the restored model."""
    base = details.base_name if details.base_name == "demo" else details.base_id
    words = [shlex.join(["sftknow", *plugin_arguments(), "restore"]), f"--base {base}"]
    words += [f"--tuned {details.tuned_id}", f"--k {spec.k_percent}"]
    words += [f"--strategy {spec.strategy}", f"--region {spec.region}"]
    words += [f"--layers {spec.layers}"] if spec.layers else []
    return " ".join([*words, "--out NEW_FOLDER"])


def data_zip(tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> bytes:
    """One CSV a table, and selection.json, zipped. tables: name -> table."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, table in tables.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.csv", _WHEN), table.to_csv(index=False))
        text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
        archive.writestr(zipfile.ZipInfo("selection.json", _WHEN), text)
    return held.getvalue()
