"""A reference reads the same facts again, from wherever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef


def test_facts_remember_how_they_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": f"q{i}?", "answers": [f"a{i}"], "split": "test"} for i in range(6)]
    (tmp_path / "own.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    monkeypatch.chdir(tmp_path)
    first, _ = FactsRef("own.jsonl", sample=4).load()
    assert first.ref is not None and len(first.facts) == 4
    monkeypatch.chdir("/")
    again, _ = FactsRef.from_json(json.loads(json.dumps(first.ref))).load()
    assert again.facts == first.facts and again.ref == first.ref


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(SpecError, match="unknown field 'split'; allowed: data, filter"):
        FactsRef.from_json({"data": "demo", "split": "test"})
