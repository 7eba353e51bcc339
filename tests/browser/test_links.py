"""An address in a real browser shows the same again: after a reload, to others, and on the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import drag_slider, opened, server, settled
from playwright.sync_api import Browser, Page, expect

from sftknow_core.store.cache import READ_ONLY_VARIABLE

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shown_address(made_up: tuple[Path, list[str]]) -> Iterator[str]:
    """A server that only shows: none of these tests needs an engine."""
    with server(made_up[0], environment={READ_ONLY_VARIABLE: "1"}) as found:
        yield found


def stands_at(page: Page, k: float) -> None:
    """The field for k and the address say so."""
    settled(page)
    expect(page.locator("input[type=number]").first).to_have_value(f"{k:g}")
    expect(page).to_have_url(re.compile(rf"\.k={k:g}(\.0)?(&|$)"))


def test_no_weights_at_all_can_be_shared_too(browser: Browser, shown_address: str) -> None:
    page = opened(browser, f"{shown_address}restore?restore.k=20")
    drag_slider(page, 0)
    stands_at(page, 0)
    page.reload()
    stands_at(page, 0)
    page.close()


def test_a_k_from_another_page_is_in_the_address(browser: Browser, shown_address: str) -> None:
    page = opened(browser, f"{shown_address}restore?restore.k=37")
    stands_at(page, 37)
    page.get_by_role("link", name="Ask").click()
    expect(page.get_by_label("Prompt", exact=True)).to_be_visible()
    stands_at(page, 37)
    again = opened(browser, page.url)
    stands_at(again, 37)
    page.go_back()
    settled(page)
    assert page.locator("input[type=number]").first.input_value() == "37"
    again.close()
    page.close()
