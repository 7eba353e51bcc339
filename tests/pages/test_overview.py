"""The overview over a made-up cache: its numbers are those of the store; nothing is a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_chain import leave_chain, make_chains
from fake_mastery import make_mastery
from streamlit.testing.v1 import AppTest

from sftknow_core.results import Chain, studies
from sftknow_core.results import chains as chains_results
from sftknow_core.results.measured import FIVE_SHOT, ZERO_SHOT
from sftknow_core.serve import jobs
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE, Cache
from sftknow_core.store.listing import list_runs
from sftknow_core.store.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
Chains = tuple[Path, list[str]]


@pytest.fixture
def opened(chains: Chains, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The page over the filled cache, not yet run."""
    return page(chains[0], monkeypatch)


def page(cache: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)


def choose(at: AppTest, run_id: str) -> AppTest:
    at.query_params["run"] = run_id
    at.run()
    assert not at.exception
    return at


def figure(at: AppTest, number: int) -> dict[str, Any]:
    return json.loads(at.get("plotly_chart")[number].proto.spec)


def balanced(cache: Path, run_id: str, state: str, domain: str, stage_of: str = "evaluate") -> float:
    """Accuracy on test counted again from the stored answers, in percent: the mean over levels."""
    summary = Chain(Cache(cache), run_id).manifest.summary
    stage = summary["stages"][stage_of][summary[state]]
    rows = [r for r in RunFolder(Cache(cache), stage).read("answers").to_pylist() if r["split"] == "test"]
    by_level = [[r["words"] for r in rows if (r["domain"], r["level"]) == (domain, i)] for i in range(5)]
    return 100 * sum(sum(right) / len(right) for right in by_level) / 5


def test_numbers_are_those_of_the_answers(opened: AppTest, chains: Chains) -> None:
    cache, (run_id, *_) = chains
    at = choose(opened, run_id)
    assert [m.label for m in at.metric[:16]] == ["in-domain", "out-of-domain"] * 8
    for place, state in ((0, "base_id"), (4, "tuned_id")):
        expected = [
            f"{balanced(cache, run_id, state, domain, stage):.1f}%"
            for stage in ("five_shot_states", "evaluate")
            for domain in ("in", "out")
        ]
        assert [m.value for m in at.metric[place : place + 4]] == expected
    captions = [caption.value for caption in at.caption]
    assert captions.index("**5-shot**") < captions.index("**zero-shot**")
    assert [m.value for m in at.metric[16:]] == ["99.9%", "95.8%"]  # 799 of 800 and 1,150 of 1,200 thousand


def test_gain_is_restored_minus_tuned_and_has_its_interval(opened: AppTest, chains: Chains) -> None:
    at = choose(opened, chains[1][1])
    tuned, restored = (float(at.metric[place].value.rstrip("%")) for place in (4, 8))
    assert float(at.metric[12].value) == pytest.approx(restored - tuned, abs=0.11)  # three rounded numbers
    tuned, restored = (float(at.metric[place].value.rstrip("%")) for place in (6, 10))
    assert float(at.metric[14].value) == pytest.approx(restored - tuned, abs=0.11)
    summary = Chain(Cache(chains[0]), chains[1][1]).manifest.summary
    gain = summary["chosen"]["gain"]["test_in"]
    texts = [caption.value for caption in at.caption]
    assert f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}" in texts
    said = ("Zero-shot: improved in-domain", "Zero-shot: improved in both")
    assert any(one in text for text in texts for one in said) is (gain["low"] > 0)


def test_figures_hold_the_tables_shown_below_them(opened: AppTest, chains: Chains) -> None:
    at = choose(opened, chains[1][0])
    curve = Chain(Cache(chains[0]), chains[1][0]).curve("test", FIVE_SHOT)
    measured = curve[(curve["domain"] == "in") & curve["k_percent"].notna()]
    line = next(t for t in figure(at, 0)["data"] if t["name"] == "restored")
    assert line["y"] == pytest.approx(measured["accuracy"].tolist())
    assert at.dataframe[0].value["accuracy"].tolist() == pytest.approx(curve["accuracy"].tolist())


