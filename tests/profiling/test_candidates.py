"""Is the module that is timed the one that was named?"""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vitbench.config import TimmConfig
from vitbench.costs.macs import unread_macs
from vitbench.models import ViT
from vitbench.profiling.candidates import candidate_of
from vitbench.variants import variant

SETTING = {"mode": "infer", "precision": "fp32", "compiled": False}


def test_a_candidate_of_ours_is_built_in_another_process_too():
    candidate = candidate_of(variant("Nano/4", image_size=8), "Nano/4", **SETTING, batch_size=2)
    assert isinstance(pickle.loads(pickle.dumps(candidate)).build(), ViT)
    assert candidate.image_shape == (3, 8, 8) and (candidate.batch_size, candidate.search) == (2, "")


def test_full_tokens_are_the_same_logits_by_more_arithmetic():
    config = variant("Nano/4", image_size=8)
    models = [
        candidate_of(config, "Nano/4", **SETTING, batch_size=2, full_tokens=full).build() for full in (False, True)
    ]
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits, flops = [], []
    for model in models:
        with FlopCounterMode(display=False) as counter:
            logits.append(model.double().eval()(images))
        flops.append(counter.get_total_flops())
    torch.testing.assert_close(*logits, rtol=0, atol=1e-12)
    # The counter sees one product more: that of the queries, which only native operators leave out.
    assert flops[1] - flops[0] == 2 * 2 * unread_macs(config)


@pytest.mark.parametrize(
    ("pool", "implementation", "full_tokens", "last_block", "is_full"),
    [
        ("cls", "vitbench", False, "class token", False),
        ("cls", "vitbench", True, "all tokens", True),
        ("cls", "timm", True, "all tokens", False),
        ("gap", "vitbench", True, "all tokens", False),
    ],
)
def test_which_tokens_the_last_block_computes_is_told(pool, implementation, full_tokens, last_block, is_full):
    config = variant("Nano/4", image_size=8, pool=pool)
    options = {**SETTING, "implementation": implementation, "full_tokens": full_tokens}
    candidate = candidate_of(config, "Nano/4", **options, batch_size=2)
    assert (candidate.last_block, candidate.is_full) == (last_block, is_full)
    assert ("all tokens" in candidate.name) is is_full


def test_a_batch_size_that_is_a_word_is_searched():
    candidate = candidate_of(variant("Nano/4"), "Nano/4", **SETTING, batch_size="best")
    assert (candidate.batch_size, candidate.search) == (1, "best")


def test_a_peer_has_no_model_of_timm():
    config = TimmConfig(timm="resnet18", image_size=32, in_channels=3, num_classes=4)
    with pytest.raises(ValueError, match="peer 'timm' has no timm:resnet18, which is timm's own; leave it out"):
        candidate_of(config, "timm:resnet18", implementation="timm", **SETTING, batch_size=2)
