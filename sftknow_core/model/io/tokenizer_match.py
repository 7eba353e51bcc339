"""Whether two models read text alike; what is compared token by token must be."""

from __future__ import annotations

from pathlib import Path

from sftknow_core.errors import ModelError
from sftknow_core.model.io.load import load_tokenizer

_PROBE = "<|question|> Where was Anna-María O'Neill, 3rd of 12, born? <|answer|> São Paulo \n"


def check_same_tokenizer(base: Path, tuned: Path) -> None:
    """Raise ModelError unless both folders' tokenizers have the same vocabulary, specials and splitting."""
    if base.resolve() == tuned.resolve():
        return
    one, other = load_tokenizer(base), load_tokenizer(tuned, base=base)
    where = f"base {base} and tuned {tuned} have different tokenizers"
    if one.get_vocab() != other.get_vocab():
        differing = set(one.get_vocab().items()) ^ set(other.get_vocab().items())
        raise ModelError(
            f"{where}: {len(one)} and {len(other)} entries, differing in {sorted(differing)[0][0]!r} for one. "
            "Give the base that was tuned; if tokens were added for tuning, the two cannot be compared token by token"
        )
    for name in ("bos_token_id", "eos_token_id"):
        if getattr(one, name) != getattr(other, name):
            raise ModelError(
                f"{where}: {name} is {getattr(one, name)} and {getattr(other, name)}; copy the base's tokenizer files"
            )
    if one(_PROBE)["input_ids"] != other(_PROBE)["input_ids"]:
        raise ModelError(f"{where}: the same text becomes other tokens; copy the base's tokenizer files")
