"""The preflight finds everything that speaks against a job at once, reckons truly, and writes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_chain import do_chain
from tiny_pair import add_adapter, make_pair, nudge_folder

from sftknow_core.errors import ModelError
from sftknow_core.model.io.fit import Check
from sftknow_core.model.io.tensors import FolderSource
from sftknow_core.pipeline import preflight
from sftknow_core.pipeline.delta import ModelPair, compare_models
from sftknow_core.pipeline.export import export_restored
from sftknow_core.pipeline.preflight import Job, Preflight, check_job
from sftknow_core.pipeline.rebuild import rebuild
from sftknow_core.pipeline.workspace import Workspace
from sftknow_core.update.spec import RestoreSpec

SPEC = RestoreSpec(k_percent="20")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "cache", device="cpu")


def restore_job(base: Path | str, tuned: Path | str, **more: object) -> Job:
    return Job("restore", str(base), str(tuned), **{"spec": SPEC, **more})  # type: ignore[arg-type]


def by_name(found: Preflight) -> dict[str, Check]:
    return {check.name: check for check in found.checks}


def failed(found: Preflight) -> list[str]:
    return [check.name for check in found.failed]


def test_a_job_that_can_be_done(ws: Workspace, pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = check_job(ws, restore_job(*pair, out=tmp_path / "out"))
    assert failed(found) == []
    base, tuned = found.require()
    checks = by_name(found)
    assert "LlamaForCausalLM" in checks["base"].text and base.model_id in checks["base"].text
    assert "base (" in checks["order"].text and "is taken as base" in checks["order"].text
    n_region = 2 * (4 * 16 * 16 + 3 * 16 * 32)
    assert (found.figures["n_region"], found.figures["n_restore"]) == (n_region, n_region // 5)
    assert f"{n_region:,} of" in checks["region"].text
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["ok"] is True and plain["tuned_id"] == tuned.model_id


def test_all_failures_are_told_at_once(ws: Workspace, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Tensors and tokenizer differ, and two outputs cannot be made."""
    from tiny import make_tiny_llama

    other = make_tiny_llama(tmp_path / "other", width=32, vocab=300)
    (tmp_path / "out").mkdir()
    (tmp_path / "r.json").write_text("")
    found = check_job(ws, restore_job(pair[0], other, out=tmp_path / "out", new_recipe=tmp_path / "r.json"))
    assert failed(found) == ["tensors", "tokenizer", "output", "output"]
    with pytest.raises(ModelError) as raised:
        found.require()
    for words in ("embed_tokens", "tokenizers", "out exists already", "r.json exists already"):
        assert words in str(raised.value)


