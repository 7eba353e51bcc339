"""The names that checks from outside use: they are there, they work together, and torch comes late."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sftknow_core import testing
from sftknow_core.facts.synonyms import load_synonyms

NAMES = {
    "FactMatcher", "KnownNames", "PROMPTS", "encode_qa", "encode_questions", "generate", "load_model", "load_tokenizer",
    "open_source", "load_facts",
}  # fmt: skip
DEMO = Path(testing.__file__).parent / "demo" / "model"


def test_all_names_are_there_and_no_other() -> None:
    assert set(testing.__all__) == NAMES
    assert all(getattr(testing, name) is not None for name in NAMES)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = testing.no_such_name


def test_a_question_becomes_an_answer_that_can_be_judged() -> None:
    """The shipped model after its prompt: ids in, text out, and a verdict; PROMPTS maps names to prompts."""
    fact = testing.load_facts("demo").facts[0]
    lm = testing.load_model(DEMO, device="cpu")
    (ids,) = testing.encode_questions(lm.tokenizer, [fact.question], testing.PROMPTS["paper"])
    (completion,) = testing.generate(lm, [ids], max_new_tokens=4)
    assert len(completion.ids) <= 4
    matcher = testing.FactMatcher(fact, load_synonyms())
    assert matcher.words(fact.objects[0]) and not matcher.words("")
    example = testing.encode_qa(testing.load_tokenizer(DEMO), fact.question, fact.objects[0])
    assert example.ids[: example.n_prompt] == ids
    metas = testing.open_source(DEMO).metas
    assert sum(meta.numel for meta in metas) > 1_000_000


def test_importing_the_names_loads_no_torch() -> None:
    program = (
        "import sys; from sftknow_core.testing import load_facts, PROMPTS; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "False", ran.stderr
