"""The slider's page over a made-up cache: linked widgets, numbers of the cube and of the answers, no tracebacks."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))
from fake_chain import BASE, make_chains
from fake_cube import FakeTensor, small_model
from fake_engine import FakeEngine

from pages._shared import before, engine, measuring, slider
from sftknow_core.errors import SpecError
from sftknow_core.facts.facts_ref import FactsRef
from sftknow_core.runs import jobs
from sftknow_core.runs.engine.chain_request import AskedChain
from sftknow_core.runs.engine.protocol import Models
from sftknow_core.runs.job_specs import ChainJob, ExportJob
from sftknow_core.runs.questions import QuestionSpec
from sftknow_core.store import chain_views, question_sets, restore_views
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE, Cache
from sftknow_core.store.ingest import ingest
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.update.spec import RestoreSpec

ROOT = Path(__file__).parents[2]
Filled = tuple[Path, str]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """No engine is started here."""
    found = FakeEngine()
    monkeypatch.setattr(engine, "client", lambda root: found)
    return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """One chain measured at k = 5, 20, 60, 100, whose two models are compared in a newer delta run."""
    root = tmp_path_factory.mktemp("cache")
    (run_id,) = make_chains(root, [("2", 1920, 0)], per_level=6)
    tuned_id = chain_views.chain_summary(Cache(root), run_id)["tuned_id"]
    time.sleep(1.1)  # the newer of two comparisons counts, to the second
    compare(Cache(root), tuned_id, small_model())
    yield root, run_id
    shutil.rmtree(root, ignore_errors=True)


def compare(cache: Cache, tuned_id: str, tensors: list[FakeTensor]) -> None:
    inputs = {"base": BASE.model_id, "tuned": tuned_id}
    with open_run(cache, RunSpec("delta", inputs, versions={"delta": 2}), about={}) as run:
        scores = ("relative", "relative_1e-6", "relative_1e-4", "permuted", "absolute")
        cube = [row for score in scores for i, t in enumerate(tensors) for row in t.bins(i, score)]
        run.write_chunk(0, {"delta_tensors": [t.row(i) for i, t in enumerate(tensors)], "cube": cube})
        run.finish()
    ingest(cache, run.run_id)


def opened(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shared_k: float | None = None, **address: str
) -> AppTest:
    """The page at an address, in a session that looked at shared_k on another page."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    monkeypatch.syspath_prepend(str(ROOT))
    at = AppTest.from_file(str(ROOT / "pages" / "restore.py"), default_timeout=60)
    if shared_k is not None:
        at.session_state["shared.k"] = shared_k
    for name, value in address.items():
        at.query_params[name if name == "run" else f"restore.{name}"] = value
    at.run()
    assert not at.exception, at.exception
    return at


def in_address(at: AppTest, name: str) -> str | None:
    """A parameter of the page's address; None: it is not there."""
    found = at.query_params.get(f"restore.{name}")
    return found[0] if isinstance(found, list) else found


