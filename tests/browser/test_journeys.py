"""What people do with the dashboard, in a real browser, on a real server and with the shipped model."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from browser_kit import ROOT, drag_slider, opened, server, settled
from playwright.sync_api import Browser, Page, expect

from sftknow_core.results import Chain, Questions, chains
from sftknow_core.store.cache import READ_ONLY_VARIABLE, Cache
from sftknow_core.update.spec import RestoreSpec

pytestmark = pytest.mark.browser
CARDS = ".st-key-restore-cards"
ACTS = re.compile(
    r"^(Start|Stop|Delete|Dismiss|Free disk|Evaluate|Create recipe|Save on server|Ask base|Sample again|Try again|"
    r"Cancel)\b"
)
"""Names of the buttons that start, write or delete something, on any page."""
SMOOTH_LOSS = "figure => Array.from(figure.calcdata.at(-1), point => point.y)"


def only_chain(root: Path) -> str:
    (run_id,) = chains.survey(Cache(root)).finished["run_id"]
    return str(run_id)


def engines_of(root: Path) -> list[psutil.Process]:
    """Engines over this cache that are alive."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "sftknow_core.serve.engine" in line and str(root) in line:
            found.append(process)
    return found


def shows_k(page: Page, k: float) -> None:
    expect(page.locator(CARDS).get_by_text(f"k = {k:g}%").first).to_be_visible(timeout=120_000)


def test_browse_filter_open_a_question_and_share_its_link(
    browser: Browser, real_address: str, real_cache: Path
) -> None:
    asked = Questions(Cache(real_cache), only_chain(real_cache)).table
    fact = asked.questions.slice(len(asked.questions) - 1).to_pylist()[0]
    page = opened(browser, f"{real_address}token_shifts")
    page.get_by_label("Search", exact=True).first.fill(str(fact["question"])[:-1])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=str(fact["question"])).first).to_be_visible()
    settled(page)
    expect(page).to_have_url(re.compile("token_shifts.search="))
    shown = page.locator(".st-key-token_shifts_right").inner_text()
    assert str(fact["gold"]) in shown
    again = opened(browser, page.url)
    assert again.locator(".st-key-token_shifts_right").inner_text() == shown
    page.close()
    again.close()


def test_a_bad_link_is_said_and_the_page_still_shows_something(browser: Browser, real_address: str) -> None:
    page = opened(browser, f"{real_address}restore?run=nothing&restore.k=400")
    expect(page.get_by_text('Run "nothing" not found')).to_be_visible()
    expect(page.get_by_text("k = '400' isn't between 0 and 100")).to_be_visible()
    shows_k(page, 20)
    page.close()


def test_slide_k_to_a_measured_and_to_an_unmeasured_value(
    browser: Browser, real_address: str, real_cache: Path
) -> None:
    page = opened(browser, f"{real_address}restore?restore.k=20&restore.questions=10")
    shows_k(page, 20)
    cards = page.locator(CARDS).inner_text()
    drag_slider(page, 5)
    shows_k(page, 5)
    expect(page).to_have_url(re.compile(r"restore\.k=5(\.0)?(&|$)"))
    assert page.locator(CARDS).inner_text() != cards
    drag_slider(page, 27.5)
    shows_k(page, 27.5)
    settled(page)
    run_id = only_chain(real_cache)
    rows = Chain(Cache(real_cache), run_id).measured(RestoreSpec(k_percent="0"), _set_of(page, real_cache))
    now = rows[(rows["k_percent"] == 27.5) & (rows["split"] == "dev") & rows["level"].isna()]
    assert len(now) == 1
    assert f"{100 * now['accuracy'].item():.1f}" in page.locator(CARDS).inner_text()
    page.close()


def _set_of(page: Page, root: Path) -> str | None:

    sets = Chain(Cache(root), only_chain(root)).question_sets()
    return str(sets.loc[(sets["n_level"] == 10) & ~sets["own"], "question_set"].item())


def test_a_killed_engine_is_said_and_can_be_started_again(
    browser: Browser, real_address: str, real_cache: Path
) -> None:
    page = opened(browser, f"{real_address}restore?restore.k=20")
    shows_k(page, 20)
    (engine,) = engines_of(real_cache)
    engine.send_signal(signal.SIGKILL)
    engine.wait(20)
    page.reload()
    expect(page.get_by_text("killed by signal 9").first).to_be_visible()
    page.get_by_role("button", name="Restart evaluation worker").click()
    expect(page.get_by_text("killed by signal 9")).to_have_count(0)
    drag_slider(page, 33.5)
    shows_k(page, 33.5)
    (again,) = engines_of(real_cache)
    assert again.pid != engine.pid
    page.close()


