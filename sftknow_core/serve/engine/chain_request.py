"""A finished chain and a wish -> the engine's request about the chain's own two models. Loads no torch.

With the chain's own number of questions an evaluation is of the chain's own question set, and its run the very run
that the chain would have made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.matcher import RULES, RULES_ID
from sftknow_core.pipeline.questions import choose_questions
from sftknow_core.pipeline.workspace import DEMO
from sftknow_core.results.chain import Chain
from sftknow_core.serve.engine.protocol import (
    GROUPS,
    AskRequest,
    EvaluateRequest,
    Models,
    RecipeRequest,
    StateRef,
)
from sftknow_core.specs import FIVE_SHOT, QuestionSpec
from sftknow_core.store.cache import Cache
from sftknow_core.store.run_folder import RunFolder
from sftknow_core.update.spec import RestoreSpec


@dataclass(frozen=True)
class ChainRequests:
    """What requests need to know of a finished chain."""

    models: Models
    facts: FactsRef
    questions: QuestionSpec
    """Of the chain itself."""
    mastery: str
    """Run id of the scores that give the questions their levels."""
    evaluate: Mapping[str, Any]
    """How it asked: fields of EvaluateSpec."""
    own_set: str
    """Id of the chain's question set (results/measured.py)."""

    def evaluation(
        self,
        state: StateRef,
        per_level: int | None = None,
        groups: tuple[str, ...] = tuple(GROUPS),
        *,
        five_shot: bool = False,
        only_prepare: bool = False,
    ) -> EvaluateRequest:
        """Ask one state. per_level: questions of a mastery level in each group; None: as many as the chain asked.

        five_shot: after five examples, the same for every state. only_prepare: see EvaluateRequest.
        """
        how = dict(self.evaluate)
        if five_shot:
            how |= {"prompt": FIVE_SHOT, "first_tokens": False}
        return EvaluateRequest(
            models=self.models,
            state=state,
            questions=self.sized(per_level),
            groups=groups,
            facts=self.facts,
            mastery=self.mastery,
            only_prepare=only_prepare,
            **how,
        )

    def free(self, texts: tuple[str, ...], states: tuple[StateRef, ...], prompt: str = "paper") -> AskRequest:
        """Put free texts to states of the chain's pair."""
        return AskRequest(models=self.models, texts=texts, states=states, prompt=prompt)

    def recipe(self, spec: RestoreSpec) -> RecipeRequest:
        """The recipe of a restored model of the chain's pair."""
        return RecipeRequest(models=self.models, spec=spec)

    def sized(self, per_level: int | None) -> QuestionSpec:
        """The chain's way to choose questions, of this size."""
        return self.questions if per_level is None else self.questions.but(per_level=per_level)


def chain_requests(cache: Cache, run_id: str) -> ChainRequests:
    """What a finished chain did. Raises SpecError when it is none, or did not put on record what it asked."""
    chain = Chain(cache, run_id)
    stages, about = chain.stages, chain.about
    if "facts" not in about or "questions" not in about or stages.mastery is None:
        raise SpecError(
            "this chain was made by an earlier version, which did not put on record how its questions were read; "
            "repeat its command line: it is all in the cache and takes seconds, and new k can then be asked here"
        )
    if chain.asked_as(chain.tuned_id).spec.inputs.get(RULES) != RULES_ID:
        raise SpecError(
            "this chain's answers were judged by an earlier version of the matcher, so new ones cannot be compared "
            "with them; repeat its command line: models are in the cache, and its questions are asked again"
        )
    base = DEMO if chain.base_name == DEMO else chain.base_id
    return ChainRequests(
        models=Models(base=base, tuned=chain.tuned_id, base_id=chain.base_id, tuned_id=chain.tuned_id),
        facts=FactsRef.from_json(about["facts"]),
        questions=QuestionSpec(**about["questions"]),
        mastery=stages.mastery,
        evaluate=chain.spec.params["evaluate"],
        own_set=chain.asked.question_set,
    )


def question_set(cache: Cache, chain: ChainRequests, per_level: int | None) -> str:
    """The id of the set that an evaluation of this size asks (results/measured.py), without asking it.

    Raises DataError where the facts' file is gone, CacheError where the mastery scores are.
    """
    from sftknow_core.pipeline.mastery import Mastery

    if per_level is None or chain.sized(per_level) == chain.questions:
        return chain.own_set
    facts, _ = chain.facts.load()
    levels = Mastery(RunFolder(cache, chain.mastery)).levels
    return FactSet(choose_questions(facts.facts, levels, chain.sized(per_level)), source="").data_id
