"""Own facts from CSV and JSON Lines, and telling the kinds of sources apart."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from sftknow_core.errors import DataError, SpecError
from sftknow_core.facts.dataset import load_facts
from sftknow_core.facts.own import (
    HASHED_NOTE,
    LONG_NOTE,
    NO_WORD_NOTE,
    SEVERAL_TURNS,
    read_own_facts,
    split_of,
)


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


_TURNS = [("user", "Where is Koro?"), ("assistant", "Bel")]
_SQUAD = {"question": "Where is Koro?", "id": "1"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpaca.jsonl", {"instruction": "Where is Koro?", "input": "", "output": "Bel"}),
        ("alpaca.json", [{"instruction": "Where is Koro?", "output": "Bel"}]),
        (
            "sharegpt.jsonl",
            {
                "conversations": [
                    {"from": w, "value": v}
                    for w, v in zip(("human", "gpt"), ("Where is Koro?", "Bel"), strict=True)
                ]
            },
        ),
        (
            "chat.jsonl",
            {
                "messages": [
                    {"role": "system", "content": "Be short."},
                    *({"role": w, "content": v} for w, v in _TURNS),
                ]
            },
        ),
        ("prompt.jsonl", {"prompt": "Where is Koro?", "completion": " Bel"}),
        (
            "prompt_chat.jsonl",
            {
                "prompt": [{"role": "user", "content": "Where is Koro?"}],
                "completion": [{"role": "assistant", "content": "Bel"}],
            },
        ),
        ("popqa.csv", 'id,subj,question,possible_answers\n1,Koro,Where is Koro?,"[""Bel""]"\n'),
        ("printed.csv", "question,answers\nWhere is Koro?,['Bel']\n"),
        (
            "squad.json",
            {
                "version": "1.1",
                "data": [
                    {
                        "paragraphs": [
                            {"qas": [_SQUAD | {"answers": [{"text": "Bel", "answer_start": 3}] * 2}]}
                        ]
                    }
                ],
            },
        ),
        ("squad.jsonl", _SQUAD | {"answers": {"text": ["Bel"], "answer_start": [3]}}),
        (
            "trivia.json",
            {"Data": [{"Question": "Where is Koro?", "Answer": {"Value": "Bel", "Aliases": []}}]},
        ),
        ("trivia.jsonl", {"question": "Where is Koro?", "answer": {"value": "Bel", "aliases": ["Bel"]}}),
        (
            "nq.jsonl",
            {
                "question": {"text": "Where is Koro?"},
                "annotations": {"short_answers": [{"text": ["Bel"]}, {"text": []}]},
            },
        ),
        ("nq_open.jsonl", {"question": "Where is Koro?", "answer": ["Bel"]}),
        ("id.jsonl", {"id": 7, "question": "Where is Koro?", "answers": ["Bel"]}),
        ("semi.csv", "question;answers\nWhere is Koro?;Bel\n"),
        ("tab.tsv", "question\tanswers\nWhere is Koro?\tBel\n"),
        ("tab.csv", "question\tanswers\nWhere is Koro?\tBel\n"),
        ("space.csv", "question, answers\nWhere is Koro?, Bel\n"),
        ("caps.csv", "Question,Answers\nWhere is Koro?,Bel\n"),
        ("trailing.csv", "question,answers,\nWhere is Koro?,Bel,\n"),
        ("answer.csv", "question,answer\nWhere is Koro?,Bel\n"),
        ("utf16.csv", "question,answers\nWhere is Koro?,Bel\n".encode("utf-16")),
        ("packed.jsonl.gz", gzip.compress(b'{"question": "Where is Koro?", "answers": "Bel"}\n', mtime=0)),
    ],
)
def test_files_as_people_have_them_say_one_fact(tmp_path: Path, name: str, text: object) -> None:
    """Each of them asks where Koro is, and Bel is right; nothing says a split, so a hash of the question does."""
    raw = text if isinstance(text, str | bytes) else json.dumps(text) + "\n"
    facts = load_facts(str(write(tmp_path / name, raw)))
    (fact,) = facts.facts
    assert (fact.question, fact.objects, fact.split) == (
        "Where is Koro?",
        ("Bel",),
        split_of("where is koro"),
    )
    assert facts.notes[HASHED_NOTE] == 1


def test_parquet(tmp_path: Path) -> None:
    rows = {
        "question": ["q", "r"],
        "answers": [["Bel"], ["Ako", "Vint"]],
        "split": ["train", "test"],
        "n": [1, 2],
    }
    pd.DataFrame(rows).to_parquet(tmp_path / "f.parquet")
    facts = load_facts(str(tmp_path / "f.parquet"))
    assert [(f.question, f.objects, f.split) for f in facts.facts] == [
        ("q", ("Bel",), "train"),
        ("r", ("Ako", "Vint"), "test"),
    ]
    assert facts.notes == {"rows whose further columns are ignored: n": 2}
    with pytest.raises(DataError, match="is no readable Parquet file"):
        load_facts(str(write(tmp_path / "g.parquet", "PAR1")))


def test_what_was_understood_and_left_out_is_counted(tmp_path: Path) -> None:
    lines = [
        {"messages": [{"role": who, "content": said} for who, said in _TURNS]},
        {"messages": [{"role": who, "content": said} for who, said in _TURNS * 2]},
        {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "word " * 13}]},
        {"messages": [{"role": "user", "content": "Which smile?"}, {"role": "assistant", "content": ":-)"}]},
    ]
    facts = read_own_facts(write(tmp_path / "f.jsonl", "\n".join(map(json.dumps, lines))))
    assert facts.notes == {
        "read as messages: question = the user's turn, answer = the assistant's": 3,
        SEVERAL_TURNS: 1,
        HASHED_NOTE: 3,
        LONG_NOTE: 1,
        NO_WORD_NOTE: 1,
    }


def test_a_hash_divides_questions_and_a_split_column_overrides_it(tmp_path: Path) -> None:
    """60, 20 and 20 of 100; of 2,000 questions the shares lie within three standard errors (3.3 and 2.7 points)."""
    questions = [f"Where is place {i}?" for i in range(2000)]
    text = "question,answers\n" + "".join(f"{q},Bel\n" for q in questions)
    facts = read_own_facts(write(tmp_path / "f.csv", text))
    shares = {split: len(facts.select(split)) / 20 for split in ("train", "dev", "test")}
    assert (
        abs(shares["train"] - 60) < 3.3 and abs(shares["dev"] - 20) < 2.7 and abs(shares["test"] - 20) < 2.7
    )
    assert {f.question: f.split for f in facts.facts} == {q: split_of(q.upper() + " ") for q in questions}
    given = read_own_facts(write(tmp_path / "g.csv", "question,answers,split\nq,a,train\nr,a,\n"))
    assert [(f.question, f.split) for f in given.facts] == [("q", "train"), ("r", "test")]


def test_nearly_equal_questions_share_the_more_protected_split(tmp_path: Path) -> None:
    text = "question,answers,split\nWhere is Koro?,Bel,train\nwhere is  KORO,Bel,test\nWho?,Ako,train\n"
    facts = read_own_facts(write(tmp_path / "f.csv", text))
    assert {f.question: f.split for f in facts.facts} == {
        "Where is Koro?": "test",
        "where is  KORO": "test",
        "Who?": "train",
    }
    assert facts.notes == {"moved_to_the_split_of_a_nearly_equal_question": 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "f.jsonl",
            '{"question": "Where is \\ud83d?", "answers": ["a"]}',
            "line 1: `question` holds half a character",
        ),
        ("f.jsonl", '{"question": "q", "answers": ["\\ud83d"]}', "line 1: `answers` holds half a character"),
        (
            "f.json",
            '{"question": "q", "answers": "a"}\n{"question": "r"}',
            "name a file with one object a line .jsonl",
        ),
        ("f.json", '{"a": 1}', "neither a list of rows nor a dataset that is known"),
        ("f.csv", "question,question,answers\nq,q,a\n", "line 1: column `question` stands there twice"),
        ("f.csv", "text,label\nq,a\n", "There is: text, label. Also understood: SQuAD"),
        ("f.jsonl.gz", "no gzip", "cannot read"),
        ("f.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], "is not whole"),
    ],
)
def test_what_is_no_facts_is_told(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_own_facts(write(tmp_path / name, text))
    assert message in str(error.value)


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
        (
            "question,answers,splt\nq,a,dev\n",
            "line 1: unknown `splt`; allowed: question, answers, answer, topic",
        ),
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
    with pytest.raises(DataError, match=r"own facts come as \.csv, \.tsv"):
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
