"""Does a model compute the tokens that its pooling reads, and nothing less?"""

from __future__ import annotations

import pytest
import torch

from tests.models.small_models import images_for, small_model
from vitbench.models import ViT
from vitbench.models.parts import ALL


def outputs_and_gradients(model: ViT) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    logits = model(images_for(model.config, batch=4))
    logits.square().sum().backward()
    return logits.detach(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_registers": 3},
        {"position": "rope_2d", "position_site": "every_layer"},
        {"position": "relative", "position_site": "every_layer"},
        {"qk_norm": True},
        {"final_norm": "pooled"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "cls",
)
def test_leaving_out_what_nobody_reads_changes_neither_logits_nor_gradients(changes):
    model = small_model(**changes)
    logits, gradients = outputs_and_gradients(model)
    model.read = ALL
    all_logits, all_gradients = outputs_and_gradients(model)
    torch.testing.assert_close(logits, all_logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients, all_gradients, rtol=1e-12, atol=1e-12)


def test_the_last_block_computes_the_class_token_alone():
    model, seen = small_model(), []
    model.blocks[-1].mlp.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    images = images_for(model.config)
    model(images)
    model.tokens(images)
    model.read = ALL
    model(images)
    assert seen == [1, 7, 7]
