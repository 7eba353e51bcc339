"""The page of facts over a made-up run: its numbers are those of the store; nothing is a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_mastery import WHY, make_answers, make_chain, make_mastery
from streamlit.testing.v1 import AppTest

from sftknow_core.results import Mastery
from sftknow_core.results.mastery_facts import FactFilters, Population
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, Cache

ROOT = Path(__file__).parents[2]
Made = tuple[Path, str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("facts")
    return root, make_mastery(root)


@pytest.fixture(scope="module")
def run(made: Made) -> Mastery:
    return Mastery(Cache(made[0]), made[1])


def page(cache: Path, monkeypatch: pytest.MonkeyPatch, **address: Any) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    at = AppTest.from_file(str(ROOT / "pages" / "facts.py"), default_timeout=60)
    for name, value in address.items():
        at.query_params[name.replace("__", ".")] = value
    at.run()
    assert not at.exception
    return at


def listed(at: AppTest) -> list[str]:
    """The questions in the list of facts."""
    table = next(one.value for one in at.dataframe if "question" in one.value)
    return list(table["question"])


def questions(run: Mastery, filters: FactFilters) -> list[str]:
    places = run.passing(filters)
    return list(run.page(places).rows["question"])


def test_all_facts_together(made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(made[0], monkeypatch)
    numbers = run.numbers(Population())
    values = [metric.value for metric in at.metric]
    assert values[0] == "130" and values[1] == f"{numbers.mean_r:.1%}"
    assert values[4] == f"{numbers.agreement.spearman:.3f}"
    assert any(f"1: {WHY}" in caption.value for caption in at.caption)
    charts = [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]
    assert len(charts) == 4
    levels = run.by_level(Population())
    assert at.dataframe[0].value["n_facts"].tolist()[:5] == levels["n_facts"].tolist()
    assert charts[0]["data"][1]["name"] == "paper: LLaMA-3-8B"
    assert at.dataframe[1].value["n_facts"].sum() == 129 == at.dataframe[2].value["n_facts"].sum()
    confusion = next(one.value for one in at.dataframe if "expected_0" in one.value)
    assert confusion.iloc[:, 1:].to_numpy().tolist() == [list(row) for row in numbers.agreement.confusion]


def test_split_and_domain_come_from_the_address(
    made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = page(made[0], monkeypatch, facts__split="dev", facts__domain="in-domain")
    assert at.metric[0].value == str(run.numbers(Population("dev", "in")).n)
    assert any("it has no dev set" in caption.value for caption in at.caption)
    at = page(made[0], monkeypatch, facts__split="dev", facts__domain="out-of-domain")
    assert at.metric[0].value == "0" and len(at.get("plotly_chart")) == 4


def test_filters_and_sorting_come_from_the_address(
    made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = page(
        made[0], monkeypatch, facts__view="fact by fact", facts__sure="borderline", facts__levels=["1", "2"],
        facts__sort="R", facts__descending="true", facts__topics="place of birth (P19)", facts__search="NAME",
    )  # fmt: skip
    wanted = FactFilters(Population(), (1, 2), ("P19",), "borderline", "name", "R", True)
    expected = questions(run, wanted)
    assert listed(at) == expected and len(expected) > 1
    assert any(f"{len(expected)} of 130 facts" in c.value for c in at.caption)
    assert at.subheader[0].value.replace("\\", "") == expected[0]


def test_a_link_to_a_fact_opens_it_whatever_the_filters(
    made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch
) -> None:
    fact = run.facts.facts.to_pylist()[9]
    at = page(made[0], monkeypatch, fact=fact["fact_id"], facts__search="no such text")
    assert at.subheader[0].value.replace("\\", "") == fact["question"]
    assert any("not in the list" in c.value for c in at.caption)
    assert any("No matching facts" in i.value for i in at.info)
    assert any(f"R = {fact['r']:.1%}" in m.value for m in at.markdown)
    templates = next(one.value for one in at.dataframe if "prompt" in one.value)
    stored = run.templates(fact["fact_id"])
    assert templates["share"].tolist() == pytest.approx((100 * stored["share"]).tolist())
    assert "Name9 Sur0" in templates["prompt"].iloc[0]


def test_a_link_to_a_fact_turns_the_list_to_it(
    made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch
) -> None:
    fact = run.facts.facts.to_pylist()[70]
    at = page(made[0], monkeypatch, fact=fact["fact_id"])
    assert fact["question"] in listed(at) and at.session_state["facts.page"] == 2
    at.text_input(key="facts.search").set_value("Name").run()
    assert not at.exception and at.session_state["facts.page"] == 1


def test_next_and_previous_walk_along_the_list(
    made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = page(made[0], monkeypatch, facts__view="fact by fact", facts__sort="question")
    order = questions(run, FactFilters(sort="question"))
    at.button(key="facts.Next →").click().run()
    assert not at.exception and at.subheader[0].value.replace("\\", "") == order[1]
    assert at.query_params["fact"]
    at.button(key="facts.← Previous").click().run()
    assert at.subheader[0].value.replace("\\", "") == order[0]


def test_a_fact_without_a_level_gives_its_reason(
    made: Made, run: Mastery, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = page(made[0], monkeypatch, fact=run.facts.facts.to_pylist()[-1]["fact_id"])
    assert any(f"No mastery level: {WHY}" in m.value for m in at.markdown)
    assert not at.get("plotly_chart")


def test_bad_values_in_the_link_are_messages(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(
        made[0], monkeypatch, run="0123", fact="4567", facts__split="holdout", facts__levels="9", facts__sort="age",
        facts__page="999",
    )  # fmt: skip
    said = " ".join(warning.value for warning in at.warning)
    for bad in ("0123", "4567", "holdout", "'9'", "age", "page = '999' isn't available (allowed: 1 to"):
        assert bad in said
    assert len(listed(at)) > 1


def test_a_chain_names_its_mastery_run_and_base_answers_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _ = make_mastery(tmp_path, 12, own_topics=True), make_mastery(tmp_path, 12, seed=1)
    fact_id = Mastery(Cache(tmp_path), run_id).facts.facts.to_pylist()[2]["fact_id"]
    make_answers(tmp_path, run_id, fact_id)
    at = page(tmp_path, monkeypatch, run=make_chain(tmp_path, run_id), fact=fact_id)
    assert at.selectbox(key="facts.run").value == run_id
    assert any("(completion template 5): **Gold2, of course** ✓" in m.value for m in at.markdown)
    assert any("Used by 1 finished run." in c.value for c in at.caption)
    assert any("other topics than the shipped ones" in c.value for c in at.caption)


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(tmp_path, monkeypatch)
    assert "sftknow mastery --base MODEL --data FACTS" in at.info[0].value and not at.dataframe


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_or_damaged_part_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    run_id = make_mastery(tmp_path, 12)
    part = next((Cache(tmp_path).run_folder(run_id) / "mastery").glob("*.parquet"))
    if lost:
        part.unlink()
    else:
        part.write_bytes(b"\0" * part.stat().st_size)
    at = page(tmp_path, monkeypatch, run=run_id)
    assert (f"{run_id} is damaged (mastery/{part.name})" if lost else "cannot be read") in at.error[0].value
    assert not at.metric and not at.get("plotly_chart")
