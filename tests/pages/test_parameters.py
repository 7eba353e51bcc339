"""The page about the weights, and the chart of strategies: numbers of the cube and of the answers, no tracebacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_chain import make_chains
from streamlit.testing.v1 import AppTest

from sftknow_core.analysis import published
from sftknow_core.results import Chain
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, Cache

ROOT = Path(__file__).parents[2]
Filled = tuple[Path, str]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """One chain whose delta run is the small model of 16 + 12 weights."""
    root = tmp_path_factory.mktemp("cache")
    (run_id,) = make_chains(root, [("2", 1920, 0)], per_level=4)
    return root, run_id


def opened(cache: Path, monkeypatch: pytest.MonkeyPatch, **address: str) -> AppTest:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    monkeypatch.syspath_prepend(str(ROOT))
    at = AppTest.from_file(str(ROOT / "pages" / "parameters.py"), default_timeout=60)
    for name, value in address.items():
        at.query_params[name.replace("_", ".", 1)] = value
    at.run()
    assert not at.exception, at.exception
    return at


def values(at: AppTest) -> list[str]:
    return [metric.value for metric in at.metric]


def test_numbers_are_those_of_the_weights(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 of 16 and 15 of 28 weights kept their bits; r near zero: 4 of 11; 12.5% are r = 4 and 2."""
    at = opened(filled[0], monkeypatch, restore_k="12.5")
    found = values(at)
    assert found[:2] == ["50.0%", "53.6%"] and found[4] == "36.3%" and found[6] == "54.5%"
    assert len(at.get("plotly_chart")) == 4 and not at.error
    assert any("From k = 50% on, all changes are reverted" in m.value for m in at.markdown)
    assert any("**r ≥ 2**" in m.value and "**|d| ≥ 1**" in m.value for m in at.markdown)


def test_the_same_k_and_region_as_on_the_restore_page(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = opened(filled[0], monkeypatch, restore_k="40", restore_region="mlp", restore_strategy="largest")
    assert at.number_input(key="restore.k").value == 40
    assert at.selectbox(key="restore.region").value == "mlp"
    assert at.selectbox(key="restore.strategy").value == "largest"
    at = opened(filled[0], monkeypatch)
    at.slider(key="restore.slider").set_value(12.5).run()
    in_address = at.query_params["restore.k"]
    assert float(in_address[0] if isinstance(in_address, list) else in_address) == 12.5
    assert any("Location of the top 12.5%" in s.value for s in at.subheader) and not at.exception


def test_region_or_whole_model(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(filled[0], monkeypatch).dataframe[0].value
    assert "outside" in set(whole["group"]) and whole["n_weights"].sum() == 2 * 28
    region = opened(filled[0], monkeypatch, weights_scope="this region").dataframe[0].value
    assert region["n_weights"].sum() == 2 * 16


def test_the_papers_numbers_on_demand(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(opened(filled[0], monkeypatch).dataframe) == 4
    at = opened(filled[0], monkeypatch, weights_paper="true")
    by_layer, by_module = (frame.value for frame in at.dataframe[4:6])
    assert by_layer["paper_layers"].tolist() == ["0-15", "16-31"]
    assert by_layer["paper_share"].tolist() == published.layer_shares(2)["paper_share"].tolist()
    assert by_module["module"].tolist() == ["attn.q", "mlp.up"]
    assert by_module["paper_share"].tolist() == pytest.approx([0.0641, 0.2826])


@pytest.mark.parametrize(
    ("name", "value"), [("k", "abc"), ("k", "101"), ("layers", "9"), ("layers", "x"), ("region", "head")]
)
def test_a_bad_address_is_a_message(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    at = opened(filled[0], monkeypatch, **{f"restore_{name}": value})
    assert value in [*at.warning, *at.error][0].value


@pytest.mark.parametrize("region", ["transformer", "attention", "mlp", "embedding", "all"])
@pytest.mark.parametrize("k", ["0", "100"])
def test_the_ends_of_every_region(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, region: str, k: str
) -> None:
    at = opened(filled[0], monkeypatch, restore_region=region, restore_k=k)
    assert len(at.get("plotly_chart")) == 4 and not at.error


def test_without_tensors_or_chains_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sftknow demo" in opened(tmp_path, monkeypatch).info[0].value
    make_chains(tmp_path, [("0", 240, 0)], per_level=4, cube=False)
    at = opened(tmp_path, monkeypatch)
    assert at.error and not at.metric


def comparison(cache: Path, run_id: str, axis: str, question_set: str | None = None) -> AppTest:
    def page(root: str, run_id: str, axis: str, question_set: str | None) -> None:
        from pages._widgets import comparing, show

        with show.messages():
            comparing.compare((root, ""), run_id, "test", axis, question_set)

    at = AppTest.from_function(page, default_timeout=60, args=(str(cache), run_id, axis, question_set))
    at.run()
    assert not at.exception, at.exception
    return at


@pytest.mark.parametrize("axis", ["k", "changed", "update"])
def test_strategies_are_compared_on_every_axis(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, axis: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    at = comparison(*filled, axis)
    rows = Chain(Cache(filled[0]), filled[1]).ways().query("split == 'test'")
    assert at.dataframe[0].value["accuracy"].tolist() == rows["accuracy"].tolist()
    assert any("Same k, different update size" in m.value for m in at.markdown)
    tuned = Chain(Cache(filled[0]), filled[1]).manifest.summary["tuned_id"]
    assert (
        at.code[0]
        .value.splitlines()[0]
        .endswith(f"--tuned {tuned} --data demo --questions 4 --k 5,20,60 --strategy largest")
    )


def test_nothing_to_compare_and_no_chain_are_messages(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    assert "evaluated on these questions yet" in comparison(*filled, "k", "none").info[0].value
    assert "no chain 0123" in comparison(filled[0], "0123", "k").error[0].value
