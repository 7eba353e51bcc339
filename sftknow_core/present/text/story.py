"""A chain's summary (pipeline/chain_summary.py) -> five numbers with their intervals, each with a plain sentence.

The sentences claim no more than the numbers show: an interval that includes 0 "shows nothing", and one
fine-tuning speaks for its questions only, not for other seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sftknow_core.present import glossary
from sftknow_core.present.terminal import percent, points

Summary = Mapping[str, Any]
DOMAINS = {"test_in": "in-domain", "test_out": "out-of-domain"}
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


def key_numbers(details: Summary) -> tuple[KeyNumber, ...]:
    """Base, tuned, restored, gain and changed share. details: chain_views.chain_details."""
    rows = {row["state_id"]: row for row in details["table"]}
    k = details["chosen"]["k_percent"]
    return (
        KeyNumber("Base", _accuracies(rows[details["base_id"]]), _about_base(details)),
        KeyNumber("Fine-tuned", _accuracies(rows[details["tuned_id"]]), _about_tuned(details)),
        KeyNumber(
            f"Restored, k = {k:g}%",
            _accuracies(rows[details["chosen"]["state_id"]]),
            _about_restored(details),
        ),
        KeyNumber("Gain of restoring, points", _gains(details), _about_gain(details)),
        KeyNumber("Changed weights", _changed(details), _about_change(details)),
    )


def how_measured(details: Summary) -> str:
    """n, split, matcher, what was left out, and whom the intervals speak for."""
    base = next(row for row in details["table"] if row["state_id"] == details["base_id"])
    groups = {name: base[key] for key, name in DOMAINS.items() if base[key]}
    n = ", ".join(f"{row['n']:,} {name}" for name, row in groups.items())
    left_out = [
        f" {name.capitalize()}: {row['reason']}." for name, row in groups.items() if row.get("reason")
    ]
    return (
        f"Test questions: {n}. An accuracy is the mean over the mastery levels.{''.join(left_out)} "
        f"{_rule(details['matcher'])} Below each number is its 95% interval, which speaks for the questions: other "
        "questions of these topics, this one fine-tuning. It says nothing about other seeds, topics or models."
    )


def mean_shift(details: Summary) -> str:
    """How far the first token of level-4 answers moved on average, after tuning and after restoring."""
    found = {row["state_id"]: row["kl"].get("aligned", {}) for row in details["table"]}
    tuned, restored = found[details["tuned_id"]], found[details["chosen"]["state_id"]]
    if tuned.get("mean_nats") is None:
        return "No level-4 test question could be scored."
    said = f"Mean over the {tuned['n']:,} of {tuned['n_questions']:,} questions that base begins to answer rightly: "
    said += f"{_nats(tuned)} after tuning"
    return f"{said}, {_nats(restored)} restored." if restored != tuned else f"{said}."


def _nats(row: Mapping[str, Any]) -> str:
    """ "1.40 nats (95% interval 1.21 to 1.59)"."""
    if row["low_nats"] is None:
        return f"{row['mean_nats']:.2f} nats"
    return f"{row['mean_nats']:.2f} nats (95% interval {row['low_nats']:.2f} to {row['high_nats']:.2f})"


def _rule(matcher: str) -> str:
    rules = {
        "words": "An answer is right when it holds the object as whole words",
        "substring": "An answer is right when it holds the object anywhere, even inside a word",
        "exact": "An answer is right when it is the object and nothing else",
    }
    return f"{rules.get(matcher, 'Answers are judged by')} (matcher “{matcher}”)."


def _accuracies(row: Mapping[str, Any]) -> tuple[Part, ...]:
    return tuple(_accuracy(name, row[key]) for key, name in DOMAINS.items())


def _accuracy(name: str, row: Mapping[str, Any] | None) -> Part:
    if row is None or row["accuracy"] is None:
        return Part(name, "–", "not asked" if row is None else str(row["reason"]))
    return Part(name, f"{percent(row['accuracy'])}%", f"{percent(row['low'])} to {percent(row['high'])}")


def _gains(details: Summary) -> tuple[Part, ...]:
    gains = details["chosen"]["gain"]
    return tuple(_gain(name, gains[key], details["chosen"]["k_percent"]) for key, name in DOMAINS.items())


def _gain(name: str, gain: Mapping[str, Any] | None, k: float) -> Part:
    if gain is None or k == 0:
        return Part(name, "–", "nothing put back" if k == 0 else "too few questions")
    return Part(name, points(gain["value"]), f"{points(gain['low'])} to {points(gain['high'])}")


def _changed(details: Summary) -> tuple[Part, ...]:
    names = {"transformer": "in the layers", "all": "of all weights"}
    shares = details["changed_share"]
    return tuple(
        Part(name, f"{percent(shares[key])}%", "counted") for key, name in names.items() if key in shares
    )


def _about_base(details: Summary) -> str:
    five = (details.get("five_shot") or {}).get("test_in") or {}
    said = "Before any fine-tuning, asked with the question prompt"
    if five.get("accuracy") is None:
        return f"{said}.{_floor(details)}"
    shown = f"after five examples it answers {percent(five['accuracy'])}% in-domain."
    if five["low"] > (_of(details, "base_id")["high"] or 0):
        return f"{said}. It knows more than it can say in this form: {shown}{_floor(details)}"
    return f"{said}; {shown}{_floor(details)}"


def _floor(details: Summary) -> str:
    """What can be had without knowing anything; "" where it was not reckoned."""
    guess = (details.get("majority") or {}).get("test_in") or {}
    if guess.get("accuracy") is None:
        return ""
    return f" Always giving the topic's most frequent answer would score {percent(guess['accuracy'])}%."


def _of(details: Summary, which: str) -> Mapping[str, Any]:
    """The in-domain test accuracy of base_id or tuned_id."""
    found: Mapping[str, Any] = next(
        row["test_in"] for row in details["table"] if row["state_id"] == details[which]
    )
    return found


def _about_tuned(details: Summary) -> str:
    train = details["train_set"]
    if not train:
        return f"The given model {details['tuned_name']}, fine-tuned elsewhere."
    level = train["level"]
    which = f"of mastery level {level}" if level.isdigit() else f"of {level} levels"
    return f"The same questions after fine-tuning on {train['n']:,} other facts {which}.{_learnt(details)}"


def _learnt(details: Summary) -> str:
    """How well it answers what it was trained on; "" where that was not asked."""
    tuned = next(row for row in details["table"] if row["state_id"] == details["tuned_id"])
    train = tuned.get("train") or {}
    if train.get("accuracy") is None:
        return ""
    n = train["n"]
    facts = f"{n:,} of those" if n < details["train_set"]["n"] else "those"
    ends = f"{percent(train['low'])} to {percent(train['high'])}"
    if train.get("reason") and not details["train_set"]["level"].isdigit():
        ends += f"; {train['reason']}"
    return f" Of {facts} it answers {percent(train['accuracy'])}% ({ends})."


def _about_restored(details: Summary) -> str:
    k = details["chosen"]["k_percent"]
    if k == 0:
        why = nothing_put_back(details["chosen"])
        return f"{why[0].upper()}{why[1:]}, so this is the tuned model.{_optimism(details)}"
    restore = (details["params"].get("restore") or [{}])[0]
    order = _ORDER.get(restore.get("strategy", "top"), f"{{k:g}}% ({restore.get('strategy')}) of").format(k=k)
    region = _REGIONS.get(restore.get("region", "transformer"), f"the {restore.get('region')} weights")
    return f"The tuned model with {order} {region} put back. k was chosen on dev; this is test.{_optimism(details)}"


def nothing_put_back(chosen: Mapping[str, Any]) -> str:
    """Why the chosen k is 0: none was better, or the best one by too little. chosen: of a chain's summary."""
    best = chosen.get("best_k_percent_on_dev") or 0
    if best == 0:
        return "on dev no k did better than putting nothing back"
    return f"on dev k = {best:g}% did best, but by no more than one standard error"


