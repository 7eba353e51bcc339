"""How long a reader of the dashboard waits, in a real browser.

    python benchmarks/dashboard.py [--repeats 10] [--chromium PATH]

Times are taken inside the page: from the click, or the release of the mouse, to the frame in which the new numbers
stand there. A chain of the shipped model with 510 questions a state is made first, and made-up chains with 22,000
questions for the browser of questions. Everything is then measured once more while a job writes into the same cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser_kit import drag_slider, launched, opened, server, settled  # noqa: E402 - tests/ is no package
from fake_chain import make_chains  # noqa: E402
from playwright.sync_api import Browser, Page  # noqa: E402

from sftknow_core.results import chains  # noqa: E402
from sftknow_core.serve import jobs  # noqa: E402
from sftknow_core.serve.job_specs import ChainJob  # noqa: E402
from sftknow_core.store.cache import Cache  # noqa: E402

CHAIN = "run --base demo --level 2 --n 240 --seed 0 --k 5,20,40,60 --questions 34"
MEANWHILE = ChainJob(base="demo", level="mixed", n=1920, ks=("5", "20", "40", "60"), questions=60)
_SEEDS = itertools.count(100)
"""Of those jobs, so that each has something to do."""
NEW_KS = (2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 32.5, 37.5, 42.5, 47.5, 52.5, 57.5)
PAGES = {
    "Facts and mastery": "What the base model knows",
    "Fine-tune": "Fine-tune a model and watch it",
    "Accuracy": "Accuracy: what is answered rightly, before and after",
    "Token shifts": "Token shifts, question by question",
    "Parameters": "How much really changed",
    "Restore": "Put part of the update back",
    "Studies": "Studies: does it hold for this model?",
    "Ask": "Ask base, tuned and restored",
    "Overview": "What fine-tuning took, and what comes back",
}
"""Name in the top bar -> the title by which the page is known to be there."""
_UNTIL = """condition => new Promise((done, failed) => {
  const started = window.__since
  const holds = new Function('return ' + condition)
  const look = () => {
    if (holds()) done(performance.now() - started)
    else if (performance.now() - started > 60000) failed('waited 60 s for ' + condition)
    else requestAnimationFrame(look)
  }
  look()
})"""
_NOTE = """kind => document.addEventListener(
  kind, () => { window.__since = performance.now() }, {once: true, capture: true})"""
_QUIET = (
    "document.querySelector('[data-testid=stApp]').dataset.testScriptState == 'notRunning'"
    " && !document.querySelector('[data-stale=true]') && !document.querySelector('[data-testid=stSkeleton]')"
)
_TEXT = "document.querySelector('[data-testid=stMain]').textContent"
"""With the rows of the list, which is drawn on a canvas and has them beside as text for screen readers."""
_ORDERS = ("question", "KL", "gold p, tuned")
"""Each puts other questions on top."""
Times = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--per-level", type=int, default=1467, help="of the browser of questions, in each group"
    )
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, launched(args.chromium) as browser:
        real, large = Path(folder) / "real", Path(folder) / "large"
        _sftknow(CHAIN, real)
        real_run = str(chains.survey(Cache(real)).finished["run_id"].iloc[0])
        (large_run,) = make_chains(
            large, [("2", 1920, 0)], per_level=args.per_level, ks=(1, 3, 5, 10, 20, 40, 60)
        )
        times: Times = {}
        for name in ("alone", "a job writing"):
            alone = name == "alone"
            with _meanwhile(real, not alone):
                _page_switches(browser, real, name, times)
            with server(real) as at, _meanwhile(real, not alone):
                ks = NEW_KS if alone else tuple(k + 1 for k in NEW_KS)
                _slider(browser, f"{at}restore?run={real_run}&restore.k=20", ks, name, times)
            with server(large) as at, _meanwhile(large, not alone):
                _questions(browser, f"{at}token_shifts?run={large_run}", args.repeats, name, times)
            _print(times)


def _print(times: Times) -> None:
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, medians in seconds")
    print("| what | while | median | from | to | n |\n|---|---|---|---|---|---|")
    for label, found in times.items():
        what, _, while_ = label.partition("|")
        seconds = [one / 1000 for one in found]
        middle = statistics.median(seconds)
        print(
            f"| {what} | {while_} | {middle:.2f} | {min(seconds):.2f} | {max(seconds):.2f} | {len(seconds)} |"
        )


def _page_switches(browser: Browser, cache: Path, name: str, times: Times) -> None:
    """Around all pages, on two new servers: the first round, and a second one."""
    for _ in range(2):
        with server(cache) as at:
            page = opened(browser, at)
            for which in ("page switch, first visit", "page switch, again"):
                for label, title in PAGES.items():
                    there = (
                        f"document.querySelector('h1')?.innerText.trim() == {json.dumps(title)} && {_QUIET}"
                    )
                    link = page.get_by_test_id("stTopNavLink").filter(has_text=label).first
                    times.setdefault(f"{which}|{name}", []).append(_timed(page, link.click, there))
                    settled(page)
            page.close()


def _slider(browser: Browser, at: str, ks: tuple[float, ...], name: str, times: Times) -> None:
    """k that nobody measured, then the same again, when they are measured."""
    page = opened(browser, at)
    for which in ("unmeasured k, 510 questions", "measured k, first visit", "measured k, again"):
        if which == "measured k, first visit":  # by another reader
            page.close()
            page = opened(browser, at)
        for k in ks:
            shown = (
                f"document.querySelector('.st-key-restore-cards')?.innerText.includes('k = {k:g}%')"
                " && !document.querySelector('.st-key-restore-cards [data-stale=true]')"
            )
            taken = _timed(page, partial(drag_slider, page, k), shown, release=True)
            times.setdefault(f"{which}|{name}", []).append(taken)
    page.close()


def _questions(browser: Browser, at: str, repeats: int, name: str, times: Times) -> None:
    """Filters and orders of the browser of questions, each leading to another list."""
    page = opened(browser, at)
    quiet = f"{_TEXT} != window.__text && {_QUIET}"
    chips = page.locator(".st-key-token_shifts-chips button")

    def measure(what: str, act: Callable[[], None]) -> None:
        page.wait_for_timeout(1_000)  # what the change before still draws is not the answer to this one
        page.evaluate(f"window.__text = {_TEXT}")
        times.setdefault(f"{what}|{name}", []).append(_timed(page, act, quiet))

    for number in range(repeats):
        measure("filter 22,000 questions", chips.nth(1 + number % (chips.count() - 1)).click)
    chips.first.click()
    page.wait_for_timeout(3_000)
    for number in range(repeats):
        order = _ORDERS[number % len(_ORDERS)]
        page.wait_for_timeout(1_000)
        page.locator(".st-key-token_shifts-sort").get_by_role("combobox").click()
        measure("sort 22,000 questions", page.get_by_role("option", name=order, exact=True).click)
    page.close()


def _timed(page: Page, act: Callable[[], None], condition: str, *, release: bool = False) -> float:
    """Milliseconds from the click, or the release of the mouse, to the first frame in which the condition holds."""
    page.evaluate(_NOTE, "pointerup" if release else "pointerdown")
    act()
    return float(page.evaluate(_UNTIL, condition))


@contextmanager
def _meanwhile(cache: Path, wanted: bool) -> Iterator[None]:
    """One job after the other that writes into the cache, until the block ends."""
    over = threading.Event()

    def work() -> None:
        at = Cache(cache)
        while not over.is_set():
            job = jobs.start(at, replace(MEANWHILE, seed=next(_SEEDS)))
            while jobs.look(at, job.job_id).state is jobs.JobState.RUNNING:
                if over.wait(0.5):
                    jobs.stop(at, job.job_id)
                    break
            while jobs.look(at, job.job_id).state is jobs.JobState.RUNNING:
                time.sleep(0.1)

    worker = threading.Thread(target=work)
    if wanted:
        worker.start()
    try:
        yield
    finally:
        over.set()
        if wanted:
            worker.join()


def _sftknow(command: str, cache: Path) -> None:
    line = [sys.executable, "-m", "sftknow_core.cli", *command.split(), "--cache", str(cache)]
    quiet = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(line, cwd=ROOT, env=quiet, check=True, capture_output=True)


if __name__ == "__main__":
    main()
