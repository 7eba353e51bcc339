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

from sftknow_core.store import chain_views, restore_views
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, Cache
from sftknow_core.store.ingest import ingest
from sftknow_core.store.open_run import open_run
from sftknow_core.store.run_spec import RunSpec
from sftknow_core.update.spec import RestoreSpec

ROOT = Path(__file__).parents[2]
Filled = tuple[Path, str]


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


def opened(cache: Path, monkeypatch: pytest.MonkeyPatch, **address: str) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    monkeypatch.syspath_prepend(str(ROOT))
    at = AppTest.from_file(str(ROOT / "pages" / "restore.py"), default_timeout=60)
    for name, value in address.items():
        at.query_params[f"restore.{name}"] = value
    at.run()
    assert not at.exception, at.exception
    return at


def values(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_numbers_are_those_of_the_weights(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """12.5% of 16 weights are r = 4 and 2 of a sum of 11 + 2/256, and d^2 = 4 + 1 of 9.5."""
    found = values(opened(filled[0], monkeypatch, k="12.5"))
    assert (found["weights"], found["of the changed"]) == ("2", "25.0%")
    assert (found["these weights"], found["of Σd²"]) == ("54.5%", "52.6%")


def test_slider_field_and_quick_choices_are_linked(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(filled[0], monkeypatch)
    assert at.number_input(key="restore.k").value == 20
    at.slider(key="restore.slider").set_value(37.5).run()
    assert at.number_input(key="restore.k").value == 37.5 and values(at)["weights"] == "6"
    in_address = at.query_params["restore.k"]
    assert float(in_address[0] if isinstance(in_address, list) else in_address) == 37.5
    at.number_input(key="restore.k").set_value(33.3333).run()
    assert at.slider(key="restore.slider").value == 33.5 and "33.3333%" in at.subheader[0].value
    at.button_group(key="restore.quick").set_value("60").run()
    assert at.slider(key="restore.slider").value == 60 and not at.exception


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
    assert not opened(filled[0], monkeypatch, k="20").code


def test_answers_are_those_of_the_store(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, run_id = Cache(filled[0]), filled[1]
    at = opened(filled[0], monkeypatch, k="20", split="test", flip="healed")
    rows = restore_views.measured(cache, run_id, RestoreSpec(k_percent="20"))
    shown = restore_views.nearest_state(rows, 20, "test")
    assert shown is not None
    healed = restore_views.flipped(cache, run_id, shown, "test", flips=["healed"])
    assert at.dataframe[-1].value["question"].tolist() == healed["question"].tolist()
    counts = restore_views.flip_counts(cache, run_id, shown, "test")
    said = f"In-domain: {counts['healed'][0]} healed, {counts['broken'][0]} broken** of 30"
    assert any(said in m.value for m in at.markdown)
    assert any("chosen on test" in c.value for c in at.caption)


@pytest.mark.parametrize(("name", "value"), [("k", "abc"), ("k", "101"), ("layers", "9"), ("layers", "x")])
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
    assert len(at.get("plotly_chart")) == 3 and not at.error


def test_without_a_comparison_the_answers_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_chains(tmp_path, [("0", 240, 0)], per_level=4)
    at = opened(tmp_path, monkeypatch)
    assert at.error and len(at.get("plotly_chart")) == 2  # the fake comparison holds no tensors


def test_an_empty_cache_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = opened(tmp_path, monkeypatch)
    assert "sftknow demo" in at.info[0].value and not at.metric
