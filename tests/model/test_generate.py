"""Completions do not depend on batching; shared prefixes give the same samples as plain sampling."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
import pytest
import torch
from tiny import make_tiny_llama, make_tokenizer
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from sftknow_core.errors import DataError, ModelError, SpecError
from sftknow_core.model.generate import decode
from sftknow_core.model.generate.decode import Completion, generate, generate_and_keep
from sftknow_core.model.generate.sample_shared import can_share, sample_shared
from sftknow_core.model.generate.sampling import SeededSampler, prompt_key
from sftknow_core.model.io.load import LanguageModel, load_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(make_tiny_llama(tmp_path_factory.mktemp("g") / "m", sharpness=3.0), device="cpu")


def random_prompts(n: int, vocab: int = 300) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, vocab, size=rng.integers(3, 15)).tolist() for _ in range(n)]


def sampler_for(n: int, temperature: float = 0.7) -> SeededSampler:
    return SeededSampler(0, temperature, np.array([prompt_key(str(i), 0) for i in range(n)], dtype=np.uint64))


def by_hand(lm: LanguageModel, prompt: list[int], n_new: int) -> list[int]:
    """Greedy decoding with a full forward pass a token: no cache, no padding, no generate()."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(n_new):
            ids.append(int(lm.plain(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in lm.eos_ids:
                break
    return ids[len(prompt) :]


def gpt2(lm: LanguageModel) -> LanguageModel:
    """Learned absolute positions: wrong position ids under left padding would show."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(lm.tokenizer), n_layer=2, n_head=2, n_embd=32, eos_token_id=1, bos_token_id=1
    )
    model = GPT2LMHeadModel(config)
    for parameter in model.parameters():
        parameter.data *= 5 if parameter.dim() == 2 else 1
    return LanguageModel(model.eval(), lm.tokenizer, CPU)


def sliding(lm: LanguageModel) -> LanguageModel:
    """A window of six tokens, shorter than most prompts."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(lm.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=6,
    )
    model = MistralForCausalLM(config)
    for parameter in model.parameters():
        parameter.data *= 15 if parameter.dim() == 2 else 1
    return LanguageModel(model.eval(), lm.tokenizer, CPU)


def llama(lm: LanguageModel) -> LanguageModel:
    return lm


@pytest.mark.parametrize("make", [llama, gpt2, sliding])
def test_batch_of_one_and_of_64_give_the_same(
    lm: LanguageModel, make: Callable[[LanguageModel], LanguageModel]
) -> None:
    model = make(lm)
    prompts = random_prompts(64)
    alone = generate(model, prompts, max_new_tokens=8, batch_size=1)
    assert generate(model, prompts, max_new_tokens=8, batch_size=64) == alone
    assert [list(c.ids) for c in alone[:8]] == [
        [t for t in by_hand(model, p, 8) if t not in model.eos_ids] for p in prompts[:8]
    ]


@pytest.mark.parametrize("make", [llama, gpt2, sliding])
def test_rows_that_ended_leave_the_batch_and_the_others_go_on(
    lm: LanguageModel, make: Callable[[LanguageModel], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In rounds of 3 and 9 tokens; some rows end in the first one, some in the second, some never."""
    model = make(lm)
    prompts = random_prompts(60)
    in_one_go = [by_hand(model, p, 12) for p in prompts]
    # whatever token is frequent early on ends a completion, so that some end soon and some late
    counts = np.bincount([t for row in in_one_go for t in row[1:6]])
    monkeypatch.setattr(model, "eos_ids", (int(counts.argsort()[-2]),))
    monkeypatch.setattr(decode, "FIRST_ROUND", 3)
    sizes = []
    forward = type(model.plain).forward

    @wraps(forward)  # generate looks at the signature
    def counting(self: object, *args: object, **kwargs: object) -> object:
        sizes.append(len(kwargs["input_ids"]))  # type: ignore[arg-type]
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model.plain), "forward", counting)
    found = generate(model, prompts, max_new_tokens=12, batch_size=64)
    monkeypatch.setattr(type(model.plain), "forward", forward)
    expected = [by_hand(model, p, 12) for p in prompts]
    assert [list(c.ids) for c in found] == [[t for t in row if t not in model.eos_ids] for row in expected]
    ends = [len(c.ids) for c in found if c.stopped]
    assert min(ends) < 3 and max(ends) > 3 and not all(c.stopped for c in found)
    assert sizes[:3] == [60] * 3 and max(sizes[3:]) == sum(
        len(row) > 3 or row[-1] not in model.eos_ids for row in expected
    )


@pytest.mark.parametrize("make", [llama, gpt2, sliding])
def test_what_all_prompts_begin_with_is_read_once(
    lm: LanguageModel, make: Callable[[LanguageModel], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six tokens before prompts of unlike length: the gap of the padding behind them moves no position."""
    model = make(lm)
    prompts = [[7, 8, 9, 10, 11, 12, *rest] for rest in random_prompts(20)]
    read: list[tuple[int, ...]] = []
    forward = type(model.plain).forward

    @wraps(forward)
    def reading(self: object, *args: object, **kwargs: object) -> object:
        read.append(tuple(kwargs["input_ids"].shape))  # type: ignore[attr-defined]
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model.plain), "forward", reading)
    completions, logits = generate_and_keep(model, prompts, max_new_tokens=8, batch_size=20)
    monkeypatch.setattr(type(model.plain), "forward", forward)
    expected = [by_hand(model, p, 8) for p in prompts]
    assert [list(c.ids) for c in completions] == [
        [t for t in row if t not in model.eos_ids] for row in expected
    ]
    with torch.inference_mode():
        alone = torch.stack([model.plain(torch.tensor([p])).logits[0, -1] for p in prompts])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    longest = max(map(len, prompts))
    # a sliding window would count the gap: there every prompt is read whole
    assert read[:2] == ([(20, longest), (20, 1)] if make is sliding else [(1, 6), (20, longest - 6)])


def test_equal_prompts_keep_a_token_of_their_own(lm: LanguageModel) -> None:
    """Nothing but the beginning: the last token is still read in every row."""
    prompts = [[7, 8, 9, 10, 11, 12]] * 9
    found = generate(lm, prompts, max_new_tokens=4)
    assert found == generate(lm, prompts[:1], max_new_tokens=4) * 9


def test_the_first_logits_are_those_of_a_forward_pass(lm: LanguageModel) -> None:
    prompts = random_prompts(9)
    completions, logits = generate_and_keep(lm, prompts, max_new_tokens=8, batch_size=4)
    assert completions == generate(lm, prompts, max_new_tokens=8)
    with torch.inference_mode():
        alone = torch.stack([lm.plain(torch.tensor([p])).logits[0, -1] for p in prompts])
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)
    nothing, none = generate_and_keep(lm, [], max_new_tokens=8)
    assert nothing == [] and none.shape == (0, alone.shape[1])


@pytest.mark.parametrize("make", [llama, gpt2, sliding])
def test_shared_prefixes_give_plain_samples(
    lm: LanguageModel, make: Callable[[LanguageModel], LanguageModel]
) -> None:
    model = make(lm)
    prompts = random_prompts(30)
    assert can_share(model)
    sampler = sampler_for(30, temperature=0.2)
    shared = sample_shared(model, prompts, 10, 8, sampler)
    repeated = [p for p in prompts for _ in range(10)]
    plain = generate(model, repeated, max_new_tokens=8, sampler=sampler.expand(10), batch_size=7)
    assert [c for samples in shared for c in samples] == plain
    assert 1 < len({c.ids for c in plain}) < len(plain)  # some coincide, some do not


def test_samples_do_not_depend_on_their_batch(lm: LanguageModel) -> None:
    prompts = random_prompts(12)
    sampler = sampler_for(12)
    together = sample_shared(lm, prompts, 5, 6, sampler)
    order = [7, 0, 11, 3]
    part = sample_shared(lm, [prompts[i] for i in order], 5, 6, sampler.take(order), batch_size=2)
    assert part == [together[i] for i in order]
    assert [s[:2] for s in together] == sample_shared(lm, prompts, 2, 6, sampler)


def test_shared_work_is_less(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a low temperature all ten samples coincide, so that every forward pass holds one row a prompt."""
    rows: list[int] = []
    forward = type(lm.plain).forward

    def counting(self: object, *args: object, **kwargs: object) -> object:
        rows.append(len(kwargs["input_ids"]))  # type: ignore[arg-type]
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(lm.plain), "forward", counting)
    sample_shared(lm, random_prompts(4), 10, 5, sampler_for(4, temperature=1e-6))
    assert len(rows) == 5 and max(rows) <= 4


def test_cache_that_cannot_select_rows_falls_back(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, sampler = random_prompts(4), sampler_for(4)
    shared = sample_shared(lm, prompts, 3, 4, sampler)
    monkeypatch.setattr("sftknow_core.model.generate.sample_shared.can_share", lambda _: False)
    seen: list[tuple[int, int]] = []
    apart = sample_shared(lm, prompts, 3, 4, sampler, batch_size=1, progress=lambda *p: seen.append(p))
    assert apart == shared
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_stopped_says_whether_eos_came(lm: LanguageModel) -> None:
    """Random samples meet EOS now and then; its id is never among the completion's."""
    samples = sample_shared(lm, random_prompts(40), 10, 8, sampler_for(40, temperature=1.5))
    flat = [c for s in samples for c in s]
    assert any(c.stopped for c in flat) and not all(c.stopped for c in flat)
    assert all(len(c.ids) == 8 for c in flat if not c.stopped)
    assert all(len(c.ids) < 8 and lm.eos_ids[0] not in c.ids for c in flat if c.stopped)
    assert all(c.text == lm.tokenizer.decode(c.ids, skip_special_tokens=True) for c in flat)


def test_shipped_generation_config_changes_nothing(lm: LanguageModel) -> None:
    prompts = random_prompts(8)
    plain = generate(lm, prompts, max_new_tokens=6)
    shipped = lm.plain.generation_config
    lm.plain.generation_config = GenerationConfig(
        do_sample=True, temperature=5.0, top_k=3, repetition_penalty=3.0, eos_token_id=1, max_length=7
    )
    own = lm.plain.generation_config
    try:
        assert generate(lm, prompts, max_new_tokens=6) == plain
        assert lm.plain.generation_config is own
    finally:
        lm.plain.generation_config = shipped


def test_out_of_memory_halves_the_batch_and_goes_on(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = decode._complete, []

    def scarce(lm: LanguageModel, prompts: list[list[int]], *rest: object) -> list[Completion]:
        sizes.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(lm, prompts, *rest)  # type: ignore[arg-type]

    prompts = random_prompts(10)
    expected = generate(lm, prompts, max_new_tokens=3)
    monkeypatch.setattr(decode, "_complete", scarce)
    assert generate(lm, prompts, max_new_tokens=3, batch_size=8) == expected
    assert sizes == [8, 4, 2, 2, 2, 2, 2]


def test_out_of_memory_with_one_prompt_and_other_failures(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[Completion]:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(decode, "_complete", full)
    with pytest.raises(ModelError, match="single prompt"):
        generate(lm, random_prompts(4), max_new_tokens=3)

    def broken(*_: object) -> list[Completion]:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(decode, "_complete", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        generate(lm, random_prompts(4), max_new_tokens=3)


def test_requests_that_make_no_sense(lm: LanguageModel) -> None:
    with pytest.raises(SpecError, match="prompt 1 has no tokens"):
        generate(lm, [[3], []], max_new_tokens=2)
    with pytest.raises(SpecError, match="max_new_tokens 0"):
        generate(lm, [[3]], max_new_tokens=0)
    with pytest.raises(SpecError, match="2 sampling keys for 1 prompts"):
        generate(lm, [[3]], max_new_tokens=2, sampler=sampler_for(2))
    assert generate(lm, [], max_new_tokens=2) == []
    assert sample_shared(lm, [], 3, 2, sampler_for(0)) == []


def test_model_without_any_eos(lm: LanguageModel) -> None:
    """Nothing stops it: every completion is as long as the limit."""
    endless = gpt2(lm)
    endless.plain.generation_config.eos_token_id = None
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    endless = LanguageModel(endless.model, tokenizer, CPU)
    assert endless.eos_ids == () and endless.pad_id == 0
    completions = generate(endless, random_prompts(5), max_new_tokens=4)
    assert all(len(c.ids) == 4 and not c.stopped for c in completions)
    samples = sample_shared(endless, random_prompts(5), 3, 4, sampler_for(5))
    assert all(len(c.ids) == 4 and not c.stopped for s in samples for c in s)


def test_state_space_model_is_sampled_apart(lm: LanguageModel) -> None:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=len(lm.tokenizer), hidden_size=16, num_hidden_layers=2, state_size=4)
    mamba = LanguageModel(MambaForCausalLM(config).eval(), lm.tokenizer, CPU)
    assert not can_share(mamba)
    samples = sample_shared(mamba, [[5, 6, 7], [8, 9, 10]], 3, 3, sampler_for(2))
    assert [len(s) for s in samples] == [3, 3]


def test_a_prompt_longer_than_the_context_is_told_before_any_work(lm: LanguageModel) -> None:
    assert lm.context is not None
    fits = [5] * (lm.context - 2)
    assert len(generate(lm, [fits], max_new_tokens=2)) == 1
    with pytest.raises(DataError, match=f"context of {lm.context:,} tokens"):
        generate(lm, [[5, 6], [*fits, 5]], max_new_tokens=2)
