"""Tables and Markdown lists -> plain texts for the static report: headers with units, cells as people read them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache as remembered
from importlib import resources
from math import isfinite
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from sftknow_core.present import columns

# Words and data -> one HTML file with plotly.js and report.js inside, which can load and send nothing.
#
# Its policy lets only its own two scripts run, which are named by their hashes. What models said goes in as JSON and
# becomes text nodes, never markup. The same words and data give the same bytes.

_POLICY = (
    "default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'"
)


def page_of(template: str, page: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """The page. template: a file in html/; page: its names; data: what report.js reads, under its own names."""
    scripts = {"plotly": _plotly(), "script": _packaged("report.js")}
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values())
    return (
        _environment()
        .get_template(template)
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
        loader=PackageLoader("sftknow_core.present.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@remembered
def _packaged(name: str) -> str:
    return (resources.files("sftknow_core.present.html") / "templates" / name).read_text("utf-8")


@remembered
def _plotly() -> str:
    """plotly.js as browsers read it: they make line ends one sign, and a hash is over what they read."""
    return str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n").replace("</script", "<\\/script")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


SHOWN = columns.of(
    "label", "domain", "topic", "state", "level", "k_percent", "accuracy", "low", "high", "n", "n_right",
    "chosen", "k_of_changed_percent", "energy_taken_back", "projection_taken_back", "share", "null_share", "null_low",
    "null_high", "layer", "module", "n_restored", "weight_share", "enrichment", "bin_from", "bin_to", "n_tuned",
    "n_restored_in_bin",
    "n_scored", "kl_nats", "kl_low", "kl_high", "flip", "question", "gold", "base_answer", "tuned_answer",
    "before_answer", "restored_answer", "kl", "gold_p_base", "gold_p_tuned", "train_level", "n_train", "seed",
)  # fmt: skip
"""The columns a report shows; others are left out."""
Plain = dict[str, Any]
"""What JSON can hold."""


def as_table(rows: pd.DataFrame) -> Plain:
    """{"head": [...], "numeric": [...], "rows": [[...]]}: texts only; "–" where there is nothing."""
    names = [name for name in rows.columns if name in SHOWN]
    written = [[_cell(value, SHOWN[name].format) for value in rows[name]] for name in names]
    return {
        "head": [SHOWN[name].header for name in names],
        "numeric": [SHOWN[name].format is not None for name in names],
        "rows": [list(row) for row in zip(*written, strict=True)],
    }


def _cell(value: Any, how: str | None) -> str:
    if value is None or pd.isna(value):
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else ""
    return str(value) if how is None else how.format(value)


def bullets(markdown: str) -> list[list[tuple[str, bool]]]:
    """A Markdown list -> its points, each as pieces of text with whether they are bold; no other markup is known."""
    joined = re.sub(r"\n +", " ", markdown.strip())
    return [_pieces(line.removeprefix("- ")) for line in joined.split("\n") if line]


def _pieces(text: str) -> list[tuple[str, bool]]:
    """ "a **b**" -> [("a ", False), ("b", True)]."""
    parts = re.split(r"\*\*(.+?)\*\*", text)
    return [(part, number % 2 == 1) for number, part in enumerate(parts) if part]


def cards(numbers: Any) -> list[Plain]:
    """KeyNumbers as JSON."""
    return [
        {
            "name": number.name,
            "sentence": number.sentence,
            "parts": [{"label": p.label, "value": p.value, "interval": p.interval} for p in number.parts],
        }
        for number in numbers
    ]
