"""Texts and tables of the page "Token shifts" for one question, and the prompts that the models were given.

Prompts are not stored. The question prompt is rebuilt where the named prompt still has the id that the run recorded;
a completion prompt where the run used the shipped topics, from the template's number and the subject of the question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from sftknow_core.errors import SpecError
from sftknow_core.facts.fact import DOMAIN_NAMES
from sftknow_core.facts.prompts import PROMPT_VERSION, load_prompt
from sftknow_core.facts.topics import Topic, load_topics, topics_id
from sftknow_core.present import columns, glossary
from sftknow_core.present.charts.tokens import GOLD, spelled
from sftknow_core.results.chain import Chain
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.question_detail import FirstToken
from sftknow_core.store.run_spec import RunSpec

DEFINITIONS = glossary.bullets(
    "KL", "gold answer", "correct", "prompt", "models", "k", "k = 100%", "mastery level"
)
PROMPTS = {FIVE_SHOT: "5-shot", ZERO_SHOT: "zero-shot"}
"""Prompt of base, tuned and restored, as in an address -> as read."""
PROMPT_HELP = (
    "How base, tuned and restored were asked: after five examples, the same for each (test questions), or with the "
    "prompt tuned with. KL and token probabilities are always of the latter."
)
OUTCOMES = {
    "right → wrong by tuning": "correct → incorrect by tuning",
    "wrong → right by tuning": "incorrect → correct by tuning",
    "healed by restoring": "recovered by restoring",
    "always right": "always correct",
    "always wrong": "always incorrect",
}
"""Outcome as stored, and as named in an address -> as read, where they differ."""
_TOKENS = columns.of(
    "p_base", "p_tuned", "p_restored", "rank_base", "rank_tuned", "rank_restored", "share_base", "share_tuned"
)
_UNKNOWN_PROMPT = "unknown: prompt “{name}” has changed since this run"


@dataclass(frozen=True)
class SentPrompt:
    """One prompt."""

    to: str
    """Which models, e.g. "base"."""
    text: str | None
    """As it was sent, apart from the tokenizer's BOS; None: unknown."""
    note: str
    """What it is, or why it is unknown."""


def sent_prompts(details: Chain, asked: RunSpec, question: Mapping[str, Any]) -> tuple[SentPrompt, ...]:
    """The question prompt and the base's completion prompt of one question.

    asked: Questions.sent_as; question: a row of questions.QuestionTable.
    """
    return (_question_prompt(details, asked, str(question["question"])), _completion_prompt(asked, question))


def topic_name(topic: str) -> str:
    """ "place of birth (P19)"; the id alone for topics that are not shipped."""
    known = _topics().get(topic)
    return f"{known.name} ({topic})" if known else topic or "no topic"


def plain(text: str) -> str:
    """Text in which Markdown sees nothing to format."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:-])", r"\\\1", text)


def counted(n: int, n_all: int, k_percent: float) -> str:
    """How many questions match the filters."""
    return f"{n:,} of {n_all:,} questions (restored: k = {k_percent:g}%)"


def about_spread(spread: pd.DataFrame) -> str:
    """What the histogram's last bin is, where there is one beyond the axis."""
    beyond = spread[spread["beyond"]]
    if beyond.empty:
        return ""
    row = beyond.iloc[0]
    return f" Last bin: > {row['low']:.1f} nats ({row['n_tuned']:,} tuned, {row['n_restored']:,} restored)."


def about_kl_over_n(rows: pd.DataFrame) -> str:
    """What the mean KL is of, and what its dashed line means. rows: results.accuracy.shifts."""
    n = rows.groupby("domain")[["n_scored", "n"]].max()
    counted = "; ".join(
        f"{DOMAIN_NAMES.get(str(domain), str(domain))} {row['n_scored']:,} of {row['n']:,} scored"
        for domain, row in n.iterrows()
    )
    return (
        f"Aligned KL(tuned || base) in nats ({counted}: questions whose base completion begins with the answer, the "
        "same for every run). Dashed: base itself, question prompt vs. completion prompt. This part comes from the "
        "prompt, not the weights; a tuned model can be below."
    )


def answers(question: Mapping[str, Any], course: pd.DataFrame, k_percent: float, prompt: str) -> str:
    """Gold answer, and what base, tuned and restored answered under the prompt, with marks, as a Markdown list."""
    of = "five_" if prompt == FIVE_SHOT else ""
    asked = PROMPTS.get(prompt, prompt)
    at_k = course[course["k_percent"] == k_percent].iloc[0]
    said = (
        (f"Base, {asked}", question[f"{of}base_answer"], question[f"{of}base_right"]),
        (f"Tuned, {asked}", question[f"{of}tuned_answer"], question[f"{of}tuned_right"]),
        (f"Restored {k_percent:g}%, {asked}", at_k[f"{of}answer"], at_k[f"{of}is_right"]),
    )
    marks = {True: "✓ correct", False: "✗ incorrect"}
    lines = [f"- Gold answer: **{plain(question['gold'])}**"]
    for who, answer, right in said:
        shown = (
            "not evaluated"
            if pd.isna(answer) or pd.isna(right)
            else f"**{plain(str(answer)) or '(empty)'}** {marks[bool(right)]}"
        )
        lines.append(f"- {who}: {shown}")
    if question["base_completion"]:
        mark = marks[bool(question["kept"])]
        lines.insert(
            1, f"- Base (completion prompt): **{plain(str(question['base_completion']).strip())}** {mark}"
        )
    return "\n".join(lines)


