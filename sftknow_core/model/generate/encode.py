"""Prompt texts -> token ids, with the tokenizer's own BOS and EOS and no new vocabulary.

A training example is one string, BOS + prompt + " " + answer + " " + EOS, tokenised once as a whole; its
special tokens come from their strings inside the text, so none is added again. Where a tokenizer has no BOS
or no EOS, that part is missing. A chat prompt's text is what the tokenizer's chat template makes of its
messages, on a fixed date, so that templates which print today's date give the same prompt every day.

Text that somebody else wrote (a question, an answer, an exemplar) never becomes a control token: where it contains
the spelling of one ("</s>", "<|im_end|>"), that text is tokenised on its own with special tokens switched off, and
the control tokens around it are put in by id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sftknow_core.errors import DataError, ModelError
from sftknow_core.facts.prompts import PROMPTS, Prompt

PAPER_PROMPT = PROMPTS["paper"]
CHAT_DATE = datetime(2024, 7, 26)
"""The day it is in every chat template that asks (`strftime_now`)."""
_QUESTION_PLACE, _ANSWER_PLACE = "\ue000q\ue000", "\ue000a\ue000"
"""Private-use characters that no tokenizer has as a control token and no template changes."""
_SPELLINGS: WeakKeyDictionary[Any, tuple[int, re.Pattern[str] | None]] = WeakKeyDictionary()
"""Tokenizer -> its length, and a pattern of its special tokens; thousands of them in some."""


class EncodedAnswer(NamedTuple):
    """A prompt with its answer, as token ids."""

    ids: list[int]
    """BOS, prompt, answer, trailing space, EOS; or the whole chat."""
    n_prompt: int
    """How many of the ids are the prompt (BOS included); the loss is on the others."""


def encode_prompt(tokenizer: Any, text: str) -> list[int]:
    """BOS + text as ids. Raises ModelError for a slow tokenizer, DataError for an empty result."""
    return encode_prompts(tokenizer, [text])[0]


def encode_prompts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """BOS + text of each, in order, by one call of the tokenizer. Raises as encode_prompt."""
    bos = tokenizer.bos_token or ""
    spelled = [text for text in texts if has_control_tokens(tokenizer, text)]
    plain = dict(zip(spelled, _encode(tokenizer, spelled, plain=True), strict=True))
    rest = iter(_encode(tokenizer, [bos + text for text in texts if text not in plain]))
    return [_bos_ids(tokenizer) + plain[text] if text in plain else next(rest) for text in texts]


def encode_questions(
    tokenizer: Any, questions: Sequence[str], prompt: Prompt = PAPER_PROMPT
) -> list[list[int]]:
    """What the model reads before it answers each question, in order. Raises as encode_prompt."""
    if not prompt.is_chat:
        return encode_prompts(tokenizer, [prompt.prompt(question) for question in questions])
    spelled = {q for q in questions if has_control_tokens(tokenizer, q)}
    texts = [chat_text(tokenizer, prompt.messages(q), to_answer=True) for q in questions if q not in spelled]
    rest = iter(_encode(tokenizer, texts))
    return [_chat_ids(tokenizer, prompt, q) if q in spelled else next(rest) for q in questions]


def encode_qa(tokenizer: Any, question: str, answer: str, prompt: Prompt = PAPER_PROMPT) -> EncodedAnswer:
    """A question and its answer as one training example.

    Raises DataError when a token spans the end of the prompt, or when the prompt tokenised alone is no prefix
    of the whole: then training and testing would see different prompts. Raises ModelError for a slow
    tokenizer.
    """
    [alone] = encode_questions(tokenizer, [question], prompt)
    if has_control_tokens(tokenizer, question) or has_control_tokens(tokenizer, answer):
        if prompt.is_chat:
            ids = _chat_ids(tokenizer, prompt, question, answer)
        else:
            [text] = _encode(tokenizer, [prompt.text(question, answer)], plain=True)
            ids = _bos_ids(tokenizer) + text + [i for i in [tokenizer.eos_token_id] if i is not None]
        if ids[: len(alone)] != alone:
            raise _does_not_fit(question, ids[: len(alone)], alone)
        return EncodedAnswer(ids, len(alone))
    before = _question_text(tokenizer, question, prompt)
    whole = _qa_text(tokenizer, question, answer, prompt)
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    n_prompt = sum(1 for _, end in offsets if end <= len(before))
    crossing = any(start < len(before) < end for start, end in offsets)
    if crossing or ids[:n_prompt] != alone or not whole.startswith(before):
        raise _does_not_fit(whole, ids[:n_prompt], alone)
    return EncodedAnswer(ids, n_prompt)


def encode_openings(
    tokenizer: Any, pairs: Sequence[tuple[str, str]], prompt: Prompt = PAPER_PROMPT
) -> list[list[int]]:
    """Each (question, answer) up to the answer's last character, as it would go on from the question's prompt.

    Unlike a training example nothing ends the answer: its first token is the one a model has to say.
    """
    if not prompt.is_chat:
        return encode_prompts(tokenizer, [f"{prompt.prompt(q)} {answer.strip()}" for q, answer in pairs])
    starts = encode_questions(tokenizer, [q for q, _ in pairs], prompt)
    spelled = [has_control_tokens(tokenizer, q + answer) for q, answer in pairs]
    texts = [
        _question_text(tokenizer, q, prompt) + answer.strip()
        for (q, answer), apart in zip(pairs, spelled, strict=True)
        if not apart
    ]
    together = iter(_encode(tokenizer, texts))
    return [
        start + _encode(tokenizer, [answer.strip()], plain=True)[0] if apart else next(together)
        for start, (_, answer), apart in zip(starts, pairs, spelled, strict=True)
    ]


def chat_text(tokenizer: Any, messages: list[dict[str, str]], *, to_answer: bool) -> str:
    """What the chat template makes of the messages, on CHAT_DATE; to_answer: up to where the assistant answers.

    Raises ModelError where there is no template, or it refuses these messages.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("this tokenizer has no chat template; use the prompt `paper`, or a chat model")
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=to_answer,
                chat_template=_dated(tokenizer.get_chat_template()),
            )
        )
    except Exception as error:  # whatever the program of the model's authors raises
        raise ModelError(
            f"this tokenizer's chat template cannot render a user's question ({type(error).__name__}: {error}); "
            "use the prompt `paper` or a prompt file"
        ) from error


