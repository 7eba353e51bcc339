"""Synonyms of objects: other names that count as right.

They go one way: "USA" is right where the object is "United States of America", not the other way round.

synonyms.csv holds two kinds of rows. `paper`: the pairs of table 12 of Ye et al., "Analyzing the Effects of
Supervised Fine-Tuning on Model Knowledge from Token and Parameter Levels", EMNLP 2025, arXiv 2509.16596.
`added`: ours, for names that occur as objects in EntityQuestions and mean one thing only: initials (UK, NYU),
other names of one country or city (Holland, Kiev), and other spellings (Zurich, defenseman).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path

from sftknow_core.errors import DataError
from sftknow_core.facts.fact import Fact

Synonyms = Mapping[str, tuple[str, ...]]
"""Object -> its synonyms."""
_SYNONYMS_FILE = Path(__file__).with_name("synonyms.csv")


def load_synonyms(path: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Object -> its synonyms, from a CSV with columns object and synonym; without a path, the shipped one.

    Raises:
        DataError: the file cannot be read, or a row of it is incomplete.
    """
    file = path or _SYNONYMS_FILE
    table: dict[str, dict[str, None]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if not {"object", "synonym"} <= set(reader.fieldnames or ()):
                raise DataError(f"{file}, line 1: a synonyms file needs the columns `object` and `synonym`")
            for row in reader:
                obj, synonym = (row["object"] or "").strip(), (row["synonym"] or "").strip()
                if not obj or not synonym:
                    raise DataError(
                        f"{file}, line {reader.line_num}: object and synonym must both be filled in"
                    )
                table.setdefault(obj, {})[synonym] = None
    except OSError as e:
        raise DataError(
            f"cannot read the synonyms file {file}: {e.strerror or e}; give an existing file"
        ) from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"the synonyms file {file} is not a CSV in UTF-8 ({e}); save it as one") from e
    return {obj: tuple(synonyms) for obj, synonyms in table.items()}


def answers_of(fact: Fact, synonyms: Synonyms) -> tuple[str, ...]:
    """Everything that is right for a fact: its objects in order, then their synonyms; none twice."""
    return with_synonyms(fact.objects, synonyms)


def with_synonyms(objects: tuple[str, ...], synonyms: Synonyms) -> tuple[str, ...]:
    """The objects in order, then their synonyms; none twice."""
    return tuple(dict.fromkeys((*objects, *(s for obj in objects for s in synonyms.get(obj, ())))))


def synonyms_id(synonyms: Synonyms) -> str:
    """16 hex digits of the table: verdicts under different tables are never mixed."""
    lines = sorted("\0".join((obj, *others)) for obj, others in synonyms.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
