"""The question browser over a made-up cache: its rows are those of the store; nothing is a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_chain import make_chains
from streamlit.testing.v1 import AppTest

from sftknow_core.present.text import tokens
from sftknow_core.results import Chain, Questions, questions
from sftknow_core.results import accuracy as accuracy_results
from sftknow_core.results import chains as chains_results
from sftknow_core.results.measured import FIVE_SHOT
from sftknow_core.results.questions import Filters, browse
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, Cache

ROOT = Path(__file__).parents[2]
Chains = tuple[Path, list[str]]


def page(cache: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    return AppTest.from_file(str(ROOT / "pages" / "token_shifts.py"), default_timeout=60)


@pytest.fixture
def opened(chains: Chains, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    at = page(chains[0], monkeypatch)
    at.query_params["run"] = chains[1][0]
    return at


def run(at: AppTest) -> AppTest:
    at.run()
    assert not at.exception
    return at


def heading(at: AppTest) -> str:
    return at.subheader[0].value.replace("\\", "")


def test_the_list_is_the_stores_and_its_first_question_is_open(opened: AppTest, chains: Chains) -> None:
    at = run(opened)
    asked = Questions(Cache(chains[0]), chains[1][0]).table
    chosen = Chain(Cache(chains[0]), chains[1][0]).manifest.summary["chosen"]["k_percent"]
    k = chosen if chosen in asked.ks else asked.ks[0]
    expected = browse(asked, Filters(k, FIVE_SHOT)).rows
    assert at.dataframe[0].value["question"].tolist() == expected["question"].tolist()
    assert at.dataframe[0].value["kl"].tolist() == pytest.approx(expected["kl"].tolist(), nan_ok=True)
    assert heading(at) == expected["question"].iloc[0]


def test_filters_and_sorting_come_from_the_address(opened: AppTest, chains: Chains) -> None:
    opened.query_params["token_shifts.change"] = "healed by restoring"
    opened.query_params["token_shifts.k"] = "60"
    opened.query_params["token_shifts.sort"] = "question"
    at = run(opened)
    asked = Questions(Cache(chains[0]), chains[1][0]).table
    filters = Filters(60.0, FIVE_SHOT, "healed by restoring", sort="question")
    assert at.dataframe[0].value["question"].tolist() == browse(asked, filters).rows["question"].tolist()
    assert at.dataframe[0].value["outcome"].str.endswith("✗ ✓").all()


def test_next_opens_the_neighbour_and_names_it_in_the_address(opened: AppTest) -> None:
    at = run(opened)
    second = at.dataframe[0].value["question"].iloc[1]
    at.button(key="token_shifts.Next →").click().run()
    assert not at.exception and heading(at) == second
    assert at.query_params["question"]
    at.button(key="token_shifts.← Previous").click().run()
    assert heading(at) == at.dataframe[0].value["question"].iloc[0]


def test_a_link_opens_its_question_whatever_the_filters(opened: AppTest, chains: Chains) -> None:
    row = Questions(Cache(chains[0]), chains[1][0]).table.questions.to_pylist()[7]
    opened.query_params["question"] = row["fact_id"]
    opened.query_params["token_shifts.search"] = "no such text"
    at = run(opened)
    assert heading(at) == row["question"]
    assert any("not in the list" in c.value for c in at.caption)
    assert any("No matching questions" in i.value for i in at.info)


def test_bad_values_in_the_link_are_messages(opened: AppTest, chains: Chains) -> None:
    opened.query_params["question"] = "0123"
    opened.query_params["token_shifts.k"] = "77"
    opened.query_params["token_shifts.page"] = "999"
    opened.query_params["token_shifts.levels"] = "9"
    opened.query_params["token_shifts.sort"] = "age"
    opened.query_params["token_shifts.kl_from"] = "much"
    at = run(opened)
    said = " ".join(one.value for one in at.warning)
    for bad in (
        "k = '77' isn't available (allowed: ",
        "levels = '9' isn't available (allowed: 0, 1, 2, 3, 4",
        "sort = 'age'",
        "kl_from = 'much'",
        "page = '999' isn't available (allowed: 1 to 2",
        "0123",
    ):
        assert bad in said
    assert len(at.dataframe) > 1
    first = browse(Questions(Cache(chains[0]), chains[1][0]).table, Filters(60.0, FIVE_SHOT)).rows
    assert at.dataframe[0].value["question"].tolist() == first["question"].tolist()
    at.number_input(key="token_shifts.kl_from").set_value(2.0)
    at.number_input(key="token_shifts.kl_to").set_value(1.0)
    assert "KL from 2 to 1" in run(at).error[0].value


def test_a_list_that_a_filter_makes_shorter_is_no_bad_link(opened: AppTest) -> None:
    opened.query_params["token_shifts.page"] = "2"
    at = run(opened)
    assert not at.warning
    at.text_input(key="token_shifts.search").set_value("fl")
    assert not run(at).warning


def test_changing_the_run_keeps_the_page_working(opened: AppTest, chains: Chains) -> None:
    opened.query_params["token_shifts.k"] = "60"
    at = run(opened)
    at.query_params["run"] = chains[1][2]  # restored by 20 and 100 only
    assert len(run(at).dataframe) > 1


def test_prompts_are_rebuilt_or_said_to_be_unknown(opened: AppTest) -> None:
    at = run(opened)
    texts = [code.value for code in at.code]
    assert any(text.startswith("<|question|> ") and text.endswith(" <|answer|>") for text in texts)


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = run(page(tmp_path, monkeypatch))
    assert "sftknow demo" in at.info[0].value and not at.dataframe


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
    assert lost in run(at).error[0].value
    with pytest.raises(Exception, match=lost):
        _ = Questions(cache, chains[1][0]).table


def test_chips_count_what_passes_the_other_filters(opened: AppTest, chains: Chains) -> None:
    opened.query_params["token_shifts.k"] = "60"
    opened.query_params["token_shifts.domain"] = "in"
    at = run(opened)
    asked = Questions(Cache(chains[0]), chains[1][0]).table
    counts = questions.flip_counts(asked, Filters(60.0, FIVE_SHOT, domain="in"))
    chips = at.get("button_group")[0]
    assert [option.content for option in chips.proto.options] == [
        f"{tokens.OUTCOMES.get(flip, flip)} · {n}" for flip, n in counts.items()
    ]


def test_an_unknown_kind_of_change_is_said(opened: AppTest) -> None:
    opened.query_params["token_shifts.change"] = "lost"
    at = run(opened)
    assert '"lost"' in at.warning[0].value and at.dataframe


def test_columns_are_chosen_in_the_address(opened: AppTest) -> None:
    at = run(opened)
    usual = list(at.dataframe[0].value.columns)
    assert usual[:4] == ["question", "outcome", "kl", "gold"] and len(usual) < 18
    at.multiselect(key="token_shifts.columns").set_value(["gold rank, tuned", "question"]).run()
    assert list(at.dataframe[0].value.columns) == ["gold_rank_tuned", "question"]
    at.multiselect(key="token_shifts.columns").set_value([]).run()
    assert list(at.dataframe[0].value.columns) == usual


def test_across_fine_tunings_shows_kl_and_accuracy_of_level_4(opened: AppTest, chains: Chains) -> None:
    opened.query_params["token_shifts.state"] = "both"
    at = run(opened)
    cache = Cache(chains[0])
    group = accuracy_results.group_of(cache, chains_results.survey(cache), chains[1][0])
    kl, accuracy = (frame.value for frame in at.dataframe if "n_seeds" in frame.value)
    rows = accuracy_results.shifts(cache, group)
    tuned = rows[rows["state"] == "tuned"].sort_values("n_train")
    assert kl.loc[kl["state"] == "tuned", "kl_nats"].tolist() == pytest.approx(tuned["kl_nats"].tolist())
    assert set(accuracy["level"]) == {4} and set(accuracy["state"]) == {"tuned", "restored"}


def test_the_k_last_looked_at_is_shown_where_it_is_measured(opened: AppTest, chains: Chains) -> None:
    opened.session_state["shared.k"] = 60.0
    at = run(opened)
    assert at.select_slider(key="token_shifts.k").value == 60
    assert at.query_params["token_shifts.k"] in ("60", ["60"])
    at.select_slider(key="token_shifts.k").set_value(5.0).run()
    assert at.session_state["shared.k"] == 5 and at.query_params["token_shifts.k"] in ("5", ["5"])


def test_a_k_measured_later_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_id,) = make_chains(tmp_path, per_level=4)
    at = page(tmp_path, monkeypatch)
    at.query_params["run"] = run_id
    assert run(at).select_slider(key="token_shifts.k").options == ["5", "20", "60", "100"]
    make_chains(tmp_path, per_level=4, ks=(10,))
    assert run(at).select_slider(key="token_shifts.k").options == ["5", "10", "20", "60", "100"]
    at.select_slider(key="token_shifts.k").set_value(10.0).run()
    assert not at.exception and not at.error
    course = next(one.value for one in at.dataframe if "k_percent" in one.value and "gold_p" in one.value)
    assert 10 in course["k_percent"].tolist()