def _dated(template: str) -> str:
    """The template with its clock stopped at CHAT_DATE: a macro stands in for the function that reads it."""
    if "strftime_now" not in template:
        return template
    codes = "".join(f"|replace('%{code}', '{CHAT_DATE.strftime(f'%{code}')}')" for code in "aAbBdHIjmMpSyY")
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{codes} }}}}{{%- endmacro -%}}{template}"


def turn_end_ids(tokenizer: Any) -> tuple[int, ...]:
    """The token that ends the assistant's turn, found by rendering a conversation; () where there is none to find.

    Chat models say it instead of EOS; what follows is the template's next turn and no part of the answer.
    """
    if not getattr(tokenizer, "chat_template", None) or not getattr(tokenizer, "is_fast", False):
        return ()
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER_PLACE}]
    try:
        rendered = chat_text(tokenizer, talk, to_answer=False)
    except ModelError:
        return ()
    if _ANSWER_PLACE not in rendered:
        return ()
    after = rendered.rpartition(_ANSWER_PLACE)[2].lstrip()
    added = {token.content: token_id for token_id, token in tokenizer.added_tokens_decoder.items()}
    return tuple(token_id for text, token_id in added.items() if after.startswith(text))[:1]


def has_control_tokens(tokenizer: Any, text: str) -> bool:
    """Whether the text spells a special token of the tokenizer's, which must not become one."""
    if not getattr(tokenizer, "is_fast", False):
        return False  # refused by _encode
    size = len(tokenizer)
    if tokenizer not in _SPELLINGS or _SPELLINGS[tokenizer][0] != size:
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        pattern = re.compile("|".join(map(re.escape, special))) if special else None
        _SPELLINGS[tokenizer] = size, pattern
    pattern = _SPELLINGS[tokenizer][1]
    return pattern is not None and pattern.search(text) is not None


def _chat_ids(tokenizer: Any, prompt: Prompt, question: str, answer: str | None = None) -> list[int]:
    """The chat's ids with the given texts tokenised as plain text between the template's own."""
    given = {_QUESTION_PLACE: prompt.prompt(question), _ANSWER_PLACE: (answer or "").strip()}
    messages = [{"role": "user", "content": _QUESTION_PLACE}]
    if answer is not None:
        messages.append({"role": "assistant", "content": _ANSWER_PLACE})
    rest = chat_text(tokenizer, messages, to_answer=answer is None)
    ids: list[int] = []
    for place in list(given)[: len(messages)]:
        before, found, rest = rest.partition(place)
        if not found or place in rest:
            raise DataError(
                f"the chat template changes its messages' text, so that {question!r}, which spells a control token, "
                "cannot be put into it; use the prompt `paper`"
            )
        ids += [i for text in (before,) if text for i in _encode(tokenizer, [text])[0]]
        ids += _encode(tokenizer, [given[place]], plain=True)[0]
    return ids + (_encode(tokenizer, [rest])[0] if rest else [])


def _question_text(tokenizer: Any, question: str, prompt: Prompt) -> str:
    if prompt.is_chat:
        return chat_text(tokenizer, prompt.messages(question), to_answer=True)
    return (tokenizer.bos_token or "") + prompt.prompt(question)


def _qa_text(tokenizer: Any, question: str, answer: str, prompt: Prompt) -> str:
    if prompt.is_chat:
        return chat_text(tokenizer, prompt.messages(question, answer), to_answer=False)
    return (tokenizer.bos_token or "") + prompt.text(question, answer) + (tokenizer.eos_token or "")


def _bos_ids(tokenizer: Any) -> list[int]:
    return [int(tokenizer.bos_token_id)] if tokenizer.bos_token else []


def _does_not_fit(text: str, ids: list[int], alone: list[int]) -> DataError:
    return DataError(
        f"the prompt of {text!r} is tokenised differently with and without its answer "
        f"(last tokens {ids[-3:]} and {alone[-3:]}); this tokenizer does not fit this prompt"
    )


def _encode(tokenizer: Any, texts: list[str], *, plain: bool = False) -> list[list[int]]:
    """plain: special tokens spelled in the texts stay text."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} has no character offsets; use a fast tokenizer "
            "(save it as tokenizer.json)"
        )
    if not texts:
        return []
    how = {"split_special_tokens": True} if plain else {}
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False, **how)["input_ids"]
    for text, ids in zip(texts, encoded, strict=True):
        if not ids:
            raise DataError(f"the prompt {text!r} has no tokens; give a text that is not empty")
    return encoded
