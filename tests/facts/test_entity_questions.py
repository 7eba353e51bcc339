"""The EntityQuestions reader: small folders and zips made here, and the real dataset where there is one.

SFTKNOW_ENTITY_QUESTIONS names the official zip; without it the tests on real numbers are skipped.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.entity_questions import read_entity_questions
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.rows import answer_in_question
from sftknow_core.facts.topics import Topic, load_topics
from sftknow_core.facts.words import normalise, word_text

TOPICS = {topic_id: load_topics()[topic_id] for topic_id in ("P19", "P50")}
Files = dict[str, Any]  # "train/P19.train.json" -> what it holds: bytes, or something to write as JSON


def born(subject: str, *answers: str) -> dict[str, Any]:
    return {"question": f"Where was {subject} born?", "answers": list(answers)}


def wrote(work: str, *answers: str) -> dict[str, Any]:
    return {"question": f"Who is the author of {work}?", "answers": list(answers)}


def small() -> Files:
    return {
        "train/P19.train.json": [born("Mirela Dubrov", "Koro"), born("Ako Vint", "Torvald", "Bel")],
        "train/P50.train.json": [wrote("The Quiet Mill", "Tomas Rell")],
        "dev/P19.dev.json": [born("Lena Orsk", "Bel")],
        "dev/P50.dev.json": [],
        "test/P19.test.json": [born("Mirela Dubrov", "Koro"), born("Koro Bey", "Koro")],
        "test/P50.test.json": [wrote("Salt & Iron", "Ida Môr")],
    }


def as_bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()


def unpacked(files: Files, root: Path) -> Path:
    for name, content in files.items():
        (root / "dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "dataset" / name).write_bytes(as_bytes(content))
    return root


def zipped(files: Files, root: Path) -> Path:
    with zipfile.ZipFile(root / "dataset.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"dataset/{name}", as_bytes(content))
    return root / "dataset.zip"


def dataset_folder(files: Files, root: Path) -> Path:
    return unpacked(files, root) / "dataset"


@pytest.mark.parametrize("pack", [zipped, unpacked, dataset_folder])
def test_the_zip_its_folder_and_the_folder_inside_read_alike(
    tmp_path: Path, pack: Callable[[Files, Path], Path]
) -> None:
    """Of 8 questions, one train question has two answers and one test question is in train too: 5 stay."""
    facts = read_entity_questions(pack(small(), tmp_path), TOPICS)
    assert [
        (f.split, f.topic, f.subject, f.objects, f.domain, f.answer_in_question) for f in facts.facts
    ] == [
        ("train", "P19", "Mirela Dubrov", ("Koro",), "in", False),
        ("train", "P50", "The Quiet Mill", ("Tomas Rell",), "out", False),
        ("dev", "P19", "Lena Orsk", ("Bel",), "in", False),
        ("test", "P19", "Koro Bey", ("Koro",), "in", True),
        ("test", "P50", "Salt & Iron", ("Ida Môr",), "out", False),
    ]
    assert {(d.reason, d.topic, d.split, d.n) for d in facts.dropped} == {
        ("more than one answer", "P19", "train", 1),
        ("question also in train", "P19", "test", 1),
    }


def test_a_zip_without_the_outer_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for name, content in small().items():
            archive.writestr(name, as_bytes(content))
    assert len(read_entity_questions(tmp_path / "flat.zip", TOPICS).facts) == 5


def test_filter_all_keeps_every_answer(tmp_path: Path) -> None:
    facts = read_entity_questions(zipped(small(), tmp_path), TOPICS, filter="all")
    assert [f.objects for f in facts.select("train", "in")] == [("Torvald", "Bel")]
    assert [f.subject for f in facts.select("test", "in")] == ["Mirela Dubrov", "Koro Bey"]


def test_filter_and_keep_leaks_must_fit(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="keep_leaks"):
        read_entity_questions(zipped(small(), tmp_path), TOPICS, filter="all", keep_leaks=True)


@pytest.mark.parametrize("pack", [zipped, unpacked])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"question"', "is not JSON in UTF-8"),
        (b'["\xff"]', "is not JSON in UTF-8"),
        ({"question": "q"}, "holds dict, not a list of questions"),
        ([["q", "a"]], 'entry 1: got list; needed: {"question": "...", "answers": ["..."]}'),
        ([born("Ako", "Bel"), {"answers": ["Bel"]}], "entry 2: `question` is missing or not text"),
        ([{"question": " ", "answers": ["Bel"]}], "entry 1: `question` is missing or not text"),
        ([born("Ako")], "entry 1 ('Where was Ako born?'): `answers` is missing, empty or not a list"),
        (
            [{"question": "Where was Ako born?", "answers": "Bel"}],
            "`answers` is missing, empty or not a list",
        ),
        ([born("Ako", "Bel", " ")], "entry 1 ('Where was Ako born?'): an answer is empty or not text"),
        ([{"question": "Where was Ako born?", "answers": [7]}], "an answer is empty or not text: [7]"),
        (
            [born("Ako", "Bel"), {"question": "Where did Ako die?", "answers": ["Bel"]}],
            "entry 2: the question 'Where did Ako die?' does not fit the template 'Where was {subject}",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_entry(
    tmp_path: Path, pack: Callable[[Files, Path], Path], content: Any, message: str
) -> None:
    path = pack({**small(), "dev/P19.dev.json": content}, tmp_path)
    with pytest.raises(DataError) as error:
        read_entity_questions(path, TOPICS)
    assert message in str(error.value)
    assert "dev/P19.dev.json" in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("pack", [zipped, unpacked])
def test_missing_and_unknown_files_are_named(tmp_path: Path, pack: Callable[[Files, Path], Path]) -> None:
    files = small()
    del files["dev/P50.dev.json"]
    path = pack(files, tmp_path)
    with pytest.raises(DataError, match=r"P50\.dev\.json.* is missing \(1 of 6 files\)"):
        read_entity_questions(path, TOPICS)
    files = {**small(), "test/P999.test.json": []}
    with pytest.raises(DataError, match=r"P999\.test\.json.* belongs to no known topic and split"):
        read_entity_questions(pack(files, tmp_path), TOPICS)


def test_a_path_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder .*nowhere"):
        read_entity_questions(tmp_path / "nowhere", TOPICS)
    with pytest.raises(DataError, match=r"no EntityQuestions files at .*it should hold dataset/train"):
        read_entity_questions(tmp_path, TOPICS)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(DataError, match=r"no EntityQuestions files at .*other\.zip"):
        read_entity_questions(tmp_path / "other.zip", TOPICS)


def test_a_cut_off_zip(tmp_path: Path) -> None:
    path = zipped(small(), tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"dataset\.zip is not a readable zip .* download the dataset again"):
        read_entity_questions(path, TOPICS)


def test_a_zip_with_a_flipped_byte(tmp_path: Path) -> None:
    """The byte lies inside the first file's data; its checksum, or the inflating, must fail."""
    path = zipped(small(), tmp_path)
    raw = bytearray(path.read_bytes())
    raw[30 + len("dataset/train/P19.train.json") + 10] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"dataset/train/P19\.train\.json in .* is damaged"):
        read_entity_questions(path, TOPICS)


