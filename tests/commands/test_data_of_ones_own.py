"""Do commands take FILE.npz and FILE.py as data, from plan to tables?"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

FUNCTION = """
import numpy as np

def data():
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = (rng.random((240, 2, 8, 8)) * 20000 + 15000 * labels[:, None, None, None]).astype(np.uint16)
    return (images[:180], labels[:180]), (images[180:], labels[180:])
"""


@pytest.mark.parametrize("kind", ["npz", "py"])
def test_a_study_on_own_images_of_two_channels_and_sixteen_bits_is_planned_and_trained(vitbench, tmp_path, kind):
    file = tmp_path / f"cells.{kind}"
    if kind == "py":
        file.write_text(FUNCTION)
    else:
        namespace: dict[str, Any] = {}
        exec(FUNCTION, namespace)
        splits = namespace["data"]()
        names = ("train_images", "train_labels", "test_images", "test_labels")
        np.savez(file, **dict(zip(names, (array for split in splits for array in split), strict=True)))
    options = (
        "--data",
        file,
        "--budget",
        "smoke",
        "--seeds",
        "1",
        "--batch-size",
        "32",
        "--results",
        tmp_path / "results",
    )
    planned = json.loads(vitbench("plan", "pooling", *options, "--json").out)["runs"]
    assert planned and not any(run["done"] for run in planned)
    fields = ("Mini/4", "--data", file, "--epochs", "1", "--batch-size", "32", "--results", tmp_path / "results")
    record = json.loads(vitbench("train", *fields, "--json").out)
    assert record["outcome"] == "completed" and record["config"]["model"]["in_channels"] == 2
    assert record["config"]["data"]["dataset"].startswith("cells@")
