"""Facts -> how well a base model knows each of them, from sampled completions (Ye et al. 2025, section 3.1).

Every fact is asked with 21 completion prompts, 10 completions of each at temperature 0.7. R is the share of
the completions that hold the object or a synonym; its level is 0 to 4 (levels.py). Beside it stands the
expected mastery (`start_probabilities`), which has no sampling noise.

The result does not depend on batches, chunks or their order: the noise is a function of (seed, fact,
template, sample, step). Work goes in chunks of 256 facts, so that a run can go on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.matcher import FactMatcher, matcher_named
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.synonyms import Synonyms, answers_of
from sftknow_core.facts.topics import Topic
from sftknow_core.measure.asking import Probe, Probes
from sftknow_core.measure.levels import mastery_of
from sftknow_core.model.generate.decode import Completion
from sftknow_core.model.generate.encode import encode_prompts
from sftknow_core.model.generate.logits import continuation_logprobs
from sftknow_core.model.generate.sample_shared import sample_shared
from sftknow_core.model.generate.sampling import SeededSampler, prompt_key
from sftknow_core.model.io.load import LanguageModel

# Expected mastery: the probability that a completion starts with an answer, without sampling.
#
# Teacher forcing gives the probability, at the sampling temperature, of the tokens of " <answer>" right after
# a prompt. Of answers whose tokens begin the tokens of another one only the shorter counts, so the events
# exclude each other and their probabilities add up. The sum is a lower bound of the chance that a completion
# contains an answer: it leaves out answers that come later and other ways to cut an answer into tokens.
# (Against whole words it is not strictly one: " Oslo" also begins " Osloer".)

Tokens = tuple[int, ...]


def answer_tokens(
    tokenizer: Any, texts: Sequence[str], answers: Sequence[tuple[str, ...]]
) -> list[tuple[Tokens, ...]]:
    """For each prompt text, the token sequences of " <answer>" after it, none the beginning of another.

    An answer whose tokens run together with the text's last one is left out.
    """
    prompts = encode_prompts(tokenizer, texts)
    pairs = [(text, answer) for text, those in zip(texts, answers, strict=True) for answer in those]
    encoded = iter(encode_prompts(tokenizer, [f"{text} {answer.strip()}" for text, answer in pairs]))
    found = []
    for prompt, those in zip(prompts, answers, strict=True):
        whole = [next(encoded) for _ in those]
        found.append(
            without_extensions([tuple(w[len(prompt) :]) for w in whole if w[: len(prompt)] == prompt])
        )
    return found


def without_extensions(sequences: Sequence[Tokens]) -> tuple[Tokens, ...]:
    """The sequences that do not begin with another one, each once, in order; empty ones fall out."""
    distinct = [s for s in dict.fromkeys(sequences) if s]
    return tuple(s for s in distinct if not any(o != s and s[: len(o)] == o for o in distinct))


def start_probabilities(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    alternatives: Sequence[tuple[Tokens, ...]],
    temperature: float,
    *,
    batch_size: int | None = None,
) -> list[float | None]:
    """P(the completion starts with one of the alternatives), prompt by prompt; None without alternatives.

    The alternatives of a prompt must not begin each other (`without_extensions`).
    """
    pairs = [(i, tokens) for i, those in enumerate(alternatives) for tokens in those]
    log_p = continuation_logprobs(
        lm,
        [prompts[i] for i, _ in pairs],
        [tokens for _, tokens in pairs],
        temperature,
        batch_size=batch_size,
    )
    sums: list[float | None] = [0.0 if those else None for those in alternatives]
    for (i, _), value in zip(pairs, log_p, strict=True):
        sums[i] = min(1.0, (sums[i] or 0.0) + exp(value))  # rounding can pass 1
    return sums


CHUNK_FACTS = 256
MASTERY_VERSION = 1
"""Raised whenever the same spec, model and facts can give other numbers."""

Row = dict[str, Any]


@dataclass(frozen=True)
class MasterySpec:
    """How mastery is sampled. The defaults are the paper's, but for the matcher."""

    n_samples: int = 10
    """Completions of each template."""
    temperature: float = 0.7
    max_new_tokens: int = 32
    """Length limit of a completion; nothing but the end of text stops it earlier."""
    seed: int = 0
    matcher: str = "words"
    """What counts as right: whole words (ours), or a substring anywhere (the paper's)."""
    expected: bool = True
    """Whether to compute expected mastery too."""

    def __post_init__(self) -> None:
        if self.n_samples < 1:
            raise SpecError(f"n_samples: got {self.n_samples}; allowed: 1 or more")
        if not self.temperature > 0:
            raise SpecError(f"temperature: got {self.temperature}; allowed: above 0")
        if self.max_new_tokens < 1:
            raise SpecError(f"max_new_tokens: got {self.max_new_tokens}; allowed: 1 or more")
        object.__setattr__(self, "matcher", matcher_named(self.matcher).stored_name)