def token_table(tokens: pd.DataFrame) -> pd.DataFrame:
    """FirstToken.tokens for people: tokens with white space made visible, shares in percent with two places."""
    shares = [name for name in _TOKENS if not name.startswith("rank")]
    written = tokens[shares].map(lambda p: "–" if pd.isna(p) else f"{p:.2%}")
    ranks = tokens[["rank_base", "rank_tuned", "rank_restored"]]
    stars = tokens["is_gold"].map({True: f"{GOLD} ", False: ""}) + tokens["token"].map(spelled)
    table = pd.concat([stars.rename("token"), written, ranks], axis=1)
    return table[["token", *_TOKENS]].rename(
        columns={name: column.header for name, column in _TOKENS.items()}
    )


def about(question: Mapping[str, Any], place: int | None, n: int) -> str:
    """One line under the question."""
    level = "no mastery level" if pd.isna(question["level"]) else f"mastery level {question['level']:g}"
    where = f"{place:,} of {n:,} in the list" if place else "not in the list"
    domain = DOMAIN_NAMES.get(question["domain"], question["domain"])
    return f"{topic_name(question['topic'])} · {domain} · {question['split']} · {level} · {where}"


def comes_back(question: Mapping[str, Any], prompt: str = ZERO_SHOT) -> str:
    """From which k on the answer is correct again, under the prompt."""
    of, asked = ("five_" if prompt == FIVE_SHOT else ""), PROMPTS.get(prompt, prompt)
    if pd.isna(question[f"{of}tuned_right"]):
        return f"Not asked, {asked}."
    if question[f"{of}tuned_right"]:
        return f"Still correct after fine-tuning, {asked}."
    k = question[f"{of}back_at_k"]
    if pd.isna(k):
        return f"Not recovered at any evaluated k, {asked}."
    whole = " (layers = base)" if k == 100 else ""
    return f"Recovered from k = {k:g}%{whole}, {asked}."


def outside(found: FirstToken, k_percent: float) -> str:
    """The probability mass that the bars do not show, and the KL of both models.

    Base and tuned are over tuned's ten tokens, restored is over its own ten.
    """
    mass = [f"{state} {found.outside[state]:.1%}" for state in ("tuned", "base") if state in found.outside]
    if "restored" in found.outside:
        mass.append(f"restored {k_percent:g}% {found.outside['restored']:.1%} (own top 10)")
    said = f"Probability mass outside the top 10: {', '.join(mass)}."
    if found.kl_nats is not None:
        said += f" KL(tuned || base): {found.kl_nats:.2f} nats"
        kl = found.kl_restored_nats
        said += "." if kl is None else f"; KL(restored || base), own top 10: {kl:.2f} nats."
    if found.reason:
        said += f" Not compared with base: {found.reason}."
    if "restored" in found.bounds:
        said += f" Missing teal bar: below {100 * found.bounds['restored']:.2g}%, outside the own top 10."
    return said


def ranked(n_less: int, n: int, kl_nats: float | None) -> str:
    """Rank of this question's KL among the scored questions."""
    if kl_nats is None:
        return f"{n:,} scored questions (same split and domain). This question is not scored."
    return f"KL is larger than for {n_less:,} of {n:,} scored questions (same split and domain)."


def _question_prompt(details: Chain, asked: RunSpec, question: str) -> SentPrompt:
    who = "tuned and restored"
    name = str((details.spec.params.get("evaluate") or {}).get("prompt", "paper"))
    try:
        prompt = load_prompt(name)
    except SpecError:
        return SentPrompt(who, None, _UNKNOWN_PROMPT.format(name=name))
    recorded, version = asked.params.get("prompt"), asked.versions.get("prompt")
    if recorded is None:
        return SentPrompt(
            who, prompt.prompt(question), f"prompt “{name}”; unverified, the run has no prompt id"
        )
    if recorded != prompt.prompt_id or version != PROMPT_VERSION:
        return SentPrompt(who, None, _UNKNOWN_PROMPT.format(name=name))
    inside = "; user message in the tokenizer's chat template (not stored)" if prompt.is_chat else ""
    return SentPrompt(who, prompt.prompt(question), f"prompt “{name}”{inside}")


def _completion_prompt(asked: RunSpec, question: Mapping[str, Any]) -> SentPrompt:
    number = question["template"]
    if pd.isna(number):
        return SentPrompt("base", None, f"none: {question['reason'] or 'first tokens were not evaluated'}")
    said = f"completion template {int(number) + 1} of its topic"
    topic = _topics().get(str(question["topic"]))
    if asked.inputs.get("topics") not in (None, topics_id(_topics())):
        return SentPrompt("base", None, f"{said}; unknown: the run used other topics than the shipped ones")
    subject = topic.subject_of(str(question["question"])) if topic else None
    if topic is None or subject is None:
        return SentPrompt(
            "base",
            None,
            f"{said}; unknown: few-shot examples from train facts are not stored",
        )
    return SentPrompt("base", topic.completion(int(number), subject), f"{said}, the best one for base")


@cache
def _topics() -> dict[str, Topic]:
    return load_topics()
