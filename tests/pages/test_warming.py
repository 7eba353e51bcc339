"""Reading ahead: what the other pages read first is there before they are opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import streamlit as st
from fake_chain import make_chains
from fake_mastery import make_mastery
from streamlit.testing.v1 import AppTest

from pages import facts, overview
from pages._widgets import reading, warming
from sftknow_core.errors import CacheError
from sftknow_core.present.charts.palette import THEMES
from sftknow_core.results import Chain, Cube, Mastery, Questions, accuracy, mastery, question_detail
from sftknow_core.serve import train_preview
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE

PAGES = Path(__file__).parents[2] / "pages"
Chains = tuple[Path, list[str]]
FRAME = """
from pathlib import Path
import streamlit as st
files = sorted(Path({folder!r}).glob("*.py"))
st.navigation([st.Page(file, default=file.stem == {page!r}) for file in files]).run()
"""
"""The app without what it does once a page is drawn."""
READS: dict[str, list[tuple[Any, str]]] = {
    "facts": [(mastery, "gather")]
    + [(Mastery, name) for name in ("numbers", "by_level", "by_topic", "histogram", "against_expected")],
    "fine_tune": [(train_preview, "known_levels")],
    "accuracy": [
        (question_detail, "gather"),
        (accuracy, "answers"),
        (accuracy, "group_of"),
        (accuracy, "accuracies"),
    ],
    "token_shifts": [
        (question_detail, "gather"),
        (question_detail, "spread"),
        (question_detail, "by_level"),
        (Questions, "first_token"),
        (accuracy, "shifts"),
    ],
    "parameters": [
        (Cube, name) for name in ("overview", "changed_shares", "spread", "concentration", "heat")
    ],
    "restore": [
        (Chain, "measured"),
        (Cube, "selection"),
        (Cube, "places"),
        (Cube, "curve"),
        (Chain, "ways"),
        (Chain, "question_sets"),
    ],
    "ask": [(Chain, "measured"), (Chain, "flipped")],
    "overview": [(Chain, name) for name in ("curve", "levels", "shifted_questions")],
}
"""Page -> what is read for it, as module and function."""


@pytest.fixture
def key(chains: Chains, monkeypatch: pytest.MonkeyPatch) -> Iterator[reading.Key]:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(chains[0]))
    st.cache_data.clear()
    st.cache_resource.clear()
    yield reading.key_of_cache()
    st.cache_data.clear()
    st.cache_resource.clear()


def not_again(*_: Any, **__: Any) -> NoReturn:
    raise AssertionError("this was read already")


@pytest.mark.parametrize("page", READS)
def test_a_page_finds_what_was_read_for_it(
    key: reading.Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    if page == "facts":  # whose runs the shared cache lacks
        make_chains(tmp_path, [("0", 240, 0)], per_level=4)
        make_mastery(tmp_path, 12)
        monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
        key = reading.key_of_cache()
    newest = reading.survey(key).finished["run_id"].iloc[0]
    warming.read_ahead(key, newest, THEMES["light"])
    for module, function in READS[page]:
        monkeypatch.setattr(module, function, not_again)
    at = AppTest.from_string(FRAME.format(folder=str(PAGES), page=page), default_timeout=60).run()
    assert not at.exception and not at.error
    assert at.title and bool(at.get("plotly_chart")) is (page not in ("fine_tune", "ask"))


def test_nothing_is_read_while_a_page_is_drawn(key: reading.Key, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def first(*_: Any) -> None:
        begun.set()

    monkeypatch.setattr(facts, "load", first)
    reader = threading.Thread(
        target=warming.read_ahead,
        args=(key, reading.survey(key).finished["run_id"].iloc[0], THEMES["light"]),
    )
    with warming.drawing():
        reader.start()
        assert not begun.wait(5 * warming.QUIET_SECONDS)
    assert begun.wait(20)
    reader.join()


def test_what_cannot_be_read_is_left_to_its_page(key: reading.Key, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def damaged(*_: Any) -> NoReturn:
        seen.append("damaged")
        raise CacheError("the file is torn")

    def last(*_: Any) -> None:
        seen.append("overview")

    monkeypatch.setattr(facts, "load", damaged)
    monkeypatch.setattr(overview, "load", last)
    newest = reading.survey(key).finished["run_id"].iloc[0]
    warming.read_ahead(key, newest, THEMES["light"], ("facts", "overview"))
    assert seen == ["damaged", "overview"]


def test_once_for_a_chain_and_not_in_an_empty_cache(
    key: reading.Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(warming, "read_ahead", lambda key, run_id, colours: read.append(run_id))
    for _ in range(2):
        warming.begin()
    assert read == [reading.survey(key).finished["run_id"].iloc[0]]
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path))
    warming.begin()
    assert len(read) == 1
