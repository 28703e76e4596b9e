"""Is what is timed the work that its name says, the same each time?"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from vitbench.profiling.steps import InferencePass, TrainingStep


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Dropout(0.5), nn.Linear(8, 3))


IMAGES = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_inference_gives_logits_in_evaluation_mode_without_gradients():
    module = model()
    work = InferencePass(module, IMAGES, autocast=nullcontext)
    logits = work()
    assert not module.training and logits.is_inference()
    torch.testing.assert_close(logits.clone(), module(IMAGES).detach())


def test_a_training_step_is_forward_backward_and_update():
    module = model()
    work = TrainingStep(module, IMAGES, num_classes=3, autocast=nullcontext)
    before = [p.detach().clone() for p in module.parameters()]
    work()
    assert module.training
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(module.parameters(), before, strict=True))


def test_its_gradients_are_those_of_the_cross_entropy():
    module = model().eval()
    work = TrainingStep(module, IMAGES, num_classes=3, autocast=nullcontext)
    module.eval()  # without what is random
    work.forward()
    work.backward()
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    log_probabilities = module(IMAGES).log_softmax(dim=-1)
    (-log_probabilities[torch.arange(4), torch.tensor([0, 1, 2, 0])].mean()).backward()
    for gradient, parameter in zip(found, module.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_step_costs_the_same_however_often_it_is_repeated():
    module = model()
    work = TrainingStep(module, IMAGES, num_classes=3, autocast=nullcontext)
    before = [p.detach().clone() for p in module.parameters()]
    for _ in range(50):
        work()
    for parameter, old in zip(module.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, old, rtol=0, atol=1e-6)
