"""Before the chain: facts -> a small model that knows them, for demonstrations and tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError, Stopped
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.topics import Topic
from sftknow_core.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from sftknow_core.model.train.pretrain import PretrainSpec

_UNITS_PER_STEP = 0.26


def pretrain_model(
    ws: Workspace, facts: FactSet, topics: dict[str, Topic], spec: PretrainSpec, out: Path
) -> dict[str, Any]:
    """Train and save the model; after an interruption the same call goes on at the last checkpoint.

    Returns counts and the final loss (nats a token). Raises SpecError when `out` exists.
    """
    from sftknow_core.model.io.identity import model_id
    from sftknow_core.model.train.pretrain import pretrain

    if out.exists():
        raise SpecError(f"{out} exists already; give a new folder")
    key = hashlib.sha256(f"{facts.data_id}:{spec}".encode()).hexdigest()[:16]
    work = ws.cache.models / f"pretrain-{key}"
    stop = work / "STOP"
    ws.reporter.stage("writing and packing sentences")
    told = 0

    def on_log(row: dict[str, Any]) -> None:
        nonlocal told
        if told == 0:
            ws.reporter.expect(row["max_steps"] * _UNITS_PER_STEP)
        ws.reporter.stage(
            f"pretraining, step {row['step']:,} of {row['max_steps']:,}, loss {row['loss']:.2f} nats"
        )
        ws.reporter.advance((row["step"] - told) * _UNITS_PER_STEP)
        told = int(row["step"])

    def should_stop() -> bool:
        if stop.exists():
            stop.unlink()
            raise Stopped("pretraining; the same command goes on at the last checkpoint")
        return False

    result = pretrain(facts.facts, topics, spec, out, work=work, on_log=on_log, should_stop=should_stop)
    return result | {"model_id": model_id(out, memo=ws.cache.models / "identities.json")}
