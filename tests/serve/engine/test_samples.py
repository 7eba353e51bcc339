"""The completions behind a fact's mastery come back as they were."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from engine_requests import Bench

from sftknow_core.errors import SpecError
from sftknow_core.facts.dataset import FactsRef
from sftknow_core.facts.matcher import FactMatcher
from sftknow_core.facts.synonyms import load_synonyms
from sftknow_core.pipeline.mastery import score_facts
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.serve.engine.protocol import Models, SampleRequest


def test_drawn_again_they_are_those_that_were_counted(tmp_path: Path) -> None:
    """On the shipped model, whose scores were drawn 256 facts at a time and on another day."""
    ws, (facts, topics) = Workspace(tmp_path, device="cpu"), FactsRef().load()
    run = score_facts(ws, ws.open_model("demo"), facts.facts, topics).run
    params, rows = run.spec.params, run.read("mastery_templates")
    bench = Bench(tmp_path)
    for fact in facts.facts[5_001:5_004]:
        of_fact = rows.filter(pc.equal(rows["fact_id"], fact.fact_id)).sort_by("template")
        counted = of_fact["n_correct"].to_pylist()
        texts = tuple(topics[fact.topic].completion(i, str(fact.subject)) for i in range(len(counted)))
        names = ("n_samples", "temperature", "max_new_tokens", "seed")
        request = SampleRequest(
            models=Models(), fact_id=fact.fact_id, texts=texts, **{name: params[name] for name in names}
        )
        drawn = bench.result(request)["completions"]
        matcher = FactMatcher(fact, load_synonyms())
        assert [sum(map(matcher.words, samples)) for samples in drawn] == counted
        assert {len(samples) for samples in drawn} == {params["n_samples"]}
        assert sum(counted) > 0, "nothing was right, so nothing was compared"


@pytest.mark.parametrize(
    "wrong",
    [{"texts": ()}, {"texts": (" ",)}, {"n_samples": 0}, {"temperature": 0.0}, {"max_new_tokens": 999}],
)
def test_what_cannot_be_drawn_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        SampleRequest(models=Models(), **{"fact_id": "a", "texts": ("It is",)} | wrong)  # type: ignore[arg-type]
