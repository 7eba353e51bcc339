"""Which of a chain's questions are shown, and in which order: wishes of a reader -> SQL over questions.Asked.

Values go in as parameters; names of columns are looked up, so that no text of a reader becomes SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sftknow_core.errors import SpecError

PAGE_SIZE = 50
ASKED, FIVE_SHOT = "question alone", "after five examples"
"""How the base was asked: the tuned model's own prompt, or five solved examples before it."""
_BEFORE = {ASKED: "base", FIVE_SHOT: "five"}
FLIPS = {
    "all": "TRUE",
    "right → wrong by tuning": "base_right AND NOT tuned_right",
    "wrong → right by tuning": "NOT base_right AND tuned_right",
    "healed by restoring": "NOT tuned_right AND restored_right",
    "broken by restoring": "tuned_right AND NOT restored_right",
    "always right": "base_right AND tuned_right AND restored_right",
    "always wrong": "NOT (base_right OR tuned_right OR restored_right)",
}
"""What became of the answer -> its condition."""
SORTS = {
    "KL": "kl",
    "KL, restored": "restored_kl",
    "gold p, base": "gold_p_base",
    "gold p, tuned": "gold_p_tuned",
    "gold p, restored": "gold_p_restored",
    "gold rank, base": "gold_rank_base",
    "gold rank, tuned": "gold_rank_tuned",
    "gold rank, restored": "gold_rank_restored",
    "level": "level",
    "right again at k": "back_at_k",
    "topic": "topic",
    "question": "question",
    "gold": "gold",
    "base answer": "base_answer",
    "tuned answer": "tuned_answer",
    "restored answer": "restored_answer",
}
"""What one can sort by -> its column."""


@dataclass(frozen=True)
class Filters:
    """A reader's wishes. Empty tuples and None leave everything in."""

    k_percent: float
    """Which restored state stands beside base and tuned."""
    base: str = ASKED
    """ASKED or FIVE_SHOT."""
    flip: str = "all"
    """A name in FLIPS."""
    levels: tuple[int, ...] = ()
    topics: tuple[str, ...] = ()
    domain: str | None = None
    split: str | None = None
    kl_from: float | None = None
    """Smallest KL by tuning, nats."""
    kl_to: float | None = None
    search: str = ""
    """Text in question, gold or an answer, whatever its case."""
    sort: str = "KL"
    """A name in SORTS; NULL comes last, ties in the order asked."""
    descending: bool = True

    def __post_init__(self) -> None:
        """Raise SpecError for names there are not."""
        for what, name, allowed in (
            ("base", self.base, _BEFORE), ("change", self.flip, FLIPS), ("sort", self.sort, SORTS)
        ):  # fmt: skip
            if name not in allowed:
                raise SpecError(f"{what}: got {name!r}; allowed: {', '.join(allowed)}")
        if None not in (self.kl_from, self.kl_to) and self.kl_from > self.kl_to:  # type: ignore[operator]
            raise SpecError(f"KL from {self.kl_from:g} to {self.kl_to:g} nats: the first must be the smaller")

    @property
    def order(self) -> str:
        """ORDER BY ..."""
        return (
            f"ORDER BY {SORTS[self.sort]} {'DESC' if self.descending else 'ASC'} NULLS LAST, place, fact_id"
        )

    def without_details(self) -> Filters:
        """Only k, split and domain: the population that one question is compared with."""
        return replace(
            self,
            flip="all",
            levels=(),
            topics=(),
            base=ASKED,
            kl_from=None,
            kl_to=None,
            search="",
            sort="KL",
            descending=True,
        )


def answered(filters: Filters) -> str:
    """SELECT of one row a question, with base and restored as the filters want them.

    Columns: fact_id, place, question, topic, level, split, domain, gold, {base,tuned,restored}_{answer,right}, kl,
    restored_kl, gold_p_* and gold_rank_* of the three, gold_token, back_at_k, and what else the question has.
    """
    before = _BEFORE[filters.base]
    return f"""
        SELECT q.* EXCLUDE (base_answer, base_right, five_answer, five_right),
            {before}_answer AS base_answer, {before}_right AS base_right, s.answer AS restored_answer,
            s.is_right AS restored_right, s.kl AS restored_kl, s.gold_p AS gold_p_restored,
            s.gold_rank AS gold_rank_restored
        FROM questions q LEFT JOIN (FROM states WHERE k = {float(filters.k_percent)!r}) s USING (fact_id)"""


def condition(filters: Filters) -> tuple[str, list[Any]]:
    """WHERE over `answered`, with placeholders, and their values."""
    parts, values = [FLIPS[filters.flip]], []
    wishes: tuple[tuple[str, Any], ...] = (
        ("level IN (SELECT unnest(?))", list(filters.levels)),
        ("topic IN (SELECT unnest(?))", list(filters.topics)),
        ("domain = ?", filters.domain),
        ("split = ?", filters.split),
        ("kl >= ?", filters.kl_from),
        ("kl <= ?", filters.kl_to),
    )
    for text, value in wishes:
        if value is not None and value != []:
            parts.append(text)
            values.append(value)
    if wanted := filters.search.strip().lower():
        texts = "question, gold, base_answer, tuned_answer, restored_answer"
        parts.append(f"contains(lower(concat_ws(chr(10), {texts})), ?)")
        values.append(wanted)
    return " AND ".join(f"({part})" for part in parts), values
