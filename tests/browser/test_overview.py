"""The overview in a real browser, over a made-up cache: what a reader sees and does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser_kit import downloaded, opened, settled
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.browser


def test_figures_take_the_colours_of_the_theme(browser: Browser, address: str) -> None:
    for theme, teal in (("light", "rgb(15, 118, 110)"), ("dark", "rgb(45, 212, 191)")):
        page = opened(browser, address, theme=theme)
        page.wait_for_selector(f'.js-plotly-plot path.js-line[style*="{teal}"]', state="attached")
        page.close()


def test_switching_the_run_changes_the_address_and_the_link_leads_back(
    browser: Browser, address: str, made_up: tuple[Path, list[str]]
) -> None:
    page = opened(browser, f"{address}?run={made_up[1][0]}")
    page.get_by_role("combobox", name=re.compile("Fine-tuning run")).click()
    page.get_by_role("option", name="demo · level 0 · N = 1,920 · seed 0").click()
    expect(page).to_have_url(f"{address}?run={made_up[1][1]}")
    expect(page.get_by_text("on 1,920 other facts of mastery level 0")).to_be_visible()
    again = opened(browser, page.url)
    expect(page.get_by_test_id("stMetricValue")).to_have_text(
        again.get_by_test_id("stMetricValue").all_inner_texts()
    )
    page.close()
    again.close()


def test_the_bar_at_the_top_keeps_the_chosen_run(
    browser: Browser, address: str, made_up: tuple[Path, list[str]]
) -> None:
    """Pages without the list of chains in between, too; those that have it put the run back in the address."""
    page, older = opened(browser, f"{address}?run={made_up[1][0]}"), "demo · level 0 · N = 240 · seed 0"
    for name in ("Accuracy", "Fine-tune", "Token shifts", "Facts and mastery", "Overview"):
        page.get_by_test_id("stTopNavLink").get_by_text(name, exact=True).click()
        expect(page.get_by_test_id("stTopNavLink").and_(page.locator("[aria-current=page]"))).to_have_text(
            re.compile(name)
        )
        settled(page)
        if name not in ("Fine-tune", "Facts and mastery"):
            expect(page).to_have_url(re.compile(f"run={made_up[1][0]}"))
            expect(page.get_by_role("combobox", name=re.compile("Fine-tuning run"))).to_have_value(older)
    page.close()


def test_nothing_comes_from_elsewhere(browser: Browser, address: str) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    settled(page)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:", "ws://127.0.0.1"))] == []
    page.close()


def test_the_table_of_a_figure_can_be_opened_and_downloaded(browser: Browser, address: str) -> None:
    page = opened(browser, address)
    page.get_by_text("Data", exact=True).first.click()
    expect(page.locator('[data-testid="stDataFrame"] canvas').first).to_be_visible()
    button = page.get_by_role("button", name="Download CSV").first
    download = downloaded(page, button)
    assert download.suggested_filename == "overview.curve.csv"
    lines = download.path().read_text().splitlines()
    assert lines[0].startswith("domain,state,k_percent,accuracy,low,high,n")
    assert len(lines) == 1 + 2 * 6  # by domain: tuned, three k, hybrid, base, all after five examples
    page.close()
