"""Before the chain: facts -> a small model that knows them, for demonstrations and tests."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftknow_core.errors import SpecError, Stopped
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.topics import Topic
from sftknow_core.pipeline.chain import ChainResult, run_chain
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.sft import sft_spec
from sftknow_core.pipeline.workspace import DEMO, Workspace
from sftknow_core.specs import ChainSpec, QuestionSpec
from sftknow_core.update.spec import percent

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


# The demonstration: the shipped model, fine-tuned on easy and hard, few and many facts, at several rates, and restored.

DEMO_LEVELS = ("0", "2", "4", "mixed")
DEMO_SIZES = (240, 1920)
DEMO_KS = tuple(map(percent, ("5", "20", "40", "60")))
"""Four of the paper's seven, so that two minutes suffice."""
DEMO_TRAIN_QUESTIONS = 60
DEMO_RATES = (0.25, 0.5)
"""Times the preset's learning rate: the largest mixed train set again, more gently. Restoring undoes what a
rate that is too high destroyed; at a gentle one there is little to undo."""


def run_demo(ws: Workspace, questions: QuestionSpec, seed: int = 0) -> list[ChainResult]:
    """One chain for each train level and size, sizes inside levels, then those of the other rates.

    What is in the cache is not done again. The other rates are run first, so that the newest run is a usual one.
    """
    facts, topics = FactsRef(DEMO).load()
    base = ws.open_model(DEMO)
    mastery = score_facts(ws, base, facts.facts, topics)
    sft = sft_spec(base, seed)

    def chain(level: str, n: int, rate: float = 1.0) -> ChainResult:
        spec = ChainSpec(
            level=level,
            n=n,
            seed=seed,
            ks=DEMO_KS,
            questions=questions,
            train_questions=DEMO_TRAIN_QUESTIONS,
            five_shot=True,
        )
        return run_chain(ws, base, facts, topics, spec, replace(sft, lr=sft.lr * rate), mastery=mastery)

    others = [chain(DEMO_LEVELS[-1], DEMO_SIZES[-1], rate) for rate in DEMO_RATES]
    return [*(chain(level, n) for level in DEMO_LEVELS for n in DEMO_SIZES), *others]
