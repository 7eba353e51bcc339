"""The static report: its numbers are the store's, and nothing that a model said can become markup or a script."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_chain import make_chains

from sftknow_core.errors import SpecError
from sftknow_core.present.html import page as page_html
from sftknow_core.present.html.page import as_json
from sftknow_core.present.html.run import render
from sftknow_core.results import Chain, Questions, chains
from sftknow_core.results.measured import MeasuredState
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

_MEMORY = Path("/dev/shm")
_EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Read(HTMLParser):
    """What a browser would find."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._inside = True
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found

    def policy(self) -> str:
        return next(str(a["content"]) for t, a in self.tags if t == "meta" and "http-equiv" in a)


@pytest.fixture(scope="module")
def made() -> Iterator[tuple[Cache, str, str]]:
    """A cache, a chain and its report."""
    root = Path(tempfile.mkdtemp(prefix="sftknow-", dir=_MEMORY if _MEMORY.is_dir() else None))
    run_id = make_chains(root, per_level=4, ks=(5, 20))[0]
    yield Cache(root), run_id, render(Cache(root), run_id)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def read(made: tuple[Cache, str, str]) -> Read:
    return Read(made[2])


def test_each_step_has_the_accuracy_of_the_store(made: tuple[Cache, str, str], read: Read) -> None:
    cache, run_id, _ = made
    data = read.data
    assert data["labels"] == ["0% (tuned)", "5%", "20%", "100% (layers = base)"] and data["split"] == "dev"
    rows = Chain(cache, run_id).measured(RestoreSpec(k_percent="0"))  # type: ignore[arg-type]
    for split in ("dev", "test"):
        for i, k in enumerate((0, 5, 20, 100)):
            cards = data["numbers"][f"accuracy.{split}.{i}"]
            shown = [card["parts"][-1] for card in cards]
            of = rows[(rows["split"] == split) & rows["level"].isna() & (rows["k_percent"] == k)]
            assert [part["value"] for part in shown] == [f"{100 * a:.1f}%" for a in of["accuracy"]]
            ends = [
                f"{100 * low:.1f} to {100 * high:.1f}"
                for low, high in zip(of["low"], of["high"], strict=True)
            ]
            assert [part["interval"] for part in shown] == ends


def test_flipped_questions_are_those_of_the_store(made: tuple[Cache, str, str], read: Read) -> None:
    cache, run_id, _ = made
    rows = Chain(cache, run_id).measured(RestoreSpec(k_percent="0"))  # type: ignore[arg-type]
    at = rows[(rows["split"] == "test") & rows["level"].isna() & (rows["k_percent"] == 20)].iloc[0]
    table = read.data["tables"]["flips.test.2"]
    place = table["head"].index("question")
    expected = Chain(cache, run_id).flipped(MeasuredState.of_row(at), "test", flips=("healed", "broken"))
    assert [row[place] for row in table["rows"]] == expected["question"].tolist()
    assert len(expected) and read.data["tables"]["flips.test.0"]["rows"] == []


def test_figures_are_drawn_for_both_themes_and_hold_the_curve(
    made: tuple[Cache, str, str], read: Read
) -> None:
    data = read.data
    assert data["figures"]["light"].keys() == data["figures"]["dark"].keys()
    curve = Chain(made[0], made[1]).curve("test")
    measured = curve[(curve["domain"] == "in") & curve["k_percent"].notna()]
    drawn = next(t for t in data["figures"]["light"]["measured.test"]["data"] if t["name"] == "restored")
    assert drawn["y"] == pytest.approx(measured["accuracy"].tolist())
    colours = {theme: json.dumps(data["figures"][theme]["measured.test"]) for theme in ("light", "dark")}
    assert "#0f766e" in colours["light"] and "#2dd4bf" in colours["dark"]
    marks = data["marks"]["light"]["measured.test.2"]
    assert [shape["x0"] for shape in marks["shapes"]] == [20, 20]


def test_the_heat_map_of_each_k_adds_up_to_what_is_put_back(read: Read) -> None:
    for step in range(4):
        table = read.data["tables"][f"heat.{step}"]
        counted = [row[table["head"].index("reverted")] for row in table["rows"]]
        said = read.data["numbers"][f"taken.{step}"][0]["parts"][0]["value"]
        assert f"{sum(int(n.replace(',', '')) for n in counted):,}" == said


