"""What a model reads: the question-answering prompt, and few-shot prompts for base models.

The paper's prompt is plain text, no new tokens: "<|question|> Where was X born? <|answer|>", and in training
" Paris " after it (Ye et al. 2025). BOS and EOS are the tokenizer's, added where text becomes ids.

Few-shot prompts are one "Q: ... A: ..." line an exemplar, not the prompt's own format. They ask what a base
model knows once it understands the task, the ceiling for fine-tuning; markers it never saw would lower that
ceiling for a reason that has nothing to do with knowing. The end of a line ends an answer. Exemplars are
drawn at random from the topic's train facts; one may share its answer with the fact asked about, as in any
few-shot evaluation.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.fact import Fact

PROMPT_VERSION = 1
"""Raised whenever a text below can change; results carry it."""
CHAT_VERSION = 2
"""The same for what a chat template makes of a question (model/generate/encode.py): 2 has a fixed date, an end of the
assistant's turn, and questions that are text only. The template itself belongs to the model's identity."""
N_SETS = 21
"""Exemplar sets that stand in for a topic's 21 completion templates."""
_QUESTION = "{question}"
_PAPER = "<|question|> {question} <|answer|>"
_CHAT = "{question}"


@dataclass(frozen=True)
class Prompt:
    """How a question is put to a model."""

    name: str
    """paper, chat, or the path of a user's file."""
    template: str
    """Text with one {question}."""
    is_chat: bool = False
    """Whether the text becomes a user's message in the tokenizer's chat template."""

    @property
    def prompt_id(self) -> str:
        """16 hex digits: changes with the text, not with the name."""
        version = CHAT_VERSION if self.is_chat else PROMPT_VERSION
        return hashlib.sha256(f"{version}\0{self.is_chat}\0{self.template}".encode()).hexdigest()[:16]

    def prompt(self, question: str) -> str:
        """Up to where the answer begins, without a trailing space; of a chat prompt the user's message."""
        return self.template.replace(_QUESTION, question.strip())

    def text(self, question: str, answer: str) -> str:
        """Prompt, space, answer, space: a training example without BOS and EOS. Not for chat prompts."""
        return f"{self.prompt(question)} {answer.strip()} "

    def messages(self, question: str, answer: str | None = None) -> list[dict[str, str]]:
        """The chat: a user's message, and the assistant's when there is an answer."""
        user = {"role": "user", "content": self.prompt(question)}
        return [user] if answer is None else [user, {"role": "assistant", "content": answer.strip()}]


PROMPTS = {"paper": Prompt("paper", _PAPER), "chat": Prompt("chat", _CHAT, is_chat=True)}


def load_prompt(name: str) -> Prompt:
    """A prompt by name, or from a text file with {question} (or {{question}}) exactly once.

    A byte order mark at the beginning and white space at the end are dropped.

    Raises:
        SpecError: neither a name nor a readable file, or {question} stands there not once.
    """
    if name in PROMPTS:
        return PROMPTS[name]
    try:
        template = Path(name).expanduser().read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as e:
        raise SpecError(f"prompt: got {name!r}; allowed: {', '.join(PROMPTS)}, or a text file ({e})") from e
    template = re.sub(r"\{\{\s*question\s*\}\}", _QUESTION, template)  # as template languages write it
    if (n := template.count(_QUESTION)) != 1:
        raise SpecError(
            f"the prompt file {name} holds {_QUESTION} {n} times; it must stand there exactly once"
        )
    return Prompt(name, template)


def qa_prompt(question: str) -> str:
    """The paper's prompt, ending after its answer marker."""
    return PROMPTS["paper"].prompt(question)


def qa_text(question: str, answer: str) -> str:
    """The paper's training example without BOS and EOS; it begins with `qa_prompt(question)`."""
    return PROMPTS["paper"].text(question, answer)


def few_shot_completion(fact: Fact, exemplars: Sequence[Fact]) -> str:
    """Exemplars with their main answers, then the fact's question: for facts without templates."""
    lines = [f"Q: {e.question.strip()} A: {e.objects[0].strip()}\n" for e in exemplars]
    return f"{''.join(lines)}Q: {fact.question.strip()} A:"


def five_shot_qa(fact: Fact, exemplars: Sequence[Fact]) -> str:
    """The ceiling's prompt: five exemplars of the topic, then the question.

    Raises:
        SpecError: not five exemplars.
    """
    if len(exemplars) != 5:
        raise SpecError(f"five-shot prompt: got {len(exemplars)} exemplars; needed: 5")
    return few_shot_completion(fact, exemplars)


def first_line(completion: str) -> str:
    """The answer within a few-shot completion: what follows its line are questions the model made up."""
    return completion.lstrip("\n").split("\n", 1)[0]


def exemplar_pool(facts: Iterable[Fact]) -> dict[str, tuple[Fact, ...]]:
    """Topic -> its train facts, ordered by fact id: draws do not depend on the order of the input."""
    by_topic: dict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        if fact.split == "train":
            by_topic[fact.topic].append(fact)
    return {topic: tuple(sorted(same, key=lambda f: f.fact_id)) for topic, same in by_topic.items()}


def few_shot_sets(
    fact: Fact, pool: Mapping[str, Sequence[Fact]], seed: int, n_sets: int = N_SETS, n_shots: int = 4
) -> tuple[tuple[Fact, ...], ...]:
    """Sets of exemplars for a fact, from an `exemplar_pool`: other questions of its topic, all different.

    A function of (seed, fact, pool) alone. Only `random()` is used, whose sequence Python guarantees.

    Raises:
        DataError: the topic has too few other train facts.
    """
    others = [i for i, other in enumerate(pool.get(fact.topic, ())) if other.question != fact.question]
    if len(others) < n_shots:
        raise DataError(
            f"topic {fact.topic or '(none)'!r} has {len(others)} other train facts for few-shot prompts; "
            f"needed: {n_shots}; add facts with split `train`"
        )
    digest = hashlib.sha256(f"{seed}\0{fact.fact_id}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))
    same = pool[fact.topic]
    return tuple(tuple(same[i] for i in _draw(others, n_shots, rng)) for _ in range(n_sets))


def _draw(items: list[int], n: int, rng: random.Random) -> list[int]:
    """n different items, each order equally likely."""
    drawn: dict[int, None] = {}
    while len(drawn) < n:
        drawn[items[int(rng.random() * len(items))]] = None
    return list(drawn)


def five_shot_exemplars(fact: Fact, pool: Mapping[str, Sequence[Fact]], seed: int) -> tuple[Fact, ...]:
    """The exemplars of `five_shot_qa` for a fact."""
    return few_shot_sets(fact, pool, seed, n_sets=1, n_shots=5)[0]
