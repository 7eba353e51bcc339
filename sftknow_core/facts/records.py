"""A file of rows -> one dictionary a row, its names in plain form: lower case, no spaces around them.

CSV (comma, semicolon or tab), TSV, JSON, JSON Lines and Parquet, each also as .gz. What the rows mean is own.py's.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sftknow_core.errors import DataError

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
Record = dict[str, Any]
Located = tuple[str, Record]
CheckHeader = Callable[[Sequence[str], str], None]


def records(path: Path, known: Collection[str], check_header: CheckHeader) -> Iterator[Located]:
    """The records of a file, each with its place ("line 3", "row 7"), in the file's order.

    Args:
        path: Of one of SUFFIXES, perhaps followed by .gz; UTF-8, or UTF-16 with a byte order mark.
        known: Names of columns that mean something, by which a CSV file's delimiter is told.
        check_header: Called with a CSV file's names and their place before the first record; raises DataError.

    Raises:
        DataError: the file is no valid CSV, JSON or Parquet; OSError, UnicodeDecodeError: it cannot be read.
    """
    suffix = suffix_of(path)
    if suffix == ".parquet":
        yield from _parquet_records(path)
        return
    text = _text_of(path)
    if suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else _delimiter(text, known)
        yield from _csv_records(text, path, delimiter, check_header)
    elif suffix == ".jsonl":
        yield from _jsonl_records(text, path)
    else:
        yield from _json_records(text, path)


def suffix_of(path: Path) -> str:
    """The suffix that says what a file holds: of "f.jsonl.gz" it is ".jsonl"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else suffixes[-1] if suffixes else ""


def _text_of(path: Path) -> str:
    data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if is_utf16 else "utf-8-sig")


def _plain_name(name: object) -> str:
    return str(name).strip().lstrip("\ufeff").casefold().replace(" ", "_")


def _csv_records(text: str, path: Path, delimiter: str, check_header: CheckHeader) -> Iterator[Located]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    end = 0
    try:
        header = next(reader, [])
        names = [_plain_name(name) for name in header]
        while names and not names[-1]:  # a delimiter at the end of the line
            names.pop()
        if not names:
            raise DataError(f"{path}, line 1: no `question`; a fact needs question and answers")
        if repeated := [name for name, n in Counter(names).items() if n > 1]:
            raise DataError(f"{path}, line 1: column `{repeated[0]}` stands there twice; remove one")
        check_header(names, f"{path}, line 1")
        end = reader.line_num
        for values in reader:
            line, end = end + 1, reader.line_num
            if not values:
                continue
            while len(values) > len(names) and not values[-1].strip():
                values.pop()
            if len(values) != len(names):
                raise DataError(
                    f"{path}, line {line}: {len(values)} fields under {len(names)} columns; quote fields with commas"
                )
            yield (
                f"line {line}",
                {name: value.strip() or None for name, value in zip(names, values, strict=True)},
            )
    except csv.Error as e:
        raise DataError(f"{path}, line {end + 1}: not valid CSV ({e}); check the quotes") from e


def _delimiter(text: str, known: Collection[str]) -> str:
    """The one of comma, semicolon and tab that divides the header into most known names."""
    header = text.partition("\n")[0].strip("\r")

    def n_known(delimiter: str) -> int:
        return sum(_plain_name(name.strip('"')) in known for name in header.split(delimiter))

    return max(",;\t", key=n_known)


def _jsonl_records(text: str, path: Path) -> Iterator[Located]:
    for line, one in enumerate(text.split("\n"), start=1):
        if not one.strip():
            continue
        try:
            record = json.loads(one)
        except ValueError as e:
            raise DataError(f"{path}, line {line}: not JSON ({e}); each line is one object") from e
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {line}: got {type(record).__name__}; each line is one object")
        yield f"line {line}", {_plain_name(name): value for name, value in record.items()}


def _json_records(text: str, path: Path) -> Iterator[Located]:
    try:
        whole = json.loads(text) if text.strip() else []
    except ValueError as e:
        hint = "; name a file with one object a line .jsonl" if "Extra data" in str(e) else ""
        raise DataError(f"{path}: not JSON ({e}){hint}") from e
    for number, record in enumerate(_listed(whole, path), start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, row {number}: got {type(record).__name__}; each row is one object")
        yield f"row {number}", {_plain_name(name): value for name, value in record.items()}


def _listed(whole: Any, path: Path) -> Iterable[Any]:
    """The rows of a JSON document: a list, SQuAD's or TriviaQA's nesting, or a list under one key."""
    if isinstance(whole, list):
        return whole
    if isinstance(whole, dict):
        for key in ("data", "Data", "rows", "examples", "train"):
            inner = whole.get(key)
            if not isinstance(inner, list):
                continue
            if any(isinstance(one, dict) and "paragraphs" in one for one in inner):
                return (
                    qa
                    for article in inner
                    for paragraph in article.get("paragraphs", ())
                    for qa in paragraph.get("qas", ())
                )
            return inner
        if "question" in whole or "instruction" in whole:
            return [whole]
    raise DataError(
        f"{path}: neither a list of rows nor a dataset that is known (SQuAD, TriviaQA); make it a list"
    )


def _parquet_records(path: Path) -> Iterator[Located]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(path).to_pylist()
    except pa.ArrowException as e:
        raise DataError(f"{path} is no readable Parquet file ({e}); write it again") from e
    for number, record in enumerate(rows, start=1):
        yield f"row {number}", {_plain_name(name): value for name, value in record.items()}
