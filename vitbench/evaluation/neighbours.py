"""How well do an image's nearest training images, by cosine similarity, tell its class?

Similarities are computed block by block, and only the largest are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vitbench.evaluation.features import LabelledFeatures

K = 20
TEMPERATURE = 0.07
"""A neighbour of cosine similarity s has exp(s / temperature) votes (Wu et al. 2018; Caron et al. 2021, `eval_knn`)."""
TRAIN_BLOCK, TEST_BLOCK = 16_384, 1_024
"""Their similarities take 64 MiB."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class NeighbourAccuracy:
    """Top-1 accuracies, in [0, 1]."""

    weighted: float
    majority: float
    """One vote for each neighbour."""


def neighbours(
    train: LabelledFeatures,
    test: LabelledFeatures,
    *,
    k: int = K,
    temperature: float = TEMPERATURE,
    device: torch.device = CPU,
    train_block: int = TRAIN_BLOCK,
    test_block: int = TEST_BLOCK,
) -> NeighbourAccuracy:
    """Classifies test images by their `k` nearest training images. Of classes with equal votes the smallest label wins.

    Raises ValueError where there are fewer than `k` training images.
    """
    if not 1 <= k <= len(train):
        raise ValueError(f"k {k} must be from 1 to the number of training images, {len(train)}; make it smaller")
    classes = torch.from_numpy(np.unique(train.labels)).to(device)
    weighted = majority = 0
    for values, test_labels in test.batches(batch_size=test_block):
        labels = torch.from_numpy(test_labels).to(device)
        similarities, voters = nearest(train, values, k=k, device=device, train_block=train_block)
        columns = torch.searchsorted(classes, voters)
        # Divided by the nearest one's, which changes no order and cannot overflow.
        weights = ((similarities - similarities[:, :1]) / temperature).exp()
        weighted += int((classes[_votes(columns, weights, len(classes))] == labels).sum())
        majority += int((classes[_votes(columns, torch.ones_like(weights), len(classes))] == labels).sum())
    return NeighbourAccuracy(weighted / len(test), majority / len(test))


def nearest(
    train: LabelledFeatures,
    values: NDArray[np.float32],
    *,
    k: int,
    device: torch.device = CPU,
    train_block: int = TRAIN_BLOCK,
) -> tuple[Tensor, Tensor]:
    """For test features [B, D]: (cosine similarities, descending, float64 [B, k]; labels of those training images [B, k])."""
    queries = F.normalize(torch.from_numpy(np.array(values)).to(device), dim=1)
    best = torch.empty((len(queries), 0), device=device)
    labels = torch.empty((len(queries), 0), dtype=torch.int64, device=device)
    for block, block_labels in train.batches(batch_size=train_block):
        keys = F.normalize(torch.from_numpy(np.array(block)).to(device), dim=1)
        best_of_block, places = (queries @ keys.T).topk(min(k, len(keys)), dim=1)
        candidates = torch.cat([best, best_of_block], dim=1)
        candidate_labels = torch.cat([labels, torch.from_numpy(block_labels).to(device)[places]], dim=1)
        best, order = candidates.topk(min(k, candidates.shape[1]), dim=1)
        labels = candidate_labels.gather(1, order)
    return best.double(), labels


def _votes(columns: Tensor, weights: Tensor, num_classes: int) -> Tensor:
    """Classes [B, k] with weights [B, k] → the class with most votes [B]."""
    votes = torch.zeros((len(columns), num_classes), dtype=weights.dtype, device=weights.device)
    return votes.scatter_add_(1, columns, weights).argmax(dim=1)
