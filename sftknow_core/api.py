"""The public interface for notebooks and scripts: a workspace, its models and facts, chains and studies.

    Workspace --mastery--> Mastery      Workspace --run(ChainSpec)--> Chain --> tables, Cube, Restored
    open_chain, open_study: results that are in the cache already

`import sftknow_core as sk` exports these names and imports this module when one of them is first used. Shares and
accuracies are 0 to 1, k is in percent, KL in nats. All errors are SftknowErrors and say what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sftknow_core.analysis.study import StudyResults, read_study_results
from sftknow_core.errors import SftknowError, SpecError
from sftknow_core.facts.dataset import DEMO, FactsRef
from sftknow_core.facts.fact import FactSet
from sftknow_core.facts.matcher import matcher
from sftknow_core.facts.topics import Topic, load_topics
from sftknow_core.pipeline import chain as pipeline_chain
from sftknow_core.pipeline import workspace as pipeline_workspace
from sftknow_core.pipeline.evaluate import EvaluateSpec
from sftknow_core.pipeline.export import export_restored
from sftknow_core.pipeline.mastery import Mastery as MasteryScores
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.questions import QuestionSpec
from sftknow_core.pipeline.sft import sft_spec
from sftknow_core.pipeline.workspace import ModelHandle
from sftknow_core.results.chains import curve
from sftknow_core.results.cube import open_cube
from sftknow_core.results.cube_selection import selection
from sftknow_core.results.questions import Filters, all_passing, gather
from sftknow_core.results.studies import list_studies
from sftknow_core.results.views import chain_summary
from sftknow_core.store.cache import Cache
from sftknow_core.store.catalogue import read_table
from sftknow_core.store.listing import list_runs
from sftknow_core.update.spec import RestoreSpec
from sftknow_core.update.strategies import strategy

__all__ = [
    "Chain", "ChainSpec", "Cube", "EvaluateSpec", "Mastery", "QuestionSpec", "Restored", "SftknowError", "Workspace",
    "load_facts", "matcher", "open_chain", "open_study", "strategy",
]  # fmt: skip

OUTCOMES = {
    "recovered": "healed by restoring",
    "broken": "broken by restoring",
    "lost": "right → wrong by tuning",
    "learned": "wrong → right by tuning",
    "always correct": "always right",
    "always incorrect": "always wrong",
}
"""Outcome of a question, as `Chain.questions` takes it."""


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


@dataclass(frozen=True)
class ChainSpec(pipeline_chain.ChainSpec):
    """One chain with its models and facts; `Workspace.run` computes it."""

    base: str = DEMO
    """Base model: "demo", a folder, a hub id, or the beginning of a model_id."""
    facts: str | FactSet = DEMO
    """Facts from `load_facts`, or what it takes."""
    tuned: str | None = None
    """An existing fine-tuned model; None: fine-tune the base."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training settings that replace the preset's, e.g. {"lr": 1e-4, "method": "lora"}."""

    def __post_init__(self) -> None:
        """Numbers become the text they stand for: level=2 is "2", and k=5 is "5"."""
        object.__setattr__(self, "level", str(self.level))
        object.__setattr__(self, "ks", tuple(str(k) for k in self.ks))


class Workspace(pipeline_workspace.Workspace):
    """A cache and a device to work with. Whatever is in the cache is not computed again."""

    def model(self, ref: str | Path = DEMO, revision: str | None = None) -> ModelHandle:
        """A model by name: "demo", a folder, the beginning of a model_id, or a hub id. Raises ModelError."""
        return self.open_model(ref, revision)

    def mastery(self, base: ModelHandle, facts: FactSet) -> Mastery:
        """How well the base model knows each fact: from the cache or the package, or computed now."""
        return Mastery(score_facts(self, base, facts.facts, _topics(facts)).run)

    def run(self, spec: ChainSpec) -> Chain:
        """Mastery, fine-tuning, accuracy, token shift and restored models for one train set.

        Raises SpecError for what these facts and models can't give, ModelError for unusable models.
        """
        spec.check()
        facts = load_facts(spec.facts) if isinstance(spec.facts, str) else spec.facts
        base = self.model(spec.base)
        tuned = self.model(spec.tuned) if spec.tuned is not None else None
        training = sft_spec(base, spec.seed, **spec.training) if tuned is None else None
        result = pipeline_chain.run_chain(self, base, facts, _topics(facts), spec, training, tuned=tuned)
        return Chain(self, result.run.run_id)


class Mastery(MasteryScores):
    """Mastery of a set of facts by one model; `levels` maps fact_id to 0 to 4."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row per fact; the columns are those of table `mastery`."""
        return self.rows


class Gain(NamedTuple):
    """Accuracy of the restored minus that of the fine-tuned model, on the same test questions."""

    value: float
    low: float | None
    """Lower end of the 95% CI; None where no answer changed."""
    high: float | None


class Selection(NamedTuple):
    """What k percent of a region amount to."""

    k_percent: float
    n_region: int
    n_restored: int
    share_of_r: float
    """Share of the region's summed score, 0 to 1."""
    energy_taken_back: float
    """Share of the region's squared change, 0 to 1."""
    energy_error: float
    """The most that energy_taken_back can be off."""


