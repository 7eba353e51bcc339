"""The page of accuracies over a made-up cache: its numbers are those of the store; nothing is a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sftknow_core.analysis import published
from sftknow_core.results import Chain, Questions, accuracy, questions
from sftknow_core.results import chains as chains_results
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.results.questions import Filters
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, Cache

ROOT = Path(__file__).parents[2]
FRAME = """
import streamlit as st
folder = {folder!r}
pages = [st.Page(folder + "/accuracy.py", url_path="scores"), st.Page(folder + "/token_shifts.py", url_path="shifts")]
st.navigation(pages).run()
"""
"""The page with the one that its counts lead to."""
Chains = tuple[Path, list[str]]


def page(cache: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    return AppTest.from_string(FRAME.format(folder=str(ROOT / "pages")), default_timeout=60)


@pytest.fixture
def opened(chains: Chains, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    at = page(chains[0], monkeypatch)
    at.query_params["run"] = chains[1][1]
    return at


def run(at: AppTest) -> AppTest:
    at.run()
    assert not at.exception, at.exception
    return at


def chart(at: AppTest, name: str) -> dict[str, Any]:
    found = [c for c in at.get("plotly_chart") if name in c.proto.id]
    return json.loads(found[0].proto.spec)  # type: ignore[no-any-return]


def table(at: AppTest, name: str) -> Any:
    """The table that has a column, or combination of columns, of its own."""
    column = {"changes": "p_holm", "over_n": "n_seeds", "heat": "n_seeds", "paper": "sd"}[name]
    found = [frame.value for frame in at.dataframe if column in frame.value]
    return found[-1 if name == "heat" else 0]


def changes(chains: Chains, prompt: str = FIVE_SHOT) -> Any:
    cache, run_id = Cache(chains[0]), chains[1][1]
    k = Chain(cache, run_id).manifest.summary["chosen"]["k_percent"]
    asked = Questions(cache, run_id).table
    return asked, k, accuracy.changes(accuracy.answers(asked, k, prompt))


def test_before_and_after_are_the_stores(opened: AppTest, chains: Chains) -> None:
    at = run(opened)
    _, _, expected = changes(chains)
    shown = table(at, "changes")
    assert shown["n_lost"].tolist() == expected["n_lost"].tolist()
    assert shown["difference"].tolist() == pytest.approx(expected["difference"].tolist())
    mean = expected[expected["level"].isna() & (expected["step"] == "tuning")]
    values = [metric.value for metric in at.metric]
    assert values[:2] == [f"{100 * d:+.1f}".replace("-", "−") for d in mean["difference"]]
    assert values[2:4] == [str(n) for n in mean["n_lost"]]
    assert any("**5-shot**" in caption.value for caption in at.caption)


def test_all_can_be_shown_with_the_prompt_tuned_with(opened: AppTest, chains: Chains) -> None:
    opened.query_params["accuracy.prompt"] = ZERO_SHOT
    at = run(opened)
    _, _, expected = changes(chains, ZERO_SHOT)
    assert table(at, "changes")["before"].tolist() == pytest.approx(expected["before"].tolist())
    assert any("**Zero-shot**" in caption.value for caption in at.caption)


def test_counts_lead_to_the_questions_behind_them(opened: AppTest, chains: Chains) -> None:
    at = run(opened)
    asked, k, _ = changes(chains)
    links = [link.proto for link in at.get("page_link")]
    assert len(links) == 4 * 6
    filters = Filters(k, FIVE_SHOT, "right → wrong by tuning", domain="in", split="test")
    n = questions.flip_counts(asked, filters)
    assert links[0].label == f"all: {n['right → wrong by tuning']}"
    address = links[5].query_string
    for part in (
        "token_shifts.levels=4",
        "token_shifts.split=test",
        "token_shifts.domain=in",
        f"run={chains[1][1]}",
    ):
        assert part in address
    off = [link.disabled for link in links]
    assert off == [link.label.endswith(": 0") for link in links]


@pytest.mark.parametrize("prompt", [FIVE_SHOT, ZERO_SHOT])
def test_lines_over_n_are_those_of_comparable_chains(opened: AppTest, chains: Chains, prompt: str) -> None:
    opened.query_params["accuracy.prompt"] = prompt
    at = run(opened)
    cache = Cache(chains[0])
    group = accuracy.group_of(cache, chains_results.survey(cache), chains[1][1])
    assert set(group.run_ids) == set(chains[1][:2])
    rows = accuracy.accuracies(cache, group, prompt)
    tuned = rows[rows["level"].isna() & (rows["state"] == "tuned") & (rows["domain"] == "in")]
    line = next(t for t in chart(at, "accuracy.over_n")["data"] if t.get("name") == "level 0")
    assert line["y"] == pytest.approx(tuned.sort_values("n_train")["accuracy"].tolist())
    assert table(at, "over_n")["n_train"].tolist() == [240, 1920] * 2


def test_level_states_and_n_come_from_the_address(opened: AppTest) -> None:
    for name, value in {"level": "level 4", "state": "both", "n": "240", "heat": "restored"}.items():
        opened.query_params[f"accuracy.{name}"] = value
    at = run(opened)
    assert set(table(at, "over_n")["level"]) == {4} and set(table(at, "over_n")["state"]) == {
        "tuned",
        "restored",
    }
    heat = table(at, "heat")
    assert set(heat["n_train"]) == {240} and set(heat["state"]) == {"restored"} and len(heat) == 2 * 6


def test_the_papers_numbers_are_off_until_asked_for(opened: AppTest) -> None:
    opened.query_params["accuracy.prompt"] = ZERO_SHOT  # as the paper asked
    at = run(opened)
    assert not [t for t in chart(at, "accuracy.over_n")["data"] if "paper" in t.get("name", "")]
    at.button_group(key="accuracy.paper").set_value("LLaMA-3-70B")
    at = run(at)
    assert [t for t in chart(at, "accuracy.over_n")["data"] if t.get("name") == "paper: LLaMA-3-70B"]
    assert any("(40.8)" in str(t.get("text")) for t in chart(at, "accuracy.heat")["data"])
    assert len(table(at, "paper")) == len(published.by_test_level("LLaMA-3-70B"))
    assert any("arXiv 2509.16596" in m.value for m in at.markdown)


def test_bad_values_in_the_link_are_messages(opened: AppTest) -> None:
    names = ("prompt", "level", "state", "n", "heat", "paper", "domain")
    for name in names:
        opened.query_params[f"accuracy.{name}"] = "nonsense"
    opened.query_params["run"] = "0123"
    at = run(opened)
    assert "0123" in at.warning[0].value and len(at.metric) == 10
    said = [one.value for one in at.warning[1:]]
    assert len(said) == len(names)
    for name in names:
        assert any(f"accuracy.{name} = 'nonsense' isn't available (allowed: " in one for one in said)
    assert any("allowed: tuned, restored). Showing tuned" in one for one in said)


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = run(page(tmp_path, monkeypatch))
    assert "sftknow demo" in at.info[0].value and not at.metric


def test_a_lost_evaluation_is_a_message(
    chains: Chains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(chains[0], tmp_path / "cache")
    cache = Cache(tmp_path / "cache")
    summary = Chain(cache, chains[1][0]).manifest.summary
    lost = summary["stages"]["evaluate"][summary["tuned_id"]]
    shutil.rmtree(cache.run_folder(lost))
    at = page(cache.root, monkeypatch)
    at.query_params["run"] = chains[1][0]
    assert lost in run(at).error[0].value and not at.metric