def test_only_comparable_chains_are_drawn_together(opened: AppTest, chains: Chains) -> None:
    at = choose(opened, chains[1][0])
    assert set(at.dataframe[2].value["run_id"]) == set(chains[1][:2])
    assert set(choose(at, chains[1][2]).dataframe[2].value["run_id"]) == {chains[1][2]}


def test_choosing_a_run_changes_address_and_numbers(opened: AppTest, chains: Chains) -> None:
    at = choose(opened, chains[1][0])
    before = [m.value for m in at.metric]
    at.selectbox(key="shared.run").select(chains[1][1]).run()
    assert at.query_params["run"] in (chains[1][1], [chains[1][1]])
    assert [m.value for m in at.metric] != before


def test_without_a_run_in_the_address_the_newest_is_shown(opened: AppTest, chains: Chains) -> None:
    at = opened.run()
    newest = chains_results.survey(Cache(chains[0])).finished["run_id"][0]
    assert at.selectbox(key="shared.run").value == newest and not at.warning


def test_the_chosen_run_goes_with_the_reader_to_pages_whose_address_names_none(
    opened: AppTest, chains: Chains
) -> None:
    """As after the bar at the top, which drops it; the page of fine-tunings has no list of runs that could keep it."""
    older = chains[1][0]
    choose(opened, older)
    for name in ("fine_tune", "accuracy", "overview"):
        opened.query_params.clear()
        opened.switch_page(f"pages/{name}.py").run()
        assert not opened.exception
    assert opened.selectbox(key="shared.run").value == older
    assert opened.query_params["run"] in (older, [older])


def test_test_can_be_looked_at_for_every_k_and_its_cost_is_said_before(
    opened: AppTest, chains: Chains
) -> None:
    opened.query_params["overview.prompt"] = ZERO_SHOT
    at = choose(opened, chains[1][0])
    assert at.button_group(key="overview.split").value == "dev"
    assert any("Viewing test at every k makes test accuracy optimistic" in one.value for one in at.caption)
    at.button_group(key="overview.split").set_value("test").run()
    expected = Chain(Cache(chains[0]), chains[1][0]).curve("test")
    assert at.dataframe[0].value["accuracy"].tolist() == pytest.approx(expected["accuracy"].tolist())
    assert set(expected["domain"]) == {"in", "out"}


def test_another_split_in_the_link_is_a_message_that_a_redraw_does_not_take_away(opened: AppTest) -> None:
    opened.query_params["overview.prompt"] = ZERO_SHOT
    opened.query_params["overview.split"] = "x"
    opened.run()
    said = "overview.split = 'x' isn't available (allowed: dev, test). Showing dev."
    assert said in opened.warning[0].value and len(opened.metric) == 18
    opened.query_params.pop("overview.split", None)  # as the widget does
    opened.run()
    assert said in opened.warning[0].value
    opened.query_params["overview.split"] = "test"
    opened.run()
    assert not opened.warning


def test_search_narrows_the_questions(opened: AppTest, chains: Chains) -> None:
    at = choose(opened, chains[1][0])
    gold = at.dataframe[3].value["gold"].iloc[0]
    at.text_input(key="overview.search").input(gold.upper()).run()
    assert gold in set(at.dataframe[3].value["gold"])
    at.text_input(key="overview.search").input("no such question").run()
    assert not at.exception and at.dataframe[3].value.empty


def test_a_run_that_is_not_there_is_said_and_another_shown(opened: AppTest) -> None:
    at = choose(opened, "0123456789abcdef")
    assert "0123456789abcdef" in at.warning[0].value and len(at.metric) == 18


def test_failed_runs_are_listed_with_their_reason(opened: AppTest) -> None:
    left = opened.run().dataframe[-1].value
    assert left[["kind", "state"]].to_numpy().tolist() == [["chain", "failed"]]
    assert "the disk is full" in left["reason"].iloc[0]


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = page(tmp_path, monkeypatch).run()
    assert "sftknow demo" in at.info[0].value and "sftknow run" in at.info[0].value
    assert not at.exception and not at.dataframe
    leave_chain(tmp_path, "2", ValueError("no such level"))
    at.run()
    assert "no such level" in at.dataframe[0].value["reason"].iloc[0]


