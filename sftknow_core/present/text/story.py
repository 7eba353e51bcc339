"""A finished run (results.Chain) -> five numbers with their 95% CI, each with a sentence.

The sentences claim no more than the numbers show: a CI that includes 0 is "no significant change", and the CIs of one
run are over its questions, not over other seeds. Base, tuned and restored stand under one prompt at a time, after five
examples first: the prompt tuned with is new to base, whose errors under it are partly format.
"""

from __future__ import annotations

from dataclasses import dataclass

from sftknow_core.present import glossary
from sftknow_core.present.terminal import percent, points
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.states import Accuracy, Chosen, Gain, Shift, State, TrainSet
from sftknow_core.specs import NO_SHIFT

DOMAINS = {"in": "in-domain", "out": "out-of-domain"}
RANKINGS = {
    "top": "largest relative change",
    "bottom": "smallest relative change",
    "largest": "largest absolute change",
    "smallest": "smallest absolute change",
    "random": "random",
}
"""Ranking -> its name."""
NOT_ASKED_5 = "not asked with five examples"
_REGIONS = {"transformer": "transformer-layer weights", "all": "weights"}

DEFINITIONS = glossary.bullets(
    "mastery level", "accuracy", "N", "relative change", "k", "region", "k = 100%", "KL", "split", "interval"
)


@dataclass(frozen=True)
class Part:
    """A number on one group of questions."""

    label: str
    """Which group, e.g. "in-domain"."""
    value: str
    """With unit, or "–" where it was not scored."""
    interval: str
    """The 95% CI, or why there is none."""


@dataclass(frozen=True)
class KeyNumber:
    """One of the five numbers of a run."""

    name: str
    parts: tuple[Part, ...]
    sentence: str


def prompt_names(chain: Chain) -> dict[str, str]:
    """Prompt under which base, tuned and restored were all asked -> as read, 5-shot first."""
    own = {"five-shot": "5-shot", "completion": "completion prompts"}.get(_asked_with(chain), "zero-shot")
    names = {FIVE_SHOT: "5-shot", ZERO_SHOT: own}
    return {prompt: names[prompt] for prompt in chain.prompts}


def comparable(chain: Chain) -> str:
    """Which prompts base may be compared with tuned under."""
    if FIVE_SHOT in chain.prompts:
        return (
            "5-shot: after five solved examples, the same for every model. Zero-shot: the prompt tuned with, which "
            "base never saw, so its errors there are partly format. Compare models within one prompt; k was chosen "
            "zero-shot."
        )
    if _asked_with(chain) in NO_SHIFT:
        return f"All models were asked with {prompt_names(chain)[ZERO_SHOT]}."
    return (
        "Zero-shot: the prompt tuned with, which base never saw, so its errors are partly format. Tuned and restored "
        f"were {NOT_ASKED_5}, so base has no comparable number."
    )


def _asked_with(chain: Chain) -> str:
    return str((chain.spec.params.get("evaluate") or {}).get("prompt", "paper"))


def _rows(chain: Chain) -> list[tuple[str, str, str]]:
    """(label, prompt, domain) of the parts of a card."""
    prompts = prompt_names(chain)
    if chain.five_shot and FIVE_SHOT not in prompts and _asked_with(chain) not in NO_SHIFT:
        prompts = {FIVE_SHOT: "5-shot"} | prompts  # base alone: what the others lack is said
    return [(f"{name}, {asked}", p, d) for p, asked in prompts.items() for d, name in DOMAINS.items()]


def key_numbers(chain: Chain) -> tuple[KeyNumber, ...]:
    """Base, tuned, restored, recovery and changed share; the first four under each prompt."""
    base, tuned, restored = (_accuracies(chain, one) for one in (chain.base, chain.tuned, chain.restored))
    return (
        KeyNumber("Base", base, _about_base(chain)),
        KeyNumber("Fine-tuned", tuned, _about_tuned(chain)),
        KeyNumber(f"Restored, k = {chain.best_k:g}%", restored, _about_restored(chain)),
        KeyNumber("Recovery (pp)", _gains(chain), _about_gain(chain)),
        KeyNumber("Changed weights", _changed(chain), _about_change(chain)),
    )


