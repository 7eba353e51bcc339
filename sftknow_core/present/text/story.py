"""A finished chain (results.Chain) -> five numbers with their intervals, each with a plain sentence.

The sentences claim no more than the numbers show: an interval that includes 0 "shows nothing", and one
fine-tuning speaks for its questions only, not for other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

from sftknow_core.present import glossary
from sftknow_core.present.terminal import percent, points
from sftknow_core.results.chain import Chain
from sftknow_core.results.states import Accuracy, Chosen, Gain, Shift, State, TrainSet

DOMAINS = {"in": "in-domain", "out": "out-of-domain"}
_ORDER = {
    "top": "the most changed {k:g}% of",
    "bottom": "the least changed {k:g}% of",
    "largest": "the {k:g}% with the largest absolute change of",
    "smallest": "the {k:g}% with the smallest absolute change of",
}
_REGIONS = {"transformer": "the transformer layers' weights", "all": "all weights"}

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
    """The 95% interval, or why there is none."""


@dataclass(frozen=True)
class KeyNumber:
    """One of the five numbers of a chain."""

    name: str
    parts: tuple[Part, ...]
    sentence: str


def key_numbers(chain: Chain) -> tuple[KeyNumber, ...]:
    """Base, tuned, restored, gain and changed share."""
    return (
        KeyNumber("Base", _accuracies(chain.base), _about_base(chain)),
        KeyNumber("Fine-tuned", _accuracies(chain.tuned), _about_tuned(chain)),
        KeyNumber(f"Restored, k = {chain.best_k:g}%", _accuracies(chain.restored), _about_restored(chain)),
        KeyNumber("Gain of restoring, points", _gains(chain), _about_gain(chain)),
        KeyNumber("Changed weights", _changed(chain), _about_change(chain)),
    )


def how_measured(chain: Chain) -> str:
    """n, split, matcher, what was left out, and whom the intervals speak for."""
    groups = {name: found for key, name in DOMAINS.items() if (found := chain.base.score("test", key))}
    n = ", ".join(f"{score.n:,} {name}" for name, score in groups.items())
    left_out = [f" {name.capitalize()}: {score.reason}." for name, score in groups.items() if score.reason]
    return (
        f"Test questions: {n}. An accuracy is the mean over the mastery levels.{''.join(left_out)} "
        f"{_rule(chain.matcher)} Below each number is its 95% interval, which speaks for the questions: other "
        "questions of these topics, this one fine-tuning. It says nothing about other seeds, topics or models."
    )


def mean_shift(chain: Chain) -> str:
    """How far the first token of level-4 answers moved on average, after tuning and after restoring."""
    tuned, restored = chain.tuned.shift, chain.restored.shift
    if tuned is None or tuned.nats is None:
        return "No level-4 test question could be scored."
    said = (
        f"Mean over the {tuned.n:,} of {tuned.n_questions:,} questions that base begins to answer rightly: "
    )
    said += f"{_nats(tuned)} after tuning"
    return f"{said}, {_nats(restored)} restored." if restored and restored != tuned else f"{said}."


def _nats(shift: Shift) -> str:
    """ "1.40 nats (95% interval 1.21 to 1.59)"."""
    if shift.low is None:
        return f"{shift.nats:.2f} nats"
    return f"{shift.nats:.2f} nats (95% interval {shift.low:.2f} to {shift.high:.2f})"


def _rule(matcher: str) -> str:
    rules = {
        "words": "An answer is right when it holds the object as whole words",
        "substring": "An answer is right when it holds the object anywhere, even inside a word",
        "exact": "An answer is right when it is the object and nothing else",
    }
    return f"{rules.get(matcher, 'Answers are judged by')} (matcher “{matcher}”)."


def _accuracies(state: State) -> tuple[Part, ...]:
    return tuple(_accuracy(name, state.score("test", key)) for key, name in DOMAINS.items())


def _accuracy(name: str, score: Accuracy | None) -> Part:
    if score is None or score.accuracy is None:
        return Part(name, "–", "not asked" if score is None else str(score.reason))
    return Part(name, f"{percent(score.accuracy)}%", f"{percent(score.low)} to {percent(score.high)}")


def _gains(chain: Chain) -> tuple[Part, ...]:
    return tuple(_gain(name, chain.gain_on(key), chain.best_k) for key, name in DOMAINS.items())


def _gain(name: str, gain: Gain | None, k: float) -> Part:
    if gain is None or k == 0:
        return Part(name, "–", "nothing put back" if k == 0 else "too few questions")
    return Part(name, points(gain.value), f"{points(gain.low)} to {points(gain.high)}")


def _changed(chain: Chain) -> tuple[Part, ...]:
    names = {"transformer": "in the layers", "all": "of all weights"}
    shares = chain.changed_share
    return tuple(
        Part(name, f"{percent(shares[key])}%", "counted") for key, name in names.items() if key in shares
    )


def _about_base(chain: Chain) -> str:
    five, base = chain.five_shot.get("test_in"), chain.base.score("test")
    said = "Before any fine-tuning, asked with the question prompt"
    if five is None or five.accuracy is None:
        return f"{said}.{_floor(chain)}"
    shown = f"after five examples it answers {percent(five.accuracy)}% in-domain."
    if five.low is not None and five.low > ((base and base.high) or 0):
        return f"{said}. It knows more than it can say in this form: {shown}{_floor(chain)}"
    return f"{said}; {shown}{_floor(chain)}"


def _floor(chain: Chain) -> str:
    """What can be had without knowing anything; "" where it was not reckoned."""
    guess = chain.majority.get("test_in")
    if guess is None or guess.accuracy is None:
        return ""
    return f" Always giving the topic's most frequent answer would score {percent(guess.accuracy)}%."


def _about_tuned(chain: Chain) -> str:
    train = chain.train_set
    if not train:
        return f"The given model {chain.tuned_name}, fine-tuned elsewhere."
    which = f"of mastery level {train.level}" if train.level.isdigit() else f"of {train.level} levels"
    return f"The same questions after fine-tuning on {train.n:,} other facts {which}.{_learnt(chain, train)}"


def _learnt(chain: Chain, train: TrainSet) -> str:
    """How well it answers what it was trained on; "" where that was not asked."""
    score = chain.tuned.train
    if score is None or score.accuracy is None:
        return ""
    facts = f"{score.n:,} of those" if score.n < train.n else "those"
    ends = f"{percent(score.low)} to {percent(score.high)}"
    if score.reason and not train.level.isdigit():
        ends += f"; {score.reason}"
    return f" Of {facts} it answers {percent(score.accuracy)}% ({ends})."


def _about_restored(chain: Chain) -> str:
    k = chain.best_k
    if k == 0:
        why = nothing_put_back(chain.chosen)
        return f"{why[0].upper()}{why[1:]}, so this is the tuned model.{_optimism(chain)}"
    way = chain.restoring
    order = _ORDER.get(way.strategy, f"{{k:g}}% ({way.strategy}) of").format(k=k)
    region = _REGIONS.get(way.region, f"the {way.region} weights")
    return f"The tuned model with {order} {region} put back. k was chosen on dev; this is test.{_optimism(chain)}"


def nothing_put_back(chosen: Chosen) -> str:
    """Why the chosen k is 0: none was better, or the best one by too little."""
    best = chosen.best_k_percent_on_dev
    if best == 0:
        return "on dev no k did better than putting nothing back"
    return f"on dev k = {best:g}% did best, but by no more than one standard error"


def _optimism(chain: Chain) -> str:
    """What choosing k on the in-domain test questions would have claimed too much; "" where it was not reckoned."""
    picked = chain.chosen.test_picked
    if not picked:
        return ""
    if picked.optimism <= 0:
        return " On test no k does better."
    return (
        f" Choosing k on test (k = {picked.k_percent:g}%) would have claimed {100 * picked.optimism:.1f} points "
        "more in-domain, by looking at the answers."
    )


def _about_gain(chain: Chain) -> str:
    if chain.best_k == 0:
        return "Nothing was put back, so there is nothing to gain."
    verdicts = {name: _verdict(gain) for key, name in DOMAINS.items() if (gain := chain.gain_on(key))}
    if len(verdicts) == 2 and len(set(verdicts.values())) == 1:
        verdicts = {"in both domains": next(iter(verdicts.values()))}
    said = "; ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
    return f"Restored minus tuned on the same questions, in percentage points: {said or 'not measured'}."


def _verdict(gain: Gain) -> str:
    if gain.low > 0:
        return "restoring helped"
    if gain.high < 0:
        return "restoring did harm"
    return "the interval includes 0, nothing is shown"


def _about_change(chain: Chain) -> str:
    top = next((row for row in chain.concentration if row.k_percent == 1.0), None)
    said = "Weights whose bits differ after fine-tuning."
    if top is None or top.share is None:
        return said
    null = top.null_share
    beside = f" ({percent(null, 0)}% had the changes been dealt out at random)" if null is not None else ""
    return f"{said} The most changed 1% hold {percent(top.share, 0)}% of the summed r{beside}."
