"""What tests in a real browser share: a server, a browser that stays offline, and scripts that look at a page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Download, Locator, Page, TimeoutError, expect, sync_playwright

from sftknow_core.store.cache import ENVIRONMENT_VARIABLE

ROOT = Path(__file__).parents[1]
PATIENCE_MS = 60_000
"""A busy machine draws a figure in ten seconds, not in half a one."""
_SECONDS_TO_START = 60
_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
_OPTIONS += ["--disable-background-networking", "--disable-component-update"]
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
"""By how many pixels the page must be scrolled sideways."""
FAINT = """() => {
  const parsed = colour => { const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number); return [r, g, b, a] }
  const over = ([r, g, b, a], ground) => [r, g, b].map((c, i) => c * a + ground[i] * (1 - a))
  const luminance = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0)
  const painted = e => {
    const colour = getComputedStyle(e).backgroundColor
    return /^rgb/.test(colour) ? parsed(colour) : [0, 0, 0, 0]
  }
  const ground = e => e ? over(painted(e), ground(e.parentElement)) : [255, 255, 255]
  const faded = e => e ? Number(getComputedStyle(e).opacity) * faded(e.parentElement) : 1
  const bar = (e, page) => {  // a number inside its bar
    const path = e.matches('.bartext') && e.parentElement.querySelector('path'), box = e.getBoundingClientRect()
    if (!path) return page
    const style = getComputedStyle(path), place = path.getBoundingClientRect(), [r, g, b, a] = parsed(style.fill)
    const inside = (box.left + box.right) / 2 > place.left && (box.left + box.right) / 2 < place.right
      && (box.top + box.bottom) / 2 > place.top && (box.top + box.bottom) / 2 < place.bottom
    return inside ? over([r, g, b, a * Number(style.fillOpacity) * Number(style.opacity)], page) : page
  }
  const onImage = e => [...(e.closest('.js-plotly-plot') || e).querySelectorAll('.hm image')].some(image => {
    const t = e.getBoundingClientRect(), i = image.getBoundingClientRect()
    return t.left >= i.left - 1 && t.right <= i.right + 1 && t.top >= i.top - 1 && t.bottom <= i.bottom + 1
  })
  const own = e => [...e.childNodes].some(node => node.nodeType == 3 && node.textContent.trim())
  const off = ':disabled, [aria-disabled=true], [disabled], canvas, style, title, [data-testid=stSliderTickBar], '
    + '[data-testid=stSliderThumbValue]'
  const texts = document.querySelectorAll('[data-testid=stMain] *, [data-testid=stHeader] *')
  return [...texts].filter(e => own(e) && !e.closest(off) && e.getClientRects().length).filter(e => {
    const style = getComputedStyle(e), svg = e.closest('svg'), name = svg ? style.fill : style.color
    if (!/^rgb/.test(name) || style.visibility == 'hidden' || faded(e) == 0) return false
    if (svg && onImage(e)) return false
    const below = svg ? bar(e, ground(svg.parentElement)) : ground(e), [r, g, b, a] = parsed(name)
    const mixed = over([r, g, b, a * faded(e) * (svg ? Number(style.fillOpacity) : 1)], below)
    const [low, high] = [luminance(mixed), luminance(below)].sort((x, y) => x - y)
    return (high + 0.05) / (low + 0.05) < 4.5
  }).map(e => e.textContent)
}"""
"""Texts with a contrast below 4.5 (WCAG 2.2, 1.4.3) against what lies behind them; controls that are off are
exempt. Passed over: numbers on a heat map, whose cells are one image, and the slider's, which is drawn beyond the
handle that holds it, in a colour that tests/test_streamlit_config.py looks at."""


@contextmanager
def server(
    cache: Path, *, environment: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[str]:
    """A dashboard over a cache; gives its address, with a slash at the end."""
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    variables = os.environ | {ENVIRONMENT_VARIABLE: str(cache)} | dict(environment or {})
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "--server.headless", "true"], cwd=ROOT, env=variables, **silent)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=20)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(health: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_SECONDS_TO_START * 5):
        assert process.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(health, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{health} did not answer within {_SECONDS_TO_START} s")


@contextmanager
def launched(chromium: str) -> Iterator[Browser]:
    """A headless browser."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=_OPTIONS)
        yield started
        started.close()


def opened(browser: Browser, url: str, width: int = 1440, theme: str = "light") -> Page:
    """A new window that has come to rest."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    settled(page)
    return page


def settled(page: Page) -> None:
    """A title is there, and nothing is being computed or drawn any more."""
    expect(page.locator("h1")).to_be_visible()
    for _ in range(2):  # a page that was sent through app.py first runs twice
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(page.locator('[data-stale="true"]')).to_have_count(0)
        expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0)
        page.wait_for_timeout(200)
    for chart in page.locator('[data-testid="stPlotlyChart"]').all():
        expect(chart.locator(".main-svg").first).to_be_attached()


def at_rest(page: Page, button: Locator) -> None:
    """The button has stood still for half a second: what opens above it has taken its room."""
    places = []
    for _ in range(60):
        places.append(button.bounding_box())
        if len(places) > 2 and places[-1] == places[-2] == places[-3]:
            return
        page.wait_for_timeout(250)
    raise AssertionError(f"the button kept moving: {places[-3:]}")


def downloaded(page: Page, button: Locator) -> Download:
    """What the button downloads; a click while the page redraws is lost, for a person too, who clicks again."""
    at_rest(page, button)
    try:
        with page.expect_download(timeout=20_000) as download:
            button.click()
    except TimeoutError:
        with page.expect_download() as download:
            button.click()
    return download.value


def faults(page: Page) -> dict[str, object]:
    """What a reader would complain about; empty where all fits and can be read."""
    found = {
        "scrolls sideways": max(0, page.evaluate(TOO_WIDE)),
        "clipped": page.evaluate(CLIPPED),
        "outside its figure": page.evaluate(OUTSIDE),
        "faint": page.evaluate(FAINT),
    }
    return {name: value for name, value in found.items() if value}


def drag_slider(page: Page, k: float) -> None:
    """The handle of the page's slider for k to this value, by mouse."""
    slider = page.locator(".st-key-restore-slider")
    slider.scroll_into_view_if_needed()
    at_rest(page, slider)
    rail, handle = slider.locator("[role=group] > [data-orientation]"), slider.locator("input[type=range]")
    of = rail.bounding_box()
    assert of is not None
    left, width, middle = of["x"], of["width"], of["y"] + of["height"] / 2
    page.mouse.move(left + width * float(handle.input_value()) / 100, middle)
    page.mouse.down()
    page.mouse.move(left + width * k / 100, middle, steps=4)
    assert float(handle.input_value()) == k, f"the slider stands at {handle.input_value()}"
    page.mouse.up()
