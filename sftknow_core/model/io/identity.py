"""What a model is, as 16 hex digits: its weights bit by bit, its config and its tokenizer.

Every tensor is hashed alone and the hashes are joined in order of name, so that the same weights in other
shards are the same model. What names a place or a library version is left out of the config. Hashing reads
every byte, so the hashes of a weights file are remembered while its place, inode, size and times stay as they
were.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sftknow_core.errors import ModelError
from sftknow_core.model.io.safetensors_files import DiskTensor, read_header, weight_files
from sftknow_core.model.io.sources import adapter_base, check_folder, is_adapter, read_json

IDENTITY_VERSION = 1
VOLATILE_KEYS = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "base_model_name_or_path",
        "inference_mode",
        "is_local",
        "local_files_only",
        "name_or_path",
        "peft_version",
        "revision",
        "transformers_version",
    }
)
TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_READ_BYTES = 2**24
_THREADS = 4


def model_id(
    folder: Path, *, memo: Path | None = None, rehash: bool = False, base: str | Path | None = None
) -> str:
    """16 hex digits of a model folder, or of an adapter folder together with its base.

    They change with any bit of the weights, the config, the tokenizer or the EOS ids, and with nothing else.
    memo: a JSON file of remembered hashes, made when missing; rehash: read every byte again, and renew it.
    base: overrides the one that an adapter names. Raises ModelError when a file is missing, damaged, or
    changed while it was read.
    """
    return _joined(_parts(folder, _Memo(memo, rehash), base))


def model_id_of(folder: Path, hashes: Mapping[str, str]) -> str:
    """The id that a folder with this config and tokenizer has, with weights of these `tensor_hashes`."""
    return _joined([*_settings(folder), *_tokenizer(folder), *_weights(hashes)])


def _joined(parts: Iterable[str]) -> str:
    digest = hashlib.sha256(f"model {IDENTITY_VERSION}\n".encode())
    for part in parts:
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()[:16]


def _parts(folder: Path, memo: _Memo, base: str | Path | None) -> Iterator[str]:
    """The lines that are hashed."""
    if is_adapter(folder):
        yield from _parts(adapter_base(folder, base), memo, None)
        yield "adapter " + _canonical(read_json(folder / "adapter_config.json"))
    else:
        check_folder(folder)
        yield from _settings(folder)
    yield from _tokenizer(folder)
    hashes: dict[str, str] = {}
    for path in weight_files(folder):
        hashes |= memo.hashes(path)
    yield from _weights(hashes)


def _settings(folder: Path) -> Iterator[str]:
    yield "config " + _canonical(read_json(folder / "config.json"))
    if (folder / "generation_config.json").is_file():
        yield f"eos {read_json(folder / 'generation_config.json').get('eos_token_id')}"


def _tokenizer(folder: Path) -> Iterator[str]:
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            yield f"{name} {_file_text_hash(folder / name)}"


def _weights(hashes: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(hashes.items()):
        yield f"{name} {value}"


def _canonical(content: dict[str, Any]) -> str:
    """JSON with sorted keys, without volatile ones, and with one spelling of the dtype."""
    kept = {key: value for key, value in content.items() if key not in VOLATILE_KEYS}
    if "torch_dtype" in kept:
        kept["dtype"] = kept.pop("torch_dtype")
    return json.dumps(kept, sort_keys=True, ensure_ascii=True)


def _file_text_hash(path: Path) -> str:
    if path.suffix == ".json":
        return hashlib.sha256(_canonical(read_json(path)).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tensor_hashes(path: Path) -> dict[str, str]:
    """name -> sha256 of (dtype, shape, raw bytes) of every tensor of a file, through a memory map."""
    tensors, _ = read_header(path)
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        memoryview(content) as view,
        ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool,
    ):
        values = pool.map(lambda tensor: _tensor_hash(view, tensor), tensors.values())
        return dict(zip(tensors, values, strict=True))


def _tensor_hash(view: memoryview, tensor: DiskTensor) -> str:
    digest = hashlib.sha256(f"{tensor.code} {list(tensor.shape)}\n".encode())
    stop = tensor.offset + tensor.n_bytes
    for start in range(tensor.offset, stop, _READ_BYTES):
        with view[start : min(start + _READ_BYTES, stop)] as piece:
            digest.update(piece)
    return digest.hexdigest()


class _Memo:
    """Remembered tensor hashes of weights files; anything unreadable counts as nothing remembered."""

    def __init__(self, path: Path | None, rehash: bool) -> None:
        self._path = path
        self._rehash = rehash

    def hashes(self, path: Path) -> dict[str, str]:
        """The file's tensor hashes, from the memo when the file is as it was."""
        key = _file_state(path)
        known = {} if self._rehash else self._read()
        if key in known:
            return dict(known[key])
        hashes = tensor_hashes(path)
        if _file_state(path) != key:
            raise ModelError(f"{path} changed while it was read; wait until it is written, then run again")
        self._remember(path, key, hashes)
        return hashes

    def _read(self) -> dict[str, dict[str, str]]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _remember(self, path: Path, key: str, hashes: dict[str, str]) -> None:
        if self._path is None:
            return
        place = f"{path.resolve()}\0"
        kept = {k: v for k, v in self._read().items() if not k.startswith(place)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        temporary.write_text(json.dumps(kept | {key: hashes}), encoding="utf-8")
        temporary.replace(self._path)


def _file_state(path: Path) -> str:
    state = path.stat()
    numbers = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return "\0".join((str(path.resolve()), *map(str, numbers)))
