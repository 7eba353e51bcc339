"""A finished chain -> one HTML file that opens anywhere, offline: figures, slider, questions, definitions.

    cache --html_data, html_tokens--> JSON --html/report.html.j2--> page with plotly.js inside, once

Nothing in it can load or send anything: its policy lets only its own two scripts run, which are named by their
hashes. What models said goes in as JSON and becomes text nodes, never markup. The same cache gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache as remembered
from importlib import resources
from math import isfinite
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sftknow_core import __version__
from sftknow_core.report import html_data, restore_words, story, token_words
from sftknow_core.report.html_data import Shown, Slider
from sftknow_core.report.html_tables import bullets, cards
from sftknow_core.report.html_tokens import add_tokens
from sftknow_core.report.palette import THEMES
from sftknow_core.store import chain_views, restore_views
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder

_POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)


def render(cache: Cache, run_id: str) -> str:
    """The report of a finished chain. Raises SpecError when the run is none, CacheError when a part of it is gone."""
    details = chain_views.chain_details(cache, run_id)
    rows = restore_views.measured(cache, run_id, html_data.spec_of(details))
    slider, shown = html_data.slider_of(cache, details, rows), Shown()
    label = html_data.add_chains(shown, cache, run_id)
    html_data.add_answers(shown, cache, run_id, details, slider, rows)
    no_weights = html_data.first_or_reason(lambda: html_data.add_weights(shown, cache, details, slider))
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
        "colours": THEMES,
    }
    return _page(page, _data(shown, slider))


def _definitions() -> list[tuple[str, Any]]:
    parts = (
        ("The chain", story.DEFINITIONS),
        ("The slider", restore_words.DEFINITIONS),
        ("Token shifts", token_words.DEFINITIONS),
    )
    return [(name, bullets(text)) for name, text in parts]


def _data(shown: Shown, slider: Slider) -> Mapping[str, Any]:
    """What the script reads."""
    return {
        "labels": slider.labels,
        "chosen": slider.chosen,
        "split": slider.splits[0],
        "words": {split: restore_words.SPLITS[split] for split in slider.splits},
        "figures": shown.figures,
        "marks": shown.marks,
        "tables": shown.tables,
        "lists": shown.lists,
        "numbers": shown.numbers,
    }


def _page(page: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    scripts = {"plotly": _plotly(), "script": _packaged("report.js")}
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values())
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            **page,
            policy=_POLICY.format(hashes=hashes),
            style=Markup(_packaged("report.css")),  # ours, and in the package: no text of a reader or a model
            data=Markup(as_json(data)),
            **{name: Markup(text) for name, text in scripts.items()},
        )
    )


def as_json(data: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element, or be markup."""
    text = json.dumps(
        _plain(data), ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _plain(value: Any) -> Any:
    """What JSON knows: no arrays, no numpy numbers, and null where a number is missing."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):  # parallel sums differ in their last digits from one reading to the next
        return float(f"{value:.9g}") if isfinite(value) else None
    return None if value is pd.NA else value


@remembered
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sftknow_core.report", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@remembered
def _packaged(name: str) -> str:
    return (resources.files("sftknow_core.report") / "html" / name).read_text("utf-8")


@remembered
def _plotly() -> str:
    """plotly.js as browsers read it: they make line ends one sign, and a hash is over what they read."""
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
