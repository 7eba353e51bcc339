"""What can be downloaded of a slider position: the tables of its figures as one zip, and the selection as JSON."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import pandas as pd

from sftknow_core.update.spec import RestoreSpec

_WHEN = (1980, 1, 1, 0, 0, 0)
"""Equal tables give equal files."""


def selection(details: Mapping[str, Any], spec: RestoreSpec) -> dict[str, Any]:
    """Which weights of which two models go back: enough for `sftknow restore` to make the model.

    It is no recipe: that holds the threshold too, which takes a pass over the weights to find.
    """
    names = ("base_name", "base_id", "tuned_name", "tuned_id")
    plain = {name: value for name, value in spec.to_json().items() if value is not None}
    return {**{name: details[name] for name in names}, "selection": plain, "command": command(details, spec)}


def command(details: Mapping[str, Any], spec: RestoreSpec) -> str:
    """The command that writes the restored model."""
    base = details["base_name"] if details["base_name"] == "demo" else details["base_id"]
    words = ["sftknow restore", f"--base {base}", f"--tuned {details['tuned_id']}", f"--k {spec.k_percent:f}"]
    words += [f"--strategy {spec.strategy}", f"--region {spec.region}"]
    words += [f"--layers {spec.layers}"] if spec.layers else []
    return " ".join([*words, "--out NEW_FOLDER"])


def data_zip(tables: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> bytes:
    """One CSV a table, and selection.json, zipped. tables: name -> table."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, table in tables.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.csv", _WHEN), table.to_csv(index=False))
        text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
        archive.writestr(zipfile.ZipInfo("selection.json", _WHEN), text)
    return held.getvalue()
