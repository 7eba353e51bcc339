"""A study whose chains were compared with one permutation, before and after its pairs are measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fake_cube import small_model, write_cube

from sftknow_core.results import study_frames
from sftknow_core.results.study_frames import StudyChains, compared
from sftknow_core.store.cache import Cache

OLD = {
    "region": "transformer",
    "eps": 1e-8,
    "k_percent": 1.0,
    "share": 0.7,
    "null_share": 0.65,
    "energy_share": 0.2,
}
NEW = {**OLD, "null_share": 0.68, "null_sd": 0.02, "null_low": 0.64, "null_high": 0.72, "n_permutations": 199}
NEW |= {"p_more": 0.2, "p_two_sided": 0.4, "top_20_share": 0.5}


def study(delta: str, row: dict[str, Any]) -> StudyChains:
    summary = {
        "base_id": "base",
        "tuned_id": "tuned",
        "stages": {"delta": delta},
        "changed_share": {"transformer": 1.0},
    }
    return StudyChains("s", [{"chains": [{"run_id": "c"}]}], {"c": {**summary, "concentration": [row]}})


def test_measuring_a_pair_again_gives_its_chain_a_null(tmp_path: Path) -> None:
    """Tensors 10 and 20 (layer 0) hold 1.5 of the 2 weights taken on average; groups without a row have NaN."""
    cache = Cache(tmp_path)
    old = write_cube(cache, small_model(), version=2)
    found = study(old, OLD)
    assert compared(cache, found) == {"c": old}
    frame = study_frames._concentration(cache, found, {"c": old})
    assert frame["n_permutations"].isna().all() and frame["null_share"].tolist() == [0.65]
    assert study_frames._enrichment(cache, found, {"c": old})["n_restored_null"].isna().all()

    places = [
        {"region": "transformer", "k_percent": k, "tensor_id": tensor, "n_restored": n}
        for k in (1.0, 20.0)
        for tensor, n in ((10, 1.0), (20, 0.5), (40, 0.3), (50, 0.2))
    ]
    other = {"region": "transformer", "eps": 1e-6, "k_percent": 1.0, "share": 0.5}
    tables = {"concentration": [NEW, other], "null_places": places}
    new = write_cube(cache, small_model(), version=3, tables=tables)
    deltas = compared(cache, found)
    assert deltas == {"c": new}
    assert study_frames._made_of(found, deltas) != study_frames._made_of(found, {"c": old})
    (row,) = study_frames._concentration(cache, found, deltas).to_dict("records")
    assert (row["n_permutations"], row["null_share"], row["p_two_sided"], row["share"]) == (
        199,
        0.68,
        0.4,
        0.7,
    )
    rows = study_frames._enrichment(cache, found, deltas)
    layers = rows[(rows["by"] == "layer") & (rows["k_percent"] == 20)].set_index("group")["n_restored_null"]
    assert np.allclose(layers[["0", "1"]], [1.5, 0.5])
    kinds = rows[(rows["by"] == "kind") & (rows["k_percent"] == 20)].set_index("group")["n_restored_null"]
    assert np.allclose(kinds[["attention", "mlp"]], [1.3, 0.7])


def test_a_chain_that_has_a_null_keeps_its_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old = write_cube(cache, small_model(), version=2)
    write_cube(cache, small_model(), version=3)
    found = study(old, NEW)
    assert compared(cache, found) == {"c": old}
    assert study_frames._made_of(found, {"c": old}) == ["c"]
