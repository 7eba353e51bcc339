"""What the engine says of itself -> a line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def doing(state: str, text: str, name: str) -> str:
    """What happens with one request now. state: queued, running, ...; name: of the request, for people."""
    if state == "queued":
        return f"{name}: waiting for its turn; the engine does one thing after the other"
    return f"{name}: {text or 'starting'}"


def line(status: Mapping[str, Any] | None) -> str:
    """The engine in a line; None: it has not answered yet. status: worker.py."""
    if status is None or not status["ready"]:
        return "Engine: starting. It loads its libraries, which takes some seconds; what is measured is there already."
    busy = len(status["queue"]) + (status["current"] is not None)
    doing_now = "ready" if not busy else f"busy, {busy} request{'s' if busy > 1 else ''}"
    held = status["loaded_bytes"]
    model = f"{size(held)} of weights loaded" if held else "no model loaded"
    return f"Engine: {doing_now} · device {status['device']} · {size(status['rss_bytes'])} memory, {model}"


def size(n_bytes: float) -> str:
    """ "4.8 MB", from a billion bytes on "0.9 GB"."""
    return f"{n_bytes / 1e6:.2g} MB" if n_bytes < 1e8 else f"{n_bytes / 1e9:.1f} GB"
