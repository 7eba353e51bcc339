"""Sentences, prompts and figures about one question: what is known is rebuilt exactly, what is not is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from sftknow_core.facts.prompts import PROMPT_VERSION, PROMPTS
from sftknow_core.facts.topics import load_topics, topics_id
from sftknow_core.present.charts import tokens as tokens_charts
from sftknow_core.present.text import tokens as tokens_text
from sftknow_core.store.run_spec import RunSpec

QUESTION = {"question": "Where was Ada Lovelace born?", "topic": "P19", "template": 0, "reason": None}
DETAILS: Any = SimpleNamespace(spec=SimpleNamespace(params={"evaluate": {"prompt": "paper"}}))


def asked(prompt_id: str = PROMPTS["paper"].prompt_id, topics: str = topics_id(load_topics())) -> RunSpec:
    return RunSpec("evaluate", {"topics": topics}, {"prompt": prompt_id}, {"prompt": PROMPT_VERSION})


def test_prompts_are_rebuilt_from_name_template_and_subject() -> None:
    to_tuned, to_base = tokens_text.sent_prompts(DETAILS, asked(), QUESTION)
    assert to_tuned.text == "<|question|> Where was Ada Lovelace born? <|answer|>"
    assert to_base.text == load_topics()["P19"].completions[0].replace("{subject}", "Ada Lovelace")


@pytest.mark.parametrize(
    ("spec", "question", "which", "said"),
    [
        (asked(prompt_id="0" * 16), QUESTION, 0, "has changed since"),
        (asked(topics="0" * 16), QUESTION, 1, "other topics"),
        (asked(), QUESTION | {"topic": "mine"}, 1, "few-shot"),
        (asked(), QUESTION | {"template": None, "reason": "no templates"}, 1, "no templates"),
    ],
)
def test_what_cannot_be_known_is_said(spec: RunSpec, question: dict[str, Any], which: int, said: str) -> None:
    sent = tokens_text.sent_prompts(DETAILS, spec, question)[which]
    assert sent.text is None and said in sent.note


def test_when_the_answer_comes_back() -> None:
    for right, k, said in (
        (True, None, "Still correct"),
        (False, None, "any evaluated k"),
        (False, 5.0, "Recovered from k = 5%, zero-shot."),
    ):
        assert said in tokens_text.comes_back({"tuned_right": right, "back_at_k": k})
    assert "(layers = base)" in tokens_text.comes_back({"tuned_right": False, "back_at_k": 100.0})


def test_questions_are_no_markdown() -> None:
    assert tokens_text.plain("*a* [b](c) $d$") == r"\*a\* \[b\]\(c\) \$d\$"


def test_bars_differ_by_pattern_and_gold_has_its_sign() -> None:
    numbers = {"p_base": [0.2, 0.3], "p_tuned": [0.6, 0.1], "p_restored": [float("nan"), 0.5]}
    tokens = pd.DataFrame({"token": [" <b>", "ol"], "is_gold": [False, True], **numbers})
    figure = tokens_charts.tokens_figure(tokens, 20.0)
    assert [bar.name for bar in figure.data] == ["base", "tuned", "restored 20%"]
    assert len({bar.marker.pattern.shape for bar in figure.data}) == 3
    assert list(figure.data[1].x) == [0.6, 0.1]
    assert figure.layout.yaxis.ticktext == ("␣&lt;b&gt;", f"<b>{tokens_charts.GOLD} ol</b>")


def test_course_tells_right_from_wrong_by_symbol() -> None:
    course = pd.DataFrame(
        {
            "k_percent": [float("nan"), 0, 5, 100], "state": ["base", "tuned", "restored", "hybrid"],
            "answer": list("abcd"), "is_right": [False, False, True, False], "gold_p": [0.1, 0.2, 0.8, 0.3],
        }
    )  # fmt: skip
    line, right, wrong, base = tokens_charts.course_figure(course, 5.0).data
    assert list(line.y) == [0.2, 0.8, 0.3] and list(right.x) == [5] and list(wrong.x) == [0, 100]
    assert right.marker.symbol != wrong.marker.symbol and list(base.y) == [0.1, 0.1]
