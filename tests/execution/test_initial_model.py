"""Does a run start from the weights that its configuration names, and from no others?"""

from __future__ import annotations

import pytest
import torch

from vitbench.config import RunConfig, TimmConfig
from vitbench.execution.initial_model import whole_model_from
from vitbench.models import build_model
from vitbench.models.weights import load_trained, save_trained

RESNET = TimmConfig(
    timm="resnet18",
    image_size=32,
    in_channels=1,
    num_classes=5,
    options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
)


def test_a_file_starts_the_run_that_names_it_and_no_other(tmp_path):
    source = build_model(RESNET, seed=1)
    save_trained(tmp_path / "a.safetensors", source, RunConfig(model=RESNET), mean=(0.5,), std=(0.5,))
    path = str(tmp_path / "a.safetensors")
    run = RunConfig(model=RESNET.replace(num_classes=7), init=load_trained(path).identity, seed=2)
    model = whole_model_from(path, run)
    assert torch.equal(model.timm.conv1.weight, source.timm.conv1.weight) and model.timm.fc.weight.shape == (7, 8)
    with pytest.raises(ValueError, match=r"^init run:0@0 was planned, but .* is run:"):
        whole_model_from(path, run.replace(init="run:0@0"))
