"""The shift of a state against a base, both with known tables.

The base completes "... was born in" with " the City Oslo Rome", whoever was born. So a fact whose answer is
"the City" is kept; "City" is kept within three tokens and aligned (over "the"); "Oslo" is only within three
tokens; "Rome" comes too late.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from measure.slow_kl import slow_kl
from tiny import make_tiny_llama

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.facts.fact import Fact
from sftknow_core.facts.prompts import qa_prompt
from sftknow_core.measure import reference as reference_module
from sftknow_core.measure import shift as shift_module
from sftknow_core.measure.asking import Probes, TemplateChoice
from sftknow_core.measure.kl import NextTokens
from sftknow_core.measure.reference import BaseReference
from sftknow_core.measure.shift import first_token_rows
from sftknow_core.model.generate.encode import encode_prompts
from sftknow_core.model.generate.logits import next_token_logits
from sftknow_core.model.io.load import load_model
from sftknow_core.store.schema import TABLES


@pytest.fixture(scope="module")
def base(make_lm):
    return make_lm(
        {
            " in": {" the": 0.6, " Oslo": 0.3, " Paris": 0.1},
            " the": {" City": 0.7, " Paris": 0.3},
            " City": {" Oslo": 0.8, " Rome": 0.2},
            " Oslo": {" Rome": 1.0},
            " near": {" Rome": 1.0},
            "|>": {" Rome": 0.5, " Oslo": 0.5},
        }
    )


@pytest.fixture(scope="module")
def state(make_lm):
    return make_lm(
        {
            " in": {" Oslo": 0.9, " the": 0.1},
            " the": {" City": 0.5, " Paris": 0.5},
            "|>": {" Oslo": 0.5, " the": 0.25, " Paris": 0.25},
        }
    )


@pytest.fixture(scope="module")
def facts(make_fact):
    objects = {"Ann": "the City", "Bob": "City", "Cid": "Oslo", "Dan": "Rome"}
    return [make_fact(subject, answer) for subject, answer in objects.items()]


@pytest.fixture(scope="module")
def make_reference(base, facts, topics):
    def make(facts=facts, template=0, **more):
        choice = TemplateChoice("P19", template, 0, 0, 0, "none")
        levels = {fact.fact_id: 4 for fact in facts[:3]}
        return BaseReference(base, facts, levels, {"P19": choice}, Probes(topics, []), {}, **more)

    return make


@pytest.fixture(scope="module")
def rows(state, make_reference, facts):
    return first_token_rows(state, make_reference(), facts)


def test_which_questions_are_kept(rows):
    assert {row["base_completion"] for row in rows} == {" the City Oslo Rome"}
    assert [(row["kept"], row["kept_within3"]) for row in rows] == [
        (True, True),
        (False, True),
        (False, True),
        (False, False),
    ]
    assert [row["level"] for row in rows] == [4, 4, 4, None]


def test_shift_by_hand(rows):
    """State Oslo 1/2, the 1/4, Paris 1/4; base 0.3, 0.6, 0.1: 1/2 ln(5/3) + 1/4 ln(5/12) + 1/4 ln(5/2)."""
    for row in rows:
        assert row["kl_nats"] == pytest.approx(0.265619, abs=1e-5)
        assert row["top_tokens"][:3] == [" Oslo", *sorted((" the", " Paris"), key=row["top_tokens"].index)]
        assert row["p_state"][:3] == pytest.approx([0.5, 0.25, 0.25])
        by_token = dict(zip(row["top_tokens"], row["p_base"], strict=True))
        assert (by_token[" the"], by_token[" Oslo"], by_token[" Paris"]) == pytest.approx((0.6, 0.3, 0.1))
        assert row["mass_outside_state"] == pytest.approx(0, abs=1e-9)


def test_aligned_by_hand(rows):
    """Ann's answer needs no alignment. Bob's comes after "the": state 1/2, 1/2 against base 0.7, 0.3 gives
    1/2 ln(5/7) + 1/2 ln(5/3) = 0.087177. Cid's and Dan's stand behind a word that is no dummy."""
    aligned = [row["kl_aligned_nats"] for row in rows]
    assert aligned[:2] == pytest.approx([0.265619, 0.087177], abs=1e-5)
    assert aligned[2:] == [None, None]
    assert set(rows[1]["aligned_top_tokens"][:2]) == {" City", " Paris"}
    assert rows[1]["aligned_p_state"][:2] == pytest.approx([0.5, 0.5])
    assert sorted(rows[1]["aligned_p_base"][:2]) == pytest.approx([0.3, 0.7])
    assert (rows[2]["aligned_top_ids"], rows[2]["aligned_top_tokens"], rows[2]["aligned_p_base"]) == (
        None,
    ) * 3


def test_gold_tokens_by_hand(rows):
    """Token " the" has 1/4 after the question, as Paris has, and 0.6 after the completion prompt; City 0."""
    ann, bob, cid, _ = rows
    assert (ann["gold_token"], bob["gold_token"], cid["gold_token"]) == (" the", " City", " Oslo")
    assert (ann["gold_p_state"], ann["gold_p_base"]) == pytest.approx((0.25, 0.6))
    assert (ann["gold_rank_state"], ann["gold_rank_base"]) == (2, 1)
    assert (cid["gold_rank_state"], cid["gold_rank_base"]) == (1, 2)
    assert bob["gold_p_state"] < 1e-9


def logits_after(lm, text):
    ids = encode_prompts(lm.tokenizer, [text])[0]
    with torch.no_grad():
        return lm.model(torch.tensor([ids])).logits[0, -1].numpy()


def test_every_variant_against_numpy(base, state, facts, rows):
    question, completion = qa_prompt(facts[0].question), "Ann was born in"
    expected = {
        "kl_nats": ((state, question), (base, completion)),
        "kl_same_qa_nats": ((state, question), (base, question)),
        "kl_same_completion_nats": ((state, completion), (base, completion)),
        "kl_floor_nats": ((base, question), (base, completion)),
    }
    for name, (first, second) in expected.items():
        ids, kl, outside_first, outside_second = slow_kl(logits_after(*first), logits_after(*second))
        assert rows[0][name] == pytest.approx(kl, rel=1e-5, abs=1e-6)
        if name == "kl_nats":
            assert rows[0]["top_ids"] == ids
            assert rows[0]["mass_outside_state"] == pytest.approx(outside_first, abs=1e-7)
            assert rows[0]["mass_outside_base"] == pytest.approx(outside_second, abs=1e-7)


def test_the_base_against_itself(base, make_reference, facts):
    for row in first_token_rows(base, make_reference(), facts):
        assert (row["kl_same_qa_nats"], row["kl_same_completion_nats"]) == (0.0, 0.0)
        assert row["kl_nats"] == row["kl_floor_nats"]


def test_the_chosen_template_is_asked(state, make_reference, facts):
    """Template 1 ends in "near", where the base says Rome: Dan's answer."""
    rows = first_token_rows(state, make_reference(template=1), facts)
    assert [row["kept"] for row in rows] == [False, False, False, True]
    assert {row["template"] for row in rows} == {1}


