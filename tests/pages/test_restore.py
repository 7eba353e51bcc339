"""The slider's page over a made-up cache: linked widgets, numbers of the cube and of the answers, no tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains
from fake_engine import FakeEngine
from restore_page import Filled, in_address, opened, values

from pages._widgets import restoring, slider
from sftknow_core.results import Chain, measured
from sftknow_core.serve import jobs
from sftknow_core.serve.job_specs import ChainJob, ExportJob
from sftknow_core.store.cache import READ_ONLY_VARIABLE, Cache
from sftknow_core.update.spec import RestoreSpec, percent

pytestmark = pytest.mark.usefixtures("fake")


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


def test_show_mode_starts_nothing(filled: Filled, monkeypatch: pytest.MonkeyPatch, fake: FakeEngine) -> None:
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = opened(filled[0], monkeypatch, k="30")
    assert not fake.running and not fake.asked and not at.toggle
    assert not [one for one in at.button if "recipe" in one.label or "Write" in one.label]
    assert any("Read-only" in one.value for one in at.caption) and at.metric


def test_flips_can_be_counted_from_the_previous_k(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="5", before="previous k")
    assert any("compare with the previous k" in one.value for one in at.info)
    at.slider(key="restore.slider").set_value(60.0).run()
    cache, run_id = Cache(filled[0]), filled[1]
    rows = Chain(cache, run_id).measured(RestoreSpec(k_percent="1"))
    five, sixty = (measured.nearest_state(rows, k, "dev") for k in (5, 60))
    counts = Chain(cache, run_id).flip_counts(sixty, "dev", five)
    said = f"In-domain: {counts['healed'][0]} recovered, {counts['broken'][0]} broken** of 30"
    assert any(said in m.value and "from k = 5% to k = 60%" in m.value for m in at.markdown)
    assert in_address(at, "from") == "5"
    again = opened(filled[0], monkeypatch, **{"k": "60", "before": "previous k", "from": "5"})
    assert any(said in m.value for m in again.markdown)
    again.button_group(key="restore.before").set_value("tuned").run()
    assert in_address(again, "from") is None
    unknown = opened(filled[0], monkeypatch, **{"k": "60", "before": "previous k", "from": "7"})
    assert any("Previous k = 7% isn't evaluated" in one.value for one in unknown.info)


def test_another_strategy_has_no_previous_k_of_the_first() -> None:
    five, twenty = ("top", percent(5)), ("top", percent(20))
    first = restoring.walked([], five, None)
    assert first == [five]
    assert restoring.walked(first, twenty, None) == [five, twenty]
    assert restoring.walked(first, ("largest", percent(5)), percent(60)) == [("largest", percent(5))]
    linked = restoring.walked([], twenty, percent(5))
    assert linked == [five, twenty] == restoring.walked(linked, twenty, percent(5))


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
        at.button(key="FormSubmitter:restore.export-Save on server").click().run()
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
    rows = Chain(cache, run_id).measured(RestoreSpec(k_percent="20"))
    shown = measured.nearest_state(rows, 20, "test")
    assert shown is not None
    healed = Chain(cache, run_id).flipped(shown, "test", flips=["healed"])
    (listed,) = [one.value for one in at.dataframe if "before_answer" in one.value]
    assert listed["question"].tolist() == healed["question"].tolist()
    counts = Chain(cache, run_id).flip_counts(shown, "test")
    said = f"In-domain: {counts['healed'][0]} recovered, {counts['broken'][0]} broken** of 30"
    assert any(said in m.value for m in at.markdown)
    assert any("optimistically biased" in c.value for c in at.caption)


def test_what_looking_at_test_costs_is_said_before(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch, k="20")
    assert at.button_group(key="restore.split").value == "dev"
    assert any("Viewing test at every k makes test accuracy optimistic" in one.value for one in at.caption)


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


def test_an_outcome_is_shown_by_name_and_stays_as_it_was_in_the_address(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened(filled[0], monkeypatch, k="20", flip="broken")
    control = at.button_group(key="restore.flip.shown")
    assert [option.content for option in control.proto.options] == ["recovered", "broken", "still incorrect"]
    assert control.value == "broken" and in_address(at, "flip") == "broken"
    control.set_value("still wrong").run()
    assert in_address(at, "flip") == "still wrong" and not at.exception
    at.button_group(key="restore.flip.shown").set_value("healed").run()
    assert in_address(at, "flip") is None and not at.exception
    assert (
        opened(filled[0], monkeypatch, flip="healed").button_group(key="restore.flip.shown").value == "healed"
    )