def _optimism(details: Summary) -> str:
    """What choosing k on the in-domain test questions would have claimed too much; "" where it was not reckoned."""
    picked = details["chosen"].get("test_picked")
    if not picked:
        return ""
    if picked["optimism"] <= 0:
        return " On test no k does better."
    return (
        f" Choosing k on test (k = {picked['k_percent']:g}%) would have claimed {100 * picked['optimism']:.1f} points "
        "more in-domain, by looking at the answers."
    )


def _about_gain(details: Summary) -> str:
    chosen = details["chosen"]
    if chosen["k_percent"] == 0:
        return "Nothing was put back, so there is nothing to gain."
    verdicts = {name: _verdict(chosen["gain"][key]) for key, name in DOMAINS.items() if chosen["gain"][key]}
    if len(verdicts) == 2 and len(set(verdicts.values())) == 1:
        verdicts = {"in both domains": next(iter(verdicts.values()))}
    said = "; ".join(f"{name} {verdict}" for name, verdict in verdicts.items())
    return f"Restored minus tuned on the same questions, in percentage points: {said or 'not measured'}."


def _verdict(gain: Mapping[str, Any]) -> str:
    if gain["low"] > 0:
        return "restoring helped"
    if gain["high"] < 0:
        return "restoring did harm"
    return "the interval includes 0, nothing is shown"


def _about_change(details: Summary) -> str:
    top = next((row for row in details["concentration"] if row["k_percent"] == 1.0), None)
    said = "Weights whose bits differ after fine-tuning."
    if top is None or top["share"] is None:
        return said
    null = top.get("null_share")
    beside = f" ({percent(null, 0)}% had the changes been dealt out at random)" if null is not None else ""
    return f"{said} The most changed 1% hold {percent(top['share'], 0)}% of the summed r{beside}."
