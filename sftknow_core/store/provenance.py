"""When and with which versions something was computed."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import sftknow_core

_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "scipy", "pyarrow")


def utc_now() -> str:
    """Now, ISO 8601 in UTC to the second: sorts as text."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def library_versions() -> Mapping[str, str]:
    """Versions of what computed the numbers, without importing any of it."""
    found = {"sftknow": sftknow_core.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
