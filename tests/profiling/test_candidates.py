"""Is the module that is timed the one that was named?"""

from __future__ import annotations

import pickle

import pytest

from vitbench.config import TimmConfig
from vitbench.models import ViT
from vitbench.profiling.candidates import candidate_of
from vitbench.variants import variant

SETTING = {"mode": "infer", "precision": "fp32", "compiled": False}


def test_a_candidate_of_ours_is_built_in_another_process_too():
    candidate = candidate_of(variant("Nano/4", image_size=8), "Nano/4", **SETTING, batch_size=2)
    assert isinstance(pickle.loads(pickle.dumps(candidate)).build(), ViT)
    assert candidate.image_shape == (3, 8, 8) and (candidate.batch_size, candidate.search) == (2, "")


def test_a_batch_size_that_is_a_word_is_searched():
    candidate = candidate_of(variant("Nano/4"), "Nano/4", **SETTING, batch_size="best")
    assert (candidate.batch_size, candidate.search) == (1, "best")


def test_a_peer_has_no_model_of_timm():
    config = TimmConfig(timm="resnet18", image_size=32, in_channels=3, num_classes=4)
    with pytest.raises(ValueError, match="peer 'timm' has no timm:resnet18, which is timm's own; leave it out"):
        candidate_of(config, "timm:resnet18", implementation="timm", **SETTING, batch_size=2)
