"""Where the real browser is. Without one tests are skipped; SFTKNOW_REQUIRE_BROWSER=1 makes them fail."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Path of the chromium to start; nothing is downloaded."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found:
        return found
    reason = f"no {' or '.join(NAMES)} in PATH"
    if os.environ.get("SFTKNOW_REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
