"""Requests about one chain: which questions, how they are asked, what is trained and what is restored."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import (
    Annotated,
    Self,
)

from pydantic import (
    AfterValidator,
    model_validator,
)

from sftknow_core.errors import SpecError
from sftknow_core.facts.matcher import MATCHERS, matcher_named
from sftknow_core.facts.prompts import PROMPTS, Prompt, load_prompt
from sftknow_core.facts.train_set import LEVELS
from sftknow_core.measure.asking import PROBES
from sftknow_core.registry import nearest
from sftknow_core.specs.base import K, Listed, Restoration, Spec, WholeOrAll, between, one_of, wrong
from sftknow_core.update.spec import EVERYTHING, RestoreSpec, percent
from sftknow_core.update.strategies import STRATEGIES

PAPER_KS = tuple(map(percent, ("1", "3", "5", "10", "20", "40", "60")))
FIVE_SHOT, COMPLETION = "five-shot", "completion"
NO_SHIFT = tuple(PROBES)
"""Ways of asking that are no prompt around a question, and have no token shift."""
COMPARABLE = (*(found.name for found in STRATEGIES.entries if found.measured), "random", "interpolation")
"""Strategies that can be set to an energy or a projection."""
RANDOM_MASKS = 3
"""Masks that a random control is the mean of, unless a request says otherwise."""


# How questions are chosen, asked and judged.


class QuestionSpec(Spec):
    """How many questions are asked."""

    what = "questions: "
    per_level: WholeOrAll = None
    """Questions of each mastery level in each of dev, test and out-of-domain test, or all."""
    seed: int = 0
    """Which questions a limited sample takes."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.per_level is not None and self.per_level < 1:
            raise SpecError(f"questions per level: got {self.per_level}; allowed: at least 1, or 'all'")
        return self


def _matcher(given: str) -> str:
    """The name as it is stored."""
    if "@" not in given and given not in MATCHERS:
        raise wrong(f"{', '.join(MATCHERS)}{nearest(given, MATCHERS)}")
    return matcher_named(given).stored_name


class EvaluateSpec(Spec):
    """How questions are asked and judged."""

    prompt: str = "paper"
    """paper, chat, five-shot, completion, or a text file that holds {question}."""
    matcher: Annotated[str, AfterValidator(_matcher)] = "words"
    """Headline score, a name in MATCHERS; words, substring and exact are stored too."""
    max_new_tokens: Annotated[int, between(1)] = 16
    """Length limit of an answer, as in the paper."""
    first_tokens: bool = True
    """Whether to measure the token shift too (never with five-shot and completion)."""

    @property
    def train_prompt(self) -> Prompt:
        """What a model is fine-tuned with that is asked in this way: the same prompt; the paper's for a way by name."""
        return PROMPTS["paper"] if self.prompt in NO_SHIFT else load_prompt(self.prompt)

    @property
    def shifts(self) -> bool:
        """Whether first tokens are compared."""
        return self.first_tokens and self.prompt not in NO_SHIFT


# The whole chain for one train set.


class Restoring(Spec):
    """One way of choosing the weights that are reverted."""

    strategy: str = "top"
    """A name in STRATEGIES that takes k."""
    region: str = "transformer"
    """transformer, attention, mlp, embedding or all."""
    layers: str | None = None
    """Only these layers, e.g. 0-3,7."""


