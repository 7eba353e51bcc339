"""Expected mastery: which token sequences count, and their probabilities against numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sftknow_core.measure.mastery import answer_tokens, start_probabilities, without_extensions
from sftknow_core.model.generate.encode import encode_prompts

sequences = st.lists(st.lists(st.integers(0, 2), max_size=4).map(tuple), max_size=8)


def test_extensions_go_by_hand():
    """(1, 2, 3) and (1, 2) begin with (1, 2); (1, 3) begins with none; (2,) stands for its repetition."""
    assert without_extensions([(1, 2, 3), (1, 2), (1, 3), (2,), (2,), ()]) == ((1, 2), (1, 3), (2,))


@given(sequences)
def test_what_stays_excludes_each_other_and_covers_everything(given_sequences):
    kept = without_extensions(given_sequences)
    assert not any(a != b and b[: len(a)] == a for a in kept for b in kept)
    assert all(any(s[: len(k)] == k for k in kept) for s in given_sequences if s)


def test_answers_are_cut_after_their_prompt(tokenizer):
    (found,) = answer_tokens(tokenizer, ["Ann was born in"], [("Oslo", "Oslo City", " Paris ")])
    assert [tokenizer.decode(list(ids)) for ids in found] == [" Oslo", " Paris"]
    assert answer_tokens(tokenizer, [], []) == []


def test_probabilities_agree_with_a_slow_softmax(make_lm, tokenizer):
    """Two tokens in turn, temperature 0.5, from the model's own logits one step at a time."""
    table = {" in": {" Oslo": 0.5, " Rome": 0.3, " the": 0.2}, " the": {" City": 0.6, " Paris": 0.4}}
    lm = make_lm(table)
    prompt = encode_prompts(tokenizer, ["Ann was born in"])[0]
    (alternatives,) = answer_tokens(tokenizer, ["Ann was born in"], [("Oslo", "the City")])

    def probability(ids):
        p = 1.0
        for n in range(len(ids)):
            with torch.no_grad():
                logits = lm.model(torch.tensor([[*prompt, *ids[:n]]])).logits[0, -1].double().numpy() / 0.5
            weights = np.exp(logits - logits.max())
            p *= weights[ids[n]] / weights.sum()
        return p

    (found,) = start_probabilities(lm, [prompt], [alternatives], 0.5)
    assert found == pytest.approx(sum(probability(ids) for ids in alternatives), abs=1e-6)
    assert found == pytest.approx(
        (0.25 + 0.04 * 0.36 / 0.52) / 0.38, abs=1e-6
    )  # by hand: squares, normalised


def test_no_alternatives_is_not_zero(make_lm, tokenizer):
    lm = make_lm({" in": {" Oslo": 1.0}})
    prompt = encode_prompts(tokenizer, ["Ann was born in"])[0]
    oslo = tuple(tokenizer(" Oslo", add_special_tokens=False)["input_ids"])
    assert start_probabilities(lm, [prompt, prompt], [(), (oslo,)], 0.7) == [None, pytest.approx(1.0)]