class Chain:
    """A finished chain; its tables are read when they are asked for."""

    def __init__(self, ws: Workspace, run_id: str) -> None:
        """Raises SpecError when the cache holds no finished chain of this id."""
        self.run_id = run_id
        self._ws = ws
        self._summary = chain_summary(ws.cache, run_id)

    def __repr__(self) -> str:
        """The run and its two models."""
        return f"Chain({self.run_id}: {self._summary['base_name']} -> {self._summary['tuned_name']})"

    def accuracy(self, *, split: str = "test") -> pd.DataFrame:
        """Accuracy over k with n and 95% CI, one row per domain and model; base and five-shot base have k NaN."""
        return curve(self._ws.cache, self.run_id, split)

    def shift(self, *, level: int = 4, split: str = "test") -> pd.DataFrame:
        """Mean KL (nats) of questions of one level, one row per domain and model; NaN with a reason if not measured."""
        models = pd.DataFrame(self._summary["table"])[["state_id", "kind", "k_percent"]]
        columns = ["state_id", "domain", "mean_nats", "low_nats", "high_nats", "n", "n_questions", "reason"]
        rows = read_table(
            self._ws.cache, "shifts", run_ids=list(self._summary["stages"]["evaluate"].values()),
            columns=columns, where={"split": split, "level": level, "measure": "aligned"},
        )  # fmt: skip
        found = models.merge(rows, how="left", on="state_id").rename(columns={"kind": "state"})
        return found.drop(columns="state_id").sort_values(["domain", "k_percent"], ignore_index=True)

    @property
    def best_k(self) -> float:
        """k in percent, chosen on dev; 0: the fine-tuned model."""
        return float(self._summary["chosen"]["k_percent"])

    @property
    def gain(self) -> Gain | None:
        """In-domain test gain at `best_k`; None where a level has fewer than two questions."""
        found = self._summary["chosen"]["gain"]["test_in"]
        return None if found is None else Gain(found["value"], found["low"], found["high"])

    @cached_property
    def cube(self) -> Cube:
        """Counts and sums of the weight changes."""
        return Cube(self._ws.cache, self._summary["stages"]["delta"])

    def questions(
        self,
        *,
        outcome: str | None = None,
        k: float | None = None,
        split: str | None = "test",
        levels: Iterable[int] = (),
        search: str = "",
    ) -> pd.DataFrame:
        """Questions with the answers of base, fine-tuned and restored model, largest token shift first.

        Args:
            outcome: one of OUTCOMES, e.g. "recovered"; None: all.
            k: an evaluated k in percent; None: `best_k`.
            split: "dev" or "test"; None: both.
            levels: only questions of these mastery levels.
            search: only questions with this text in question, gold or an answer.
        """
        if outcome is not None and outcome not in OUTCOMES:
            raise SpecError(f"outcome: got {outcome!r}; allowed: {', '.join(OUTCOMES)}")
        asked = gather(self._ws.cache, self.run_id)
        k = self.best_k if k is None else float(k)
        if k not in (0.0, *asked.ks):
            raise SpecError(f"k: got {k:g}; evaluated: {', '.join(f'{one:g}' for one in asked.ks)}")
        flip = "all" if outcome is None else OUTCOMES[outcome]
        return all_passing(asked, Filters(k, flip=flip, levels=tuple(levels), split=split, search=search))

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
        ws, summary = self.chain._ws, self.chain._summary
        out, recipe, patch = (None if path is None else Path(path) for path in (folder, recipe, patch))
        base, tuned = ws.model(summary["base_id"]), ws.model(summary["tuned_id"])
        return export_restored(ws, base, tuned, self.spec, out, dtype, recipe=recipe, patch=patch)


@dataclass(frozen=True)
class Cube:
    """The weight changes of a pair of models as histograms, for any k, region and layers without the weights."""

    cache: Cache
    run_id: str
    """The run of kind "delta" that counted them."""

    def select(
        self,
        k: float | str,
        *,
        region: str = "transformer",
        layers: str | None = None,
        score: str = "relative",
        direction: str = "highest",
    ) -> Selection:
        """What k percent of a region hold. Raises SpecError for a region, layers or k that don't exist.

        Args:
            k: percent.
            region: transformer, attention, mlp, embedding or all.
            layers: such as "0-3,7"; None: all.
            score: relative or absolute.
            direction: highest or lowest first.
        """
        with open_cube(self.cache, self.run_id) as con:
            rows = selection(con, [str(k)], region=region, layers=layers, score=score, direction=direction)
        row = rows.rename(columns={"share": "share_of_r"}).iloc[0]
        return Selection(*(row[name].item() for name in Selection._fields))

    def sql(self, query: str) -> pd.DataFrame:
        """A query over the views that `results/cube.py` lists, e.g. "FROM table3_concentration"."""
        with open_cube(self.cache, self.run_id) as con:
            found: pd.DataFrame = con.sql(query).df()
        return found


def open_chain(run: str, ws: Workspace) -> Chain:
    """A finished chain by its run id or the beginning of it. Raises SpecError."""
    return Chain(ws, _the_one(run, [info.run_id for info in list_runs(ws.cache, "chain")], "chain"))


def open_study(study: str, ws: Workspace) -> StudyResults:
    """A study by its name (the newest of that name) or the beginning of its run id; `.verdicts` and more.

    Raises SpecError when there is none, CacheError when none of its cells is done.
    """
    known = list_studies(ws.cache)
    named = [one["run_id"] for one in known if one["name"] == study]
    run_id = named[0] if named else _the_one(study, [one["run_id"] for one in known], "study")
    return read_study_results(ws.cache, run_id)


def _the_one(prefix: str, run_ids: list[str], kind: str) -> str:
    found = [run_id for run_id in run_ids if prefix and run_id.startswith(prefix)]
    if len(found) != 1:
        number = "no" if not found else f"more than one ({', '.join(found)})"
        raise SpecError(
            f"{kind} {prefix!r}: the cache has {number} such {kind}; `sftknow runs` lists the runs"
        )
    return found[0]


def _topics(facts: FactSet) -> dict[str, Topic]:
    """The topics that the facts were read with."""
    path = (facts.ref or {}).get("topics")
    return load_topics(Path(path) if path else None)
