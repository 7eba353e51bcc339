"""EntityQuestions, as its authors publish it -> facts.

Sciavolino, Zhong, Lee, Chen: "Simple Entity-Centric Questions Challenge Dense Retrievers", EMNLP 2021. The
official download is a zip with dataset/{train,dev,test}/P19.train.json and so on: one file a topic and
split, each a list of {"question": "...", "answers": ["...", ...]}. The subject is what remains of a question
when the topic's template is taken away.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import SPLITS, FactSet
from sftknow_core.facts.rows import Row, facts_of
from sftknow_core.facts.topics import Topic

_LAYOUT = "dataset/train/P19.train.json and so on"


def read_entity_questions(
    path: Path,
    topics: Mapping[str, Topic],
    *,
    filter: str = "paper",
    keep_leaks: bool = False,
) -> FactSet:
    """The facts of the official zip or its unpacked folder (the one that holds dataset/, or dataset/ itself).

    `filter` and `keep_leaks` are explained in rows.py. Facts come by split, then in the order of `topics`,
    then as in the file; facts + dropped = questions in the files.

    Raises:
        DataError: a file is missing, damaged, of another shape or of a topic that `topics` lacks, or a
            question does not fit its topic's template.
        SpecError: an unknown filter, or keep_leaks with filter "all".
    """
    with closing(_open(path)) as files:
        _check_names(files, topics)
        rows = [row for split in SPLITS for topic in topics.values() for row in _rows(files, topic, split)]
    return facts_of(rows, str(path), filter=filter, keep_leaks=keep_leaks)


class _Files(Protocol):
    """The dataset's files, wherever they lie."""

    def where(self, name: str) -> str: ...
    def names(self) -> set[str]: ...
    def read(self, name: str) -> bytes: ...
    def close(self) -> None: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self._root = path / "dataset" if (path / "dataset").is_dir() else path

    def where(self, name: str) -> str:
        return str(self._root / name)

    def names(self) -> set[str]:
        return {f"{split}/{file.name}" for split in SPLITS for file in (self._root / split).glob("*.json")}

    def read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as e:
            raise DataError(
                f"cannot read {self.where(name)}: {e.strerror or e}; unpack the dataset again"
            ) from e

    def close(self) -> None:
        pass


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as e:
            raise DataError(f"{path} is not a readable zip ({e}); download the dataset again") from e
        entries = set(self._zip.namelist())
        self._root = "dataset/" if any(name.startswith("dataset/") for name in entries) else ""
        self._names = {name.removeprefix(self._root) for name in entries if name.startswith(self._root)}

    def where(self, name: str) -> str:
        return f"{self._root}{name} in {self._path}"

    def names(self) -> set[str]:
        folders = tuple(f"{split}/" for split in SPLITS)
        return {name for name in self._names if name.startswith(folders) and name.endswith(".json")}

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._root + name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as e:
            raise DataError(f"{self.where(name)} is damaged ({e}); download the dataset again") from e

    def close(self) -> None:
        self._zip.close()


def _open(path: Path) -> _Files:
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise DataError(
            f"there is no file or folder {path}; give the EntityQuestions zip or its unpacked folder"
        )
    return _Zip(path)


def _check_names(files: _Files, topics: Mapping[str, Topic]) -> None:
    """Neither a file too few nor one too many, so that no topic goes missing unseen."""
    wanted = {_name(topic, split) for topic in topics for split in SPLITS}
    found = files.names()
    if not found:
        raise DataError(f"no EntityQuestions files at {files.where('')}; it should hold {_LAYOUT}")
    if missing := sorted(wanted - found):
        raise DataError(
            f"{files.where(missing[0])} is missing ({len(missing)} of {len(wanted)} files); "
            "unpack or download the whole dataset"
        )
    if unknown := sorted(found - wanted):
        raise DataError(
            f"{files.where(unknown[0])} belongs to no known topic and split ({len(unknown)} such files); "
            "add its topic to the topics file, or remove the file"
        )


def _name(topic_id: str, split: str) -> str:
    return f"{split}/{topic_id}.{split}.json"


def _rows(files: _Files, topic: Topic, split: str) -> Iterator[Row]:
    name = _name(topic.id, split)
    where = files.where(name)
    try:
        entries = json.loads(files.read(name).decode("utf-8"))
    except ValueError as e:
        raise DataError(f"{where} is not JSON in UTF-8 ({e}); download the dataset again") from e
    if not isinstance(entries, list):
        raise DataError(
            f"{where} holds {type(entries).__name__}, not a list of questions; is it EntityQuestions?"
        )
    for number, entry in enumerate(entries, start=1):
        question, answers = _entry(entry, f"{where}, entry {number}")
        if (subject := topic.subject_of(question)) is None:
            raise DataError(
                f"{where}, entry {number}: the question {question!r} does not fit the template "
                f"{topic.question!r} of {topic.id}; correct the file or the topics file"
            )
        yield Row(topic.id, question, answers, subject, split, topic.domain)


def _entry(entry: Any, where: str) -> tuple[str, tuple[str, ...]]:
    if not isinstance(entry, dict):
        raise DataError(
            f'{where}: got {type(entry).__name__}; needed: {{"question": "...", "answers": ["..."]}}'
        )
    question, answers = entry.get("question"), entry.get("answers")
    if not isinstance(question, str) or not question.strip():
        raise DataError(f"{where}: `question` is missing or not text; correct the file")
    if not isinstance(answers, list) or not answers:
        raise DataError(
            f"{where} ({question!r}): `answers` is missing, empty or not a list; give at least one"
        )
    if not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise DataError(f"{where} ({question!r}): an answer is empty or not text: {answers!r}; correct it")
    return question, tuple(answers)
