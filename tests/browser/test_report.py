"""The static report opened from the disk with the network off: the slider moves, and shows the store's numbers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_chain import make_chains
from playwright.sync_api import Browser, Page, expect

from sftknow_core.present.html.run import render
from sftknow_core.results import Chain
from sftknow_core.results.measured import shown_state
from sftknow_core.store.cache import Cache
from sftknow_core.update.spec import RestoreSpec

pytestmark = pytest.mark.browser
OUTSIDE = """() => [...document.querySelectorAll('.plot')].flatMap(chart => {
  const box = chart.getBoundingClientRect()
  return [...chart.querySelectorAll('text')].filter(text => {
    const t = text.getBoundingClientRect()
    const beside = t.left < box.left - 1 || t.right > box.right + 1
    return t.width && (beside || t.top < box.top - 1 || t.bottom > box.bottom + 1)
  }).map(text => text.textContent)
})"""
"""Labels of figures that are cut."""
CLIPPED = """() => [...document.querySelectorAll('main *')].filter(e => !e.closest('.plot, .scroll')
  && !e.childElementCount && e.textContent.trim() && e.clientWidth && e.scrollWidth > e.clientWidth + 1
  && getComputedStyle(e).overflow != 'visible').map(e => e.textContent)"""
FAINT = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number).slice(0, 3)
  const luminance = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0)
  const ground = luminance(channels(getComputedStyle(document.body).backgroundColor))
  const texts = [...document.querySelectorAll('main *, .plot text')]
  return texts.filter(e => !e.childElementCount && e.textContent.trim() && e.getClientRects().length).filter(e => {
    const style = getComputedStyle(e), colour = e.closest('svg') ? style.fill : style.color
    if (!/\\d/.test(colour)) return false
    const [low, high] = [luminance(channels(colour)), ground].sort((x, y) => x - y)
    return (high + 0.05) / (low + 0.05) < 4.5
  }).map(e => e.textContent)
}"""
"""Texts with a contrast below 4.5 (WCAG 2.2, 1.4.3) against the page."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cache, str, Path]]:
    """A cache, a chain and its report on the disk."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="sftknow-", dir=memory if memory.is_dir() else None))
    run_id = make_chains(root, per_level=5, ks=(5, 20, 60))[0]
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(Cache(root), run_id))
    yield Cache(root), run_id, file
    shutil.rmtree(root, ignore_errors=True)


class Opened:
    """A report in a browser without network, and what it complained about or asked for."""

    def __init__(self, browser: Browser, file: Path, width: int = 1440, theme: str = "light") -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            offline=True,  # type: ignore[arg-type]
        )
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        expect(self.page.locator('[data-figure="chains-zero-shot"] .main-svg').first).to_be_visible(
            timeout=20_000
        )

    def slide(self, step: int) -> None:
        """By the keyboard, as a person would."""
        self.page.locator("#k").focus()
        self.page.keyboard.press("Home")
        for _ in range(step):
            self.page.keyboard.press("ArrowRight")

    def values(self) -> list[str]:
        """The accuracies at the current k."""
        return self.page.locator('[data-numbers="accuracy"] .parts > div:last-child .value').all_inner_texts()

    def close(self) -> None:
        assert self.complaints == []
        assert [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        self.page.context.close()


def stored(cache: Cache, run_id: str, split: str, k: float) -> list[str]:
    rows = Chain(cache, run_id).measured(RestoreSpec(k_percent="0"))  # type: ignore[arg-type]
    rows = rows[(rows["split"] == split) & rows["level"].isna() & (rows["k_percent"] == k)]
    return [f"{100 * accuracy:.1f}%" for accuracy in rows["accuracy"]]


def test_the_slider_shows_the_numbers_of_the_store(browser: Browser, made: tuple[Cache, str, Path]) -> None:
    cache, run_id, file = made
    opened = Opened(browser, file)
    seen = []
    expect(opened.page.locator("#split-words")).to_contain_text("Dev questions")
    expect(opened.page.get_by_text("Viewing test at every k makes test accuracy optimistic")).to_be_visible()
    for split in ("dev", "test"):
        opened.page.get_by_label(split, exact=True).check()
        for step, k in enumerate((0, 5, 20, 60, 100)):
            opened.slide(step)
            expect(opened.page.locator("#k-now")).to_contain_text(f"k = {k}%")
            assert opened.values() == stored(cache, run_id, split, k)
            seen.append(tuple(opened.values()))
    assert len(set(seen)) > 4
    expect(opened.page.locator("#split-words")).to_contain_text("optimistically biased")
    opened.close()


def test_the_slider_moves_marks_levels_and_flipped_questions(
    browser: Browser, made: tuple[Cache, str, Path]
) -> None:
    opened = Opened(browser, made[2])
    opened.page.get_by_label("test", exact=True).check()

    def looks() -> list[str]:
        mark = opened.page.locator('[data-figure="measured"] .shapelayer path').first.get_attribute("d")
        texts = [opened.page.locator(f'[data-{what}="{name}"]').first.inner_text() for what, name in (
            ("table", "flips"), ("list", "flips"), ("table", "shifted"))]  # fmt: skip
        points = opened.page.locator('[data-figure="levels"] .scatterlayer').first.inner_html()
        return [str(mark), *texts, points]

    opened.slide(2)
    before = looks()
    opened.slide(3)
    after = looks()
    assert all(one != other for one, other in zip(before, after, strict=True))
    rows = Chain(made[0], made[1]).measured(RestoreSpec(k_percent="0"))  # type: ignore[arg-type]
    shown = shown_state(rows, 60, "test")
    assert shown is not None
    for question in Chain(made[0], made[1]).flipped(shown, "test")["question"]:
        assert question in after[1]
    opened.slide(0)
    expect(opened.page.locator('[data-list="flips"]')).to_contain_text("k = 0 is the tuned model")
    opened.close()


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (900, "dark")])
def test_everything_fits_and_can_be_read(
    browser: Browser, made: tuple[Cache, str, Path], width: int, theme: str
) -> None:
    opened = Opened(browser, made[2], width, theme)
    for details in opened.page.locator("details").all():
        details.evaluate("e => { e.open = true }")
    expect(opened.page.locator('[data-table="chains-zero-shot"] table')).to_be_visible()
    expect(opened.page.locator('[data-figure="klevels"] .main-svg').first).to_be_visible(timeout=20_000)
    opened.page.wait_for_timeout(300)
    assert opened.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert opened.page.evaluate(CLIPPED) == []
    assert opened.page.evaluate(OUTSIDE) == []
    assert opened.page.evaluate(FAINT) == []
    opened.close()


def test_a_figure_can_be_saved(browser: Browser, made: tuple[Cache, str, Path]) -> None:
    opened = Opened(browser, made[2])
    figure = opened.page.locator('[data-figure="levels"]')
    figure.hover()
    with opened.page.expect_download() as download:
        figure.locator(".modebar-btn").first.click()
    assert download.value.suggested_filename.startswith("levels.dev.")
    assert "<svg" in download.value.path().read_text()[:200]
    opened.close()
