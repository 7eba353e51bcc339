"""The public interface for notebooks and scripts: a workspace, its models and facts, chains and studies.

    Workspace --mastery--> Mastery      Workspace --run(ChainSpec)--> Chain --> tables, Cube, Restored
    open_chain, open_study: results that are in the cache already

`import sftknow_core as sk` exports these names and imports this module when one of them is first used. Shares and
accuracies are 0 to 1, k is in percent, KL in nats. All errors are SftknowErrors and say what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from sftknow_core import results, specs
from sftknow_core.analysis.study import StudyResults, read_study_results
from sftknow_core.errors import SftknowError
from sftknow_core.facts.dataset import DEMO, FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.matcher import matcher
from sftknow_core.facts.topics import Topic, load_topics
from sftknow_core.pipeline import chain as pipeline_chain
from sftknow_core.pipeline import workspace as pipeline_workspace
from sftknow_core.pipeline.export import export_restored
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.sft import sft_spec
from sftknow_core.pipeline.workspace import ModelHandle
from sftknow_core.results import Cube, Mastery, find_study
from sftknow_core.specs import EvaluateSpec, QuestionSpec
from sftknow_core.store.listing import find_run
from sftknow_core.update.spec import RestoreSpec
from sftknow_core.update.strategies import strategy

__all__ = [
    "Chain", "ChainSpec", "Cube", "EvaluateSpec", "Mastery", "QuestionSpec", "Restored", "SftknowError", "Workspace",
    "load_facts", "matcher", "open_chain", "open_study", "strategy",
]  # fmt: skip


def load_facts(
    source: str = DEMO,
    *,
    topics: str | Path | None = None,
    filter: str = "paper",
    keep_leaks: bool = False,
    sample: int | None = None,
) -> FactSet:
    """Facts by name or path, which remember how they were read.

    Args:
        source: "demo", the EntityQuestions zip or folder, or a .csv or .jsonl file.
        topics: a topics file of your own.
        filter: "paper" (questions with one answer, without repeats) or "all"; of EntityQuestions.
        keep_leaks: whether to keep test questions that are also in train; of EntityQuestions.
        sample: at most this many facts per topic and split.

    Raises:
        DataError: there is nothing at that path, or it can't be read.
        SpecError: an option is not allowed.
    """
    return FactsRef(source, str(topics) if topics else None, filter, keep_leaks, sample).load()[0]


class ChainSpec(specs.ChainSpec):
    """One chain with its models and facts; `Workspace.run` computes it."""

    base: str = DEMO
    """Base model: "demo", a folder, a hub id, or the beginning of a model_id."""
    facts: str | FactSet = DEMO
    """Facts from `load_facts`, or what it takes."""
    tuned: str | None = None
    """An existing fine-tuned model; None: fine-tune the base."""
    training: Mapping[str, Any] = Field(default_factory=dict)
    """Training settings that replace the preset's, e.g. {"lr": 1e-4, "method": "lora"}."""

    @field_validator("level", mode="before")
    @classmethod
    def _level_as_text(cls, level: Any) -> Any:
        return str(level) if isinstance(level, int) else level


class Workspace(pipeline_workspace.Workspace):
    """A cache and a device to work with. Whatever is in the cache is not computed again."""

    def model(self, ref: str | Path = DEMO, revision: str | None = None) -> ModelHandle:
        """A model by name: "demo", a folder, the beginning of a model_id, or a hub id. Raises ModelError."""
        return self.open_model(ref, revision)

    def mastery(self, base: ModelHandle, facts: FactSet) -> Mastery:
        """How well the base model knows each fact: from the cache or the package, or computed now."""
        run = score_facts(self, base, facts.facts, _topics(facts)).run
        return Mastery(self.cache, run.run_id)

    def run(self, spec: ChainSpec) -> Chain:
        """Mastery, fine-tuning, accuracy, token shift and restored models for one train set.

        Raises SpecError for what these facts and models can't give, ModelError for unusable models.
        """
        facts = load_facts(spec.facts) if isinstance(spec.facts, str) else spec.facts
        base = self.model(spec.base)
        tuned = self.model(spec.tuned) if spec.tuned is not None else None
        training = sft_spec(base, spec.seed, **spec.training) if tuned is None else None
        result = pipeline_chain.run_chain(self, base, facts, _topics(facts), spec, training, tuned=tuned)
        return Chain(self.cache, result.run.run_id, self)


@dataclass(frozen=True)
class Chain(results.Chain):
    """A finished chain, which can be restored at any k; its tables are read when they are asked for."""

    ws: Workspace = field(repr=False, compare=False)

    def restore(
        self,
        k: float | None = None,
        *,
        strategy: str = "top",
        region: str = "transformer",
        layers: str | None = None,
    ) -> Restored:
        """The fine-tuned model with k percent of a region reverted; k None: `best_k`. Raises SpecError."""
        amount = self.best_k if k is None else k
        return Restored(self, RestoreSpec(strategy, region, layers, amount))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Restored:
    """A restored model that is not written yet."""

    chain: Chain
    spec: RestoreSpec

    def save(
        self,
        folder: str | Path | None = None,
        *,
        recipe: str | Path | None = None,
        patch: str | Path | None = None,
        dtype: str = "base",
    ) -> dict[str, Any]:
        """Write a Hugging Face folder with a model card, a recipe (needs base and fine-tuned model), a patch, or all.

        dtype: of the written weights; "base": as the base model's. Returns what the card says, and the paths. Raises
        SpecError when one of the files exists, ModelError for a full disk or weights that are gone.
        """
        chain, ws = self.chain, self.chain.ws
        out, recipe, patch = (None if path is None else Path(path) for path in (folder, recipe, patch))
        base, tuned = ws.model(chain.base_id), ws.model(chain.tuned_id)
        return export_restored(ws, base, tuned, self.spec, out, dtype, recipe=recipe, patch=patch)


def open_chain(run: str, ws: Workspace) -> Chain:
    """A finished chain by its run id or the beginning of it. Raises SpecError, as all its readers do."""
    chain = Chain(ws.cache, find_run(ws.cache, run), ws)
    _ = chain.manifest
    return chain


def open_study(study: str, ws: Workspace) -> StudyResults:
    """A study by its name or the beginning of its run id; `.verdicts`, `.advice`, `.scorecard`, `.tables`.

    Raises SpecError when there is none or more than one, CacheError when none of its cells is done.
    """
    return read_study_results(ws.cache, find_study(ws.cache, study).run_id)


def _topics(facts: FactSet) -> dict[str, Topic]:
    """The topics that the facts were read with."""
    path = (facts.ref or {}).get("topics")
    return load_topics(Path(path) if path else None)
