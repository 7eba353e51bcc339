"""The dashboard's settings: known to Streamlit, this machine only, and readable colours in both themes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit import config

SETTINGS = tomllib.loads((Path(__file__).parents[1] / ".streamlit" / "config.toml").read_text())
TEXT = ("textColor", "linkColor", "primaryColor", "grayTextColor")
"""Read as text: contrast of at least 4.5 (WCAG 2.2, 1.4.3); marks in a figure need 3 (1.4.11)."""


def _options(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _options(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def contrast(one: str, other: str) -> float:
    """Ratio of the relative luminances of two #rrggbb colours, 1 to 21 (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_on_white_is_21_and_of_a_colour_on_itself_1() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#b4530a", "#b4530a") == 1


def test_streamlit_knows_every_option() -> None:
    known = set(config.get_config_options(force_reparse=True))
    assert set(_options(SETTINGS)) <= known


def test_it_listens_on_this_machine_only_and_reports_nothing() -> None:
    assert SETTINGS["server"]["address"] == "127.0.0.1"
    assert SETTINGS["browser"]["gatherUsageStats"] is False


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_read_on_both_backgrounds(theme: str) -> None:
    colours = SETTINGS["theme"][theme]
    for background in (colours["backgroundColor"], colours["secondaryBackgroundColor"]):
        for name in TEXT:
            assert contrast(colours[name], background) >= 4.5, (name, background)
        for mark in colours["chartCategoricalColors"]:
            assert contrast(mark, background) >= 3, (mark, background)
