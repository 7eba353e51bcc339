"""What a run is: its kind, inputs, parameters and algorithm versions, and the id that follows from them.

run_id = first 16 hex digits of sha256 over the canonical JSON of the four. Numbers are compared by value
(20 and 20.0 give one id), the order of keys does not matter, and what has no stable JSON form is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import sftknow_core
from sftknow_core.errors import SpecError

# When and with which versions something was computed.

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


_KIND = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class RunSpec:
    """The identity of a run. Paths, devices and names do not belong here: they change no number.

    Raises SpecError when a value cannot be part of an identity.
    """

    kind: str
    """What is done, e.g. "mastery"; lower case letters, digits and underscores."""
    inputs: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    """Role -> id (or ids) of what it is done to, e.g. {"model": model_id, "facts": question_set_id}."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that changes the numbers."""
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Algorithm -> version, e.g. {"matcher": "2", "prompt": "1"}."""

    def __post_init__(self) -> None:
        if not _KIND.fullmatch(self.kind):
            raise SpecError(f"kind of run: got {self.kind!r}; allowed: lower case letters, digits, _")
        for name in ("inputs", "params", "versions"):
            object.__setattr__(self, name, _canonical(getattr(self, name), name))
        for role, ids in self.inputs.items():
            if not (isinstance(ids, str) or (isinstance(ids, list) and all(isinstance(i, str) for i in ids))):
                raise SpecError(f"inputs.{role}: got {ids!r}; allowed: an id or a list of ids, as text")

    @property
    def run_id(self) -> str:
        """16 hex digits."""
        return hashlib.sha256(canonical_json(self.as_dict()).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The four parts as plain JSON values."""
        return {"kind": self.kind, "inputs": self.inputs, "params": self.params, "versions": self.versions}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunSpec:
        """The inverse of `as_dict`; other keys are passed over."""
        return cls(plain["kind"], plain["inputs"], plain["params"], plain["versions"])

    def input_pairs(self) -> list[tuple[str, str]]:
        """(role, id) for every input, lists taken apart."""
        return [
            (role, one)
            for role, ids in self.inputs.items()
            for one in ([ids] if isinstance(ids, str) else ids)
        ]


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, numbers by value. Raises SpecError."""
    return json.dumps(
        _canonical(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def _canonical(value: Any, where: str) -> Any:
    """`value` out of dict, list, str, bool, None, int, and float only where it is no whole number."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)  # a StrEnum gives its text
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float | Decimal):
        return _canonical_number(float(value), where)
    if isinstance(value, Mapping):
        return {_canonical_key(key, where): _canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise SpecError(
        f"{where} cannot be part of a run's identity: got {value!r} ({type(value).__name__}); "
        f"allowed: text, numbers, true, false, null, and lists and dicts of these"
    )


def _canonical_number(number: float, where: str) -> int | float:
    if not math.isfinite(number):
        raise SpecError(f"{where} cannot be part of a run's identity: got {number}; allowed: finite numbers")
    return int(number) if number.is_integer() else number


def _canonical_key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise SpecError(f"{where}: got the key {key!r}; allowed: text keys")
    return str(key)
