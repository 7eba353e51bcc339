"""What checks from outside the package may rely on: readers, prompts, the matcher, and a model to ask.

    facts, prompt -> encode_questions -> generate -> FactMatcher

These names stay where they are when the modules behind them move. Importing this module loads no torch; the names that
need it load it when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sftknow_core.facts.dataset import load_facts
from sftknow_core.facts.matcher import FactMatcher
from sftknow_core.facts.names import KnownNames
from sftknow_core.facts.prompts import PROMPTS

if TYPE_CHECKING:
    from sftknow_core.model.generate.decode import generate
    from sftknow_core.model.generate.encode import encode_qa, encode_questions
    from sftknow_core.model.io.adapter import open_source
    from sftknow_core.model.io.load import load_model, load_tokenizer

__all__ = [
    "PROMPTS", "FactMatcher", "KnownNames", "encode_qa", "encode_questions", "generate", "load_facts", "load_model",
    "load_tokenizer", "open_source",
]  # fmt: skip

_MODULES = {
    "encode_qa": "sftknow_core.model.generate.encode",
    "encode_questions": "sftknow_core.model.generate.encode",
    "generate": "sftknow_core.model.generate.decode",
    "load_model": "sftknow_core.model.io.load",
    "load_tokenizer": "sftknow_core.model.io.load",
    "open_source": "sftknow_core.model.io.adapter",
}
"""Name -> the module that defines it; each of them loads torch."""


def __getattr__(name: str) -> Any:
    """A name that needs torch, imported now."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
