"""Is the loss the one that its papers minimise, for classes and for mixed images alike?"""

from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from timm.data.mixup import Mixup
from timm.loss import BinaryCrossEntropy
from torch import Tensor

from vitbench.config import TrainConfig
from vitbench.training.losses import LOSSES, binary_cross_entropy
from vitbench.training.step import training_step

CLASSES = torch.tensor([0, 3, 3, 1])


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.against("timm", "binary cross-entropy of classes", "1e-6")
def test_of_classes_it_is_timms_binary_cross_entropy(logits, smoothing):
    theirs = BinaryCrossEntropy(smoothing=smoothing)(logits, CLASSES)
    assert binary_cross_entropy(logits, CLASSES, label_smoothing=smoothing).item() == pytest.approx(
        theirs.item(), rel=1e-6
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixing", [{"mixup_alpha": 0.8}, {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}])
@pytest.mark.against("timm", "binary cross-entropy of mixed images", "1e-6")
def test_a_mixed_image_is_of_both_of_its_classes(logits, smoothing, mixing):
    # DeiT III's engine.py: targets.gt(0.0) before BCEWithLogitsLoss; timm's --bce-target-thresh.
    mix = Mixup(**mixing, label_smoothing=smoothing, num_classes=5)
    _, targets = mix(torch.zeros(4, 3, 8, 8), CLASSES)
    present = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [1, 1, 0, 0, 0]])
    assert torch.equal(targets > smoothing / 5 + 1e-6, present.bool())
    wanted = present * (1 - smoothing) + smoothing / 5
    theirs = BinaryCrossEntropy()(logits, wanted)
    assert binary_cross_entropy(logits, targets, label_smoothing=smoothing).item() == pytest.approx(
        theirs.item(), rel=1e-6
    )


def test_it_is_the_mean_over_images_and_classes_in_nats():
    logits = torch.zeros(2, 10)
    assert binary_cross_entropy(logits, torch.tensor([1, 2]), label_smoothing=0.0).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_minimises_the_loss_that_was_asked_for(loss, logits):
    model = torch.nn.Linear(5, 5)
    config = TrainConfig(loss=loss, label_smoothing=0.1, clip_norm=None, optimizer="momentum", weight_decay=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    arguments = (model, optimizer, logits, CLASSES, list(model.parameters()), config, nullcontext)
    first, second = (training_step(*arguments).item() for _ in range(2))
    assert second < first
    expected = {
        "cross_entropy": torch.nn.CrossEntropyLoss(label_smoothing=0.1),
        "binary_cross_entropy": BinaryCrossEntropy(smoothing=0.1),
    }[loss](model(logits), CLASSES)
    assert training_step(*arguments).item() == pytest.approx(expected.item(), rel=1e-5)


def test_there_is_a_loss_for_each_name_that_a_recipe_takes():
    assert set(LOSSES) == set(TrainConfig.model_fields["loss"].annotation.__args__)
