"""How tables and figures are shown: formats, what is downloaded, the camera, and show mode's badge on every page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages._widgets import show
from sftknow_core.store.cache import ENVIRONMENT_VARIABLE, READ_ONLY_VARIABLE

ROOT = Path(__file__).parents[2]


def shows(n: int) -> AppTest:
    """A page with a table of n rows."""

    def page(n: int) -> None:
        import pandas as pd

        from pages._widgets import show

        ks = [None, *range(1, n)]
        table = pd.DataFrame({"k_percent": ks, "accuracy": [i / n for i in range(n)], "answer": ["<b>"] * n})
        from sftknow_core.present.columns import COLUMNS, Column

        show.listed(table, "here", "what it is", COLUMNS | {"answer": Column("said", "greedy")})

    return AppTest.from_function(page, args=(n,), default_timeout=30).run()


def is_styled(at: AppTest) -> bool:
    return bool(at.dataframe[0].proto.arrow_data.styler.display_values)


def headers(at: AppTest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(at.dataframe[0].proto.columns)
    return found


def test_short_tables_are_styled_and_long_ones_are_left_to_the_browser() -> None:
    short, long = shows(3), shows(show.MOST_STYLED + 1)
    assert not short.exception and not long.exception
    assert is_styled(short) and not is_styled(long)
    columns = headers(long)
    assert columns["accuracy"]["type_config"]["format"] == "percent"
    assert columns["k_percent"]["type_config"]["format"] == "%g"
    assert {c["label"] for c in columns.values() if c.get("label")} >= {"k (%)", "accuracy", "said"}
    for at in (short, long):
        assert at.dataframe[0].proto.placeholder == "–"


def test_both_downloads_are_offered() -> None:
    labels = [button.proto.label for button in shows(3).get("download_button")]
    assert labels == ["Download CSV", "Download Parquet"]


def test_parquet_holds_what_the_table_holds() -> None:
    table = pd.DataFrame(
        {"a": [1.5, None], "b": ["x", None], "c": [1, "two"], "d": [True, None]}, index=[7, 7]
    )
    found = pd.read_parquet(io.BytesIO(show.as_parquet(table)))
    assert found["a"].tolist()[0] == 1.5 and pd.isna(found["a"][1])
    assert found["b"].tolist()[0] == "x" and pd.isna(found["b"][1])
    assert found["c"].tolist() == ["1", "two"] and found["d"].tolist()[0]
    assert list(table["c"]) == [1, "two"]


def test_the_camera_saves_under_the_figures_name_in_the_chosen_format() -> None:
    def page() -> None:
        import pandas as pd
        import plotly.graph_objects as go

        from pages._widgets import show

        show.figure(go.Figure(go.Scatter(x=[1], y=[2])), pd.DataFrame({"n": [1]}), "a.curve", "what it is")

    at = AppTest.from_function(page, default_timeout=30).run()

    def saved() -> dict[str, Any]:
        config: dict[str, Any] = json.loads(at.get("plotly_chart")[0].proto.config)
        assert config["displayModeBar"] == "hover"
        return dict(config["toImageButtonOptions"])

    assert saved() == {"format": "png", "filename": "a.curve", "scale": 2}
    at.segmented_control(key="a.curve.image").set_value("SVG").run()
    assert saved() == {"format": "svg", "filename": "a.curve", "scale": 1}
    at.session_state["a.curve.numbers"] = False
    at.run()
    assert [*at.dataframe, *at.segmented_control] == []  # closed, the numbers are not made
    assert saved()["format"] == "svg"
    at.session_state["a.curve.numbers"] = True
    at.run()
    assert at.segmented_control(key="a.curve.image").value == "SVG"
    assert len(at.dataframe) == 1


@pytest.mark.parametrize("is_shown", [True, False])
def test_show_mode_is_said_on_every_page(
    chains: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, is_shown: bool
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(chains[0]))
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1" if is_shown else "0")
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    for page in (None, "pages/restore.py"):
        at = at.switch_page(page).run() if page else at
        assert not at.exception and at.title
        assert any("Read-only" in text.value for text in at.markdown) is is_shown


def test_every_figure_has_a_camera() -> None:
    """show.py gives them one: no page draws around it."""
    drawing = [p.name for p in (ROOT / "pages").rglob("*.py") if "st.plotly_chart(" in p.read_text("utf-8")]
    assert drawing == ["show.py"]


@pytest.mark.parametrize("name", ["overview", "accuracy", "token_shifts", "fine_tune"])
def test_what_can_be_had_as_csv_can_be_had_as_parquet(
    chains: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(chains[0]))
    monkeypatch.setenv(READ_ONLY_VARIABLE, "1")
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).switch_page(f"pages/{name}.py").run()
    assert not at.exception
    labels = [button.proto.label for button in at.get("download_button")]
    kinds = [sum(kind in label for label in labels) for kind in ("CSV", "Parquet")]
    assert kinds[0] == kinds[1] > 0
    for chart in at.get("plotly_chart"):
        assert json.loads(chart.proto.config)["displayModeBar"] == "hover"


def test_a_table_without_columns_can_be_saved() -> None:
    assert pd.read_parquet(io.BytesIO(show.as_parquet(pd.DataFrame()))).empty