def test_models_that_cannot_be_opened(ws: Workspace, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Base has lost its end, tuned is not there; both are told."""
    cut = Path(shutil.copytree(pair[0], tmp_path / "cut"))
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "out").mkdir()
    found = check_job(ws, restore_job(cut, tmp_path / "none", out=tmp_path / "out"))
    assert failed(found) == ["base", "tuned", "output"]
    assert "cut short" in found.failed[0].text and "none not found" in found.failed[1].text


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (RestoreSpec(k_percent="5", layers="7"), "the model has layers 0-1"),
        (RestoreSpec("block", block="7"), "block '7' holds no tensor"),
    ],
)
def test_a_region_that_is_not_there(
    ws: Workspace, pair: tuple[Path, Path], spec: RestoreSpec, words: str
) -> None:
    found = check_job(ws, restore_job(*pair, spec=spec))
    assert failed(found) == ["region"] and words in found.failed[0].text


@pytest.mark.parametrize(
    ("spec", "n_restore"),
    [
        (RestoreSpec("interpolation", alpha="0.5"), None),
        (RestoreSpec("block", block="mlp 0"), 3 * 16 * 32),
        (RestoreSpec("all-but-block", block="mlp"), 2 * 4 * 16 * 16),
        (RestoreSpec("random-reference", k_percent="50"), 2560),
    ],
)
def test_every_strategy_says_what_goes_back(
    ws: Workspace, pair: tuple[Path, Path], spec: RestoreSpec, n_restore: int | None
) -> None:
    found = check_job(ws, restore_job(*pair, spec=spec))
    assert failed(found) == [] and found.figures["n_restore"] == n_restore


def test_too_large_a_region_for_the_reference_draw(
    ws: Workspace, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftknow_core.update.strategies.MAX_REFERENCE_WEIGHTS", 1000)
    spec = RestoreSpec("random-reference", k_percent="5")
    assert "allowed: at most 1,000" in check_job(ws, restore_job(*pair, spec=spec)).failed[0].text


def test_a_disk_that_is_too_small(
    ws: Workspace, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    found = check_job(ws, restore_job(*pair, out=tmp_path / "deep" / "out"))
    assert failed(found) == ["room"] and "where 1.0 kB are free; make room" in found.failed[0].text
    beside = sum(file.stat().st_size for file in pair[1].glob("*.json"))
    assert found.figures["bytes_written"] == sum(m.numel * 4 for m in FolderSource(pair[0]).metas) + beside


def test_a_patch_in_another_dtype(ws: Workspace, tmp_path: Path) -> None:
    base, tuned = make_pair(tmp_path)
    half, _ = make_pair(tmp_path / "half", dtype=torch.bfloat16)
    found = check_job(ws, restore_job(half, tuned, patch=tmp_path / "p"))
    assert failed(found) == ["patch"] and "--output-dtype tuned" in found.failed[0].text
    assert by_name(found)["dtypes"].status == "warning"
    assert failed(check_job(ws, restore_job(half, tuned, patch=tmp_path / "p", dtype="tuned"))) == []
    wrong = check_job(ws, restore_job(base, tuned, dtype="int8"))
    assert failed(wrong) == ["output dtype"]


# --- base and tuned swapped


def order_of(ws: Workspace, base: Path | str, tuned: Path | str) -> Check:
    return by_name(check_job(ws, restore_job(base, tuned)))["order"]


def test_the_cache_tells_the_order(undisturbed: Path, model: Path) -> None:
    """The chain's fine-tuning made the tuned model from the base."""
    ws = Workspace(undisturbed, device="cpu")
    tuned = do_chain(undisturbed, model).summary["tuned_id"]
    right = order_of(ws, model, tuned)
    assert right.status == "ok" and "in the cache fine-tuned" in right.text
    wrong = order_of(ws, tuned, model)
    assert wrong.status == "error" and "in the cache fine-tuned" in wrong.text
    assert f"Swap them: --base {model} --tuned {tuned}." in wrong.text


def test_a_config_tells_the_order(ws: Workspace, tmp_path: Path) -> None:
    base, tuned = make_pair(tmp_path)
    assert "the weights cannot tell" in order_of(ws, base, tuned).text
    assert order_of(ws, tuned, base).status == "ok"  # without evidence nothing is guessed
    for named in (str(base), "../base", "base", ws.open_model(base).model_id):
        config = json.loads((tuned / "config.json").read_text()) | {"_name_or_path": named}
        (tuned / "config.json").write_text(json.dumps(config))
        assert order_of(ws, base, tuned).status == "ok"
        wrong = order_of(ws, tuned, base)
        assert wrong.status == "error" and f"was loaded from {named}" in wrong.text
        assert "take `_name_or_path` out of" in wrong.text
    config["_name_or_path"] = "somebody/else"
    (tuned / "config.json").write_text(json.dumps(config))
    assert order_of(ws, tuned, base).status == "ok"


def test_an_adapter_tells_the_order(ws: Workspace, pair: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = add_adapter(pair[0], tmp_path / "adapter")
    right = check_job(ws, restore_job(pair[0], adapter))
    assert failed(right) == [] and "is an adapter on" in by_name(right)["order"].text
    wrong = order_of(ws, adapter, pair[0])
    assert wrong.status == "error" and "is an adapter on" in wrong.text and "merge it first" in wrong.text
    other = order_of(ws, adapter, pair[1])
    assert other.status == "error" and "which is made by fine-tuning" in other.text


def test_an_adapter_on_another_base(ws: Workspace, pair: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = add_adapter(pair[0], tmp_path / "adapter")
    found = check_job(ws, restore_job(pair[1], adapter))
    assert failed(found) == ["adapter"] and f"give --base {pair[0]}" in found.failed[0].text


def test_evidence_both_ways_is_a_warning(ws: Workspace, tmp_path: Path) -> None:
    base, tuned = make_pair(tmp_path)
    for folder, other in ((base, tuned), (tuned, base)):
        config = json.loads((folder / "config.json").read_text()) | {"_name_or_path": str(other)}
        (folder / "config.json").write_text(json.dumps(config))
    found = order_of(ws, base, tuned)
    assert found.status == "warning" and "but also" in found.text


def test_one_model_given_twice(ws: Workspace, pair: tuple[Path, Path]) -> None:
    assert order_of(ws, pair[0], pair[0]).status == "warning"


# --- the reckoning


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The bytes that are read from weights meanwhile."""
    total = [0]
    read = FolderSource.read

    def counting(
        source: FolderSource, name: str, start: int, stop: int, memory: torch.Tensor | None = None
    ) -> torch.Tensor:
        total[0] += (stop - start) * source.meta(name).dtype.itemsize
        return read(source, name, start, stop, memory)

    with monkeypatch.context() as patched:
        patched.setattr(FolderSource, "read", counting)
        yield total


@pytest.mark.parametrize("with_patch", [False, True])
@pytest.mark.parametrize("with_folder", [False, True])
@pytest.mark.parametrize("spec", [SPEC, RestoreSpec("interpolation", alpha="0.5")])
def test_bytes_read_are_the_bytes_announced(
    ws: Workspace,
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spec: RestoreSpec,
    with_folder: bool,
    with_patch: bool,
) -> None:
    """All but what is read back of the written folder, which goes around the reader."""
    out = tmp_path / "out" if with_folder else None
    patch = tmp_path / "patch" if with_patch else None
    found = check_job(ws, restore_job(*pair, spec=spec, out=out, new_recipe=tmp_path / "r", patch=patch))
    base, tuned = found.require()
    with counted(monkeypatch) as total:
        result = export_restored(ws, base, tuned, spec, out, recipe=tmp_path / "r", patch=patch)
    assert total[0] == found.figures["bytes_read"] - found.figures["passes"].get("verify", 0)
    assert ws.reporter.done == pytest.approx(ws.reporter.total)
    if with_folder:
        assert found.figures["passes"]["verify"] == result["model_bytes"]
    if with_patch:
        assert result["patch"]["bytes"] == (tmp_path / "patch").stat().st_size
        assert result["patch"]["bytes"] < found.figures["bytes_written"] + 100_000


def test_rebuilding_reads_once(
    ws: Workspace, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = ws.open_model(pair[0]), ws.open_model(pair[1])
    made = export_restored(ws, *handles, SPEC, recipe=tmp_path / "r.json")
    job = Job("rebuild", str(pair[0]), str(pair[1]), out=tmp_path / "out", recipe=tmp_path / "r.json")
    found = check_job(ws, job)
    assert failed(found) == [] and found.figures["n_restore"] == made["n_restored"]
    assert made["model_id"] in by_name(found)["recipe"].text
    with counted(monkeypatch) as total:
        rebuild(ws, tmp_path / "r.json", *handles, tmp_path / "out")
    assert total[0] == found.figures["passes"]["write"]
    assert ws.reporter.done == pytest.approx(ws.reporter.total)


def test_rebuilding_with_another_pair_or_no_recipe(
    ws: Workspace, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    export_restored(ws, ws.open_model(pair[0]), ws.open_model(pair[1]), SPEC, recipe=tmp_path / "r.json")
    other = nudge_folder(Path(shutil.copytree(pair[1], tmp_path / "other")), seed=5)
    for tuned, recipe, words in (
        (other, "r.json", f"tuned is {ws.open_model(other).model_id} here"),
        (pair[1], "none.json", "cannot be read"),
    ):
        job = Job("rebuild", str(pair[0]), str(tuned), out=tmp_path / "out", recipe=tmp_path / recipe)
        found = check_job(ws, job)
        assert failed(found) == ["recipe"] and words in found.failed[0].text


def test_comparing_reads_no_more_than_announced(
    ws: Workspace, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check_job(ws, Job("delta", str(pair[0]), str(pair[1])))
    assert failed(found) == []
    with counted(monkeypatch) as total:
        compare_models(ws, ModelPair(*found.require()))
    assert found.figures["passes"]["compare"] <= total[0] <= found.figures["bytes_read"]
