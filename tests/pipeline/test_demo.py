"""The demonstration: which chains it runs, at which rates, and in which order they are told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sftknow_core.pipeline import demo
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.specs import ChainSpec, QuestionSpec


def test_one_train_set_is_shown_at_three_rates_and_a_usual_run_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int | None, float]] = []

    def chain(ws: Any, base: Any, facts: Any, topics: Any, spec: ChainSpec, sft: Any, **_: Any) -> Any:
        done.append((spec.level, spec.n, sft.lr))
        return SimpleNamespace(about=done[-1], seeds=(spec.seed, sft.seed))

    monkeypatch.setattr(demo, "run_chain", chain)
    monkeypatch.setattr(demo, "score_facts", lambda *_: None)
    found: list[Any] = demo.run_demo(Workspace(tmp_path), QuestionSpec(per_level=1), seed=7)
    assert {one.seeds for one in found} == {(7, 7)}
    usual = done[-1][2]
    assert done[-1] == ("mixed", 1920, usual)
    assert [one.about for one in found[-2:]] == done[:2]
    assert done[:2] == [("mixed", 1920, usual * factor) for factor in (0.25, 0.5)]
    assert {rate for _, _, rate in done[2:]} == {usual}
    assert len(found) == len(done) == 2 + len(demo.DEMO_LEVELS) * len(demo.DEMO_SIZES)
