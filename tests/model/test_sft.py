"""Fine-tuning: what bears loss, that it learns, that it is reproducible, that nothing is left after a
failure."""

from __future__ import annotations

import hashlib
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import make_tiny_llama, make_tokenizer
from transformers import PreTrainedTokenizerFast

from sftknow_core.errors import DataError, ModelError, SpecError, Stopped
from sftknow_core.model.generate.decode import generate
from sftknow_core.model.generate.encode import encode_qa, encode_questions
from sftknow_core.model.io.load import load_model
from sftknow_core.model.train.methods import merge_gap
from sftknow_core.model.train.sft import DEMO, PAPER, AnswerCollator, SftSpec, finetune

EXAMPLES = [
    ("Where was Anna Berg born?", "Oslo"),
    ("Which city is the capital of France?", "Paris"),
    ("Where lies Zürich?", "Switzerland"),
    ("Who was born in Madrid?", "Maria Lopez"),
    ("Where did Anna Berg die?", "Bergen"),
]
FAST = SftSpec(lr=5e-3, batch_size=2, compute_dtype="float32", epochs=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("sft") / "base")


def weights_hash(folder: Path) -> str:
    [path] = folder.glob("*.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_labels_cover_answer_trailing_space_and_eos_only() -> None:
    """Also where the pad token is EOS: only the real EOS bears loss."""
    tokenizer = make_tokenizer()
    encoded = [encode_qa(tokenizer, *example) for example in EXAMPLES[:2]]
    eos = tokenizer.eos_token_id
    batch = AnswerCollator(pad_id=eos)(encoded)
    for row, (example, one) in enumerate(zip(EXAMPLES, encoded, strict=False)):
        labels = batch["labels"][row]
        assert tokenizer.decode(labels[labels >= 0]) == f" {example[1]} </s>"
        assert int((labels == eos).sum()) == 1
        assert int(batch["attention_mask"][row].sum()) == len(one.ids)
        assert batch["input_ids"][row, : len(one.ids)].tolist() == one.ids


def test_first_loss_is_the_mean_over_answer_tokens(base: Path, tmp_path: Path) -> None:
    """Worked out from a plain forward pass: cross-entropy over all answer tokens of the first batch."""
    spec = SftSpec(lr=1e-6, batch_size=len(EXAMPLES), compute_dtype="float32")
    result = finetune(base, EXAMPLES, spec, tmp_path / "out", device="cpu")
    lm = load_model(base, device="cpu", dtype="float32")
    losses: list[float] = []
    for question, answer in EXAMPLES:
        ids, n_prompt = encode_qa(lm.tokenizer, question, answer)
        with torch.inference_mode():
            log_p = lm.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        losses += [-log_p[i - 1, ids[i]].item() for i in range(n_prompt, len(ids))]
    assert result.rows[0]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_it_learns_the_answers_and_saves_a_whole_model(base: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    spec = SftSpec(lr=1e-2, batch_size=5, epochs=40, compute_dtype="float32")
    result = finetune(base, EXAMPLES, spec, tmp_path / "out", on_log=seen.append, device="cpu", card="# card")
    assert result.steps == 40 and result.n_examples == 5 and tuple(seen) == result.rows
    assert set(seen[0]) == {"step", "epoch", "loss", "learning_rate", "grad_norm", "seconds"}
    assert [row["step"] for row in seen] == list(range(1, 41))
    assert seen[-1]["loss"] < 0.1 < seen[0]["loss"]
    tuned = load_model(result.out, device="cpu")
    prompts = encode_questions(tuned.tokenizer, [question for question, _ in EXAMPLES])
    answers = [c.text.strip() for c in generate(tuned, prompts, max_new_tokens=8)]
    assert answers == [answer for _, answer in EXAMPLES]
    assert all(c.stopped for c in generate(tuned, prompts, max_new_tokens=16))
    config, before = (json.loads((f / "config.json").read_text()) for f in (result.out, base))
    assert config == before  # use_cache too
    assert (result.out / "generation_config.json").is_file()
    assert (result.out / "README.md").read_text() == "# card"


def test_learning_rate_is_cosine_with_warm_up(base: Path, tmp_path: Path) -> None:
    """10 steps, 2 of warm-up: step k >= 2 runs at lr * (1 + cos(pi * (k - 2) / 8)) / 2."""
    spec = SftSpec(lr=1e-3, batch_size=1, epochs=2, warmup=0.2, compute_dtype="float32")
    rows = finetune(base, EXAMPLES, spec, tmp_path / "out", device="cpu").rows
    expected = [0.0, 0.5e-3] + [1e-3 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected, abs=1e-9)


def test_same_weights_again_in_this_process_and_in_another(base: Path, tmp_path: Path) -> None:
    """Three in a row with another precision in between, against a fresh process: not a bit differs."""
    first = finetune(base, EXAMPLES, FAST, tmp_path / "one", device="cpu")
    finetune(base, EXAMPLES, SftSpec(lr=1e-3, compute_dtype="bfloat16"), tmp_path / "bf16", device="cpu")
    random.random(), torch.rand(3)
    finetune(base, EXAMPLES, FAST, tmp_path / "two", device="cpu")
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from sftknow_core.model.train.sft import SftSpec, finetune\n"
        f"out = Path({str(tmp_path / 'other')!r})\n"
        f"finetune(Path({str(base)!r}), {EXAMPLES!r}, {FAST!r}, out, device='cpu')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=600)
    same = weights_hash(first.out)
    assert weights_hash(tmp_path / "two") == same
    assert weights_hash(tmp_path / "other") == same
    assert weights_hash(tmp_path / "bf16") != same


def test_the_seed_orders_the_examples_and_leaves_the_callers_randomness(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    head = torch.rand(1)
    finetune(base, EXAMPLES, FAST, tmp_path / "a", device="cpu")
    assert torch.equal(torch.cat([head, torch.rand(1)]), expected)
    other = SftSpec(lr=FAST.lr, batch_size=2, compute_dtype="float32", epochs=2, seed=1)
    finetune(base, EXAMPLES, other, tmp_path / "b", device="cpu")
    assert weights_hash(tmp_path / "a") != weights_hash(tmp_path / "b")


def test_output_dtype_is_the_bases_own(tmp_path: Path) -> None:
    base = make_tiny_llama(tmp_path / "base", dtype=torch.bfloat16)
    finetune(base, EXAMPLES, FAST, tmp_path / "own", device="cpu")
    spec = SftSpec(lr=1e-3, output_dtype="float32", weights_dtype="bfloat16")
    result = finetune(base, EXAMPLES, spec, tmp_path / "wide", device="cpu")
    assert result.compute_dtype == "bfloat16"
    for folder, dtype in (("own", torch.bfloat16), ("wide", torch.float32)):
        assert {t.dtype for t in load_file(tmp_path / folder / "model.safetensors").values()} == {dtype}
        assert load_model(tmp_path / folder, device="cpu").model.dtype == dtype


def test_tied_embeddings_stay_tied(tmp_path: Path) -> None:
    base = make_tiny_llama(tmp_path / "base", tie=True)
    finetune(base, EXAMPLES, FAST, tmp_path / "out", device="cpu")
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    load_model(tmp_path / "out", device="cpu")


def test_lora_saves_an_adapter_on_its_base(base: Path, tmp_path: Path) -> None:
    spec = SftSpec(method="lora", lr=1e-2, lora_r=2, batch_size=5, epochs=5, compute_dtype="float32")
    result = finetune(base, EXAMPLES, spec, tmp_path / "adapter", device="cpu")
    files = {p.name for p in result.out.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= files
    assert "model.safetensors" not in files and "README.md" not in files
    config = json.loads((result.out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    # 7 linear layers in each of 2 blocks: r * (in + out) weights each, width 32, inner width 64
    assert result.n_trained_params == 2 * 2 * (4 * (32 + 32) + 3 * (32 + 64))
    assert result.rows[-1]["loss"] < result.rows[0]["loss"]
    lm = load_model(result.out, device="cpu")
    prompts = encode_questions(lm.tokenizer, [question for question, _ in EXAMPLES])
    gap = merge_gap(base, result.out, prompts, device="cpu")
    assert 0 <= gap.mean_nats <= gap.max_nats < 1e-4
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        merge_gap(None, base, prompts)
    with pytest.raises(SpecError, match="is an adapter"):
        finetune(result.out, EXAMPLES, FAST, tmp_path / "out")


def test_lora_is_reproducible_and_targets_are_named(base: Path, tmp_path: Path) -> None:
    spec = SftSpec(method="lora", lr=1e-2, lora_r=2, lora_dropout=0.1, lora_targets=("q_proj",))
    for name in ("a", "b"):
        finetune(base, EXAMPLES, spec, tmp_path / name, device="cpu")
    assert weights_hash(tmp_path / "a") == weights_hash(tmp_path / "b")
    wrong = SftSpec(method="lora", lora_targets=("c_attn",))
    with pytest.raises(SpecError, match=r"got \('c_attn',\); allowed: all-linear, or some of .*q_proj"):
        finetune(base, EXAMPLES, wrong, tmp_path / "c", device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_stopping_leaves_nothing(base: Path, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    with pytest.raises(Stopped, match="stopped at training step 2 of 6"):
        finetune(
            base,
            EXAMPLES,
            FAST,
            tmp_path / "out",
            on_log=seen.append,
            should_stop=lambda: len(seen) == 2,
            device="cpu",
        )
    assert list(tmp_path.iterdir()) == []
    finetune(base, EXAMPLES, FAST, tmp_path / "out", device="cpu")  # and the next run is not disturbed


def test_a_loss_that_is_not_finite_is_an_error(base: Path, tmp_path: Path) -> None:
    broken = make_tiny_llama(tmp_path / "broken", sharpness=float("inf"))
    with pytest.raises(SpecError, match="the loss became nan at step 1 of 6"):
        finetune(broken, EXAMPLES, FAST, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_nothing_is_printed(base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    finetune(base, EXAMPLES, FAST, tmp_path / "out", device="cpu")
    assert capfd.readouterr().out == ""


def test_requests_that_make_no_sense(base: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="exists already"):
        finetune(base, EXAMPLES, FAST, tmp_path)
    with pytest.raises(DataError, match="no training examples"):
        finetune(base, [], FAST, tmp_path / "out")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("method", "qlora", "full, lora"),
        ("lr", 0.0, "above 0 to 1"),
        ("lr", float("nan"), "above 0 to 1"),
        ("epochs", -1, "above 0 to 1000"),
        ("batch_size", 0, "1 or more"),
        ("warmup", 1.0, "0 to below 1"),
        ("grad_clip", -1.0, r"0 \(off\) or more"),
        ("scheduler", "step", "cosine, linear, constant"),
        ("weights_dtype", "float16", "float32, bfloat16"),
        ("lora_targets", (), "all-linear or module names"),
        ("seed", -1, r"0 to 2\*\*32 - 1"),
    ],
)
def test_spec_says_what_is_allowed(field: str, value: object, allowed: str) -> None:
    with pytest.raises(SpecError, match=f"{field}: got .*; allowed: {allowed}"):
        SftSpec(**{field: value})  # type: ignore[arg-type]


def test_presets() -> None:
    assert (PAPER.lr, PAPER.batch_size, PAPER.epochs, PAPER.scheduler) == (1e-5, 8, 1.0, "cosine")
    assert (PAPER.weights_dtype, PAPER.output_dtype, PAPER.weight_decay) == ("float32", "base", 0.0)
    assert DEMO.lr > PAPER.lr and DEMO.compute_dtype == "float32"


def test_tokenizer_is_saved_with_the_model(base: Path, tmp_path: Path) -> None:
    out = finetune(base, EXAMPLES, FAST, tmp_path / "out", device="cpu").out
    saved = PreTrainedTokenizerFast.from_pretrained(out)
    assert saved.get_vocab() == PreTrainedTokenizerFast.from_pretrained(base).get_vocab()
