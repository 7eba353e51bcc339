"""The manual is built strictly, from the code as it is, and its pages load nothing from a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from sftknow_core.cli.app import app
from sftknow_core.store.schema import TABLES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built manual; a broken link, an unknown anchor or a name that isn't there fails the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return out


class _Loaded(HTMLParser):
    """What a page makes the browser load by itself: scripts, styles, images, fonts; not links to follow."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.addresses.append(str(given["src"]))
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(str(given.get("href")))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        parser = _Loaded()
        parser.feed(page.read_text())
        assert [a for a in parser.addresses if re.match(r"(https?:)?//", a)] == [], page
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", styles)


def _commands(group: object, name: str = "sftknow") -> Iterator[str]:
    for key, command in group.commands.items():  # type: ignore[attr-defined]
        yield f"{name} {key}"
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {key}")


def test_every_command_and_table_has_its_place(site: Path) -> None:
    """A group that does nothing alone ("sftknow study") has none; its commands have."""
    cli, schema = (site / "reference" / f"{name}.html" for name in ("cli", "schema"))
    headings = set(re.findall(r"<h2 id=\"[^\"]*\">([^<]*)<", cli.read_text()))
    assert set(_commands(typer.main.get_command(app))) - headings == {"sftknow study"}
    assert set(TABLES) <= set(re.findall(r"<h2 id=\"[^\"]*\">([^<]*)<", schema.read_text()))


def test_examples_stand_in_the_pages(site: Path) -> None:
    for page, words in (
        ("tour", "ChainSpec"),
        ("how-to/own-facts", "facts.jsonl"),
        ("how-to/study", "open_study"),
    ):
        text = (site / f"{page}.html").read_text()
        assert words in text and not re.search(r"-8<|-8&lt;", text), page


def test_public_names_are_documented(site: Path) -> None:
    import sftknow_core as sk
    from sftknow_core import testing

    text = (site / "reference" / "api.html").read_text()
    missing = [name for name in (*sk.__all__, *testing.__all__) if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_every_key_of_a_study_file_is_shown_with_its_default(tmp_path: Path) -> None:
    """The block is a file that can be read; without its comments it means the same as a file that leaves all out."""
    from sftknow_core.pipeline.study.read import _TABLES, study_from

    (block,) = re.findall(r"```toml\n(.*?)```", (DOCS / "how-to" / "study.md").read_text("utf-8"), re.DOTALL)
    written = tomllib.loads(block)
    shown = set(re.findall(r"\w+", block))
    for table, keys in _TABLES.items():
        assert table in written and not set(keys) - shown, (table, set(keys) - shown)
    short = {"name": "mine", "base": "./base", "data": {"data": "demo"}}
    assert study_from(written, tmp_path / "study.toml") == study_from(short, tmp_path / "study.toml")


def test_the_map_for_newcomers_names_files_that_exist_and_counts_them() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## A map for newcomers")[2]
    journeys = re.findall(
        r"^\*\*[^*]+\*\* \((\d+) files\)\n(.*?)(?=^\*\*|\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert len(journeys) == 3
    for (stated, body), most in zip(journeys, (25, 18, 45), strict=True):
        files = re.findall(r"`([\w/.]+\.py)`", body)
        assert [name for name in files if not (ROOT / name).is_file()] == []
        assert len(set(files)) == len(files) == int(stated) <= most
