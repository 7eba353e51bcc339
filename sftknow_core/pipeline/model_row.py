"""A model folder -> its row in table `models`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}


def model_row(
    path: Path,
    model_id: str,
    name: str,
    role: str,
    *,
    location: str | None = None,
    made_by: str | None = None,
) -> dict[str, Any]:
    """What the folder says about itself; of an adapter its own weights are counted, not its base's.

    location: where the table says it lies (relative to the cache for what runs made); None: `path`.
    """
    from sftknow_core.model.io.safetensors_files import read_header
    from sftknow_core.model.io.sources import read_json

    tensors = [t for file in sorted(path.glob("*.safetensors")) for t in read_header(file)[0].values()]
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    return {
        "model_id": model_id,
        "name": name,
        "path": location or str(path.resolve()),
        "role": role,
        "architecture": next(iter(config.get("architectures") or ["adapter"])),
        "n_params": sum(math.prod(tensor.shape) for tensor in tensors),
        "dtype": _DTYPES.get(tensors[0].code, tensors[0].code) if tensors else None,
        "vocab_size": config.get("vocab_size"),
        "size_bytes": sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        "made_by": made_by,
    }
