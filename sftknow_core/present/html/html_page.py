"""Words and data -> one HTML file with plotly.js and report.js inside, which can load and send nothing.

Its policy lets only its own two scripts run, which are named by their hashes. What models said goes in as JSON and
becomes text nodes, never markup. The same words and data give the same bytes.
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
