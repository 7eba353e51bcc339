"""How far did fine-tuning move the first token of the answers? (Ye et al. 2025, section 4)

The state answers the question prompt, the base its topic's completion prompt. Over the state's ten most
probable tokens, KL(state || base) in nats is the shift (kl.py). The paper's number mixes a change of prompt
with a change of weights, so others stand beside it:

    same_qa           both after the question
    same_completion   both after the completion prompt
    floor             the base after the question against the base after the completion prompt
    aligned           after leading dummy words ("the") that the base writes, forced on both

Every fact gets its numbers; `kept` marks those that the paper counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import torch

from sftknow_core.errors import ModelError
from sftknow_core.facts.fact import Fact
from sftknow_core.measure.kl import NextTokens, compare, gold
from sftknow_core.measure.reference import BaseAnswer, BaseReference, PromptLogits, prompt_logits
from sftknow_core.model.io.load import LanguageModel

SHIFT_VERSION = 2
CHUNK_BYTES = 2**28
"""Float32 logits of a state held at once."""

Row = dict[str, Any]
Places = tuple[NextTokens, Sequence[int | None]]
"""What a model predicts after its prompts, and which of them is each fact's; None: it has none."""

_EXCLUDED = "the base gives one of the ten tokens probability 0, so the shift is infinite"
_PER_TOKEN = ("p_state", "p_base", "mass_outside_state", "mass_outside_base", "kl_nats")


def first_token_rows(
    lm: LanguageModel,
    reference: BaseReference,
    facts: Sequence[Fact],
    *,
    after_question: torch.Tensor | None = None,
    batch_size: int | None = None,
) -> list[Row]:
    """Rows of table `first_token` for one state, one a fact, in order.

    facts: any of those the reference was made for. after_question: the state's logits after the facts' questions,
    [n, vocabulary] float32, where answering left them. A fact without completion prompt has a reason, and of the
    shifts only same_qa. Raises SpecError for unknown facts, ModelError for another vocabulary or NaN logits.
    """
    rows: list[Row] = []
    for places in _chunks(reference.places(facts), lm):
        answers = [reference.answers[i] for i in places]
        after = [answer.question_prompt for answer in answers]
        known = None if after_question is None else after_question[len(rows) : len(rows) + len(places)]
        state = prompt_logits(lm, answers, after, after_question=known, batch_size=batch_size)
        rows += _rows(answers, state, reference.logits(places), reference)
    return rows


def _chunks(places: list[int], lm: LanguageModel) -> Iterator[list[int]]:
    n_vocab = lm.plain.get_input_embeddings().weight.shape[0]
    size = max(1, CHUNK_BYTES // (3 * 4 * n_vocab))
    return (places[start : start + size] for start in range(0, len(places), size))


def _rows(
    answers: Sequence[BaseAnswer], state: PromptLogits, base: PromptLogits, reference: BaseReference
) -> list[Row]:
    state_qa, base_qa = (state.after, state.question), (base.after, base.question)
    state_completion, base_completion = (state.after, state.completion), (base.after, base.completion)
    same_qa = _compare(state_qa, base_qa)
    shift = _compare(state_qa, base_completion)
    aligned = _compare((state.after, state.aligned), (base.after, base.aligned))
    same_completion = _compare(state_completion, base_completion)
    floor = _compare(base_qa, base_completion)
    gold_tokens = [answer.gold_token for answer in answers]
    gold_state, gold_base = _gold(state_qa, gold_tokens), _gold(base_completion, gold_tokens)
    rows = []
    for i, answer in enumerate(answers):
        # The ten tokens and the state's side of them are there even when the base has no completion prompt.
        own_side = same_qa[i] | dict.fromkeys(("p_base", "mass_outside_base", "kl_nats"))
        row = _described(answer) | own_side | shift[i]
        row |= {f"aligned_{name}": aligned[i].get(name) for name in ("top_ids", "p_state", "p_base")}
        row["kl_aligned_nats"] = aligned[i].get("kl_nats")
        row["kl_same_qa_nats"] = same_qa[i]["kl_nats"]
        row["kl_same_completion_nats"] = same_completion[i].get("kl_nats")
        row["kl_floor_nats"] = floor[i].get("kl_nats")
        row["gold_p_state"], row["gold_rank_state"] = gold_state[i]
        row["gold_p_base"], row["gold_rank_base"] = gold_base[i]
        if row["kl_nats"] is None and row["reason"] is None:
            row["reason"] = _EXCLUDED
        rows.append(row | _spelled(row, answer, reference))
    return rows


def _described(answer: BaseAnswer) -> Row:
    """What of a row depends on the base alone."""
    return {
        "fact_id": answer.fact.fact_id,
        "topic": answer.fact.topic,
        "level": answer.level,
        "template": answer.template,
        "kept": answer.kept,
        "kept_within3": answer.kept_within3,
        "base_completion": answer.completion,
        "reason": answer.reason,
    }


def _spelled(row: Row, answer: BaseAnswer, reference: BaseReference) -> Row:
    """The tokens of a row as text."""
    aligned = row["aligned_top_ids"]
    return {
        "top_tokens": [reference.text_of(token) for token in row["top_ids"]],
        "aligned_top_tokens": None if aligned is None else [reference.text_of(token) for token in aligned],
        "gold_token": None if answer.gold_token is None else reference.text_of(answer.gold_token),
    }


def _compare(first: Places, second: Places) -> list[Row]:
    """Fact by fact: first against second, under the names of the main columns; {} where one has no row."""
    (first_model, first_rows), (second_model, second_rows) = first, second
    if (n_first := first_model.logits.shape[1]) != (n_second := second_model.logits.shape[1]):
        raise ModelError(
            f"the state has {n_first} tokens and the base {n_second}; "
            "a shift needs models with one vocabulary"
        )
    pairs = {i: p for i, p in enumerate(zip(first_rows, second_rows, strict=True)) if None not in p}
    found: list[Row] = [{} for _ in first_rows]
    if not pairs:
        return found
    here, there = torch.tensor([list(pair) for pair in pairs.values()]).T
    compared = compare(first_model, here, second_model, there)
    columns = zip(*(part.tolist() for part in compared), strict=True)
    for i, values in zip(pairs, columns, strict=True):
        found[i] = dict(zip(("top_ids", *_PER_TOKEN), values, strict=True))
        if not isfinite(found[i]["kl_nats"]):
            found[i] |= {"kl_nats": None, "p_base": None}
    return found


def _gold(places: Places, tokens: Sequence[int | None]) -> list[tuple[float | None, int | None]]:
    """Fact by fact: probability and rank of its token; (None, None) where a row or the token is missing."""
    model, rows = places
    pairs = {i: pair for i, pair in enumerate(zip(rows, tokens, strict=True)) if None not in pair}
    found: list[tuple[float | None, int | None]] = [(None, None)] * len(tokens)
    if pairs:
        row, token = torch.tensor([list(pair) for pair in pairs.values()]).T
        golden = gold(model, row, token)
        for i, values in zip(pairs, zip(golden.p.tolist(), golden.rank.tolist(), strict=True), strict=True):
            found[i] = values
    return found
