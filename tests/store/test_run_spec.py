from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.store.run_spec import RunSpec


class Method(StrEnum):
    FULL = "full"


def test_same_id_for_the_same_thing_written_otherwise() -> None:
    one = {"k": 20, "lr": 1e-5, "method": "full", "layers": [0, 1]}
    other = {"layers": (0, 1), "method": Method.FULL, "lr": Decimal("0.00001"), "k": 20.0}
    spec = RunSpec("sft", {"base": "a"}, one, {"prompt": 1})
    assert spec.run_id == RunSpec("sft", {"base": "a"}, other, {"prompt": 1.0}).run_id
    assert len(spec.run_id) == 16 and int(spec.run_id, 16) >= 0
    assert RunSpec.from_dict(spec.as_dict()) == spec


def test_the_id_is_the_hash_of_the_canonical_json() -> None:
    """sha256 of {"inputs":{},"kind":"sft","params":{},"versions":{}}: ids outlive releases."""
    assert RunSpec("sft").run_id == "710803433c9203f0"


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "delta"},
        {"inputs": {"base": "b"}},
        {"inputs": {"tuned": "a"}},
        {"params": {"k": 21}},
        {"params": {"k": True}},
        {"params": {"k": "20"}},
        {"versions": {"prompt": 2}},
    ],
)
def test_another_id_for_another_thing(changed: dict[str, Any]) -> None:
    same: dict[str, Any] = {
        "kind": "sft",
        "inputs": {"base": "a"},
        "params": {"k": 1},
        "versions": {"prompt": 1},
    }
    assert RunSpec(**same).run_id != RunSpec(**{**same, **changed}).run_id


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            Path("/x"),
            r"params\.k\[0\] cannot be part of a run's identity: got .*Path.*; allowed: text, numbers",
        ),
        (float("nan"), "got nan; allowed: finite"),
        ({1: 2}, "got the key 1; allowed: text keys"),
        ({3, 4}, "allowed: text, numbers"),
    ],
)
def test_what_has_no_stable_form_is_refused(value: object, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        RunSpec("sft", {}, {"k": [value]})


def test_inputs_are_ids_and_kinds_are_words() -> None:
    with pytest.raises(SpecError, match=r"inputs\.base: got 3"):
        RunSpec("sft", {"base": 3})  # type: ignore[dict-item]
    with pytest.raises(SpecError, match="kind of run: got 'a b'"):
        RunSpec("a b")
    assert RunSpec("sft", {"seeds": ["x", "y"], "base": "a"}).input_pairs() == [
        ("seeds", "x"),
        ("seeds", "y"),
        ("base", "a"),
    ]
