"""A model in memory -> a Hugging Face folder on disk, whole or not at all.

The folder is written beside its place under a temporary name, flushed to the disk and then renamed, so that a
crash, a full disk or a stop never leaves half a model where a whole one is expected.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sftknow_core.errors import CacheError, SpecError
from sftknow_core.model.io.load import LanguageModel


def save_model(model: LanguageModel | Any, tokenizer: Any, out: Path, *, card: str | None = None) -> Path:
    """Write weights (safetensors), config, generation config, tokenizer and, when given, a README.md card.

    model: a LanguageModel, a transformers model, or a peft model, of which the adapter alone is written.
    Returns `out`. Raises SpecError when `out` exists, CacheError when the disk is full; nothing is left then.
    """
    inner = model.model if isinstance(model, LanguageModel) else model

    def write(folder: Path) -> None:
        with _savable_generation_config(inner, folder):
            inner.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft writes an empty form
        if card is not None:
            (folder / "README.md").write_text(card, encoding="utf-8")

    return write_folder(out, write)


def write_folder(out: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary folder beside `out`, flush it to the disk and rename it to `out`.

    Raises SpecError when `out` exists, CacheError when the disk is full.
    """
    if out.exists():
        raise SpecError(f"{out} exists already; give a new folder, or remove that one first")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        _flush(temporary)
        temporary.rename(out)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError) and "No space left" in str(error):
            raise CacheError(
                f"the disk is full: {out} was not written; free some space and run it again"
            ) from error
        raise
    with suppress(OSError):  # not every file system can flush a folder
        _flush_one(out.parent)
    return out


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _savable_generation_config(model: Any, folder: Path) -> Iterator[None]:
    """Keep a shipped generation config that transformers reads but refuses to write (temperature without
    sampling)."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    shipped = plain.generation_config
    try:
        shipped.validate(strict=True)
    except ValueError:
        plain.generation_config = type(shipped)()
        try:
            yield
        finally:
            plain.generation_config = shipped
        shipped.to_json_file(folder / "generation_config.json")
    else:
        yield
