"""What a k without a measurement leads to: what the engine is asked, what is shown meanwhile, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains
from fake_engine import FakeEngine
from restore_page import Filled, heads, opened, values

from pages._widgets import measuring
from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.results import Chain
from sftknow_core.serve.engine.chain_request import ChainRequests
from sftknow_core.serve.engine.protocol import Models
from sftknow_core.specs import QuestionSpec
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

pytestmark = pytest.mark.usefixtures("fake")


def test_an_unmeasured_k_is_said_and_can_be_measured(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="30", strategy="bottom", layers="0")
    assert "No k is evaluated" in at.info[0].value
    assert at.code[0].value.endswith("--k 30 --strategy bottom --layers 0")
    at = opened(filled[0], monkeypatch, k="30")
    assert any("k = 30% isn't evaluated" in m.value and "k = 20%" in m.value for m in at.markdown)
    assert not any("--k 20" in one.value for one in opened(filled[0], monkeypatch, k="20").code)


def test_a_chain_of_an_earlier_version_says_what_to_do(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    monkeypatch.setattr(measuring, "_asked_chain", older)
    at = opened(filled[0], monkeypatch, k="30")
    assert any("earlier version" in one.value for one in at.info) and not fake.asked


def older(root: str, run_id: str) -> ChainRequests:
    raise SpecError("this chain was made by an earlier version")


def as_asked(run_id: str, cache: Cache) -> ChainRequests:
    """What a request about the made-up chain is made from."""
    summary = Chain(cache, run_id).manifest.summary
    models = Models(tuned=summary["tuned_id"], base_id=summary["base_id"], tuned_id=summary["tuned_id"])
    own = Chain(cache, run_id).asked.question_set
    return ChainRequests(models, FactsRef(), QuestionSpec(per_level=6), "m", {"prompt": "paper"}, own)


@pytest.fixture
def growing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filled:
    """A chain that can be asked more, in a cache of its own."""
    (run_id,) = make_chains(tmp_path, [("2", 1920, 0)], per_level=6)
    monkeypatch.setattr(measuring, "_asked_chain", lambda root, run: as_asked(run, Cache(tmp_path)))
    return tmp_path, run_id


def test_a_new_k_is_asked_at_once_and_its_result_takes_the_nearest_ones_place(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(growing[0], monkeypatch, k="10")
    (request,) = fake.asked.values()
    assert str(request.state.k_percent) == "10" and request.questions.per_level == 6
    fake.all_progress("asking 90 questions", 0.4)
    at.run()
    assert "asking 90 questions" in at.get("progress")[0].proto.text and len(fake.asked) == 1
    make_chains(growing[0], [("2", 1920, 0)], per_level=6, ks=(10,))
    fake.all_end()
    at.run()
    assert any("Evaluated at k = 10% (" in m.value for m in at.markdown) and not at.exception
    expected = Chain(Cache(growing[0]), growing[1]).measured(RestoreSpec(k_percent="1"))
    row = expected[(expected["k_percent"] == 10) & (expected["split"] == "dev") & expected["level"].isna()]
    assert values(at)["accuracy"] == f"{100 * row['accuracy'].iloc[0]:.1f}%"
    assert len(fake.asked) == 1


def test_while_a_k_is_measured_all_but_its_answers_is_there(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(growing[0], monkeypatch, k="20")
    at.slider(key="restore.slider").set_value(40).run()
    assert len(fake.asked) == 1 and values(at)["weights"] == "6"
    assert {"Weights reverted at k = 40%", "Export: k = 40%"} <= heads(at)
    assert "Accuracy by question level, k = 20%" in heads(at)
    assert any("Evaluating k = 40%" in one.value and "show k = 20% until" in one.value for one in at.info)
    make_chains(growing[0], [("2", 1920, 0)], per_level=6, ks=(40,))
    fake.all_end()
    at.run()
    assert "Accuracy by question level, k = 40%" in heads(at) and not at.info


def test_sliding_on_cancels_what_is_not_wanted_any_more(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(growing[0], monkeypatch, k="30")
    at.slider(key="restore.slider").set_value(40.0).run()
    assert fake.cancelled == list(fake.asked)[:1]
    assert [str(one.state.k_percent) for one in fake.asked.values()] == ["30", "40"]
    at.slider(key="restore.slider").set_value(20.0).run()
    assert len(fake.cancelled) == 2 and len(fake.asked) == 2


def test_cancelled_and_failed_are_not_asked_again_unasked(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(growing[0], monkeypatch, k="30")
    at.button(key="restore.asking.cancel").click().run()
    assert len(fake.asked) == 1 and any("Cancelled" in one.value for one in at.info)
    at.button(key="restore.asking.again").click().run()
    assert len(fake.asked) == 2
    fake.dies("The engine was killed by signal 9.")
    at.run()
    assert "signal 9" in at.error[0].value and "signal 9" in at.warning[0].value and len(fake.asked) == 2
    at.button(key="shared.engine_restart").click().run()
    assert fake.running and not at.warning


def test_without_the_switch_a_button_asks(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(growing[0], monkeypatch)
    at.toggle(key="restore.at_once").set_value(False).run()
    at.slider(key="restore.slider").set_value(30.0).run()
    assert not fake.asked
    at.button(key="restore.measure").click().run()
    assert len(fake.asked) == 1


def test_another_set_asks_base_and_tuned_too_and_mixes_nothing(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    other = Path(growing[0]).parent / "elsewhere"
    (again,) = make_chains(other, [("2", 1920, 0)], per_level=10)
    ids = Chain(Cache(other), again).asked.question_set
    monkeypatch.setattr(measuring, "_set_id", lambda root, run, size: ids)
    at = opened(growing[0], monkeypatch, k="20", questions="10")
    states = [one.state if isinstance(one.state, str) else "restored" for one in fake.asked.values()]
    assert states == ["restored", "tuned", "base"]
    assert [one.prompt for one in fake.asked.values()] == ["paper"] * 3
    assert {one.questions.per_level for one in fake.asked.values()} == {10}
    assert any("not evaluated yet" in one.value for one in at.caption)
    make_chains(growing[0], [("2", 1920, 0)], per_level=10)
    fake.all_end()
    at.run()
    assert any("up to 10 per mastery level" in one.value for one in at.caption)
    assert set(at.dataframe[0].value["n"]) == {50}
