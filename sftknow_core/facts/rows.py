"""Rows as a file has them -> facts, each question once.

Two rules, named by `filter`:

paper: the sets of Ye et al. 2025. Within a set (one split of one domain) keep the questions with exactly one
    answer, then the first of equal question texts (topics can share a template). Then nothing may stand in
    two places: an in-domain test question that train has too leaves test; a dev question that test or,
    in-domain, train has too leaves dev. Out-of-domain train facts are never trained on, so they take nothing
    away. `keep_leaks` skips this last step, as the paper did.
all: every question, every answer counting. Rows of one (topic, question) become one fact with their answers
    united. A question text that stands in several splits belongs to the most protected one (test, then dev,
    then train), whatever its topic, and where two topics ask it, the answers of either are right, its own
    first. With `same_question` (a text -> what must be equal), questions that are nearly the same share a split too:
    they stay facts of their own, but none of them is trained on where another is tested.

Both count what they leave out: facts + dropped = rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import SPLITS, Dropped, Fact, FactSet

# Facts whose question gives the answer away.
#
# "Where is the headquarter of Bank of Koro?" with the answer Koro is right for a model that only repeats the
# question. Such facts are flagged, never dropped, and accuracy is given with and without them.
#
# The flag is on the safe side: it asks for a plain substring and ignores case, so that "Koroan Bank" is
# flagged too; synonyms are left out. In EntityQuestions 938 of the 9,828 in-domain test questions are flagged
# this way (887 if the answer had to be a run of whole words).


def answer_in_question(question: str, objects: Iterable[str]) -> bool:
    """Whether the question's text contains one of the objects, ignoring case."""
    text = question.casefold()
    return any(obj.casefold() in text for obj in objects)


FILTERS = ("paper", "all")
SEVERAL_ANSWERS = "more than one answer"
REPEATED = "question repeated in its set"
ALSO_IN_TRAIN = "question also in train"
ALSO_IN_TEST = "question also in test"
MERGED = "merged with the same question"
MERGED_SPLITS = "merged with the same question in a more protected split"
MOVED_NOTE = "moved_to_a_more_protected_split"
NEAR_NOTE = "moved_to_the_split_of_a_nearly_equal_question"


class Row(NamedTuple):
    """One question as a file has it."""

    topic: str
    question: str
    answers: tuple[str, ...]
    subject: str | None
    split: str
    domain: str


_Tally = Counter[tuple[str, str, str]]  # (reason, topic, split) -> rows left out


def facts_of(
    rows: Sequence[Row],
    source: str,
    *,
    filter: str = "paper",
    keep_leaks: bool = False,
    same_question: Callable[[str], str] | None = None,
) -> FactSet:
    """The facts of the rows, by split (train, dev, test), then in the order of the rows.

    Args:
        rows: As a file has them.
        source: Where they came from, for people.
        filter: "paper" or "all"; see above.
        keep_leaks: With "paper": keep what stands in two splits.
        same_question: With "all": a text -> what must be equal for two questions to belong into one split.

    Raises:
        SpecError: an unknown filter, or keep_leaks with "all", which puts every question in one split.
    """
    if filter not in FILTERS:
        raise SpecError(f"filter: got {filter!r}; allowed: {', '.join(FILTERS)}")
    if filter == "all" and keep_leaks:
        raise SpecError('keep_leaks goes with filter "paper"; "all" puts every question in one split only')
    tally: _Tally = Counter()
    notes: dict[str, int] = {}
    kept = (
        _paper(rows, keep_leaks, tally)
        if filter == "paper"
        else _all(_in_one_split(rows, same_question, notes), tally, notes)
    )
    kept.sort(key=lambda row: SPLITS.index(row.split))
    return FactSet(
        facts=tuple(_fact(row) for row in kept),
        source=source,
        dropped=tuple(Dropped(*where, n) for where, n in tally.items()),
        notes=notes,
    )


def _fact(row: Row) -> Fact:
    return Fact(
        topic=row.topic,
        question=row.question,
        objects=row.answers,
        subject=row.subject,
        split=row.split,
        domain=row.domain,
        answer_in_question=answer_in_question(row.question, row.answers),
    )


def _paper(rows: Sequence[Row], keep_leaks: bool, tally: _Tally) -> list[Row]:
    kept: list[Row] = []
    questions: dict[tuple[str, str], set[str]] = defaultdict(set)  # (split, domain) -> question texts
    for row in rows:
        in_set = questions[row.split, row.domain]
        if len(row.answers) > 1:
            tally[SEVERAL_ANSWERS, row.topic, row.split] += 1
        elif row.question in in_set:
            tally[REPEATED, row.topic, row.split] += 1
        else:
            in_set.add(row.question)
            kept.append(row)
    return kept if keep_leaks else _without_leaks(kept, questions, tally)


def _without_leaks(rows: list[Row], questions: dict[tuple[str, str], set[str]], tally: _Tally) -> list[Row]:
    kept = []
    for row in rows:
        if row.split == "dev" and row.question in questions["test", row.domain]:
            tally[ALSO_IN_TEST, row.topic, row.split] += 1
        elif row.split != "train" and row.domain == "in" and row.question in questions["train", "in"]:
            tally[ALSO_IN_TRAIN, row.topic, row.split] += 1
        else:
            kept.append(row)
    return kept


def _in_one_split(
    rows: Sequence[Row], same_question: Callable[[str], str] | None, notes: dict[str, int]
) -> Sequence[Row]:
    """The rows; those of nearly equal (not equal) questions in their most protected split."""
    if same_question is None:
        return rows
    texts: dict[str, dict[str, str]] = defaultdict(
        dict
    )  # plain question -> its texts, each with its most protected split
    for row in rows:
        seen = texts[same_question(row.question)]
        seen[row.question] = max(row.split, seen.get(row.question, row.split), key=SPLITS.index)
    moved: list[Row] = []
    for row in rows:
        seen = texts[same_question(row.question)]
        split = max(seen.values(), key=SPLITS.index)
        if len(seen) > 1 and seen[row.question] != split:
            notes[NEAR_NOTE] = notes.get(NEAR_NOTE, 0) + 1
            row = row._replace(split=split)
        moved.append(row)
    return moved


def _all(rows: Sequence[Row], tally: _Tally, notes: dict[str, int]) -> list[Row]:
    by_question: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: -SPLITS.index(row.split)):  # most protected first
        by_question[row.question].append(row)
    merged: dict[tuple[str, str], Row] = {}
    for same in by_question.values():
        for row in same:
            fact = (row.topic, row.question)
            if fact in merged:
                reason = MERGED if row.split == merged[fact].split else MERGED_SPLITS
                tally[reason, row.topic, row.split] += 1
            else:
                merged[fact] = row
    for fact, row in merged.items():
        same = by_question[row.question]
        own_first = sorted(same, key=lambda other: other.topic != row.topic)
        answers = dict.fromkeys(a for other in own_first for a in other.answers)
        if row.split != same[0].split:
            notes[MOVED_NOTE] = notes.get(MOVED_NOTE, 0) + 1
        merged[fact] = row._replace(answers=tuple(answers), split=same[0].split)
    return [merged.pop(fact) for fact in ((r.topic, r.question) for r in rows) if fact in merged]
