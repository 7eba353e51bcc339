"""Questions -> answers -> closed-book accuracy by mastery level (Ye et al. 2025, section 3).

A question is asked once, greedily, with at most 16 new tokens. Its completion is judged by all three
matchers, and every completion is kept, so that another rule can be applied later. The headline is the mean
over the mastery levels of their accuracies, in-domain and out-of-domain apart; its interval speaks for the
questions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from sftknow_core.facts.fact import Fact, question_set_id
from sftknow_core.facts.matcher import OWN_RULE, FactMatcher, verdict_column
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.prompts import PROMPTS
from sftknow_core.facts.synonyms import Synonyms
from sftknow_core.measure.asking import Ask, answer_part, encode_questions
from sftknow_core.measure.levels import N_LEVELS
from sftknow_core.model.generate.decode import Completion, Progress, generate, generate_and_keep
from sftknow_core.model.io.load import LanguageModel
from sftknow_core.stats.intervals import level_balanced, wilson

MAX_NEW_TOKENS = 16
SUBSETS = ("all", "no_answer_in_question")

Row = dict[str, Any]


def answer_questions(
    lm: LanguageModel,
    facts: Sequence[Fact],
    levels: Mapping[str, int],
    synonyms: Synonyms,
    *,
    names: KnownNames | None = None,
    ask: Ask = PROMPTS["paper"],
    matcher: str = "words",
    max_new_tokens: int = MAX_NEW_TOKENS,
    first_row: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Rows of table `answers`, one a fact, in order.

    levels: fact_id -> mastery level under the base model; a fact without one gets level None. names: longer than an
    answer, for the matcher; None: those known without a set of facts. first_row: number of the first row, for facts
    that come in chunks. Raises as encode_questions and generate.
    """
    prompts = encode_questions(lm.tokenizer, facts, ask)
    completions = generate(
        lm, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
    )
    return _judged(facts, completions, levels, synonyms, names, ask, first_row, matcher)


def answer_and_keep(
    lm: LanguageModel,
    facts: Sequence[Fact],
    levels: Mapping[str, int],
    synonyms: Synonyms,
    *,
    names: KnownNames | None = None,
    ask: Ask = PROMPTS["paper"],
    matcher: str = "words",
    max_new_tokens: int = MAX_NEW_TOKENS,
    first_row: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Row], torch.Tensor]:
    """As `answer_questions`, and the logits after each question, [n, vocabulary] float32 on the CPU."""
    prompts = encode_questions(lm.tokenizer, facts, ask)
    completions, logits = generate_and_keep(
        lm, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, progress=progress
    )
    return _judged(facts, completions, levels, synonyms, names, ask, first_row, matcher), logits


def _judged(
    facts: Sequence[Fact],
    completions: Sequence[Completion],
    levels: Mapping[str, int],
    synonyms: Synonyms,
    names: KnownNames | None,
    ask: Ask,
    first_row: int,
    matcher: str,
) -> list[Row]:
    has_own = verdict_column(matcher) == OWN_RULE
    rows = []
    for number, (fact, completion) in enumerate(zip(facts, completions, strict=True), start=first_row):
        text = answer_part(completion.text, fact, ask)
        judged = FactMatcher(fact, synonyms, names)
        rows.append(
            {
                "fact_id": fact.fact_id,
                "row": number,
                "topic": fact.topic,
                "split": fact.split,
                "domain": fact.domain,
                "level": levels.get(fact.fact_id),
                "question": fact.question,
                "gold": fact.objects[0],
                "completion": text,
                **judged.scores(text)._asdict(),
                OWN_RULE: judged.is_correct(text, matcher) if has_own else None,
                "stopped": completion.stopped or text != completion.text,
                "n_tokens": len(completion.ids),
                "answer_in_question": fact.answer_in_question,
            }
        )
    return rows


def summarise_accuracy(rows: Iterable[Mapping[str, Any]], matcher: str, prompt: str) -> list[Row]:
    """Rows of `accuracies` from rows of `answers`: split x domain x subset x level (None: the headline).

    A level without questions has accuracy None and says so; the headline leaves it out and names it. Answers
    to facts of unknown level count nowhere, since they have no place in a mean over levels.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["split"], row["domain"]].append(row)
    summary = []
    for (split, domain), group in sorted(groups.items()):
        for subset in SUBSETS:
            chosen = [row for row in group if subset == "all" or not row["answer_in_question"]]
            place = {"split": split, "domain": domain, "subset": subset}
            place |= {"prompt": prompt, "matcher": matcher}
            summary += [place | row for row in _by_level(chosen, matcher)]
    return summary


def accuracy_by_topic(rows: Iterable[Mapping[str, Any]], matcher: str) -> list[Row]:
    """The same numbers topic by topic, with a column `topic` and without prompt, matcher and subset."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["split"], row["domain"], row["topic"]].append(row)
    return [
        {"split": split, "domain": domain, "topic": topic} | row
        for (split, domain, topic), group in sorted(groups.items())
        for row in _by_level(group, matcher)
    ]


def _by_level(rows: Sequence[Mapping[str, Any]], matcher: str) -> list[Row]:
    """One row a level and the headline."""
    of_level = [[row for row in rows if row["level"] == level] for level in range(N_LEVELS)]
    n = [len(part) for part in of_level]
    right = verdict_column(matcher)
    n_right = [sum(row[right] for row in part) for part in of_level]
    found = [_level_row(level, part, n_right[level]) for level, part in enumerate(of_level)]
    headline = _described([row for part in of_level for row in part])
    headline |= {"level": None, "n_right": sum(n_right)}
    if not sum(n):
        reason = "no question" if not rows else "no question has a mastery level"
        return [*found, headline | _unscored(reason)]
    estimate = level_balanced(n_right, n)
    headline |= {"accuracy": estimate.value, "low": estimate.low, "high": estimate.high}
    missing = ", ".join(map(str, estimate.missing_levels))
    return [*found, headline | {"reason": f"mean without level {missing}: no questions" if missing else None}]


def _level_row(level: int, rows: Sequence[Mapping[str, Any]], n_right: int) -> Row:
    row = _described(rows) | {"level": level, "n_right": n_right}
    if not rows:
        return row | _unscored("no questions of this level")
    low, high = wilson(n_right, len(rows))
    return row | {"accuracy": n_right / len(rows), "low": low, "high": high, "reason": None}


def _described(rows: Sequence[Mapping[str, Any]]) -> Row:
    """What does not depend on the matcher."""
    n = len(rows)
    return {
        "question_set_id": question_set_id(row["fact_id"] for row in rows),
        "n": n,
        "stop_rate": sum(row["stopped"] for row in rows) / n if n else None,
        "mean_length": sum(row["n_tokens"] for row in rows) / n if n else None,
    }


def _unscored(reason: str) -> Row:
    return {"accuracy": None, "low": None, "high": None, "reason": reason}
