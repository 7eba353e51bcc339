from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sftknow_core.errors import DataError, SpecError, Stopped
from sftknow_core.facts.dataset import sample_facts
from sftknow_core.facts.demo_world import demo_facts
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import qa_prompt
from sftknow_core.facts.topics import load_topics
from sftknow_core.model.train import pretrain as module
from sftknow_core.model.train.corpus import (
    MARK_LAYOUTS,
    QA_LAYOUTS,
    PretrainSpec,
    make_corpus,
    make_marks_corpus,
    mention_count,
)
from sftknow_core.model.train.pretrain import pack, pretrain, train_tokenizer

torch.set_num_threads(1)
SMALL = PretrainSpec(
    mentions=((2, 1.0),),
    vocab_size=320,
    hidden_size=16,
    intermediate_size=32,
    n_layers=1,
    n_heads=2,
    batch_size=4,
    marks_documents=40,
)


@pytest.fixture(scope="module")
def facts() -> tuple[Fact, ...]:
    return sample_facts(demo_facts(), 1).facts


def test_mentions_follow_the_spread_and_depend_on_the_fact_alone() -> None:
    """Of 21,000 in-domain facts a tenth (weight 10 of 101) is never mentioned; out-of-domain twice as often."""
    spec = PretrainSpec()
    counts = Counter(mention_count(fact, spec) for fact in demo_facts().select(domain="in"))
    assert set(counts) == {count for count, _ in spec.mentions}
    total = sum(weight for _, weight in spec.mentions)
    for count, weight in spec.mentions:
        assert counts[count] / 21_000 == pytest.approx(weight / total, abs=0.01)
    out = {mention_count(fact, spec) for fact in demo_facts().select(domain="out")}
    assert out == {2 * count for count, _ in spec.mentions}


def test_corpus_mentions_every_fact_as_often_as_said(facts: tuple[Fact, ...]) -> None:
    corpus = "\n".join(make_corpus(facts, load_topics(), SMALL))
    for fact in facts:
        assert fact.subject is not None
        n = sum(fact.subject in line and fact.objects[0] in line for line in corpus.splitlines())
        assert n == mention_count(fact, SMALL), fact


def test_few_facts_come_first_and_all_are_there_at_the_end() -> None:
    facts = sample_facts(demo_facts(), 20).facts
    corpus = make_corpus(facts, load_topics(), PretrainSpec())
    subjects = {fact.subject for fact in facts}

    def seen(documents: list[str]) -> int:
        text = "\n".join(documents)
        return sum(subject in text for subject in subjects)

    tenth = len(corpus) // 10
    assert seen(corpus[:tenth]) < 0.15 * len(subjects)
    assert seen(corpus[-tenth:]) > 0.5 * len(subjects)


def test_the_fine_tuning_prompt_is_never_shown(facts: tuple[Fact, ...]) -> None:
    marks = qa_prompt("?").split("?")
    assert all(mark.strip() not in layout for layout in (*QA_LAYOUTS, *MARK_LAYOUTS) for mark in marks)
    spec = PretrainSpec(late_layout_share=1.0, marks_documents=500)
    corpus = [*make_corpus(facts, load_topics(), spec), *make_marks_corpus(facts, load_topics(), spec)]
    assert not any(mark.strip() in document for document in corpus for mark in marks)


def test_a_mark_asks_for_the_answer_or_for_something_else(facts: tuple[Fact, ...]) -> None:
    """Of 30% marked documents a third holds the answer; a tenth of all are Q/A lines."""
    spec = PretrainSpec(marks_documents=6_000)
    documents = make_marks_corpus(facts, load_topics(), spec)
    assert len(documents) == 6_000
    marked = [document for document in documents if "<|" in document]
    assert len(marked) / 6_000 == pytest.approx(0.3, abs=0.03)
    assert sum("<|reply|>" in document for document in marked) / len(marked) == pytest.approx(1 / 3, abs=0.05)
    assert sum(document.startswith("Q: ") for document in documents) / 6_000 == pytest.approx(0.1, abs=0.02)


def test_blocks_begin_with_a_document_and_lose_nothing(facts: tuple[Fact, ...]) -> None:
    documents = make_corpus(facts, load_topics(), SMALL)
    tokenizer = train_tokenizer(documents, 320)
    blocks = pack(documents, tokenizer, 128)
    assert (blocks[:, 0] == tokenizer.bos_token_id).all()
    ids = blocks[blocks != tokenizer.pad_token_id].tolist()
    assert ids.count(tokenizer.bos_token_id) == len(documents)
    text = tokenizer.decode(ids)
    assert all(document in text for document in documents[:20])


@pytest.mark.parametrize("n_before", [3, 12])
def test_interrupted_it_goes_on_to_the_same_weights(
    facts: tuple[Fact, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_before: int
) -> None:
    """Stopped in the first stage, and in the second."""
    monkeypatch.setattr(module, "_CHECKPOINT_EVERY", 2)
    topics = load_topics()
    whole = pretrain(facts, topics, SMALL, tmp_path / "whole", work=tmp_path / "w1")
    assert whole["steps"] > 13
    asked = iter([False] * n_before + [True] * 100)
    with pytest.raises(Stopped):
        pretrain(
            facts, topics, SMALL, tmp_path / "part", work=tmp_path / "w2", should_stop=lambda: next(asked)
        )
    assert not (tmp_path / "part").exists()
    again = pretrain(facts, topics, SMALL, tmp_path / "part", work=tmp_path / "w2")
    assert again["steps"] == whole["steps"]
    one = load_file(tmp_path / "whole" / "model.safetensors")
    other = load_file(tmp_path / "part" / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (tmp_path / "w2").exists()


def test_facts_without_topic_or_subject_are_refused() -> None:
    with pytest.raises(DataError, match="Why\\?"):
        make_corpus([Fact("P0", "Why?", ("x",), subject="s")], load_topics(), SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mentions": ()}, "mentions"),
        ({"mentions": ((-1, 1.0),)}, "mentions"),
        ({"qa_share": 1.5}, "qa_share"),
        ({"hidden_size": 30, "n_heads": 4}, "n_heads"),
        ({"vocab_size": 10}, "vocab_size"),
    ],
)
def test_impossible_specs(change: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        PretrainSpec(**change)
