"""Is what a user's code sets for the whole process taken back, wherever such code runs?"""

from __future__ import annotations

import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.users_study import write_study
from vitbench.config import ViTConfig
from vitbench.data import function
from vitbench.models import build_model
from vitbench.process_state import taken_back
from vitbench.studies import Arm, Study
from vitbench.user_code import loading, register

SABOTAGE = """
import os, random, warnings
import numpy as np
import torch


def sabotage():
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.autograd.set_detect_anomaly(True)
    torch.default_generator.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    os.chdir("/")
"""
_NAMESPACE: dict[str, Any] = {}
exec(SABOTAGE, _NAMESPACE)
sabotage = _NAMESPACE["sabotage"]


def state() -> list[Any]:
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        torch.is_anomaly_enabled(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.geterr(),
        warnings.filters[:],
        Path.cwd(),
        torch.default_generator.get_state().tolist(),
    ]


class Saboteur(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.layer = nn.Linear(config.width, config.width)
        sabotage()

    def init_weights(self) -> None:
        sabotage()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


SMALL = ViTConfig(image_size=8, patch_size=4, width=16, depth=1, num_heads=2, num_classes=3)


def test_code_changes_every_one_of_these_and_all_are_taken_back() -> None:
    before = state()
    with taken_back():
        sabotage()
        within = state()
    assert all(a != b for a, b in zip(before, within, strict=True))
    assert state() == before


def test_of_a_library_that_is_imported_within_it_is_as_that_starts() -> None:
    code = """
import sys
from vitbench.process_state import taken_back

assert "torch" not in sys.modules
with taken_back():
    import torch

    torch.set_float32_matmul_precision("medium")
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.autograd.set_detect_anomaly(True)
print(
    torch.get_float32_matmul_precision(),
    torch.is_grad_enabled(),
    torch.are_deterministic_algorithms_enabled(),
    torch.is_anomaly_enabled(),
)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["highest", "True", "False", "False"]


def test_a_part_that_sets_them_leaves_other_parts_and_models_as_they_are() -> None:
    before = state()
    model = build_model(SMALL.replace(mlp=register(Saboteur, "mlp")))
    assert state()[:-1] == before[:-1]  # what is ours draws from torch's generator, and throws it away
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_study_file_that_sets_them_changes_nothing_outside(tmp_path: Path) -> None:
    before = state()
    loading.load(write_study(tmp_path, SABOTAGE + "\nsabotage()\n"))
    assert state() == before


def test_a_studys_function_that_sets_them_changes_nothing_outside() -> None:
    def arms(_: ViTConfig) -> list[Arm]:
        sabotage()
        return [Arm("gap", pool="gap")]

    before = state()
    Study(question="?", source="", baseline=Arm("cls"), arms=arms).all_arms(SMALL)
    assert state() == before


def test_data_that_set_them_change_nothing_outside_and_random_data_are_still_refused(tmp_path: Path) -> None:
    gives = """
def data():
    images = np.random.randint(0, 255, (8, 1, 8, 8)).astype(np.uint8)
    labels = np.arange(8) % 2
    sabotage()
    return {"train": (images, labels), "test": (images[:4], labels[:4])}
"""
    seeded = write_study(tmp_path, SABOTAGE + gives.replace("images = np", "np.random.seed(1)\n    images = np", 1))
    before = state()
    function.find_function(seeded, "")
    assert state() == before
    with pytest.raises(ValueError, match="other images or labels at each call"):
        function.find_function(
            write_study(tmp_path, SABOTAGE.replace("np.random.seed(5)", "") + gives, "random.py"), ""
        )