@dataclass(frozen=True)
class MasteryChunk:
    """The results of up to 256 consecutive facts."""

    index: int
    """Number of the chunk, from 0."""
    facts: tuple[Fact, ...]
    mastery: list[Row]
    """Rows of table `mastery`, one a fact, in order."""
    templates: list[Row]
    """Rows of table `mastery_templates`, one a fact and template; none for facts that could not be asked."""


def score_mastery(
    lm: LanguageModel,
    facts: Sequence[Fact],
    topics: Mapping[str, Topic],
    synonyms: Synonyms,
    spec: MasterySpec,
    *,
    first_chunk: int = 0,
    exemplars: Sequence[Fact] | None = None,
    names: KnownNames | None = None,
    batch_size: int | None = None,
) -> Iterator[MasteryChunk]:
    """Yields the chunks from number `first_chunk` on.

    exemplars: the facts whose train split few-shot prompts draw from (facts without templates only); None:
    `facts`. names: those that can contain an answer, for the matcher; None: of `facts`. batch_size: prompts at once;
    None: by the device. A fact that cannot be asked gets a row with level None and a reason. Raises ModelError when
    memory does not hold one prompt.
    """
    probes = Probes(topics, facts if exemplars is None else exemplars, spec.seed)
    names = KnownNames.of(facts, synonyms) if names is None else names
    for index in range(first_chunk, -(-len(facts) // CHUNK_FACTS)):
        chunk = tuple(facts[index * CHUNK_FACTS : (index + 1) * CHUNK_FACTS])
        counts = _count(lm, chunk, [probes.of(fact) for fact in chunk], synonyms, names, spec, batch_size)
        counted = list(zip(chunk, counts, strict=True))
        yield MasteryChunk(
            index=index,
            facts=chunk,
            mastery=[_mastery_row(fact, its, spec) for fact, its in counted],
            templates=[row for fact, its in counted for row in _template_rows(fact, its, spec)],
        )


def completions_of(
    lm: LanguageModel, fact_id: str, texts: Sequence[str], spec: MasterySpec
) -> list[list[str]]:
    """The samples that gave one fact its mastery, drawn once more: for each of its prompts n_samples completions.

    texts: the fact's prompts, in order. The noise depends on seed, fact, template and sample alone, so with the same
    model, device and spec these are the completions that were counted.
    """
    keys = np.array([prompt_key(fact_id, i) for i in range(len(texts))], dtype=np.uint64)
    sampler = SeededSampler(spec.seed, spec.temperature, keys)
    prompts = encode_prompts(lm.tokenizer, texts)
    drawn = sample_shared(lm, prompts, spec.n_samples, spec.max_new_tokens, sampler)
    return [[completion.text for completion in samples] for samples in drawn]


@dataclass(frozen=True)
class _Counts:
    """One fact: right completions by template, and the probability of one, by template."""

    n_correct: list[int]
    expected: list[float] | None
    reason: str | None


def _count(
    lm: LanguageModel,
    facts: Sequence[Fact],
    probes: Sequence[Probe],
    synonyms: Synonyms,
    names: KnownNames,
    spec: MasterySpec,
    batch_size: int | None,
) -> list[_Counts]:
    prompts = encode_prompts(lm.tokenizer, [text for probe in probes for text in probe.texts])
    keys = [prompt_key(f.fact_id, i) for f, p in zip(facts, probes, strict=True) for i in range(len(p.texts))]
    sampler = SeededSampler(spec.seed, spec.temperature, np.array(keys, dtype=np.uint64))
    completions = sample_shared(
        lm, prompts, spec.n_samples, spec.max_new_tokens, sampler, batch_size=batch_size
    )
    chances: list[float | None] = [None] * len(prompts)
    if spec.expected:
        alternatives = _alternatives(lm, facts, probes, synonyms)
        chances = start_probabilities(lm, prompts, alternatives, spec.temperature, batch_size=batch_size)
    counts, start = [], 0
    for fact, probe in zip(facts, probes, strict=True):
        own = slice(start, start + len(probe.texts))
        n_correct = _count_right(FactMatcher(fact, synonyms, names), probe, completions[own], spec.matcher)
        known = [chance for chance in chances[own] if chance is not None]
        counts.append(_Counts(n_correct, known or None, probe.reason))
        start = own.stop
    return counts


def _alternatives(
    lm: LanguageModel, facts: Sequence[Fact], probes: Sequence[Probe], synonyms: Synonyms
) -> list[tuple[Tokens, ...]]:
    """For each prompt the answers as tokens; those after a fact's first prompt stand for all its prompts."""
    asked = [(fact, probe) for fact, probe in zip(facts, probes, strict=True) if probe.texts]
    of_fact = answer_tokens(
        lm.tokenizer,
        [probe.texts[0] for _, probe in asked],
        [answers_of(fact, synonyms) for fact, _ in asked],
    )
    return [those for those, (_, probe) in zip(of_fact, asked, strict=True) for _ in probe.texts]


def _count_right(
    matcher: FactMatcher, probe: Probe, samples: Sequence[Sequence[Completion]], rule: str
) -> list[int]:
    """Right completions of each template; a text that comes again is judged once."""
    verdicts: dict[str, bool] = {}
    n_correct = []
    for completions in samples:
        right = 0
        for text, n in Counter(completion.text for completion in completions).items():
            if text not in verdicts:
                verdicts[text] = matcher.is_correct(probe.answer(text), rule)
            right += n * verdicts[text]
        n_correct.append(right)
    return n_correct


def _mastery_row(fact: Fact, counts: _Counts, spec: MasterySpec) -> Row:
    row: Row = {
        "fact_id": fact.fact_id,
        "topic": fact.topic,
        "split": fact.split,
        "domain": fact.domain,
        "question": fact.question,
        "gold": fact.objects[0],
        "n_templates": len(counts.n_correct),
        "n_samples": len(counts.n_correct) * spec.n_samples,
        "n_correct": sum(counts.n_correct),
    }
    names = ("r", "r_low", "r_high", "level", "borderline", "expected_mastery", "expected_level0_marked")
    row |= dict.fromkeys(names) | {"reason": counts.reason}
    if counts.reason is not None:
        return row
    mastery = mastery_of(counts.n_correct, spec.n_samples)
    row |= {"r": mastery.r, "r_low": mastery.r_low, "r_high": mastery.r_high}
    row |= {"level": mastery.level, "borderline": mastery.borderline}
    if counts.expected is not None:
        expected = float(np.mean(counts.expected))
        row["expected_mastery"] = expected
        row["expected_level0_marked"] = mastery.level == 0 and expected > 1 / mastery.n_total
    return row


def _template_rows(fact: Fact, counts: _Counts, spec: MasterySpec) -> Iterator[Row]:
    for template, n_correct in enumerate(counts.n_correct):
        yield {
            "fact_id": fact.fact_id,
            "template": template,
            "n_correct": n_correct,
            "n_samples": spec.n_samples,
            "expected": counts.expected[template] if counts.expected is not None else None,
        }
