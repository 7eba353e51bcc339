"""The synonym table and its file format."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import sftknow_core.facts.synonyms
from sftknow_core.errors import DataError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.synonyms import answers_of, load_synonyms, synonyms_id
from sftknow_core.facts.words import normalise, word_text

SHIPPED = Path(sftknow_core.facts.synonyms.__file__).with_name("synonyms.csv")


def shipped_rows() -> list[dict[str, str]]:
    with SHIPPED.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_shipped_table_has_the_papers_40_pairs_and_our_own() -> None:
    rows = shipped_rows()
    assert [row["source"] for row in rows].count("paper") == 40
    assert {row["source"] for row in rows} == {"paper", "added"}
    assert len({(row["object"], row["synonym"]) for row in rows}) == len(rows)
    assert load_synonyms()["United Arab Emirates"] == ("UAE", "The Emirates")


def test_no_added_synonym_is_a_word_run_that_says_little() -> None:
    """ "us" would be right in "she told us"; a synonym that contains its object adds to it only where that longer name
    is known, which would be another object otherwise. "US" counts in capitals only."""
    for row in shipped_rows():
        if row["source"] == "added":
            assert row["synonym"] not in {"us", "la", "it", "is", "in", "La", "It", "In"}
            longer = word_text(normalise(row["object"])) in word_text(normalise(row["synonym"]))
            assert not longer or row["object"] in {"New York", "Cyprus", "Ireland", "China"}


def test_answers_are_objects_then_synonyms_none_twice() -> None:
    fact = Fact("P1", "q", ("Ako", "Bel"))
    assert answers_of(fact, {"Bel": ("B.", "Ako"), "Ako": ("A.",)}) == ("Ako", "Bel", "A.", "B.")


def test_the_id_follows_the_content_not_the_order() -> None:
    table = {"Ako": ("A.",), "Bel": ("B.",)}
    assert synonyms_id(table) == synonyms_id(dict(reversed(table.items())))
    assert synonyms_id(table) != synonyms_id({"Ako": ("A.",)})


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("object,synonym\nAko,A.\n Ako ,Old Ako\n", encoding="utf-8")
    assert load_synonyms(file) == {"Ako": ("A.", "Old Ako")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,synonym\n", "line 1: a synonyms file needs the columns `object` and `synonym`"),
        (b"", "line 1: a synonyms file needs the columns"),
        (b"object,synonym\nAko,A.\nBel\n", "line 3: object and synonym must both be filled in"),
        (b"object,synonym\n,A.\n", "line 2: object and synonym must both be filled in"),
        (b"object,synonym\n\xff,A.\n", "is not a CSV in UTF-8"),
    ],
)
def test_a_wrong_table_is_told_apart(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "s.csv"
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_synonyms(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the synonyms file .*none\.csv"):
        load_synonyms(tmp_path / "none.csv")
