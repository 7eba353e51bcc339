"""The user's mistakes: exit code 2, a message that says what and where, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from tiny import make_tiny_llama

from sftknow_core.facts.fact import SPLITS
from sftknow_core.facts.topics import load_topics

from .conftest import Sftknow


def mistake(ended: object, *words: str) -> None:
    """It was refused with code 2, a message with these words, no traceback and nothing on stdout."""
    assert ended.code == 2, ended.err  # type: ignore[attr-defined]
    assert ended.out == ""  # type: ignore[attr-defined]
    assert "Traceback" not in ended.err  # type: ignore[attr-defined]
    for word in words:
        assert word in ended.err, ended.err  # type: ignore[attr-defined]


def test_missing_data(sftknow: Sftknow, tmp_path: Path) -> None:
    mistake(sftknow("facts", "--data", tmp_path / "none.zip"), "none.zip")


def test_corrupt_zip(sftknow: Sftknow, tmp_path: Path) -> None:
    path = tmp_path / "dataset.zip"
    path.write_bytes(b"PK\x03\x04 and then nothing of a zip")
    mistake(sftknow("facts", "--data", path), "dataset.zip")


def test_json_of_a_wrong_shape(sftknow: Sftknow, tmp_path: Path) -> None:
    path = tmp_path / "dataset.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for topic in load_topics().values():
            for split in SPLITS:
                rows: object = [{"question": topic.question.format(subject=f"A {split}"), "answers": ["B"]}]
                if (topic.id, split) == ("P19", "train"):
                    rows = {"question": "Where was A born?"}
                archive.writestr(f"dataset/{split}/{topic.id}.{split}.json", json.dumps(rows))
    mistake(sftknow("facts", "--data", path), "P19.train.json")


def test_empty_answers(sftknow: Sftknow, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"question": "Where was A born?", "answers": []}\n')
    mistake(sftknow("facts", "--data", path), "facts.jsonl", "1", "answers")


def test_pretraining_on_an_unknown_topic(sftknow: Sftknow, tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"question": "Where was A born?", "answers": ["B"], "topic": "P0", "subject": "A"}\n')
    ended = sftknow("pretrain", "--data", path, "--out", tmp_path / "model", "--cache", tmp_path / "cache")
    mistake(ended, "Where was A born?", "topic")
    assert not (tmp_path / "model").exists()


def test_model_folder_that_is_not_there(sftknow: Sftknow, tmp_path: Path, facts_file: Path) -> None:
    ended = sftknow("run", "--base", "./no/such/model", "--data", facts_file, "--cache", tmp_path / "cache")
    mistake(ended, "no/such/model")


@pytest.mark.parametrize(
    ("name", "words"), [(None, ["safetensors"]), ("pytorch_model.bin", ["pickle", "convert"])]
)
def test_model_without_safetensors(
    sftknow: Sftknow, tmp_path: Path, tiny_base: Path, facts_file: Path, name: str | None, words: list[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_base, folder)
    (folder / "model.safetensors").unlink()
    if name:
        (folder / name).write_bytes(b"\x80\x04")
    mistake(sftknow("run", "--base", folder, "--data", facts_file, "--cache", tmp_path / "cache"), *words)


def test_tokenizers_that_differ(sftknow: Sftknow, tmp_path: Path, tiny_base: Path) -> None:
    other = shutil.copytree(tiny_base, tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    ended = sftknow("delta", "--base", tiny_base, "--tuned", other, "--cache", tmp_path / "cache")
    mistake(ended, "tokenizers")


def test_shapes_that_differ(sftknow: Sftknow, tmp_path: Path, tiny_base: Path) -> None:
    wider = make_tiny_llama(tmp_path / "wider", layers=2, width=32)
    ended = sftknow("delta", "--base", tiny_base, "--tuned", wider, "--cache", tmp_path / "cache")
    mistake(ended, "shape", "embed_tokens")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--level", "7"], ["level", "7", "mixed"]),
        (["--n", "500"], ["500", "only 10"]),
        (["--n", "many"], ["--n", "many"]),
        (["--n", "0"], ["at least 1"]),
        (["--level", "mixed", "--n", "7"], ["multiple of 5"]),
        (["--k", "5,101"], ["101", "0 to 100"]),
        (["--k", "-1"], ["-1", "0 to 100"]),
        (["--k", "0.00001"], ["4 decimal places"]),
        (["--region", "brain"], ["brain", "transformer"]),
        (["--strategy", "best"], ["best", "top"]),
        (["--layers", "7-9"], ["layers"]),
        (["--matcher", "fuzzy"], ["fuzzy", "words"]),
        (["--lr", "-1"], ["lr", "-1"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
)
def test_options(
    sftknow: Sftknow, tmp_path: Path, tiny_base: Path, facts_file: Path, options: list[str], words: list[str]
) -> None:
    given = ["--n", "6", *options]
    ended = sftknow("run", "--base", tiny_base, "--data", facts_file, "--cache", tmp_path / "cache", *given)
    mistake(ended, *words)


def test_restore_into_a_folder_that_exists(sftknow: Sftknow, tmp_path: Path, tiny_base: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    ended = sftknow(
        "restore",
        "--base",
        tiny_base,
        "--tuned",
        tiny_base,
        "--k",
        5,
        "--out",
        out,
        "--cache",
        tmp_path / "cache",
    )
    mistake(ended, "exists")
    assert (out / "mine.txt").read_text() == "keep me"


def test_unwritable_cache(sftknow: Sftknow, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    mistake(sftknow("runs", "--cache", tmp_path / "file" / "cache"), "file", "--cache")


def test_full_disk(
    sftknow: Sftknow, tmp_path: Path, tiny_base: Path, facts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr(os, "fsync", full)
    mistake(
        sftknow("mastery", "--base", tiny_base, "--data", facts_file, "--cache", tmp_path / "cache"), "full"
    )


def test_catalogue_that_is_not_duckdb(sftknow: Sftknow, tmp_path: Path, tiny_base: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "sftknow.duckdb").write_bytes(b"this is a letter to my aunt" * 100)
    ended = sftknow("delta", "--base", tiny_base, "--tuned", tiny_base, "--cache", cache)
    mistake(ended, "sftknow.duckdb", "reindex --rebuild")
    assert sftknow("reindex", "--rebuild", "--cache", cache).code == 0
    assert (cache / "sftknow.duckdb.old").read_bytes().startswith(b"this is a letter")
