"""Rows of first tokens -> mean shifts by level, and how many questions were kept.

The paper's headline is `kl_nats` over the kept questions of level 4. Beside it: the aligned variant, over
every question where nothing but dummy words stands before the base's answer. Intervals speak for the
questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sftknow_core.stats.intervals import bootstrap_t

Row = dict[str, Any]

MEASURES = {
    "shift": ("kl_nats", "kept"),
    "shift_within3": ("kl_nats", "kept_within3"),
    "aligned": ("kl_aligned_nats", None),
    "same_qa": ("kl_same_qa_nats", "kept"),
    "same_completion": ("kl_same_completion_nats", "kept"),
    "floor": ("kl_floor_nats", "kept"),
}
"""Name -> the column averaged, and the mark a question needs to count."""


def summarise_shift(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row a level and measure: n, n_questions, mean_nats, sd_nats, low_nats, high_nats, reason.

    Rows of one state and one question set. n of the n_questions of the level count; without any the mean is
    None and reason says so; with one there is no interval.
    """
    of_level: dict[int | None, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        of_level[row["level"]].append(row)
    return [
        _mean(of_level[level], measure) | {"level": level, "measure": measure}
        for level in sorted(of_level, key=_order)
        for measure in MEASURES
    ]


def kept_by_topic(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """One row a topic and level: n_questions, n_kept, n_within3, n_aligned; the base model alone decides."""
    groups: dict[tuple[str, int | None], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["topic"], row["level"]].append(row)
    ordered = sorted(groups, key=lambda group: (group[0], _order(group[1])))
    return [
        {
            "topic": topic,
            "level": level,
            "n_questions": len(groups[topic, level]),
            "n_kept": sum(row["kept"] for row in groups[topic, level]),
            "n_within3": sum(row["kept_within3"] for row in groups[topic, level]),
            "n_aligned": sum(row["kl_aligned_nats"] is not None for row in groups[topic, level]),
        }
        for topic, level in ordered
    ]


def _order(level: int | None) -> int:
    """Unknown levels first."""
    return -1 if level is None else level


def _mean(rows: list[Mapping[str, Any]], measure: str) -> Row:
    column, mark = MEASURES[measure]
    values = [row[column] for row in rows if row[column] is not None and (mark is None or row[mark])]
    counts = {"n": len(values), "n_questions": len(rows)}
    names = ("mean_nats", "sd_nats", "low_nats", "high_nats")
    if not values:
        return counts | dict.fromkeys(names) | {"reason": "the base answers no question of this level so"}
    estimate = bootstrap_t(values)
    low = None if estimate.low is None else max(0.0, estimate.low)
    return (
        counts
        | dict(zip(names, (estimate.mean, estimate.sd, low, estimate.high), strict=True))
        | {"reason": None}
    )
