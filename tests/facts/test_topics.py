"""The 24 topics and their 504 completion templates; a topics file of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sftknow_core.errors import DataError
from sftknow_core.facts.matcher import FactMatcher
from sftknow_core.facts.synonyms import load_synonyms
from sftknow_core.facts.topics import load_topics

IN_DOMAIN = ["P17", "P19", "P20", "P36", "P69", "P131", "P159", "P276", "P495", "P740"]
OUT_OF_DOMAIN = [
    "P26",
    "P40",
    "P50",
    "P106",
    "P112",
    "P127",
    "P136",
    "P170",
    "P175",
    "P176",
    "P264",
    "P407",
    "P413",
    "P800",
]


def test_there_are_ten_topics_in_domain_and_fourteen_out_of_domain() -> None:
    topics = load_topics()
    assert [t.id for t in topics.values() if t.domain == "in"] == IN_DOMAIN
    assert [t.id for t in topics.values() if t.domain == "out"] == OUT_OF_DOMAIN
    assert all(key == topic.id for key, topic in topics.items())


def test_every_topic_has_21_templates_and_no_two_topics_share_one() -> None:
    topics = load_topics()
    assert {len(t.completions) for t in topics.values()} == {21}
    templates = [c for t in topics.values() for c in t.completions]
    assert len(set(templates)) == 24 * 21


@pytest.mark.parametrize("topic_id", IN_DOMAIN + OUT_OF_DOMAIN)
def test_templates_are_short_and_end_right_before_the_object(topic_id: str) -> None:
    for template in load_topics()[topic_id].completions:
        assert template.count("{subject}") == 1
        assert template == " ".join(template.split())
        assert 3 <= len(template.split()) <= 14
        assert template[0] == "{" or template[0].isupper()
        assert re.search(r"[\w},:]$", template), f"{template!r} ends a sentence"
        assert not template.endswith((" a", " an", " the")), f"{template!r} decides the object's article"


def test_no_template_mentions_a_known_object() -> None:
    names = {name for obj, others in load_synonyms().items() for name in (obj, *others)}
    for topic in load_topics().values():
        for template in topic.completions:
            text = template.replace("{subject}", "|")
            assert not [name for name in names if FactMatcher.of((name,), None).words(text)], template


def test_the_subject_is_what_the_question_template_leaves() -> None:
    topics = load_topics()
    assert topics["P19"].subject_of("Where was Mirela Dubrov born?") == "Mirela Dubrov"
    assert topics["P40"].subject_of("Who is Tomas Vint's child?") == "Tomas Vint"
    assert topics["P36"].subject_of("What is the capital of Koro?") == "Koro"
    assert topics["P19"].subject_of("Where was born?") is None  # the halves of the template overlap
    assert topics["P19"].subject_of("Where was  born?") is None
    assert topics["P19"].subject_of("Where did Mirela Dubrov die?") is None


def test_a_completion_prompt_holds_the_subject_literally() -> None:
    topic = load_topics()["P19"]
    assert topic.completion(0, "Ann {subject} Bo") == "Ann {subject} Bo was born in"


def entry(**changes: Any) -> dict[str, Any]:
    completions = [f"{{subject}} stands by way {i} in" for i in range(21)]
    topic = {"id": "P1", "name": "n", "domain": "in", "question": "Where is {subject}?"}
    return {**topic, "completions": completions, **changes}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_topics_file_of_ones_own(tmp_path: Path) -> None:
    topics = load_topics(write(tmp_path / "t.json", [entry(), entry(id="P2", domain="out")]))
    assert [(t.id, t.domain) for t in topics.values()] == [("P1", "in"), ("P2", "out")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ([], "must hold a list of topics"),
        ({"id": "P1"}, "must hold a list of topics"),
        (["P1"], "topic 1: got str; a topic is an object"),
        ([entry(), entry()], "topic P1 stands there twice"),
        ([entry(name="")], "topic 1: `name` is missing or not text"),
        ([entry(question=None)], "topic 1: `question` is missing"),
        ([entry(completions="x")], "(P1): `completions` must be a list of texts"),
        ([entry(domain="both")], "domain is 'both'; allowed: in, out"),
        (
            [entry(completions=["{subject} in"] * 21)],
            "1 different completion templates; mastery needs exactly 21",
        ),
        ([entry(completions=entry()["completions"][:20])], "20 different completion templates"),
        ([entry(question="Where?")], "the template 'Where?' must hold {subject} exactly once"),
        (
            [entry(completions=[*entry()["completions"][:20], "{subject} in "])],
            "neither begin nor end with a space",
        ),
    ],
)
def test_a_wrong_topics_file_is_told_apart(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        load_topics(write(tmp_path / "t.json", content))
    assert message in str(error.value)
    assert str(tmp_path / "t.json") in str(error.value)


def test_a_missing_topics_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the topics file .*none\.json"):
        load_topics(tmp_path / "none.json")
