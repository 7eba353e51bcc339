"""A folder or hub id -> a language model with its tokenizer, on a device.

Only safetensors weights are read, and code from a model folder is never run.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sftknow_core.errors import ModelError
from sftknow_core.model.io.safetensors_files import read_header, weight_files, weight_files_of_adapter
from sftknow_core.model.io.sources import (
    ADAPTER_PREFIX,
    adapter_base,
    check_causal,
    check_folder,
    check_whole_adapter,
    first_line,
    has_tokenizer,
    is_adapter,
    read_json,
    resolve_source,
)

__all__ = [
    "LanguageModel",
    "adapter_base",
    "is_adapter",
    "read_json",
    "load_model",
    "load_tokenizer",
    "pick_device",
    "pick_dtype",
    "resolve_source",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass
class LanguageModel:
    """A loaded causal language model, ready for inference."""

    model: Any
    """A transformers model in eval mode, or a peft model around one (adapter kept unmerged)."""
    tokenizer: Any
    """Its fast tokenizer."""
    device: torch.device
    """Where its weights are."""
    path: Path | None = None
    """The folder it came from; None for a model made in memory."""

    @cached_property
    def plain(self) -> Any:
        """The transformers model itself; adapter layers stay in place inside it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """What the model's forward() can be given; not every architecture takes positions."""
        return frozenset(inspect.signature(type(self.plain).forward).parameters)

    @cached_property
    def context(self) -> int | None:
        """How many tokens the model was made for, prompt and answer together; None where its config names no limit."""
        names = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
        found = next(
            (getattr(self.plain.config, name, None) for name in names if hasattr(self.plain.config, name)),
            None,
        )
        return int(found) if found else None

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token id that ends a text; may be empty.

        By tokenizer and generation config, and of a chat model the token that ends the assistant's turn.
        """
        from sftknow_core.model.generate.encode import turn_end_ids

        configured = getattr(self.plain.generation_config, "eos_token_id", None)
        listed = configured if isinstance(configured, list) else [configured]
        return tuple(
            sorted(
                {
                    i
                    for i in (*listed, self.tokenizer.eos_token_id, *turn_end_ids(self.tokenizer))
                    if i is not None
                }
            )
        )

    @cached_property
    def pad_id(self) -> int:
        """The id that fills masked places: the pad token, else EOS, else 0."""
        for token_id in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if token_id is not None:
                return int(token_id)
        return 0


def load_model(
    source: str | Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    attn: str | None = None,
    base: str | Path | None = None,
) -> LanguageModel:
    """Load a model, or an adapter on its base, in eval mode.

    dtype: "auto" (the checkpoint's own), "float32", "bfloat16" or "float16". attn: transformers' name of the
    attention implementation. base: overrides the base model that an adapter folder names.
    Raises ModelError when the folder is not there, is incomplete, is not safetensors or needs its own code.
    """
    folder = resolve_source(source, revision)
    target = pick_device(device)
    if is_adapter(folder):
        model = _load_adapter(folder, adapter_base(folder, base), dtype, attn)
    else:
        model = _load_plain(folder, dtype, attn)
    return LanguageModel(model.to(target).eval(), load_tokenizer(folder, base=base), target, folder)


def load_tokenizer(source: str | Path, *, base: str | Path | None = None) -> Any:
    """The fast tokenizer of a model folder; an adapter folder without one uses its base's. Raises
    ModelError."""
    from transformers import AutoTokenizer

    folder = resolve_source(source)
    if not has_tokenizer(folder) and is_adapter(folder):
        folder = adapter_base(folder, base)
    if not has_tokenizer(folder):
        raise ModelError(
            f"{folder} has no tokenizer (looked for tokenizer.json, tokenizer.model, vocab.json); "
            "copy the tokenizer files of the model into the folder"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a broken tokenizer file raises whatever its parser raises
        raise ModelError(f"cannot read the tokenizer in {folder}: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer in {folder} has no fast version; save one as tokenizer.json there")
    return tokenizer


def pick_device(name: str = "auto") -> torch.device:
    """The torch device of that name; auto takes cuda, then mps, then cpu. Raises ModelError when it is not
    here."""
    if name not in DEVICES:
        raise ModelError(f"got device {name!r}; allowed: {', '.join(DEVICES)}")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, here in available.items() if here)
    if not available[name]:
        raise ModelError(f"device {name!r} is not available on this machine; use --device cpu or auto")
    return torch.device(name)


def pick_dtype(name: str) -> torch.dtype | str:
    """The torch dtype of that name, or "auto". Raises ModelError."""
    if name == "auto":
        return name
    if name not in DTYPES:
        raise ModelError(f"got dtype {name!r}; allowed: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype that most bytes of the weights have, whatever the config says. Raises ModelError."""
    n_bytes: Counter[torch.dtype] = Counter()
    for path in weight_files(folder):
        for tensor in read_header(path)[0].values():
            n_bytes[tensor.dtype] += tensor.n_bytes
    return n_bytes.most_common(1)[0][0]


def _load_plain(folder: Path, dtype: str, attn: str | None) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    check_folder(folder)
    weight_files(folder)
    check_causal(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=pick_dtype(dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation=attn,
            output_loading_info=True,
        )
    except ModelError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, SafetensorError, ...
        raise ModelError(f"cannot load the model in {folder}: {first_line(error)}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{folder} lacks the weights of {len(missing)} parameters (first: {missing[0]}); "
            "they would be random, so the download is incomplete or the config is another model's"
        )
    return model


def _load_adapter(folder: Path, base: Path, dtype: str, attn: str | None) -> Any:
    from peft import PeftModel, get_peft_model_state_dict

    kind = read_json(folder / "adapter_config.json").get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{folder} is an adapter of type {kind!r}; allowed: LORA")
    files = weight_files_of_adapter(folder)
    plain = _load_plain(base, dtype, attn)
    names = {
        f"{ADAPTER_PREFIX}{name}" for name in plain.state_dict()
    }  # whole tensors can be in an adapter too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing keys, which are an error below
            model = PeftModel.from_pretrained(plain, str(folder), is_trainable=False)
        needed = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    except Exception as error:  # shapes that do not fit raise RuntimeError, damaged files SafetensorError
        raise ModelError(f"the adapter {folder} does not fit on {base}: {first_line(error)}") from error
    stored = {name for path in files for name in read_header(path)[0]}
    check_whole_adapter(folder, base, unused=stored - needed - names, missing=needed - stored)
    return model