def test_neither_memory_nor_chunks_nor_batches_change_a_number(
    state, make_reference, facts, rows, monkeypatch
):
    computed_again = make_reference(budget_bytes=0)
    assert first_token_rows(state, computed_again, facts) == rows
    assert first_token_rows(state, make_reference(), facts[2:]) == rows[2:]
    monkeypatch.setattr(shift_module, "CHUNK_BYTES", 1)
    assert first_token_rows(state, make_reference(batch_size=1), facts, batch_size=1) == rows


def test_logits_that_are_known_are_not_read_again(state, make_reference, facts, rows, monkeypatch):
    reference = make_reference()
    questions = [answer.question_prompt for answer in reference.answers]
    known = torch.cat([part for _, part in next_token_logits(state, questions)])
    read = []

    def reading(lm, prompts, **more):
        read.extend(prompts)
        return next_token_logits(lm, prompts, **more)

    monkeypatch.setattr(reference_module, "next_token_logits", reading)
    assert first_token_rows(state, reference, facts, after_question=known) == rows
    assert read and not set(questions) & set(read)
    monkeypatch.setattr(shift_module, "CHUNK_BYTES", 1)  # a chunk a fact: each has its own logits
    assert first_token_rows(state, reference, facts, after_question=known) == rows


def test_a_fact_without_completion_prompt_says_why(state, make_reference, facts):
    own = Fact("", "Where was Ann born?", ("Oslo",), None)
    ((row,), whole) = (
        first_token_rows(state, make_reference([*facts, own]), chosen) for chosen in ([own], [*facts, own])
    )
    assert "needed: 4" in row["reason"]
    assert (row["kept"], row["template"], row["base_completion"], row["p_base"]) == (False, None, None, None)
    assert (row["kl_nats"], row["kl_floor_nats"], row["gold_rank_base"]) == (None, None, None)
    assert row["kl_same_qa_nats"] > 0
    assert row["p_state"][:3] == pytest.approx([0.5, 0.25, 0.25])
    assert TABLES["first_token"].conform([r | {"state_id": "tuned"} for r in whole], "run").num_rows == 5


