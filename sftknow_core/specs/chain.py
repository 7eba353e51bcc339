"""Requests about one chain: which questions, how they are asked, what is trained and what is restored."""

from __future__ import annotations

from collections.abc import Sequence
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
"""Strategies that can be set to an energy."""


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
    """Draws the train set and drives the fine-tuning."""
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
    """Other restorations to compare with. They are asked the test questions, and never chosen."""
    equal_energy: Listed[str] = ()
    """Strategies compared so too, at the energy that each k takes back (pipeline/states.py)."""

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
        return self

    def restore_specs(self) -> tuple[RestoreSpec, ...]:
        """One spec a k, increasing, without 0 (that is the tuned model)."""
        ks = sorted({*self.ks, EVERYTHING})
        return tuple(RestoreSpec(self.strategy, self.region, self.layers, k) for k in ks if k)

    def control_specs(self) -> tuple[RestoreSpec, ...]:
        """The controls that are not tried anyway."""
        tried = self.restore_specs()
        return tuple(spec for spec in dict.fromkeys(self.controls) if spec not in tried and not spec.is_tuned)

    @property
    def n_controls(self) -> int:
        """How many restorations are compared with, at most."""
        others = [name for name in self.equal_energy if name != self.strategy]
        return len(self.control_specs()) + len(others) * (len(self.restore_specs()) - 1)


def check_comparable(strategies: Sequence[str]) -> None:
    """Raise SpecError for a strategy that cannot be set to an energy."""
    for name in strategies:
        if name not in list(COMPARABLE):
            raise SpecError(f"equal_energy: got {name!r}; allowed: {', '.join(COMPARABLE)}")
