"""The demonstration: the shipped model, fine-tuned on easy and hard facts, few and many, and restored."""

from __future__ import annotations

from sftknow_core.facts.facts_ref import FactsRef
from sftknow_core.pipeline.chain import ChainResult, ChainSpec, run_chain
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.presets import sft_spec
from sftknow_core.pipeline.questions import QuestionSpec
from sftknow_core.pipeline.workspace import DEMO, Workspace

DEMO_LEVELS = ("0", "2", "4", "mixed")
DEMO_SIZES = (240, 1920)
DEMO_KS = ("5", "20", "40", "60")
"""Four of the paper's seven, so that two minutes suffice."""
DEMO_TRAIN_QUESTIONS = 60


def run_demo(ws: Workspace, questions: QuestionSpec, seed: int = 0) -> list[ChainResult]:
    """One chain for each train level and size, sizes inside levels; what is in the cache is not done again."""
    facts, topics = FactsRef(DEMO).load()
    base = ws.open_model(DEMO)
    mastery = score_facts(ws, base, facts.facts, topics)
    sft = sft_spec(base, seed)
    specs = [
        ChainSpec(
            level=level,
            n=n,
            seed=seed,
            ks=DEMO_KS,
            questions=questions,
            train_questions=DEMO_TRAIN_QUESTIONS,
        )
        for level in DEMO_LEVELS
        for n in DEMO_SIZES
    ]
    return [run_chain(ws, base, facts, topics, spec, sft, mastery=mastery) for spec in specs]