def test_an_infinite_shift_is_null_with_a_reason(state, make_reference, facts, monkeypatch):
    reference = make_reference()
    everywhere = reference.logits([0])
    shut_out = everywhere.after.logits.clone()
    shut_out[:, state.tokenizer.convert_tokens_to_ids("ĠOslo")] = -torch.inf
    without_oslo = replace(everywhere, after=NextTokens.of(shut_out))
    monkeypatch.setattr(reference, "logits", lambda places: without_oslo)
    (row,) = first_token_rows(state, reference, facts[:1])
    assert (row["kl_nats"], row["p_base"]) == (None, None)
    assert row["reason"].startswith("the base gives one of the ten tokens probability 0")


def test_unknown_facts_and_unlike_models_are_refused(state, make_lm, make_reference, make_fact, facts):
    reference = make_reference()
    with pytest.raises(SpecError, match="Where was Eve born"):
        first_token_rows(state, reference, [make_fact("Eve", "Oslo")])
    with pytest.raises(ModelError, match="a shift needs models with one vocabulary"):
        first_token_rows(make_lm({}, n_unused=8), reference, facts)
    broken = make_lm({})
    broken.model.lm_head.weight.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="NaN"):
        first_token_rows(broken, reference, facts)


def test_no_facts_no_rows(state, make_reference):
    assert first_token_rows(state, make_reference([]), []) == []


def test_models_with_attention_against_numpy(tmp_path, topics, make_fact):
    """Two random Llamas, questions of unlike length in one batch; each prompt read alone is the check."""
    base, state = (load_model(make_tiny_llama(tmp_path / str(i), seed=i), device="cpu") for i in range(2))
    facts = [make_fact(subject, "Oslo") for subject in ("Ann", "Anna Maria Berg of Bergen", "Bo")]
    reference = BaseReference(base, facts, {}, {}, Probes(topics, []), {})
    for fact, row in zip(facts, first_token_rows(state, reference, facts), strict=True):
        question, completion = qa_prompt(fact.question), topics["P19"].completion(0, fact.subject)
        for name, first, second in (
            ("kl_nats", (state, question), (base, completion)),
            ("kl_same_qa_nats", (state, question), (base, question)),
            ("kl_same_completion_nats", (state, completion), (base, completion)),
            ("kl_floor_nats", (base, question), (base, completion)),
        ):
            _, nats, _, _ = slow_kl(logits_after(*first), logits_after(*second))
            assert row[name] == pytest.approx(nats, rel=1e-4, abs=1e-6)