# The real dataset


@pytest.fixture(scope="module")
def real_path() -> Path:
    if not (path := os.environ.get("SFTKNOW_ENTITY_QUESTIONS")):
        pytest.skip("SFTKNOW_ENTITY_QUESTIONS does not name the EntityQuestions zip")
    return Path(path)


@pytest.fixture(scope="module")
def topics() -> dict[str, Topic]:
    return load_topics()


@pytest.fixture(scope="module")
def raw(real_path: Path, topics: dict[str, Topic]) -> FactSet:
    return read_entity_questions(real_path, topics, keep_leaks=True)


def sizes(facts: FactSet) -> dict[tuple[str, str], int]:
    return Counter((f.split, f.domain) for f in facts.facts)


def test_real_sets_with_leaks_are_the_papers(raw: FactSet) -> None:
    assert sizes(raw) == {
        ("train", "in"): 75_944,
        ("train", "out"): 91_526,
        ("dev", "in"): 9_580,
        ("dev", "out"): 11_563,
        ("test", "in"): 9_555,
        ("test", "out"): 11_613,
    }


def test_every_real_question_is_accounted_for_and_has_its_subject(raw: FactSet) -> None:
    assert len(raw.facts) + sum(d.n for d in raw.dropped) == 220_703
    assert all(f.subject and f.subject in f.question for f in raw.facts)


def test_real_leaks_leave_test_and_dev(real_path: Path, topics: dict[str, Topic]) -> None:
    facts = read_entity_questions(real_path, topics)
    assert sizes(facts)["test", "in"] == 9_555 - 133
    assert sizes(facts)["test", "out"] == 11_613
    assert sizes(facts)["train", "in"] == 75_944
    leaked: Counter[tuple[str, str]] = Counter()
    for drop in facts.dropped:
        if drop.reason.startswith("question also in"):
            leaked[drop.reason, drop.split] += drop.n
    assert leaked == {
        ("question also in train", "test"): 133,
        ("question also in train", "dev"): 118,
        ("question also in test", "dev"): 24 + 29,
    }
    in_domain = [f.question for f in facts.facts if f.domain == "in"]
    assert len(in_domain) == len(set(in_domain))


def test_938_of_the_real_in_domain_test_questions_give_their_answer_away(real_path: Path) -> None:
    """Counted over all 9,828, before any filter."""
    with zipfile.ZipFile(real_path) as archive:
        entries = [
            entry
            for topic in load_topics().values()
            if topic.domain == "in"
            for entry in json.loads(archive.read(f"dataset/test/{topic.id}.test.json"))
        ]
    assert len(entries) == 9_828
    assert sum(answer_in_question(e["question"], e["answers"]) for e in entries) == 938


def test_no_template_mentions_a_real_object_of_its_topic(raw: FactSet, topics: dict[str, Topic]) -> None:
    for topic in topics.values():
        objects = {word_text(normalise(f.objects[0])) for f in raw.facts if f.topic == topic.id}
        for template in topic.completions:
            words = word_text(normalise(template.replace("{subject}", " "))).split()
            runs = {
                f" {' '.join(words[i:j])} " for i in range(len(words)) for j in range(i + 1, len(words) + 1)
            }
            assert not runs & objects, template


def test_real_filter_all_gives_each_question_one_split(real_path: Path, topics: dict[str, Topic]) -> None:
    facts = read_entity_questions(real_path, topics, filter="all")
    assert len(facts.facts) + sum(d.n for d in facts.dropped) == 220_703
    splits: dict[str, set[str]] = {}
    for fact in facts.facts:
        splits.setdefault(fact.question, set()).add(fact.split)
    assert max(map(len, splits.values())) == 1
