"""Logits and log-probabilities against a plain forward pass of one sequence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import make_tiny_llama

from sftknow_core.errors import SpecError
from sftknow_core.model.generate.logits import _merge_prefixes, continuation_logprobs, next_token_logits
from sftknow_core.model.io.load import LanguageModel, load_model


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(make_tiny_llama(tmp_path_factory.mktemp("l") / "m"), device="cpu")


def logits_of(lm: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(lm.plain(torch.tensor([ids])).logits[0])


def random_prompts(n: int) -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(5, 300, size=rng.integers(2, 12)).tolist() for _ in range(n)]


def test_next_token_logits_in_prompt_order(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = random_prompts(20)
    monkeypatch.setattr("sftknow_core.model.generate.logits.CHUNK_BYTES", 7 * 4 * len(lm.tokenizer))
    parts = list(next_token_logits(lm, prompts, batch_size=3))
    assert [(s.start, s.stop) for s, _ in parts] == [(0, 7), (7, 14), (14, 20)]
    together = torch.cat([logits for _, logits in parts])
    assert together.dtype == torch.float32
    expected = torch.stack([logits_of(lm, p)[-1] for p in prompts])
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)


def test_log_probability_of_a_continuation(lm: LanguageModel) -> None:
    """log p = sum over its tokens of log softmax(logits / T) after what precedes each."""
    prompts = random_prompts(12)
    continuations = [[7], [8, 9], [8, 9, 10]] * 4
    for temperature in (1.0, 0.7):
        got = continuation_logprobs(lm, prompts, continuations, temperature, batch_size=5)
        for prompt, continuation, value in zip(prompts, continuations, got, strict=True):
            log_p = torch.log_softmax(logits_of(lm, prompt + continuation) / temperature, -1)
            expected = sum(log_p[len(prompt) - 1 + j, t].item() for j, t in enumerate(continuation))
            assert value == pytest.approx(expected, abs=1e-4)


def test_aliases_of_one_prompt_share_their_pass(lm: LanguageModel) -> None:
    """All next tokens of one prompt: their probabilities sum to 1, and one sequence was read."""
    prompt = [5, 6, 7]
    vocab = len(lm.tokenizer)
    values = continuation_logprobs(lm, [prompt] * vocab, [[t] for t in range(vocab)])
    assert np.exp(values).sum() == pytest.approx(1.0, abs=1e-5)


def test_prefixes_are_read_with_their_extensions() -> None:
    sequences = [(1, 2), (1, 2, 3), (1, 2, 4), (5,), (1, 2), (1,)]
    hosts, host_of = _merge_prefixes(sequences)
    assert sorted(hosts) == [(1, 2, 3), (1, 2, 4), (5,)]
    assert all(hosts[h][: len(s)] == s for s, h in zip(sequences, host_of, strict=True))


def test_requests_that_make_no_sense(lm: LanguageModel) -> None:
    with pytest.raises(SpecError, match="at least one token"):
        continuation_logprobs(lm, [[5]], [[]])
    with pytest.raises(SpecError, match="got temperature 0"):
        continuation_logprobs(lm, [[5]], [[6]], temperature=0)
    assert list(next_token_logits(lm, [])) == []
    assert continuation_logprobs(lm, [], []) == []
