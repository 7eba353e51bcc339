"""Restoring in memory: exact endpoints, no memory of what was there before, and a report that adds up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_source import bits_equal, fake_pair, nudged, random_tensors
from peft import LoraConfig, get_peft_model
from tiny_models import ARCHITECTURES, save_pair, tiny_model
from transformers import AutoModelForCausalLM

from sftknow_core.errors import ModelError, SpecError
from sftknow_core.model.io.adapter import open_source
from sftknow_core.model.io.tensors import ModelSource
from sftknow_core.update.pair import Pair
from sftknow_core.update.report import RestoreReport
from sftknow_core.update.restore import restore_into, survey
from sftknow_core.update.select import Region, plan_for, select
from sftknow_core.update.spec import RestoreSpec

SELECTING = ["top", "bottom", "largest", "smallest", "random", "random-reference"]


def blank(pair: Pair, fill: float = 3.0) -> dict[str, torch.Tensor]:
    return {m.name: torch.full(m.shape, fill, dtype=m.dtype) for m in pair.metas}


def apply(
    pair: Pair, strategy: str, k: str, region: str = "transformer"
) -> tuple[dict[str, torch.Tensor], RestoreReport]:
    out = blank(pair)
    return out, restore_into(out, pair, select(pair, Region(region), strategy, [k])[0])


def signed_zero_pair(dtype: torch.dtype = torch.float32) -> Pair:
    base = random_tensors(dtype=dtype)
    tuned = nudged(base)
    for name, tensor in base.items():
        tensor.view(-1)[0], tuned[name].view(-1)[0] = 0.0, -0.0
        tensor.view(-1)[1], tuned[name].view(-1)[1] = -0.0, 0.0
    return fake_pair(base, tuned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("strategy", SELECTING)
def test_endpoints_are_bit_identical(strategy: str, dtype: torch.dtype) -> None:
    """0% is tuned and 100% of everything is base, signs of zeros included."""
    pair = signed_zero_pair(dtype)
    for k, source in (("0", pair.tuned), ("100", pair.base)):
        out, report = apply(pair, strategy, k, "all")
        for meta in pair.metas:
            assert bits_equal(out[meta.name].reshape(-1), source.read(meta.name, 0, meta.numel))
        assert report.energy_taken_back == (0 if k == "0" else 1)
    assert report.n_touched == report.n_changed
    assert report.k_of_changed_percent == 100


def test_hundred_percent_of_a_region_leaves_the_rest_tuned() -> None:
    pair = signed_zero_pair()
    out, _ = apply(pair, "top", "100")
    for meta in pair.metas:
        inside = meta.kind in ("attention", "mlp", "other")
        source = pair.base if inside else pair.tuned
        assert bits_equal(out[meta.name].reshape(-1), source.read(meta.name, 0, meta.numel))


def test_what_was_there_before_does_not_matter() -> None:
    pair = signed_zero_pair()
    plans = select(pair, Region(), "top", ["60", "5", "0", "20"])
    working = blank(pair, float("nan"))
    for plan in plans:
        restore_into(working, pair, plan)
        fresh = blank(pair)
        restore_into(fresh, pair, plan)
        assert all(bits_equal(working[name], fresh[name]) for name in fresh)


@pytest.mark.parametrize("strategy", SELECTING)
def test_report_adds_up(strategy: str) -> None:
    """Counts against the output itself, sums against numpy in float64."""
    base = random_tensors()
    tuned = nudged(base, scale=1e-4)
    pair = fake_pair(base, tuned)
    out, report = apply(pair, strategy, "33.3")
    names = [t.name for t in report.tensors]
    p, s, o = (torch.cat([x[n].reshape(-1) for n in names]).double().numpy() for x in (base, tuned, out))
    r = np.abs(s - p) / (np.abs(p) + 1e-8)
    back = o != s
    assert report.n_restored == sum(t.n_restored for t in report.tensors) == 896 * 333 // 1000
    assert report.n_touched == sum(t.n_touched for t in report.tensors) == back.sum()
    assert report.n_changed == (p != s).sum()
    assert report.touched_share == back.sum() / 1176
    assert report.sum_r == pytest.approx(r.sum(), rel=1e-6)
    assert report.r_share_restored == pytest.approx(r[back].sum() / r.sum(), rel=1e-6)
    assert report.energy_taken_back == pytest.approx(
        1 - ((o - p) ** 2).sum() / ((s - p) ** 2).sum(), rel=1e-6
    )
    assert report == survey(pair, select(pair, Region(), strategy, ["33.3"])[0])


def test_top_takes_most_of_r_and_largest_most_energy() -> None:
    base = random_tensors()
    pair = fake_pair(base, nudged(base))
    reports = {strategy: apply(pair, strategy, "20")[1] for strategy in SELECTING}
    r_share = {name: report.r_share_restored or 0 for name, report in reports.items()}
    energy = {name: report.energy_taken_back or 0 for name, report in reports.items()}
    assert max(r_share, key=lambda n: r_share[n]) == "top"
    assert max(energy, key=lambda n: energy[n]) == "largest"
    assert min(r_share, key=lambda n: r_share[n]) == "bottom"


def test_layers_add_up_to_the_region() -> None:
    base = random_tensors()
    pair = fake_pair(base, nudged(base))
    whole = survey(pair, select(pair, Region(), "top", ["100"])[0])
    parts = [survey(pair, select(pair, Region("transformer", str(i)), "top", ["100"])[0]) for i in range(2)]
    assert whole.n_region == sum(part.n_region for part in parts)
    assert whole.n_changed == sum(part.n_changed for part in parts)
    assert whole.sum_d2 == pytest.approx(sum(part.sum_d2 for part in parts))
    kinds = [survey(pair, select(pair, Region(name), "top", ["50"])[0]) for name in ("attention", "mlp")]
    assert whole.n_region == sum(part.n_region for part in kinds) + 2 * 32


def test_identical_models_have_nothing_to_restore() -> None:
    base = random_tensors()
    out, report = apply(fake_pair(base, base), "top", "20")
    assert all(bits_equal(out[name], base[name]) for name in base)
    assert (report.n_changed, report.n_touched, report.n_restored) == (0, 0, 179)
    assert report.energy_taken_back is None
    assert report.k_of_changed_percent is None
    assert report.r_share_restored is None
    assert report.no_more_changes_from_k == 0


@pytest.mark.parametrize("alpha", ["-0.5", "0", "0.25", "1", "1.5"])
def test_interpolation(alpha: str) -> None:
    """out = p + alpha d: the energy left is alpha^2 of the update's."""
    pair = signed_zero_pair()
    out = blank(pair)
    spec = RestoreSpec("interpolation", alpha=alpha)  # type: ignore[arg-type]
    report = restore_into(out, pair, plan_for(pair, spec))
    for chunk in pair.chunks():
        found = out[chunk.meta.name].reshape(-1)
        inside = chunk.meta.kind in ("attention", "mlp", "other")
        expected = chunk.p + float(alpha) * (chunk.s - chunk.p) if inside else chunk.s
        torch.testing.assert_close(found, expected)
        if alpha in ("0", "1"):
            assert bits_equal(found, chunk.base if inside and alpha == "0" else chunk.tuned)
    assert report.n_restored is None
    assert report.r_share_restored is None
    assert report.energy_taken_back == pytest.approx(1 - float(alpha) ** 2, abs=1e-5)
    n_zeros = 0 if alpha == "0" else 8  # -0.0 + alpha * 0.0 is 0.0, tuned's bits already
    assert report.n_touched == 0 if alpha == "1" else 0 <= report.n_changed - report.n_touched <= n_zeros


