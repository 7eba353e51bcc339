"""A finished chain -> one HTML file that opens anywhere, offline: figures, slider, questions, definitions.

    cache --html_data, html_tokens--> JSON --html/report.html.j2--> page with plotly.js inside, once

Nothing in it can load or send anything: its policy lets only its own two scripts run, which are named by their
hashes. What models said goes in as JSON and becomes text nodes, never markup. The same cache gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sftknow_core import __version__
from sftknow_core.present.charts.palette import THEMES
from sftknow_core.present.html import run_data
from sftknow_core.present.html.html_page import page_of
from sftknow_core.present.html.page import bullets, cards
from sftknow_core.present.html.run import add_tokens
from sftknow_core.present.html.run_data import Shown, Slider
from sftknow_core.present.text import restore, story, tokens
from sftknow_core.results import chains, restored
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder


def render(cache: Cache, run_id: str) -> str:
    """The report of a finished chain. Raises SpecError when the run is none, CacheError when a part of it is gone."""
    details = chains.chain_details(cache, run_id)
    rows = restored.measured(cache, run_id, run_data.spec_of(details))
    slider, shown = run_data.slider_of(cache, details, rows), Shown()
    label = run_data.add_chains(shown, cache, run_id)
    run_data.add_answers(shown, cache, run_id, details, slider, rows)
    no_weights = run_data.first_or_reason(lambda: run_data.add_weights(shown, cache, details, slider))
    opened, no_tokens = add_tokens(shown, cache, run_id, slider)
    manifest = RunFolder(cache, run_id).manifest()
    page = {
        "label": label,
        "run_id": run_id,
        "version": __version__,
        "finished_at": manifest.finished_at if manifest else "",
        "numbers": cards(story.key_numbers(details)),
        "how_measured": story.how_measured(details),
        "mean_shift": story.mean_shift(details),
        "rule": details["chosen"]["rule"],
        "definitions": _definitions(),
        "opened": opened,
        "no_weights": no_weights,
        "no_tokens": no_tokens,
        "splits": slider.splits,
        "test_costs": restore.TEST_COSTS,
        "colours": THEMES,
    }
    return page_of("report.html.j2", page, _data(shown, slider))


def _definitions() -> list[tuple[str, Any]]:
    parts = (
        ("The chain", story.DEFINITIONS),
        ("The slider", restore.DEFINITIONS),
        ("Token shifts", tokens.DEFINITIONS),
    )
    return [(name, bullets(text)) for name, text in parts]


def _data(shown: Shown, slider: Slider) -> Mapping[str, Any]:
    """What the script reads."""
    return {
        "labels": slider.labels,
        "chosen": slider.chosen,
        "split": slider.splits[0],
        "words": {split: restore.SPLITS[split] for split in slider.splits},
        "figures": shown.figures,
        "marks": shown.marks,
        "tables": shown.tables,
        "lists": shown.lists,
        "numbers": shown.numbers,
    }