def how_measured(chain: Chain) -> str:
    """n, split, matcher, what was left out, and what the intervals cover."""
    groups = {name: found for key, name in DOMAINS.items() if (found := chain.base.score("test", key))}
    n = ", ".join(f"{score.n:,} {name}" for name, score in groups.items())
    left_out = [f" {name.capitalize()}: {score.reason}." for name, score in groups.items() if score.reason]
    return (
        f"{comparable(chain)} "
        f"Test questions: {n}. Accuracy: mean over the mastery levels.{''.join(left_out)} {_rule(chain.matcher)} Below "
        "each number: 95% CI over questions, for this run only; it does not cover seeds, topics or models."
    )


def mean_shift(chain: Chain) -> str:
    """Mean KL at the first token of level-4 answers, after tuning and after restoring."""
    tuned, restored = chain.tuned.shift, chain.restored.shift
    if tuned is None or tuned.nats is None:
        return "No level-4 test question could be scored."
    said = f"Mean KL: {_nats(tuned)} after tuning"
    said += f", {_nats(restored)} restored" if restored and restored != tuned else ""
    return f"{said}; n = {tuned.n:,} of {tuned.n_questions:,} (base completion begins with the answer)."


def _nats(shift: Shift) -> str:
    """ "1.40 nats (95% CI 1.21 to 1.59)"."""
    if shift.low is None:
        return f"{shift.nats:.2f} nats"
    return f"{shift.nats:.2f} nats (95% CI {shift.low:.2f} to {shift.high:.2f})"


def _rule(matcher: str) -> str:
    rules = {
        "words": "Correct: the answer contains the gold answer as whole words",
        "substring": "Correct: the answer contains the gold answer, even inside a word",
        "exact": "Correct: the answer is the gold answer and nothing else",
    }
    return f"{rules.get(matcher, 'Correct')} (matcher “{matcher}”)."


def _accuracies(chain: Chain, state: State) -> tuple[Part, ...]:
    found = []
    for label, prompt, domain in _rows(chain):
        score = state.score("test", domain, prompt)
        if prompt == FIVE_SHOT and score is None and state.kind == "base":
            score = chain.five_shot.get(f"test_{domain}")
        found.append(_accuracy(label, score, NOT_ASKED_5 if prompt == FIVE_SHOT else "not evaluated"))
    return tuple(found)


def _accuracy(name: str, score: Accuracy | None, lacking: str) -> Part:
    if score is None or score.accuracy is None:
        return Part(name, "–", lacking if score is None else str(score.reason))
    return Part(name, f"{percent(score.accuracy)}%", f"{percent(score.low)} to {percent(score.high)}")


def _gains(chain: Chain) -> tuple[Part, ...]:
    asked = chain.prompts
    return tuple(
        _gain(name, chain.gain_on(domain, prompt), chain.best_k, prompt in asked)
        for name, prompt, domain in _rows(chain)
    )


def _gain(name: str, gain: Gain | None, k: float, asked: bool) -> Part:
    if gain is None or k == 0:
        return Part(name, "–", NOT_ASKED_5 if not asked else "k = 0" if k == 0 else "too few questions")
    return Part(name, points(gain.value), f"{points(gain.low)} to {points(gain.high)}")


def _changed(chain: Chain) -> tuple[Part, ...]:
    names = {"transformer": "layers", "all": "whole model"}
    shares = chain.changed_share
    return tuple(
        Part(name, f"{percent(shares[key])}%", "exact") for key, name in names.items() if key in shares
    )


def _about_base(chain: Chain) -> str:
    said = "Before fine-tuning."
    if FIVE_SHOT not in chain.prompts and _asked_with(chain) not in NO_SHIFT:
        said = "Before fine-tuning; not asked under a prompt comparable with fine-tuned."
    return said + _floor(chain)


def _floor(chain: Chain) -> str:
    """The majority baseline; "" where it was not computed."""
    guess = chain.majority.get("test_in")
    if guess is None or guess.accuracy is None:
        return ""
    return f" Majority baseline: {percent(guess.accuracy)}%."


def _about_tuned(chain: Chain) -> str:
    train = chain.train_set
    if not train:
        return f"External fine-tuned model: {chain.tuned_name}.{_tuning(chain)}"
    which = f"of mastery level {train.level}" if train.level.isdigit() else f"of {train.level} levels"
    return f"After fine-tuning on {train.n:,} other facts {which}.{_tuning(chain)}{_learnt(chain, train)}"