def test_an_empty_cache_offers_the_demo_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(jobs, "_spawn", lambda folder, arguments, nice: started.append(arguments))
    at = page(tmp_path, monkeypatch).run()
    at.button(key="demo.start").click().run()
    assert started == [("demo", "--no-app", "--cache", str(tmp_path), "--json")] and not at.exception
    assert at.get("progress")[0].proto.text == "Starting · estimating time left"
    assert [button.label for button in at.button] == ["Stop"]
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = page(tmp_path, monkeypatch).run()
    assert len(at.get("progress")) == 1 and not at.button


def test_the_page_fills_with_the_first_chain_of_a_running_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_spawn", lambda folder, arguments, nice: None)
    at = page(tmp_path, monkeypatch).run()
    at.button(key="demo.start").click().run()
    assert at.info and len(at.get("progress")) == 1
    make_chains(tmp_path, [("0", 240, 0)], per_level=2)
    at.run()
    assert not at.exception and not at.info
    assert len(at.get("progress")) == 1 and len(at.metric) == 18


def test_show_mode_offers_no_demo_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path)
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = page(tmp_path, monkeypatch).run()
    assert not at.button and not at.exception
    assert any("to run jobs" in caption.value for caption in at.caption)


def test_what_is_in_the_cache_is_counted(opened: AppTest, chains: Chains) -> None:
    runs = list_runs(Cache(chains[0]))
    table = next(f.value for f in opened.run().dataframe if "n_runs" in f.value)
    assert table["n_runs"].sum() == len(runs)
    failed = table[(table["kind"] == "chain") & (table["state"] == "failed")]
    assert failed["n_runs"].tolist() == [1]
    assert any(f"{len(runs):,} runs: " in caption.value for caption in opened.caption)


def test_without_a_chain_the_page_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `sftknow mastery` alone: one run, and no chain to show."""
    make_mastery(tmp_path, 12)
    at = page(tmp_path, monkeypatch).run()
    assert "No finished run" in at.info[0].value and not at.exception and not at.metric
    (table,) = [f.value for f in at.dataframe if "n_runs" in f.value]
    assert table[["kind", "state", "n_runs"]].to_numpy().tolist() == [["mastery", "done", 1]]
    assert any("mastery: how well base knows each fact" in one.value for one in at.caption)


def test_studies_are_named_with_a_link_to_their_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mastery(tmp_path, 12)
    one = studies.StudyInfo(
        run_id="0123", name="mine", title="", base_id="abcd", base_name="", state="running", reason=None,
        created_at="2026-01-01T00:00:00Z", seconds=1.0, n_cells=4, n_done=1, n_failed=0, n_impossible=0, n_todo=3,
    )  # fmt: skip
    monkeypatch.setattr(studies, "list_studies", lambda cache: [one])
    at = page(tmp_path, monkeypatch).run()
    assert not at.exception
    (table,) = [f.value for f in at.dataframe if "n_cells" in f.value]
    assert table.to_numpy().tolist() == [["mine", "abcd", 1, 4, "running", "0123"]]
    assert [one.proto.page for one in at.get("page_link")] == ["study"]


def test_a_cache_that_cannot_be_used_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    at = page(tmp_path / "file", monkeypatch).run()
    assert "cannot be made" in at.error[0].value and not at.exception


def test_a_chain_that_lost_a_stage_is_a_message(
    chains: Chains, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(chains[0], tmp_path / "cache")
    cache = Cache(tmp_path / "cache")
    summary = Chain(cache, chains[1][0]).manifest.summary
    lost = summary["stages"]["evaluate"][summary["tuned_id"]]
    shutil.rmtree(cache.run_folder(lost))
    at = choose(page(cache.root, monkeypatch), chains[1][0])
    assert lost in at.error[0].value
    at.selectbox(key="shared.run").select(chains[1][2]).run()
    assert not at.error and not at.exception


def test_the_page_loads_no_torch(chains: Chains) -> None:
    program = (
        "import sys; from streamlit.testing.v1 import AppTest\n"
        "at = AppTest.from_file('app.py', default_timeout=60).run()\n"
        "print(len(at.metric), len(at.exception), {'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    environment = os.environ | {ENVIRONMENT_VARIABLE: str(chains[0])}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ran.stdout.split("\n")[-2] == "18 0 set()", ran.stderr