def test_interpolation_leaves_unchanged_weights_alone() -> None:
    """-0.0 + alpha * 0.0 would be 0.0."""
    base = {"0.mlp.x": torch.tensor([-0.0, 1.0])}
    tuned = {"0.mlp.x": torch.tensor([-0.0, 2.0])}
    pair = fake_pair(base, tuned)
    out = blank(pair)
    spec = RestoreSpec("interpolation", alpha="0.5")  # type: ignore[arg-type]
    restore_into(out, pair, plan_for(pair, spec))
    assert bits_equal(out["0.mlp.x"], torch.tensor([-0.0, 1.5]))


def test_mixed_dtypes_are_compared_and_kept_exactly() -> None:
    """A bf16 base and a float32 tuned model: the output holds both exactly."""
    base = random_tensors(dtype=torch.bfloat16)
    tuned = nudged({name: tensor.float() for name, tensor in base.items()})
    tuned["0.norm.norm"] = base["0.norm.norm"].float()
    pair = fake_pair(base, tuned)
    assert "bfloat16 in base, float32 in tuned" in pair.notes[0]
    for k, expected in (("100", base), ("0", tuned)):
        out = {m.name: torch.zeros(m.shape) for m in pair.metas}
        report = restore_into(out, pair, select(pair, Region("all"), "top", [k])[0])
        assert all(bits_equal(out[name], expected[name].float()) for name in base)
    assert report.n_changed <= report.n_region - 8


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_restores_into_a_loaded_model(model_type: str, tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path, model_type)
    pair = Pair(open_source(base), open_source(tuned))
    regions = ("transformer", "attention", "mlp", "embedding", "all")
    assert all(Region(name).resolve(pair.metas) for name in regions)
    model = tiny_model(model_type, seed=9)
    report = restore_into(model, pair, select(pair, Region(), "top", ["20"])[0])
    assert report.n_model == sum(p.numel() for p in model.parameters())
    endpoints = [AutoModelForCausalLM.from_pretrained(path) for path in (base, tuned)]
    tokens = torch.arange(1, 9)[None]
    with torch.no_grad():
        restore_into(model, pair, select(pair, Region("all"), "top", ["100"])[0])
        assert torch.equal(model(tokens).logits, endpoints[0](tokens).logits)
        restore_into(model, pair, select(pair, Region("all"), "top", ["0"])[0])
        assert torch.equal(model(tokens).logits, endpoints[1](tokens).logits)


