"""Every page in a real browser, over a real fine-tuning: nothing is cut, too faint, or beyond the window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import FAINT, ROOT, faults, opened, server, settled
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
PAGES = ["", *sorted(path.stem for path in (ROOT / "pages").glob("*.py") if path.stem != "overview")]
"""Addresses of all pages."""
WIDTHS = (1440, 900)
"""Of the window, in pixels."""


@pytest.fixture(scope="module")
def empty_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("empty")) as found:
        yield found


def test_faint_texts_are_found_wherever_they_are(browser: Browser) -> None:
    """#888 on white has a contrast of 3.5, white on #888 too, and #595959 on white 7."""
    page = browser.new_page()
    page.set_content(
        """<body style="background: #fff; color: #595959"><div data-testid="stMain"><p>fine</p>
        <div style="background: #888"><p style="color: #fff">alert</p></div>
        <button style="background: #888; color: #fff">button</button><button disabled>off</button>
        <svg><text style="fill: #888">label</text><text style="fill: #595959">good label</text></svg>
        <span style="opacity: 0.6">faded</span></div></body>"""
    )
    assert page.evaluate(FAINT) == ["alert", "button", "label", "faded"]
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_everything_fits_and_can_be_read(browser: Browser, real_address: str, name: str, theme: str) -> None:
    page = opened(browser, real_address + name, WIDTHS[0], theme)
    title = page.locator("h1").bounding_box()
    found = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(300)  # figures follow their column
        settled(page)
        found[width] = faults(page)
    page.close()
    assert not any(found.values()), found
    assert title is not None and 20 < title["y"] < 90


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_cache_says_what_to_do(browser: Browser, empty_address: str, name: str) -> None:
    page = opened(browser, empty_address + name, 900)
    said = page.locator('[data-testid="stMain"]').inner_text()
    found = faults(page)
    page.close()
    assert ("sftknow" in said or "Start" in said) and "Traceback" not in said
    assert found == {}


def test_a_link_is_the_first_thing_a_new_server_is_asked(browser: Browser, real_cache: Path) -> None:
    with server(real_cache) as fresh:
        page = opened(browser, f"{fresh}restore?restore.k=33")
        assert page.get_by_role("dialog").count() == 0
        assert page.get_by_role("link", name="Overview").count() == 1
        assert "33" in page.locator("input[type=number]").first.input_value()
        page.close()