def job_over(root: Path, line: str) -> subprocess.Popen[bytes]:
    """A pipeline of its own beside the dashboard."""
    command = [sys.executable, "-m", "sftknow_core.cli", *line.split(), "--cache", str(root)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_two_browsers_and_a_job_never_mix(browser: Browser, real_address: str, real_cache: Path) -> None:
    first_run = only_chain(real_cache)
    assert job_over(real_cache, "run --base demo --level 0 --n 60 --k 5,20 --questions 12").wait(300) == 0
    found = chains.survey(Cache(real_cache)).finished["run_id"]
    (second_run,) = set(found) - {first_run}
    job = job_over(real_cache, "run --base demo --level 0 --n 1920 --k 5,10,20,40,60 --questions 60")
    try:
        first = opened(browser, f"{real_address}restore?run={first_run}&restore.k=20")
        second = opened(browser, f"{real_address}restore?run={second_run}&restore.k=20")
        shows_k(second, 20)
        cards: dict[int, str] = {}
        for k in (5, 40, 5, 40):
            drag_slider(first, k)
            drag_slider(second, 20 if k == 40 else 5)
            shows_k(first, k)
            assert first.locator(CARDS).inner_text() == cards.setdefault(k, first.locator(CARDS).inner_text())
            assert second.locator(CARDS).inner_text() != cards[k]
        assert job.poll() is None, "the job was over before the browsers were"
        first.close()
        second.close()
    finally:
        job.terminate()
        job.wait(60)


def test_start_a_fine_tuning_see_its_loss_fall_and_its_results(
    browser: Browser, real_address: str, real_cache: Path
) -> None:
    before = set(chains.survey(Cache(real_cache)).finished["run_id"])
    form = "fine_tune.level=4&fine_tune.n=960&fine_tune.k=20&fine_tune.questions=5&fine_tune.seed=1"
    page = opened(browser, f"{real_address}fine_tune?{form}")
    page.get_by_role("button", name="Start", exact=True).click()
    losses = page.get_by_text(re.compile(r"Training loss [\d.]+ nats/token"))
    expect(losses.first).to_be_visible(timeout=120_000)
    expect(losses.first).not_to_have_text(losses.first.inner_text(), timeout=120_000)  # it moves
    expect(page.get_by_text("✓ done").first).to_be_visible(timeout=240_000)
    settled(page)
    drawn = page.locator(".js-plotly-plot").first.evaluate(SMOOTH_LOSS)
    assert (
        drawn[-1] < 0.5 * drawn[0]
    )  # and falls: seen whole, since a busy page may show the first steps late
    page.get_by_role("link", name="View results").first.click()
    expect(page.get_by_role("heading", name="Knowledge lost and recovered")).to_be_visible()
    (new,) = set(chains.survey(Cache(real_cache)).finished["run_id"]) - before
    expect(page).to_have_url(re.compile(new))
    page.close()


@pytest.fixture
def shown_address(real_cache: Path) -> Iterator[str]:
    """The same cache in show mode."""
    with server(real_cache, environment={READ_ONLY_VARIABLE: "1"}) as found:
        yield found


def test_show_mode_starts_and_writes_nothing(browser: Browser, shown_address: str, real_cache: Path) -> None:
    before = _state_of(real_cache)
    engines = len(engines_of(real_cache))
    for name in (
        "",
        "facts",
        "fine_tune",
        "accuracy",
        "token_shifts",
        "parameters",
        "restore",
        "ask",
        "study",
    ):
        page = opened(browser, shown_address + name)
        expect(page.get_by_text(re.compile("read-only", re.IGNORECASE)).first).to_be_visible()
        buttons = page.get_by_role("button", name=ACTS)
        assert [one.inner_text() for one in buttons.all() if not one.is_disabled()] == []
        page.close()
    assert _state_of(real_cache) == before
    assert len(engines_of(real_cache)) == engines


def _state_of(root: Path) -> dict[str, tuple[int, int]]:
    """Everything in the cache, with size and time of its last change; what running engines log is passed over."""
    files = (path for path in root.rglob("*") if path.is_file() and "logs" not in path.parts)
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}
