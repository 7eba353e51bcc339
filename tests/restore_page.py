"""The page "Restore" over a cache, opened at an address, and what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from sftknow_core.store.cache import ENVIRONMENT_VARIABLE

ROOT = Path(__file__).parents[1]
Filled = tuple[Path, str]
"""A cache and the chain in it."""


def opened(
    cache: Path, monkeypatch: pytest.MonkeyPatch, shared_k: float | None = None, **address: str
) -> AppTest:
    """The page at an address, in a session that looked at shared_k on another page."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(cache))
    monkeypatch.syspath_prepend(str(ROOT))
    at = AppTest.from_file(str(ROOT / "pages" / "restore.py"), default_timeout=60)
    if shared_k is not None:
        at.session_state["shared.k"] = shared_k
    for name, value in address.items():
        at.query_params[name if name == "run" else f"restore.{name}"] = value
    at.run()
    assert not at.exception, at.exception
    return at


def in_address(at: AppTest, name: str) -> str | None:
    """A parameter of the page's address; None: it is not there."""
    found = at.query_params.get(f"restore.{name}")
    return found[0] if isinstance(found, list) else found


def values(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def heads(at: AppTest) -> set[str]:
    return {one.value for one in at.subheader}