class ChainSpec(Restoring):
    """What one chain does, apart from models and facts."""

    level: Annotated[str, one_of(*LEVELS)] = "0"
    """Mastery level trained on: 0 to 4, mixed or natural."""
    n: WholeOrAll = 240
    """Size of the train set, or all."""
    seed: int = 0
    """Draws the train set, drives the fine-tuning, and draws the masks of random controls."""
    ks: Listed[K] = PAPER_KS
    """Percentages to restore."""
    questions: QuestionSpec = QuestionSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    train_questions: WholeOrAll = 300
    """At most so many train-set questions are asked; None: all; 0: none."""
    baselines: bool = True
    """Whether the base is asked after five exemplars too."""
    five_shot: bool = False
    """Whether every state is asked the test questions after the same five exemplars too, so that base, tuned and
    restored are compared under a prompt that the base understands."""
    completions: bool = False
    """Whether every state is asked the test questions with completion prompts too: what it knows, whatever the format
    of questions."""
    controls: Listed[Restoration] = ()
    """Other restorations to compare with. They are asked the test questions, and never chosen. A random one whose seed
    is left out (or 0) stands for `random_masks` draws of this chain's own; with a seed it is that one mask."""
    equal_energy: Listed[str] = ()
    """Strategies compared so too, at the energy that each k takes back (pipeline/states.py)."""
    equal_projection: Listed[str] = ()
    """The same at the projection that each k takes back. What puts whole weights back takes back equal parts of both,
    so that one state serves both."""
    random_masks: Annotated[int, between(1)] = RANDOM_MASKS
    """Masks of every random control. They differ from chain to chain, so that seeds are replicates of the mask too."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.n is not None and self.n < 1:
            raise SpecError(f"n: got {self.n}; allowed: at least 1, or 'all'")
        if (takes := STRATEGIES.get(self.strategy).takes) != "k_percent":
            raise SpecError(
                f"strategy {self.strategy} takes no k; restore with it by `sftknow restore --{takes}`"
            )
        if self.five_shot and self.evaluate.prompt == FIVE_SHOT:
            raise SpecError("five_shot: got true with prompt five-shot; the questions are asked so already")
        self.restore_specs()
        check_comparable(self.equal_energy)
        check_comparable(self.equal_projection, "equal_projection")
        return self

    def restore_specs(self, tuned_id: str | None = None) -> tuple[RestoreSpec, ...]:
        """One spec a k, increasing, without 0 (that is the tuned model). tuned_id: as `mask_seeds`."""
        ks = sorted({*self.ks, EVERYTHING})
        seed = self.mask_seeds(tuned_id)[0] if STRATEGIES.get(self.strategy).seeded else None
        return tuple(RestoreSpec(self.strategy, self.region, self.layers, k, seed=seed) for k in ks if k)

    def control_specs(self, tuned_id: str | None = None) -> tuple[RestoreSpec, ...]:
        """The controls that are not tried anyway, random ones once a mask. tuned_id: as `mask_seeds`."""
        tried, masks = self.restore_specs(tuned_id), self.mask_seeds(tuned_id)
        drawn = (spec for one in self.controls for spec in with_masks(one, masks))
        return tuple(spec for spec in dict.fromkeys(drawn) if spec not in tried and not spec.is_tuned)

    def mask_seeds(self, tuned_id: str | None = None) -> tuple[int, ...]:
        """Seeds of the chain's random masks, other ones for every train set, size and seed.

        tuned_id: of a tuned model that is given; then they are its own, and `seed` draws others.
        """
        whose = f"{tuned_id or f'{self.level} {self.n}'} {self.seed}"
        drawn = (hashlib.sha256(f"{whose} {i}".encode()).digest() for i in range(self.random_masks))
        return tuple(int.from_bytes(digest[:4]) for digest in drawn)

    @property
    def draws_masks(self) -> bool:
        """Whether any control depends on `mask_seeds`."""
        matched = {*self.equal_energy, *self.equal_projection} - {self.strategy}
        seeded = any(STRATEGIES.get(name).seeded for name in matched)
        return seeded or any(with_masks(one, (1, 2)) != (one,) for one in self.controls)

    @property
    def n_controls(self) -> int:
        """How many restorations are compared with, at most."""
        energy, projection = (
            {name for name in names if name != self.strategy}
            for names in (self.equal_energy, self.equal_projection)
        )
        alike = {name for name in energy & projection if STRATEGIES.get(name).takes == "k_percent"}
        matched = [*energy, *(projection - alike)]
        times = sum(self.random_masks if STRATEGIES.get(name).seeded else 1 for name in matched)
        return len(self.control_specs()) + times * (len(self.restore_specs()) - 1)


def with_masks(spec: RestoreSpec, seeds: Sequence[int]) -> tuple[RestoreSpec, ...]:
    """A restoration once a seed where it is a random draw that names no seed of its own; else as it is."""
    if not STRATEGIES.get(spec.strategy).seeded or spec.seed:
        return (spec,)
    return tuple(replace(spec, seed=seed) for seed in seeds)


def check_comparable(strategies: Sequence[str], field: str = "equal_energy") -> None:
    """Raise SpecError for a strategy that cannot be set to an energy or a projection."""
    for name in strategies:
        if name not in list(COMPARABLE):
            raise SpecError(f"{field}: got {name!r}; allowed: {', '.join(COMPARABLE)}")
