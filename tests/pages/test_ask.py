"""The page for free questions over a made-up cache: what is asked, what comes back, and what is never asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_engine import STATUS, FakeEngine, three_answers
from streamlit.testing.v1 import AppTest

from pages._widgets import asking, engine, restoring
from sftknow_core.results import Chain
from sftknow_core.serve.engine.protocol import AskRequest
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE, Cache
from sftknow_core.update.spec import RestoreSpec

ROOT = Path(__file__).parents[2]
Chains = tuple[Path, list[str]]
pytestmark = pytest.mark.usefixtures("fake")
ASK = "FormSubmitter:ask.form-Ask base, tuned and restored"


def opened(cache: Path, monkeypatch: pytest.MonkeyPatch, **address: str) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    monkeypatch.syspath_prepend(str(ROOT))
    at = AppTest.from_file(str(ROOT / "pages" / "ask.py"), default_timeout=60)
    for name, value in address.items():
        at.query_params[name.replace("_", ".")] = value
    at.run()
    assert not at.exception, at.exception
    return at


def test_a_question_goes_to_three_states_and_comes_back(
    chains: Chains, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(chains[0], monkeypatch, ask_k="12.5", run=chains[1][0])
    at.text_area(key="ask.text").set_value("Where was Lofa born?")
    at.button(key=ASK).click().run()
    (request,) = fake.asked.values()
    assert isinstance(request, AskRequest) and request.texts == ("Where was Lofa born?",)
    assert request.states[:2] == ("base", "tuned") and str(request.states[2].k_percent) == "12.5"
    summary = Chain(Cache(chains[0]), chains[1][0]).manifest.summary
    assert (request.models.base_id, request.models.tuned_id) == (summary["base_id"], summary["tuned_id"])
    assert at.get("progress")
    fake.all_end(three_answers(request))
    at.run()
    table = at.dataframe[0].value
    assert table["state"].tolist() == ["base", "tuned", "restored 12.5%"]
    assert table["answer"].tolist() == ["a0", "a1", "a2"]
    tokens = at.dataframe[1].value
    assert tokens.groupby("state")["p"].sum().tolist() == pytest.approx([1, 1, 1])
    drawn = json.loads(at.get("plotly_chart")[0].proto.spec)["data"]
    assert [one["x"][-1] for one in drawn] == pytest.approx([0.1, 0.2, 0.3])
    assert len({one["marker"]["pattern"].get("shape", "") for one in drawn}) == 3


def test_a_link_fills_in_and_asks_nothing(
    chains: Chains, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(chains[0], monkeypatch, ask_text="Who made it?", ask_k="40")
    assert at.text_area(key="ask.text").value == "Who made it?" and at.number_input(key="ask.k").value == 40
    assert not fake.asked and fake.running


@pytest.mark.parametrize("k", ["abc", "400"])
def test_a_link_with_a_bad_k_or_prompt_is_a_message(
    chains: Chains, monkeypatch: pytest.MonkeyPatch, k: str
) -> None:
    at = opened(chains[0], monkeypatch, ask_text="Who made it?", ask_k=k, ask_prompt="sung")
    said = [one.value for one in at.warning]
    shown = at.number_input(key="ask.k").value
    assert f"ask.k = '{k}' isn't available (allowed: 0 to 100). Showing {shown:g}." in said[0] and shown > 0
    assert "ask.prompt = 'sung'" in said[1] and at.text_area(key="ask.text").value == "Who made it?"


def test_an_example_can_be_clicked(chains: Chains, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine) -> None:
    at = opened(chains[0], monkeypatch, run=chains[1][0], ask_k="12.5")
    example = at.button(key="ask.example.0")
    example.click().run()
    chosen = next(one.value for one in at.caption if "whose answer changed at k" in one.value)
    assert f"k = {at.number_input(key='ask.k').value:g}%:" in chosen and "12.5" not in chosen
    assert example.label.startswith(at.text_area(key="ask.text").value) and not fake.asked


def test_where_nothing_was_put_back_examples_are_of_a_usual_k(
    chains: Chains, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = RestoreSpec(k_percent="0")
    rows = Chain(Cache(chains[0]), chains[1][0]).measured(spec)
    of_tuned = rows.assign(chosen=rows["state"] == "tuned")
    monkeypatch.setattr(restoring, "measured", lambda *_: of_tuned)
    asking.changed.clear()
    at = opened(chains[0], monkeypatch, run=chains[1][0])
    asking.changed.clear()
    assert any("whose answer changed at k = 20%:" in one.value for one in at.caption)


def test_an_empty_question_and_a_dead_engine_are_messages(
    chains: Chains, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(chains[0], monkeypatch)
    at.button(key=ASK).click().run()
    assert "Enter a question" in at.error[0].value and not fake.asked
    at.text_area(key="ask.text").set_value("Who?")
    at.button(key=ASK).click().run()
    fake.dies("The engine was killed by signal 9.")
    at.run()
    assert "signal 9" in at.error[0].value and "signal 9" in at.warning[0].value
    at.button(key="shared.engine_restart").click().run()
    assert fake.running and not at.warning


def test_the_status_line_of_the_worker_looks_again_only_while_it_starts(
    chains: Chains, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    """The part that looks every second is drawn no more once the engine is ready."""

    def line() -> Any:
        return next(one for one in at.caption if one.value.startswith("Evaluation worker"))

    looks: list[str] = []
    until_ready = engine._until_ready
    monkeypatch.setattr(engine, "_until_ready", lambda root: (looks.append(root), until_ready(root)))
    fake.said = None
    at = opened(chains[0], monkeypatch)
    assert "starting" in line().value and len(looks) == 1
    fake.said = STATUS
    at.run()
    assert "ready" in line().value and len(looks) == 1


def test_show_mode_asks_nothing(chains: Chains, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine) -> None:
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = opened(chains[0], monkeypatch)
    assert at.button(key=ASK).disabled and not fake.running
    assert any("Read-only" in one.value for one in at.caption)


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(tmp_path, monkeypatch)
    assert "sftknow demo" in at.info[0].value and not at.text_area
