"""Which facts of a mastery run are shown, and in which order: wishes of a reader -> SQL over mastery_views.Mastered.

Values go in as parameters; names of columns are looked up, so that no text of a reader becomes SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sftknow_core.errors import SpecError

PAGE_SIZE = 50
SORTS = {
    "order of the run": "place",
    "R": "r",
    "expected mastery": "expected_mastery",
    "R minus expected": "r - expected_mastery",
    "distance to a border": "border_distance",
    "width of the interval": "r_high - r_low",
    "question": "question",
    "answer": "gold",
    "topic": "topic",
}
"""What one can sort by -> its expression."""
DOUBTS = {
    "all": "TRUE",
    "borderline": "borderline",
    "not borderline": "NOT borderline",
    "level 0, yet expected": "expected_level0_marked",
    "not scored": "level IS NULL",
}
"""How sure a fact's level is -> its condition."""


@dataclass(frozen=True)
class Population:
    """The facts that a figure speaks of; None leaves everything in."""

    split: str | None = None
    """train, dev or test."""
    domain: str | None = None
    """in or out."""

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """WHERE with placeholders, and their values."""
        wishes = [(name, value) for name, value in (("split", self.split), ("domain", self.domain)) if value]
        return " AND ".join(["TRUE", *(f"{name} = ?" for name, _ in wishes)]), [value for _, value in wishes]


@dataclass(frozen=True)
class FactFilters:
    """A reader's wishes for the list of facts. Empty tuples leave everything in."""

    population: Population = field(default_factory=Population)
    levels: tuple[int, ...] = ()
    topics: tuple[str, ...] = ()
    doubt: str = "all"
    """A name in DOUBTS."""
    search: str = ""
    """Text in question or answer, whatever its case."""
    sort: str = "order of the run"
    """A name in SORTS; NULL comes last, ties in the order of the run."""
    descending: bool = False

    def __post_init__(self) -> None:
        """Raise SpecError for names there are not."""
        for what, name, allowed in (("level is", self.doubt, DOUBTS), ("sort", self.sort, SORTS)):
            if name not in allowed:
                raise SpecError(f"{what}: got {name!r}; allowed: {', '.join(allowed)}")

    @property
    def order(self) -> str:
        """ORDER BY ..."""
        return f"ORDER BY {SORTS[self.sort]} {'DESC' if self.descending else 'ASC'} NULLS LAST, place"

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """WHERE with placeholders, and their values."""
        where, values = self.population.condition
        parts = [where, DOUBTS[self.doubt]]
        for column, wanted in (("level", self.levels), ("topic", self.topics)):
            if wanted:
                parts.append(f"{column} IN (SELECT unnest(?))")
                values.append(list(wanted))
        if text := self.search.strip().lower():
            parts.append("contains(searched, ?)")
            values.append(text)
        return " AND ".join(f"({part})" for part in parts), values
