"""Where a model comes from: a folder, a hub id, an adapter's base; and what a folder must hold.

What is missing is said before transformers is asked, whose own messages mislead (a missing folder becomes
"Repo id must be ..."). Weights are read from safetensors only: pickled ones can run code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sftknow_core.errors import ModelError

HUB_FILES = ("*.safetensors", "*.json", "tokenizer*", "*.model", "merges.txt", "vocab.txt", "README.md")
HUB_IGNORED = ("original/*", "onnx/*", "consolidated*")
ADAPTER_PREFIX = "base_model.model."
"""What peft puts before the name of every tensor in an adapter."""
ENCODERS = (
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
    "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
"""Models that read a text as a whole unless their config says is_decoder; transformers has causal classes for them."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def resolve_source(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: an existing folder as it is, else a hub id, downloaded (safetensors, JSON,
    tokenizer).

    Raises ModelError when it is neither.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{source} is a file; give the folder that holds config.json and model.safetensors")
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise ModelError(
            f"model folder {source} not found; check the path, or give a hub id such as org/name"
        )
    return _download(source, revision)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a peft adapter instead of a whole model."""
    return (folder / "adapter_config.json").is_file()


def adapter_base(folder: Path, base: str | Path | None = None) -> Path:
    """The folder of an adapter's base model: `base`, else the one its config names.

    A relative name is looked up from the adapter folder, then from the working directory, then on the hub.
    Raises ModelError.
    """
    named = (
        base if base is not None else read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    )
    if not named:
        raise ModelError(f"{folder}/adapter_config.json names no base model; say which with base=")
    beside = folder / named
    if beside.is_dir():
        return beside.resolve()
    try:
        return resolve_source(named)
    except ModelError as error:
        raise ModelError(
            f"the base model of the adapter {folder} cannot be found: {error}; or say base="
        ) from error


def check_folder(folder: Path) -> None:
    """Raise ModelError unless the folder holds a config.json; its weights are looked for by `weight_files`."""
    if not (folder / "config.json").is_file():
        if gguf := sorted(folder.glob("*.gguf")):
            raise ModelError(
                f"{gguf[0]} is a GGUF file, which is not read as it is; convert it to safetensors first"
            )
        raise ModelError(
            f"{folder} has no config.json, so it is not a model folder; give the folder that has one"
        )


def check_causal(folder: Path) -> None:
    """Raise ModelError where the config names a model that does not continue text: BERT, T5, LLaVA and their like."""
    config = read_json(folder / "config.json")
    listed = config.get("architectures")
    name = str(listed[0]) if isinstance(listed, list) and listed else ""
    kind = str(config.get("model_type", "unknown"))
    if "vision_config" in config or "audio_config" in config:
        raise ModelError(
            f"{folder} is a multimodal model ({name or kind}); only its language model could be asked. Save that "
            "alone: load it with transformers and save_pretrained() its language_model as a causal language model"
        )
    turned_off = kind in ENCODERS and not config.get("is_decoder", False)
    if config.get("is_encoder_decoder") or turned_off or re.search(r"For(?!CausalLM)[A-Z]\w*$", name):
        raise ModelError(
            f"{folder} is no causal language model: {name or kind} does not continue a text. Give a model such as "
            "LlamaForCausalLM or GPT2LMHeadModel"
        )


def check_whole_adapter(
    folder: Path, base: Path, *, unused: Collection[str], missing: Collection[str]
) -> None:
    """Raise ModelError where tensors of an adapter are not used, or some that it must have are not there."""
    if unused:
        raise ModelError(
            f"{len(unused)} tensors of the adapter {folder} have no place in {base} (first: {min(unused)}), so that "
            "numbers would be those of another model. It was trained on a model of another build: give that one with "
            "--base, or rename its tensors"
        )
    if missing:
        raise ModelError(
            f"the adapter {folder} lacks {len(missing)} tensors that its adapter_config.json asks for (first: "
            f"{min(missing)}); save or download it again"
        )


def has_chat_template(folder: Path) -> bool:
    """Whether the folder's tokenizer brings a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_json(config).get("chat_template"))


def has_tokenizer(folder: Path) -> bool:
    """Whether any of the usual tokenizer files is there."""
    return any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder. Raises ModelError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no JSON object; the file is damaged")
    return content


def _download(hub_id: str, revision: str | None) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=list(HUB_FILES),
                ignore_patterns=list(HUB_IGNORED),
            )
        )
    except Exception as error:  # no network, no such id, gated, no disk space: the hub's own words say which
        at = f" at revision {revision}" if revision else ""
        raise ModelError(
            f"{hub_id!r} is not a folder here, and the hub said{at}: {first_line(error)}; check the spelling "
            "and the network, run `hf auth login` for a gated model, or download it elsewhere and give "
            "the folder"
        ) from error


def first_line(error: Exception) -> str:
    """The first line of what a library's error says, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
