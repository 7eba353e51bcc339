"""The overview in a real browser, over a made-up cache: what a reader sees and does."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_chain import leave_chain, make_chains
from playwright.sync_api import Browser, Download, Locator, Page, TimeoutError, expect, sync_playwright

from sftknow_core.store.cache import ENVIRONMENT_VARIABLE

expect.set_options(timeout=60_000)  # a busy machine draws a figure in ten seconds, not in half a one
pytestmark = pytest.mark.browser
ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 60
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OPTIONS += ["--disable-background-networking", "--disable-component-update"]
CLIPPED = """() => [...document.querySelectorAll('[data-testid=stMain] *')].filter(e => {
  const style = getComputedStyle(e)
  return !e.childElementCount && e.textContent.trim() && e.clientWidth && e.scrollWidth > e.clientWidth + 1
    && (style.overflow != 'visible' || style.textOverflow == 'ellipsis')
}).map(e => e.textContent)"""
"""Texts that do not fit into their boxes."""
OUTSIDE = """() => [...document.querySelectorAll('[data-testid=stPlotlyChart]')].flatMap(chart => {
  const box = chart.getBoundingClientRect()
  return [...chart.querySelectorAll('text')].filter(text => {
    const t = text.getBoundingClientRect()
    const beside = t.left < box.left - 1 || t.right > box.right + 1
    return t.width && (beside || t.top < box.top - 1 || t.bottom > box.bottom + 1)
  }).map(text => text.textContent)
})"""
"""Labels of figures that are cut."""
TOO_WIDE = (
    "() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth }"
)
FAINT = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number)
  const luminance = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0)
  const ground = channels(getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor).slice(0, 3)
  const faded = e => e ? Number(getComputedStyle(e).opacity) * faded(e.parentElement) : 1
  const texts = document.querySelectorAll('h1, h2, h3, [data-testid=stMain] p, [data-testid=stMetricValue]')
  return [...texts].filter(e => e.textContent.trim() && !e.closest('[data-testid=stAlert], input')).filter(e => {
    const [r, g, b] = channels(getComputedStyle(e).color), share = faded(e)
    const mixed = [r, g, b].map((c, i) => c * share + ground[i] * (1 - share))
    const [low, high] = [luminance(mixed), luminance(ground)].sort((x, y) => x - y)
    return (high + 0.05) / (low + 0.05) < 4.5
  }).map(e => e.textContent)
}"""
"""Texts with a contrast below 4.5 (WCAG 2.2, 1.4.3) against the page."""


@pytest.fixture(scope="module")
def cache() -> Iterator[tuple[Path, list[str]]]:
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="sftknow-", dir=memory if memory.is_dir() else None))
    run_ids = make_chains(root, [("0", 240, 0), ("0", 1920, 0), ("mixed", 1920, 0)], per_level=6)
    leave_chain(root, "3", RuntimeError("the disk is full"))
    yield root, run_ids
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def address(cache: tuple[Path, list[str]]) -> Iterator[str]:
    """Where a server shows the cache."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    environment = os.environ | {ENVIRONMENT_VARIABLE: str(cache[0])}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*command, "--server.headless", "true"], cwd=ROOT, env=environment, **silent)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_for(health: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(SECONDS_TO_START * 5):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(health, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{health} did not answer within {SECONDS_TO_START} s")


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium_path, args=OPTIONS)
        yield started
        started.close()


def opened(browser: Browser, url: str, width: int = 1440, theme: str = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page.set_default_timeout(60_000)
    page.goto(url)
    settled(page)
    return page


def settled(page: Page) -> None:
    """The last section is there, and nothing is being computed or drawn any more."""
    expect(page.get_by_text("Not finished")).to_be_visible(timeout=60_000)
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    expect(page.locator('[data-stale="true"]')).to_have_count(0)
    expect(page.locator(".js-plotly-plot .xtick")).not_to_have_count(0)


def at_rest(page: Page, button: Locator) -> None:
    """The button has stood still for half a second: what opens above it has taken its room."""
    places = []
    for _ in range(60):
        places.append(button.bounding_box())
        if len(places) > 2 and places[-1] == places[-2] == places[-3]:
            return
        page.wait_for_timeout(250)
    raise AssertionError(f"the button kept moving: {places[-3:]}")


def clicked(page: Page, button: Locator) -> Download:
    """What the button downloads; a click while the page redraws is lost, for a person too, who clicks again."""
    try:
        with page.expect_download(timeout=20_000) as download:
            button.click()
    except TimeoutError:
        with page.expect_download() as download:
            button.click()
    return download.value


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (900, "dark")])
def test_everything_fits_and_can_be_read(browser: Browser, address: str, width: int, theme: str) -> None:
    page = opened(browser, address, width, theme)
    assert page.evaluate(TOO_WIDE) <= 0
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(FAINT) == []
    title = page.locator("h1").bounding_box()
    assert title is not None and 20 < title["y"] < 80
    page.close()


def test_figures_take_the_colours_of_the_theme(browser: Browser, address: str) -> None:
    for theme, teal in (("light", "rgb(15, 118, 110)"), ("dark", "rgb(45, 212, 191)")):
        page = opened(browser, address, theme=theme)
        page.wait_for_selector(f'.js-plotly-plot path.js-line[style*="{teal}"]', state="attached")
        page.close()


def test_switching_the_run_changes_the_address_and_the_link_leads_back(
    browser: Browser, address: str, cache: tuple[Path, list[str]]
) -> None:
    page = opened(browser, f"{address}?run={cache[1][0]}")
    page.get_by_role("combobox", name=re.compile("Fine-tuning run")).click()
    page.get_by_role("option", name="demo · level 0 · N = 1,920 · seed 0").click()
    expect(page).to_have_url(f"{address}?run={cache[1][1]}")
    expect(page.get_by_text("on 1,920 other facts of mastery level 0")).to_be_visible()
    again = opened(browser, page.url)
    expect(page.get_by_test_id("stMetricValue")).to_have_text(
        again.get_by_test_id("stMetricValue").all_inner_texts()
    )
    page.close()
    again.close()


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
    page.get_by_text("The numbers of this figure").first.click()
    expect(page.locator('[data-testid="stDataFrame"] canvas').first).to_be_visible()
    button = page.get_by_role("button", name="Download CSV").first
    at_rest(page, button)
    download = clicked(page, button)
    assert download.suggested_filename == "overview.curve.csv"
    lines = download.path().read_text().splitlines()
    assert lines[0].startswith("domain,state,k_percent,accuracy,low,high,n")
    assert len(lines) == 1 + 2 * 7
    page.close()
