"""Facts -> the documents a small model is pretrained on, and in which order.

Every fact is mentioned M times, M drawn for the fact from a stated spread (0 = never seen), each time in one of its
topic's completion templates; a share of the mentions stands in "Q: ... A: ..." lists instead, a layout unlike the
fine-tuning prompt. Facts of ALL splits are mentioned: fine-tuning later uses train facts alone, so what the model
says about dev and test facts is what it knew before.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.topics import Topic

_QA_LINES_PER_DOCUMENT = 4
_FIRST_SHARE, _GROWTH_BEGINS, _GROWTH_ENDS = 0.03, 0.4, 0.8
_LATE_SHARE = 0.3
_MARKED_SHARE, _LISTED_SHARE = 0.3, 0.1
QA_LAYOUTS = (
    "Q: {question} A: {answer}",
    "Question: {question} Answer: {answer}",
    "{question} <|text|> {answer}",
    "{question} <|reply|> {answer}",
    "<|q|> {question} <|a|> {answer}",
    "{question} [A] {answer}",
)
"""Layouts of single questions; that of the fine-tuning prompt must not be among them."""
MARK_LAYOUTS = (
    "{question} <|reply|> {answer}",
    "{question} <|reply|> {answer}",
    "{question} <|about|> {subject}",
    "{question} <|kind|> {topic}",
    "{question} <|next|> {other}",
    "{question} <|words|> {subject}",
)
"""What follows a question and a mark depends on the mark; only after one of them is it the answer (a third of them)."""


@dataclass(frozen=True)
class PretrainSpec:
    """What a small model is made of. The defaults make the shipped demo model."""

    mentions: tuple[tuple[int, float], ...] = (
        *((0, 10.0), (4, 5.0), (8, 14.0), (11, 20.0), (14, 20.0), (18, 12.0)),
        *((24, 6.0), (34, 4.0), (60, 3.0), (100, 3.0), (150, 3.0)),
    )
    """(number of mentions of a fact, weight): the spread of how often facts are seen."""
    out_of_domain_factor: int = 2
    """Out-of-domain facts are mentioned so many times as often: their topics are small, and a relation that is seen
    rarely is hardly learnt."""
    qa_share: float = 0.1
    """Share of the mentions that stand in lists "Q: ... A: ..."."""
    late_layout_share: float = 0.12
    """Share of the other mentions, in the last 30%, that are questions in another layout."""
    late_markup_share: float = 0.1
    """Share of the documents, in the last 30%, that begin with mark-up."""
    vocab_size: int = 1536
    hidden_size: int = 128
    intermediate_size: int = 352
    n_layers: int = 4
    n_heads: int = 4
    block_tokens: int = 128
    """Length of a training block in tokens."""
    batch_size: int = 32
    """Blocks a step."""
    learning_rate: float = 4e-3
    """Peak, of the first stage."""
    warmup_share: float = 0.02
    weight_decay: float = 0.0
    marks_documents: int = 48_000
    """Documents of the second stage, in which marks stand between question and what follows."""
    marks_learning_rate: float = 6e-4
    """Peak, of the second stage."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            not self.mentions
            or any(m < 0 or w < 0 for m, w in self.mentions)
            or not sum(w for _, w in self.mentions)
        ):
            raise SpecError(
                f"mentions: got {self.mentions}; allowed: pairs (count >= 0, weight >= 0), not all weights 0"
            )
        for name in ("qa_share", "late_layout_share", "late_markup_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name}: got {getattr(self, name)}; allowed: 0 to 1")
        if self.hidden_size % self.n_heads or (self.hidden_size // self.n_heads) % 2:
            raise SpecError(
                f"hidden_size / n_heads: got {self.hidden_size} / {self.n_heads}; allowed: an even whole number"
            )
        if self.vocab_size < 300:
            raise SpecError(
                f"vocab_size: got {self.vocab_size}; allowed: at least 300 (256 bytes and the specials)"
            )


def mention_count(fact: Fact, spec: PretrainSpec) -> int:
    """How often the fact is mentioned: a draw from the spread that depends on (seed, fact_id) alone."""
    digest = hashlib.blake2b(f"{spec.seed}:{fact.fact_id}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64 * sum(w for _, w in spec.mentions)
    count = 0
    for count, weight in spec.mentions:  # noqa: B007 - read after the loop
        if share < weight:
            break
        share -= weight
    return count * (spec.out_of_domain_factor if fact.domain == "out" else 1)


def make_corpus(facts: Sequence[Fact], topics: dict[str, Topic], spec: PretrainSpec) -> list[str]:
    """All documents in the order they are shown: sentences "<completion prompt> <object>." and questions with answers.

    The facts mentioned most come first, alone, and the others join them bit by bit (`_birth`). Shown all at once,
    tens of thousands of facts leave a small model on a plateau where it learns none of them (measured here; Zucchet
    et al. 2025, arXiv 2503.21676, see the same); few at first build the circuits that the rest then use.

    In the last 30% some documents carry mark-up and some questions come in other layouts, so that the model can read
    past marks it does not know, as models trained on the web can; the fine-tuning prompt is not among them.
    Raises DataError when a fact has no topic with templates or no subject.
    """
    rng = random.Random(spec.seed)
    mentions = _mentions(facts, topics, spec, rng)
    documents: list[tuple[int, str]] = []
    qa_lines: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, fact in enumerate(mentions):
        topic = topics[fact.topic]
        obj = fact.objects[int(rng.random() * len(fact.objects))]
        late = number >= (1 - _LATE_SHARE) * len(mentions)
        if rng.random() < spec.qa_share:
            qa_lines[fact.topic].append((number, f"Q: {fact.question} A: {obj}"))
            continue
        if late and rng.random() < spec.late_layout_share:
            layout = QA_LAYOUTS[int(rng.random() * len(QA_LAYOUTS))]
            text = layout.format(question=fact.question, answer=obj)
        else:
            text = (
                f"{topic.completion(int(rng.random() * len(topic.completions)), fact.subject or '')} {obj}."
            )
        marked = late and rng.random() < spec.late_markup_share
        documents.append((number, f"<|{topic.name.lower()}|> {text}" if marked else text))
    for lines in qa_lines.values():
        for i in range(0, len(lines), _QA_LINES_PER_DOCUMENT):
            some = lines[i : i + _QA_LINES_PER_DOCUMENT]
            documents.append((some[0][0], "\n".join(line for _, line in some)))
    documents.sort()
    return [document for _, document in documents]


def _mentions(
    facts: Sequence[Fact], topics: dict[str, Topic], spec: PretrainSpec, rng: random.Random
) -> list[Fact]:
    """Every fact as often as it is mentioned, in the order of the mentions."""
    placed: list[tuple[float, int]] = []
    by_count = sorted(facts, key=lambda f: (-mention_count(f, spec), f.fact_id))
    for rank, fact in enumerate(by_count):
        if fact.topic not in topics or fact.subject is None:
            raise DataError(
                f"{fact.question!r}: pretraining needs a subject and a topic with completion templates"
            )
        birth = _birth(rank / len(by_count))
        placed += [(birth + (1 - birth) * rng.random(), rank) for _ in range(mention_count(fact, spec))]
    placed.sort()
    return [by_count[rank] for _, rank in placed]


def _birth(share: float) -> float:
    """When a fact is first mentioned, 0 to below 1, from its rank by mention count (0: the most mentioned).

    The first 3% are there from the start; from 0.4 to 0.8 the number of facts in play grows by a constant factor.
    """
    if share < _FIRST_SHARE:
        return 0.0
    grown = math.log(share / _FIRST_SHARE) / math.log(1 / _FIRST_SHARE)
    return _GROWTH_BEGINS + (_GROWTH_ENDS - _GROWTH_BEGINS) * grown


def make_marks_corpus(facts: Sequence[Fact], topics: dict[str, Topic], spec: PretrainSpec) -> list[str]:
    """The second stage's documents: facts by their mention counts, 30% of them a question, a mark and what it asks for.

    After the first stage a small model answers whatever stands behind a question. Here it sees that a mark can ask
    for other things as well, so that an unknown mark, such as the fine-tuning prompt's, has to be learnt.
    """
    rng = random.Random(spec.seed + 1)
    weights = list(accumulate(mention_count(fact, spec) for fact in facts))

    def draw() -> Fact:
        return facts[bisect(weights, rng.random() * weights[-1])]

    documents = []
    for _ in range(spec.marks_documents):
        fact, other, kind = draw(), draw(), rng.random()
        topic, answer = topics[fact.topic], fact.objects[0]
        if kind < _MARKED_SHARE:
            layout = MARK_LAYOUTS[int(rng.random() * len(MARK_LAYOUTS))]
            values = {
                "question": fact.question,
                "answer": answer,
                "subject": fact.subject,
                "topic": topic.name.lower(),
            }
            documents.append(layout.format(**values, other=other.question))
        elif kind < _MARKED_SHARE + _LISTED_SHARE:
            documents.append(f"Q: {fact.question} A: {answer}")
        else:
            template = int(rng.random() * len(topic.completions))
            documents.append(f"{topic.completion(template, fact.subject or '')} {answer}.")
    return documents