def test_loaded_models_make_the_same_pair_as_their_folders(tmp_path: Path) -> None:
    base, tuned = save_pair(tmp_path, "gpt2", dtype=torch.bfloat16)
    folders = Pair(open_source(base), open_source(tuned))
    loaded = Pair(*(ModelSource(AutoModelForCausalLM.from_pretrained(path)) for path in (base, tuned)))
    one, other = (select(pair, Region(), "top", ["12.5"])[0] for pair in (folders, loaded))
    assert one.cut == other.cut
    assert survey(folders, one) == survey(loaded, other)


def test_an_adapter_restores_to_its_base(tmp_path: Path) -> None:
    base, _ = save_pair(tmp_path)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"])
    )
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    pair = Pair(open_source(base), open_source(tmp_path / "adapter"))
    out = blank(pair)
    report = restore_into(out, pair, select(pair, Region(), "top", ["100"])[0])
    assert report.n_changed == 2 * 32 * 32
    for meta in pair.metas:
        assert bits_equal(out[meta.name].reshape(-1), pair.base.read(meta.name, 0, meta.numel))


def test_models_that_do_not_fit_are_refused() -> None:
    base = random_tensors()
    smaller = {name: t[:8] if "embedding" in name else t for name, t in base.items()}
    with pytest.raises(
        ModelError, match=r"tensor -\.embedding\.embedding has shape \[16, 8\] in base and \[8, 8\]"
    ):
        fake_pair(base, smaller)
    fewer = {name: t for name, t in base.items() if name != "1.mlp.mlp.up"}
    with pytest.raises(ModelError, match=r"tensor 1\.mlp\.mlp\.up has no counterpart in tuned"):
        fake_pair(base, fewer)
    with pytest.raises(ModelError, match=r"tensor -\.lm_head\.lm_head has no counterpart in base"):
        fake_pair({name: t for name, t in base.items() if "lm_head" not in name}, base)


def test_tied_and_untied_do_not_fit(tmp_path: Path) -> None:
    tiny_model("gemma").save_pretrained(tmp_path / "tied")
    tiny_model("gemma", tie_word_embeddings=False).save_pretrained(tmp_path / "untied")
    with pytest.raises(ModelError, match=r"lm_head\.weight is shared with another tensor in base"):
        Pair(open_source(tmp_path / "tied"), open_source(tmp_path / "untied"))


def test_a_working_model_that_does_not_fit_is_left_alone() -> None:
    base = random_tensors()
    pair = fake_pair(base, nudged(base))
    working = blank(pair)
    working["-.lm_head.lm_head"] = torch.zeros(3, 3)
    with pytest.raises(ModelError, match=r"-\.lm_head\.lm_head is \[3, 3\]"):
        restore_into(working, pair, select(pair, Region(), "top", ["5"])[0])
    assert all(bool((t == 3).all()) for name, t in working.items() if "lm_head" not in name)


def test_the_pair_itself_is_never_written_to() -> None:
    tuned = tiny_model(seed=1)
    pair = Pair(ModelSource(tiny_model()), ModelSource(tuned))
    with pytest.raises(ModelError, match="the working model is loaded LlamaForCausalLM of the pair itself"):
        restore_into(tuned, pair, select(pair, Region(), "top", ["5"])[0])


def test_empty_region_is_refused() -> None:
    base = {"-.embedding.x": torch.ones(3)}
    with pytest.raises(SpecError, match="region transformer is empty"):
        select(fake_pair(base, base), Region(), "top", ["5"])
