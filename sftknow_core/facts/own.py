"""Your own facts, from a CSV or a JSON Lines file.

Columns (CSV, with a header) or keys (JSON Lines): question and answers, and if you like topic, subject,
split (train, dev or test; test if left out) and domain (in or out; in if left out). Several answers: a JSON
list, or divided by "|"; any of them is right, the first is the main one.

Questions that stand there twice are merged as rows.py explains under "all".
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import DOMAINS, SPLITS, FactSet
from sftknow_core.facts.rows import Row, facts_of

SUFFIXES = (".csv", ".jsonl")
_REQUIRED = ("question", "answers")
_OPTIONAL = ("topic", "subject", "split", "domain")
_Record = dict[str, Any]


def read_own_facts(path: Path) -> FactSet:
    """The facts of a CSV or JSON Lines file in UTF-8.

    Raises:
        DataError: the file cannot be read or is empty, or a row is incomplete; the message names its line.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: own facts come as {' or '.join(SUFFIXES)}; rename or convert the file")
    read = _csv_records if path.suffix.lower() == ".csv" else _jsonl_records
    try:
        rows = [_row(record, f"{path}, line {line}") for line, record in read(path)]
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror or e}; give an existing file") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is not UTF-8 ({e}); save it as UTF-8") from e
    if not rows:
        raise DataError(f"{path} holds no facts; add rows with `question` and `answers`")
    return facts_of(rows, str(path), filter="all")


def _csv_records(path: Path) -> Iterator[tuple[int, _Record]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            _check_columns(reader.fieldnames or (), f"{path}, line 1")
            for record in reader:
                line = reader.line_num - sum(
                    str(value).count("\n") for value in record.values()
                )  # where it begins
                if None in record or None in record.values():
                    raise DataError(
                        f"{path}, line {line}: {_field_count(record, reader)}; quote fields with commas"
                    )
                yield line, {key: value.strip() or None for key, value in record.items()}
        except csv.Error as e:
            raise DataError(
                f"{path}, line {reader.line_num + 1}: not valid CSV ({e}); check the quotes"
            ) from e


def _field_count(record: _Record, reader: csv.DictReader[str]) -> str:
    extra = len(record.get(None, ()))  # type: ignore[call-overload]
    got = sum(v is not None for k, v in record.items() if k is not None) + extra
    return f"{got} fields under {len(reader.fieldnames or ())} columns"


def _check_columns(columns: Any, where: str) -> None:
    if missing := [c for c in _REQUIRED if c not in columns]:
        raise DataError(f"{where}: no `{missing[0]}`; a fact needs {' and '.join(_REQUIRED)}")
    if unknown := [c for c in columns if c not in _REQUIRED + _OPTIONAL]:
        raise DataError(f"{where}: unknown `{unknown[0]}`; allowed: {', '.join(_REQUIRED + _OPTIONAL)}")


def _jsonl_records(path: Path) -> Iterator[tuple[int, _Record]]:
    with path.open(encoding="utf-8-sig") as lines:
        for line, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except ValueError as e:
                raise DataError(f"{path}, line {line}: not JSON ({e}); each line is one object") from e
            if not isinstance(record, dict):
                raise DataError(f"{path}, line {line}: got {type(record).__name__}; each line is one object")
            _check_columns(record, f"{path}, line {line}")
            yield line, record


def _row(record: _Record, where: str) -> Row:
    return Row(
        topic=_text(record, "topic", where) or "",
        question=_required(record, where),
        answers=_answers(record["answers"], where),
        subject=_text(record, "subject", where),
        split=_one_of(SPLITS, _text(record, "split", where) or "test", "split", where),
        domain=_one_of(DOMAINS, _text(record, "domain", where) or "in", "domain", where),
    )


def _text(record: _Record, key: str, where: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: `{key}` is {value!r}, not text; put it in quotes")
    return (value or "").strip() or None


def _required(record: _Record, where: str) -> str:
    if (question := _text(record, "question", where)) is None:
        raise DataError(f"{where}: the question is empty; fill it in or remove the line")
    return question


def _one_of(allowed: tuple[str, ...], value: str, key: str, where: str) -> str:
    if value not in allowed:
        raise DataError(f"{where}: {key} is {value!r}; allowed: {', '.join(allowed)}")
    return value


def _answers(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _answer_list(value, where)
    if value is None or value == []:
        raise DataError(f"{where}: no answers; give at least one")
    if not isinstance(value, list) or not all(isinstance(a, str) for a in value):
        raise DataError(
            f"{where}: answers are {value!r}; give a text, a list of texts, or texts divided by |"
        )
    if not all(a.strip() for a in value):
        raise DataError(f"{where}: one of the answers {value!r} is empty; remove it")
    return tuple(dict.fromkeys(a.strip() for a in value))


def _answer_list(text: str, where: str) -> Any:
    if not text.lstrip().startswith("["):
        return text.split("|") if text.strip() else []
    try:
        return json.loads(text)
    except ValueError as e:
        raise DataError(f"{where}: the answers {text!r} begin like a JSON list but are none ({e})") from e