def _tuning(chain: Chain) -> str:
    """Tuned minus base after five examples; "" where they were not asked so."""
    gains = {name: gain for key, name in DOMAINS.items() if (gain := chain.tuning_on(key))}
    said = ", ".join(
        f"{points(gain.value)} pp {name} ({points(gain.low)} to {points(gain.high)})"
        for name, gain in gains.items()
    )
    return f" Minus base, both 5-shot: {said}." if said else ""


def _learnt(chain: Chain, train: TrainSet) -> str:
    """Accuracy on the train facts; "" where it was not evaluated."""
    score = chain.tuned.train
    if score is None or score.accuracy is None:
        return ""
    facts = f"{score.n:,} train facts" if score.n < train.n else "train facts"
    ends = f"{percent(score.low)} to {percent(score.high)}"
    if score.reason and not train.level.isdigit():
        ends += f"; {score.reason}"
    return f" Accuracy on {facts}: {percent(score.accuracy)}% ({ends})."


def _about_restored(chain: Chain) -> str:
    k = chain.best_k
    if k == 0:
        return f"The tuned model (k = 0): {nothing_reverted(chain.chosen)}.{_optimism(chain)}"
    way = chain.restoring
    region = _REGIONS.get(way.region, f"{way.region} weights")
    ranking = RANKINGS.get(way.strategy, way.strategy)
    return (
        f"{k:g}% of {region} reverted (ranking: {ranking}). k chosen on dev; this is test.{_optimism(chain)}"
    )


def nothing_reverted(chosen: Chosen) -> str:
    """Why the chosen k is 0: none was better, or the best one by too little."""
    best = chosen.best_k_percent_on_dev
    if best == 0:
        return "on dev no k is better than k = 0"
    return f"on dev k = {best:g}% is best, but within one standard error of k = 0"


def _optimism(chain: Chain) -> str:
    """The optimistic bias of choosing k on the in-domain test questions; "" where it was not computed."""
    picked = chain.chosen.test_picked
    if not picked:
        return ""
    if picked.optimism <= 0:
        return " Also the best k on test."
    return (
        f" Choosing k on test (k = {picked.k_percent:g}%) would report "
        f"{100 * picked.optimism:.1f} pp more in-domain, zero-shot: an optimistic bias."
    )


def _about_gain(chain: Chain) -> str:
    if chain.best_k == 0:
        return "No weight was reverted (k = 0)."
    said = [f"{asked}: {_verdicts(chain, prompt)}" for prompt, asked in prompt_names(chain).items()]
    said = [f"{one[0].upper()}{one[1:]}." for one in said]
    return f"{' '.join(said)} Restored minus tuned, same questions and prompt."


def _verdicts(chain: Chain, prompt: str) -> str:
    gains = {name: chain.gain_on(key, prompt) for key, name in DOMAINS.items()}
    verdicts = {name: _verdict(gain) for name, gain in gains.items() if gain}
    if len(verdicts) == 2 and len(set(verdicts.values())) == 1:
        verdicts = {"in both domains": next(iter(verdicts.values()))}
    return "; ".join(f"{verdict} {name}" for name, verdict in verdicts.items()) or "not evaluated"


def _verdict(gain: Gain) -> str:
    if gain.low > 0:
        return "improved"
    if gain.high < 0:
        return "worse"
    return "no significant change"


def _about_change(chain: Chain) -> str:
    top = next((row for row in chain.concentration if row.k_percent == 1.0), None)
    said = "Weights whose bits differ after fine-tuning."
    if top is None or top.share is None:
        return said
    null, few = top.null_share, top.top_20_share
    spread = ""
    if top.null_low is not None and top.null_high is not None:
        spread = f", 95% of shuffles {percent(top.null_low, 0)} to {percent(top.null_high, 0)}%"
    beside = f" ({percent(null, 0)}% if changes were shuffled{spread})" if null is not None else ""
    alone = f", the 20 largest alone {percent(few, 0)}%" if few is not None else ""
    return f"{said} The top 1% contain {percent(top.share, 0)}% of the summed r{beside}{alone}."
