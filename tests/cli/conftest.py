from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_chain import small_facts_file, small_model

from sftknow_core.cli.app import main


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its stdout, which must be one JSON object."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Sftknow = Callable[..., Ended]


@pytest.fixture
def sftknow(capsys: pytest.CaptureFixture[str]) -> Sftknow:
    """Run a command in this process."""

    def run(*args: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer model."""
    return small_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def facts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Own facts as JSONL: 27 of them, in three topics and all splits."""
    return small_facts_file(tmp_path_factory.mktemp("facts") / "facts.jsonl")
