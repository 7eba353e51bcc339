"""sftknow: what supervised fine-tuning does to a language model's knowledge, from Python.

    import sftknow_core as sk

The names below are the public interface and stay stable; other modules may change. They are imported when they are
first used, so that importing the package takes hundredths of a second and loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftknow_core.api import (
        Chain,
        ChainSpec,
        Cube,
        EvaluateSpec,
        Mastery,
        QuestionSpec,
        Restored,
        SftknowError,
        Workspace,
        load_facts,
        matcher,
        open_chain,
        open_study,
        strategy,
    )

__version__ = "0.1.0"

__all__ = [
    "Chain", "ChainSpec", "Cube", "EvaluateSpec", "Mastery", "QuestionSpec", "Restored", "SftknowError", "Workspace",
    "load_facts", "matcher", "open_chain", "open_study", "strategy",
]  # fmt: skip


_PLUGIN_NAMES = {"matcher": "sftknow_core.facts.matcher", "strategy": "sftknow_core.update.strategies"}
"""What a plugin imports comes from where it is defined, so that loading a plugin stays quick."""


def __getattr__(name: str) -> Any:
    """A public name, imported now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLUGIN_NAMES.get(name, "sftknow_core.api")), name)


def __dir__() -> list[str]:
    """The public names, for completion."""
    return [*globals(), *__all__]
