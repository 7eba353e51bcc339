"""Own facts from CSV and JSON Lines, and telling the kinds of sources apart."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.dataset import load_facts
from sftknow_core.facts.own import read_own_facts


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_with_all_columns(tmp_path: Path) -> None:
    text = (
        "\ufeffquestion,answers,topic,subject,split,domain\n"
        "Where is Koro?,Bel| Old Bel ,places,Koro,train,out\n"
        "\n"
        '"Who, then, is Ako?","[""a | b"", ""Vint""]",,,,\n'
    )
    first, second = read_own_facts(write(tmp_path / "f.csv", text)).facts
    assert (first.question, first.objects) == ("Where is Koro?", ("Bel", "Old Bel"))
    assert (first.topic, first.subject, first.split, first.domain) == ("places", "Koro", "train", "out")
    assert (second.question, second.objects) == ("Who, then, is Ako?", ("a | b", "Vint"))
    assert (second.topic, second.subject, second.split, second.domain) == ("", None, "test", "in")


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        {"question": " Where is Koro? ", "answers": ["Bel", "Bel"], "split": "dev", "subject": None},
        {"question": "Where is Koro City?", "answers": "Koro|Bel"},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines) + "\n"
    first, second = read_own_facts(write(tmp_path / "f.JSONL", text)).facts
    assert (first.question, first.objects, first.split) == ("Where is Koro?", ("Bel",), "dev")
    assert (second.objects, second.answer_in_question) == (("Koro", "Bel"), True)


def test_a_question_that_stands_twice_is_merged_and_counted(tmp_path: Path) -> None:
    text = "question,answers,split\nq,Ako,train\nq,Bel,test\n"
    facts = read_own_facts(write(tmp_path / "f.csv", text))
    assert [(f.split, f.objects) for f in facts.facts] == [("test", ("Bel", "Ako"))]
    assert sum(d.n for d in facts.dropped) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no `question`; a fact needs question and answers"),
        ("question,anwsers\nq,a\n", "line 1: no `answers`"),
        ("question,answers,splt\nq,a,dev\n", "line 1: unknown `splt`; allowed: question, answers, topic"),
        ("question,answers\n", "holds no facts"),
        ("question,answers\nq,a\n ,a\n", "line 3: the question is empty"),
        ("question,answers\nq,a\nq2,\n", "line 3: no answers; give at least one"),
        ('question,answers\n"q\nx",a\nq2, \n', "line 4: no answers"),
        ("question,answers\nq,a||b\n", "line 2: one of the answers ['a', '', 'b'] is empty"),
        ('question,answers\nq,"[1, 2]"\n', "line 2: answers are [1, 2]; give a text"),
        ("question,answers\nq,[a]\n", "line 2: the answers '[a]' begin like a JSON list but are none"),
        ("question,answers\nq,[]\n", "line 2: no answers"),
        ("question,answers,split\nq,a,trian\n", "line 2: split is 'trian'; allowed: train, dev, test"),
        ("question,answers,domain\nq,a,both\n", "line 2: domain is 'both'; allowed: in, out"),
        ("question,answers\nWho, then?,a\n", "line 2: 3 fields under 2 columns; quote fields with commas"),
        ("question,answers\nq\n", "line 2: 1 fields under 2 columns"),
        ('question,answers\nq,"a\n', "line 2: not valid CSV"),
    ],
)
def test_a_wrong_csv_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "f.csv", text)
    with pytest.raises(DataError) as error:
        read_own_facts(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "q", "answers": ["a"]}\n{"question"\n', "line 2: not JSON"),
        ('["q", "a"]\n', "line 1: got list; each line is one object"),
        ('{"question": "q"}\n', "line 1: no `answers`"),
        ('{"question": "q", "answers": null}\n', "line 1: no answers"),
        ('{"question": 7, "answers": ["a"]}\n', "line 1: `question` is 7, not text"),
        ('{"question": "q", "answers": {"a": 1}}\n', "line 1: answers are {'a': 1}"),
        ('{"question": "q", "answers": ["a"], "topic": 19}\n', "line 1: `topic` is 19, not text"),
        ("\n", "holds no facts"),
    ],
)
def test_a_wrong_jsonl_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_own_facts(write(tmp_path / "f.jsonl", text))
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.csv"):
        read_own_facts(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"l\.jsonl is not UTF-8"):
        read_own_facts(write(tmp_path / "l.jsonl", b'{"question": "\xe9"}'))
    with pytest.raises(DataError, match=r"own facts come as \.csv or \.jsonl"):
        read_own_facts(write(tmp_path / "f.txt", "q"))


def test_load_facts_tells_the_kinds_apart(tmp_path: Path) -> None:
    own = write(tmp_path / "f.csv", "question,answers\nq,a\n")
    assert load_facts(str(own)).source == str(own)
    assert load_facts("demo").source == "demo"
    with pytest.raises(DataError, match="cannot tell what this is"):
        load_facts(str(write(tmp_path / "facts.txt", "q")))
    with pytest.raises(DataError, match="there is no file or folder"):
        load_facts(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="is not a readable zip"):
        load_facts(str(write(tmp_path / "broken.zip", "q")))


def test_load_facts_reads_a_dataset_with_its_topics_file(tmp_path: Path) -> None:
    topic = {"id": "P1", "name": "n", "domain": "in", "question": "Where is {subject}?"}
    completions = [f"{{subject}} stands by way {i} in" for i in range(21)]
    topics = write(tmp_path / "topics.json", json.dumps([{**topic, "completions": completions}]))
    with zipfile.ZipFile(tmp_path / "data.bin", "w") as archive:  # a zip is known by its content too
        for split in ("train", "dev", "test"):
            entry = {"question": "Where is Koro?", "answers": ["Bel"]}
            archive.writestr(f"dataset/{split}/P1.{split}.json", json.dumps([entry]))
    path = str(tmp_path / "data.bin")
    assert [f.split for f in load_facts(path, topics_path=topics).facts] == ["train"]
    assert len(load_facts(path, topics_path=topics, keep_leaks=True).facts) == 3
    assert [f.split for f in load_facts(path, topics_path=topics, filter="all").facts] == ["test"]
    with pytest.raises(SpecError, match="filter: got 'none'"):
        load_facts(path, topics_path=topics, filter="none")