def test_every_figure_and_table_named_in_the_page_is_there(read: Read) -> None:
    data = read.data
    steps = {
        "": [""],
        "k": ["0", "3"],
        "mark": [""],
        "split k": ["dev.0", "test.3"],
        "split mark": ["dev", "test"],
    }
    for _, attributes in read.tags:
        for kind, found in (
            ("data-figure", data["figures"]["dark"]), ("data-table", data["tables"]), ("data-numbers", data["numbers"])
        ):  # fmt: skip
            if name := attributes.get(kind):
                by = steps[str(attributes["data-by"])]
                assert {".".join(filter(None, (name, step))) for step in by} <= found.keys()
    plots = [a for _, a in read.tags if a.get("class") == "plot"]
    assert len(plots) >= 5 and all(a["role"] == "img" and a["aria-label"] for a in plots)


def test_the_policy_lets_only_the_two_scripts_run(read: Read) -> None:
    policy = read.policy()
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe-eval" not in policy
    scripts = policy.split("script-src ")[1].split(";")[0].split(" ")
    found = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in read.scripts[1:]]
    assert scripts == [f"'sha256-{digest}'" for digest in found] and len(found) == 2
    loading = [a for t, a in read.tags if {"src", "href"} & a.keys()]
    assert loading == [] and "onerror" not in {name for _, a in read.tags for name in a}


def test_the_same_cache_gives_the_same_bytes_and_a_modest_size(made: tuple[Cache, str, str]) -> None:
    assert render(made[0], made[1]) == made[2]
    assert len(made[2].encode()) < 10_000_000


def test_what_models_say_stays_text(made: tuple[Cache, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text of a question, an answer, a topic and a token is replaced by an attack."""
    from sftknow_core.present.html import run_data

    asked = Questions.frame
    flipped = Chain.flipped

    def evil(rows: pd.DataFrame) -> pd.DataFrame:
        texts = (
            "question",
            "gold",
            "base_answer",
            "tuned_answer",
            "before_answer",
            "restored_answer",
            "topic",
        )
        return rows.assign(**{name: _EVIL for name in texts if name in rows})

    monkeypatch.setattr(Questions, "frame", lambda *a: evil(asked(*a)))
    monkeypatch.setattr(Chain, "flipped", lambda *a, **k: evil(flipped(*a, **k)))
    survey = chains.survey

    def named(cache: Cache) -> chains.Survey:
        found = survey(cache)
        return chains.Survey(
            found.finished.assign(label=_EVIL), found.results.assign(label=_EVIL), found.unfinished
        )

    monkeypatch.setattr(run_data.chains, "survey", named)
    found = Read(render(made[0], made[1]))
    assert len(found.scripts) == 3 and "img" not in {tag for tag, _ in found.tags}
    assert _EVIL in json.dumps(found.data["tables"], ensure_ascii=False).replace('\\"', '"')
    assert all("onerror" not in script for script in found.scripts[2:])


def test_json_in_a_script_element_cannot_end_it() -> None:
    text = as_json({"a": [_EVIL, "\u2028", "&amp;"], "n": [float("nan"), 0.1 + 0.2, pd.NA]})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": [_EVIL, "\u2028", "&amp;"], "n": [None, 0.3, None]}


def test_tables_are_texts_with_units() -> None:
    rows = pd.DataFrame(
        {"k_percent": [5.0, None], "accuracy": [0.25, 0.5], "hidden": [1, 2], "chosen": [True, False]}
    )
    assert page_html.as_table(rows) == {
        "head": ["k (%)", "accuracy", "chosen on dev"],
        "numeric": [True, True, False],
        "rows": [["5", "25.0%", "yes"], ["–", "50.0%", ""]],
    }


def test_markdown_lists_become_pieces() -> None:
    assert page_html.bullets("- **k** (%): one\n  and more\n- two <b>") == [
        [("k", True), (" (%): one and more", False)],
        [("two <b>", False)],
    ]


def test_what_is_no_finished_chain_is_refused(made: tuple[Cache, str, str]) -> None:
    with pytest.raises(SpecError, match="there is no chain"):
        render(made[0], "0" * 16)
