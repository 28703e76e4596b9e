"""Values of an evaluation against scikit-learn, float64 and sums by hand."""

from __future__ import annotations

import itertools
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, log_loss, top_k_accuracy_score
from torch import Tensor, nn

from vitbench.evaluation import Evaluation, evaluate


def evaluated(logits: Tensor, labels: Tensor, *, batch_size: int = 7) -> Evaluation:
    batches = zip(logits.split(batch_size), labels.split(batch_size), strict=True)
    return evaluate(nn.Identity(), batches, autocast=nullcontext, synchronize=lambda: None)


def drawn(*, images: int = 200, classes: int = 12, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes - 1, (images,), generator=generator)  # the last class has no image
    logits = scale * torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += 2
    return logits, labels


def test_every_metric_is_that_of_scikit_learn() -> None:
    logits, labels = drawn()
    probabilities = logits.double().softmax(-1).numpy()
    expected = {
        "top1": top_k_accuracy_score(labels, probabilities, k=1, labels=range(12)),
        "top5": top_k_accuracy_score(labels, probabilities, k=5, labels=range(12)),
        "loss": log_loss(labels, probabilities, labels=range(12)),
        "brier": brier_score_loss(labels, probabilities, labels=range(12), scale_by_half=False),
    }
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected["balanced_top1"] = balanced_accuracy_score(labels, probabilities.argmax(-1))
    metrics = evaluated(logits, labels).metrics
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_calibration_error_is_the_sum_over_bins_in_float64() -> None:
    logits, labels = drawn(images=500)
    probabilities = logits.double().softmax(-1).numpy()
    confidences, right = probabilities.max(-1), probabilities.argmax(-1) == labels.numpy()
    gap = right - confidences
    equal_width = sum(
        abs(gap[(confidences > index / 15) & (confidences <= (index + 1) / 15)].sum()) / 500 for index in range(15)
    )
    by_confidence = gap[np.argsort(confidences)]
    # 500 = 5 × 34 + 10 × 33
    edges = [34 * index if index <= 5 else 170 + 33 * (index - 5) for index in range(16)]
    equal_mass = sum(abs(by_confidence[low:high].sum()) / 500 for low, high in itertools.pairwise(edges))
    metrics = evaluated(logits, labels).metrics
    assert metrics["ece"] == pytest.approx(equal_width, rel=1e-5)
    assert metrics["ece_mass"] == pytest.approx(equal_mass, rel=1e-5)


def test_four_images_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.1, 0.1, 0.8]])
    metrics = evaluated(probabilities.log(), torch.tensor([0, 1, 1, 0])).metrics
    assert metrics["top1"] == 0.5
    assert "top5" not in metrics
    assert metrics["loss"] == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.6) + math.log(0.1)) / 4)
    assert metrics["balanced_top1"] == 0.5  # class 0: 1 of 2, class 1: 1 of 2, class 2 has no image
    brier = (0.09 + 0.04 + 0.01) + (0.25 + 0.49 + 0.04) + (0.01 + 0.16 + 0.09) + (0.81 + 0.01 + 0.64)
    assert metrics["brier"] == pytest.approx(brier / 4)
    # Each in a bin of its own: right at 0.7 and 0.6, wrong at 0.5 and 0.8.
    assert metrics["ece"] == metrics["ece_mass"] == pytest.approx((0.3 + 0.5 + 0.4 + 0.8) / 4)


@pytest.mark.parametrize("batch_size", [1, 13, 200])
def test_no_metric_depends_on_the_size_of_batches(batch_size: int) -> None:
    logits, labels = drawn()
    metrics = evaluated(logits, labels, batch_size=batch_size).metrics
    expected = evaluated(logits, labels).metrics
    assert metrics.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-6)
    assert metrics == expected


def test_loss_is_bit_equal_to_the_cross_entropy_of_torch() -> None:
    logits, labels = drawn()
    sums = [
        nn.functional.cross_entropy(of_batch, those, reduction="sum")
        for of_batch, those in zip(logits.split(7), labels.split(7), strict=True)
    ]
    assert evaluated(logits, labels).loss == torch.stack(sums).double().sum().item() / 200


@pytest.mark.parametrize(("label", "expected"), [(4, 1.0), (5, 0.0)])
def test_of_equal_logits_the_first_five_are_in_the_top_five_as_the_first_is_the_answer(
    label: int, expected: float
) -> None:
    metrics = evaluated(torch.zeros(3, 9), torch.tensor([label] * 3)).metrics
    assert metrics["top5"] == expected
    assert evaluated(torch.zeros(1, 9), torch.tensor([0])).metrics["top1"] == 1.0


def test_five_classes_have_no_top_five_and_six_have() -> None:
    labels = torch.tensor([0, 1])
    assert "top5" not in evaluated(torch.zeros(2, 5), labels).metrics
    assert evaluated(torch.zeros(2, 6), labels).metrics["top5"] == 1.0


def test_rounded_logits_keep_the_accuracy_of_their_own_argmax() -> None:
    """bf16 has many equal logits: top-1 is of these, and never above top-5."""
    logits, labels = drawn(images=1000, scale=0.05)
    evaluation = evaluated(logits.bfloat16(), labels)
    assert evaluation.in_top5 is not None
    assert (evaluation.correct == (logits.bfloat16().argmax(-1) == labels).numpy()).all()
    assert (evaluation.in_top5 >= evaluation.correct).all()


@pytest.mark.parametrize(("label", "brier", "error"), [(0, 0.0, 0.0), (1, 2.0, 1.0)])
def test_a_sure_answer_gives_the_ends_of_each_range(label: int, brier: float, error: float) -> None:
    logits = torch.tensor([[60.0, 0, 0, 0]]).repeat(40, 1)
    metrics = evaluated(logits, torch.tensor([label] * 40)).metrics
    assert (metrics["brier"], metrics["ece"], metrics["ece_mass"]) == (brier, error, error)


def test_nearly_sure_answers_have_no_negative_score() -> None:
    logits = torch.zeros(500, 1000)
    logits[:, 3] = torch.linspace(5, 40, 500)
    metrics = evaluated(logits, torch.full((500,), 3)).metrics
    assert 0 <= metrics["brier"] <= 2
    assert 0 <= metrics["ece"] <= 1


def test_logits_that_are_not_numbers_give_a_loss_that_is_none() -> None:
    logits, labels = drawn()
    logits[5, 2] = math.nan
    metrics = evaluated(logits, labels).metrics
    assert math.isnan(metrics["loss"]) and math.isnan(metrics["brier"]) and math.isnan(metrics["ece"])


def test_the_mode_of_the_model_is_left_as_it_was() -> None:
    model = nn.Identity()
    logits, labels = drawn()
    for mode in (True, False):
        model.train(mode)
        evaluate(model, [(logits, labels)], autocast=nullcontext, synchronize=lambda: None)
        assert model.training is mode