def values(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_numbers_are_those_of_the_weights(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """12.5% of 16 weights are r = 4 and 2 of a sum of 11 + 2/256, and d^2 = 4 + 1 of 9.5."""
    found = values(opened(filled[0], monkeypatch, k="12.5"))
    assert (found["weights"], found["of the changed"]) == ("2", "25.0%")
    assert (found["these weights"], found["of Σd²"]) == ("54.5%", "52.6%")


def test_an_old_k_of_a_widget_that_has_not_heard_of_the_move_is_no_move_back(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened(filled[0], monkeypatch)
    assert at.number_input(key="restore.k").value == 20
    at.slider(key="restore.slider").set_value(37.5).run()
    at.number_input(key="restore.k").set_value(20).run()
    assert at.number_input(key="restore.k").value == at.slider(key="restore.slider").value == 37.5
    monkeypatch.setattr(slider, "_UNHEARD_SECONDS", 0.0)
    at.number_input(key="restore.k").set_value(20).run()
    assert at.number_input(key="restore.k").value == at.slider(key="restore.slider").value == 20


def test_slider_field_and_quick_choices_are_linked(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch)
    assert at.number_input(key="restore.k").value == 20
    at.slider(key="restore.slider").set_value(37.5).run()
    assert at.number_input(key="restore.k").value == 37.5 and values(at)["weights"] == "6"
    assert float(in_address(at, "k") or "nan") == 37.5
    at.number_input(key="restore.k").set_value(33.3333).run()
    assert at.slider(key="restore.slider").value == 33.5 and any(
        "33.3333%" in one.value for one in at.subheader
    )
    at.button_group(key="restore.quick").set_value("60").run()
    assert at.slider(key="restore.slider").value == 60 and not at.exception


def test_the_address_names_every_k(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="0")
    assert at.number_input(key="restore.k").value == 0 and in_address(at, "k") == "0"
    at = opened(filled[0], monkeypatch, shared_k=37.0)
    assert at.number_input(key="restore.k").value == 37 and in_address(at, "k") == "37"
    at.slider(key="restore.slider").set_value(0.0).run()
    assert at.number_input(key="restore.k").value == 0 and float(in_address(at, "k") or "nan") == 0


def test_no_more_changes_is_said(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="50")  # 8 of 16 changed
    assert "reverted from k = 50% on" in at.warning[0].value
    assert not opened(filled[0], monkeypatch, k="49.5").warning


def test_an_unmeasured_k_is_said_and_can_be_measured(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="30", strategy="bottom", layers="0")
    assert "Nothing was measured" in at.info[0].value
    assert at.code[0].value.endswith("--k 30 --strategy bottom --layers 0")
    at = opened(filled[0], monkeypatch, k="30")
    assert any("k = 30% is not measured" in m.value and "k = 20%" in m.value for m in at.markdown)
    assert not any("--k 20" in one.value for one in opened(filled[0], monkeypatch, k="20").code)


def test_a_chain_of_an_earlier_version_says_what_to_do(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    monkeypatch.setattr(measuring, "_asked_chain", older)
    at = opened(filled[0], monkeypatch, k="30")
    assert any("earlier version" in one.value for one in at.info) and not fake.asked


def older(root: str, run_id: str) -> AskedChain:
    raise SpecError("this chain was made by an earlier version")


def as_asked(run_id: str, cache: Cache) -> AskedChain:
    """What a request about the made-up chain is made from."""
    summary = chain_views.chain_summary(cache, run_id)
    models = Models("demo", summary["tuned_id"], summary["base_id"], summary["tuned_id"])
    own = question_sets.own_set(cache, run_id)
    return AskedChain(models, FactsRef(), QuestionSpec(6), "m", {"prompt": "paper"}, own)


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
    assert any("Measured at k = 10% itself" in m.value for m in at.markdown) and not at.exception
    expected = restore_views.measured(Cache(growing[0]), growing[1], RestoreSpec(k_percent="1"))
    row = expected[(expected["k_percent"] == 10) & (expected["split"] == "dev") & expected["level"].isna()]
    assert values(at)["accuracy"] == f"{100 * row['accuracy'].iloc[0]:.1f}%"
    assert len(fake.asked) == 1


def test_while_a_k_is_measured_all_but_its_answers_is_there(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    at = opened(growing[0], monkeypatch, k="20")
    at.slider(key="restore.slider").set_value(40).run()
    assert len(fake.asked) == 1 and values(at)["weights"] == "6"
    assert {"What k = 40% puts back", "Take it along: k = 40%"} <= heads(at)
    assert "Accuracy by mastery level, k = 20%" in heads(at)
    assert any("40% is being measured" in one.value and "still show k = 20%" in one.value for one in at.info)
    make_chains(growing[0], [("2", 1920, 0)], per_level=6, ks=(40,))
    fake.all_end()
    at.run()
    assert "Accuracy by mastery level, k = 40%" in heads(at) and not at.info


def heads(at: AppTest) -> set[str]:
    return {one.value for one in at.subheader}


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
    ids = question_sets.own_set(Cache(other), again)
    monkeypatch.setattr(measuring, "_set_id", lambda root, run, size: ids)
    at = opened(growing[0], monkeypatch, k="20", questions="10")
    states = [one.state if isinstance(one.state, str) else "restored" for one in fake.asked.values()]
    assert states == ["restored", "tuned", "base", "base"]
    assert [one.prompt for one in fake.asked.values()] == ["paper"] * 3 + ["five-shot"]
    assert {one.questions.per_level for one in fake.asked.values()} == {10}
    assert any("not asked yet" in one.value for one in at.caption)
    make_chains(growing[0], [("2", 1920, 0)], per_level=10)
    fake.all_end()
    at.run()
    assert any("up to 10 of each mastery level" in one.value for one in at.caption)
    assert set(at.dataframe[0].value["n"]) == {50}


def test_nobody_waits_for_the_five_shot_ceiling(
    growing: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine
) -> None:
    (larger,) = make_chains(growing[0], [("2", 1920, 0)], per_level=10)
    cache = Cache(growing[0])
    ids, stages = question_sets.own_set(cache, larger), chain_views.chain_summary(cache, larger)["stages"]
    ceiling = cache.run_folder(stages["five_shot"])
    aside = shutil.move(ceiling, growing[0] / "aside")
    monkeypatch.setattr(measuring, "_set_id", lambda root, run, size: ids)
    at = opened(growing[0], monkeypatch, k="20", questions="10", run=growing[1])
    assert [one.prompt for one in fake.asked.values()] == ["five-shot"] and at.get("progress")
    at.slider(key="restore.slider").set_value(60.0).run()
    assert "Accuracy by mastery level, k = 60%" in heads(at) and not at.info
    shutil.move(aside, ceiling)
    fake.all_end()
    at.run()
    assert "five-shot" in set(at.dataframe[0].value["state"]) and not at.get("progress")


def test_show_mode_starts_nothing(filled: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine) -> None:
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = opened(filled[0], monkeypatch, k="30")
    assert not fake.running and not fake.asked and not at.toggle
    assert not [one for one in at.button if "recipe" in one.label or "Write" in one.label]
    assert any("Show mode" in one.value for one in at.caption) and at.metric


def test_flips_can_be_counted_from_the_previous_k(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="5", before="previous k")
    assert any("no previous k" in one.value for one in at.info)
    at.slider(key="restore.slider").set_value(60.0).run()
    cache, run_id = Cache(filled[0]), filled[1]
    rows = restore_views.measured(cache, run_id, RestoreSpec(k_percent="1"))
    five, sixty = (restore_views.nearest_state(rows, k, "dev") for k in (5, 60))
    counts = restore_views.flip_counts(cache, run_id, sixty, "dev", five)
    said = f"In-domain: {counts['healed'][0]} healed, {counts['broken'][0]} broken** of 30"
    assert any(said in m.value and "from k = 5% to k = 60%" in m.value for m in at.markdown)
    assert in_address(at, "from") == "5"
    again = opened(filled[0], monkeypatch, **{"k": "60", "before": "previous k", "from": "5"})
    assert any(said in m.value for m in again.markdown)
    again.button_group(key="restore.before").set_value("tuned").run()
    assert in_address(again, "from") is None
    unknown = opened(filled[0], monkeypatch, **{"k": "60", "before": "previous k", "from": "7"})
    assert any("k = 7%, which was looked at before, is not measured" in one.value for one in unknown.info)


def test_another_strategy_has_no_previous_k_of_the_first() -> None:
    first = before.walked([], ("top", 5.0), None)
    assert first == [("top", 5.0)]
    assert before.walked(first, ("top", 20.0), None) == [("top", 5.0), ("top", 20.0)]
    assert before.walked(first, ("largest", 5.0), 60.0) == [("largest", 5.0)]
    linked = before.walked([], ("top", 20.0), 5.0)
    assert linked == [("top", 5.0), ("top", 20.0)] == before.walked(linked, ("top", 20.0), 5.0)


def test_writing_to_the_disk_needs_a_full_new_path(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at = opened(filled[0], monkeypatch, k="20")
    for path, why in (
        ("", "got nothing"),
        ("here", "allowed: a full path"),
        (str(tmp_path), "exists already"),
    ):
        at.text_input(key="restore.export_path").set_value(path)
        at.button(key="FormSubmitter:restore.export-Write it").click().run()
        assert why in at.error[0].value and not at.exception


def test_of_all_jobs_only_exports_are_shown_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_chains(tmp_path, [("0", 240, 0)], per_level=4)
    monkeypatch.setattr(jobs, "_spawn", lambda folder, arguments, nice: None)
    for job in (ChainJob(), ExportJob(tuned="demo", out=str(tmp_path / "restored"))):
        jobs.start(Cache(tmp_path), job)
    at = opened(tmp_path, monkeypatch)
    said = [one.value for one in at.markdown]
    assert [one for one in said if one.startswith("**Write a restored model")]
    assert not [one for one in said if one.startswith("**Fine-tune, restore")]


def test_answers_are_those_of_the_store(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, run_id = Cache(filled[0]), filled[1]
    at = opened(filled[0], monkeypatch, k="20", split="test", flip="healed")
    rows = restore_views.measured(cache, run_id, RestoreSpec(k_percent="20"))
    shown = restore_views.nearest_state(rows, 20, "test")
    assert shown is not None
    healed = restore_views.flipped(cache, run_id, shown, "test", flips=["healed"])
    (listed,) = [one.value for one in at.dataframe if "before_answer" in one.value]
    assert listed["question"].tolist() == healed["question"].tolist()
    counts = restore_views.flip_counts(cache, run_id, shown, "test")
    said = f"In-domain: {counts['healed'][0]} healed, {counts['broken'][0]} broken** of 30"
    assert any(said in m.value for m in at.markdown)
    assert any("is chosen on test" in c.value for c in at.caption)


def test_what_looking_at_test_costs_is_said_before(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="20")
    assert at.button_group(key="restore.split").value == "dev"
    assert any("Switching to test shows it for every k and costs" in one.value for one in at.caption)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", "abc"), ("k", "101"), ("layers", "9"), ("layers", "x"), ("strategy", "foo"), ("split", "holdout"),
        ("region", "head"), ("axis", "y"), ("flip", "none"), ("from", "150"), ("from", "x"),
    ],
)  # fmt: skip
def test_a_bad_address_is_a_message(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    at = opened(filled[0], monkeypatch, **{name: value})
    assert value in [*at.warning, *at.error][0].value


@pytest.mark.parametrize("axis", ["k", "changed weights", "update taken back"])
@pytest.mark.parametrize("k", ["0", "100"])
def test_the_ends_can_be_shown_on_every_axis(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, axis: str, k: str
) -> None:
    at = opened(filled[0], monkeypatch, k=k, axis=axis, region="all")
    assert len(at.get("plotly_chart")) >= 4 and not at.error


def test_without_a_comparison_the_answers_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_chains(tmp_path, [("0", 240, 0)], per_level=4, cube=False)
    at = opened(tmp_path, monkeypatch)
    assert at.error and len(at.get("plotly_chart")) == 3  # the fake comparison holds no tensors


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(tmp_path, monkeypatch)
    assert "sftknow demo" in at.info[0].value and not at.metric
