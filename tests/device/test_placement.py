"""Is every tensor of a run on the run's device? Tried without a GPU: fake tensors on CUDA, a training step on `meta`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.device.fake_cuda import CUDA, fake_cuda, placed
from tests.models.small_models import PLACES, small_config
from vitbench.config import DISTORTIONS, DataConfig, ErasingMode, ModelConfig, TimmConfig, TrainConfig
from vitbench.data import Augment, Images, normalise
from vitbench.data import augment as augment_module
from vitbench.device import CudaDevice
from vitbench.evaluation import accuracy
from vitbench.evaluation.attention_maps import attention_distance, grid_distances, prefix_share, roll_out
from vitbench.evaluation.distorted_images import distorted
from vitbench.kernels import install
from vitbench.models import build_model
from vitbench.models.attention import Attention
from vitbench.models.blocks import MLP
from vitbench.models.heads import TokenPool
from vitbench.models.positions import Learned1D
from vitbench.models.recording import attention_maps
from vitbench.models.stems import PatchStem
from vitbench.studies.recipes import RECIPES
from vitbench.training import average
from vitbench.training.losses import LOSSES
from vitbench.training.optimizer import build_optimizer, build_schedule
from vitbench.training.step import training_step

META = torch.device("meta")
BATCH = 4
IMAGES = {"image_size": (32, 32), "in_channels": 3, "num_classes": 7}
EVERYTHING = {"qk_norm": True, "layer_scale": 0.1, "activation": "swiglu", "head": "mlp", "pre_norm": True}
DROPPED = {"dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.1}

KINDS: dict[str, ModelConfig] = {
    **{f"{position} at {site}": small_config(position=position, position_site=site) for position, site in PLACES},
    **{pool: small_config(pool=pool, num_registers=2, num_classes=7) for pool in ("cls", "gap", "mean_all", "map")},
    "patch_norm": small_config(stem="patch_norm"),
    "conv": small_config(stem="conv", stem_width=8),
    "resnet": small_config(stem="resnet", stem_layers=(1,), stem_width=8),
    "no position": small_config(position="none", position_site="stem"),
    "everything": small_config(**EVERYTHING, **DROPPED),
    "relative, everything": small_config(position="relative", position_site="every_layer", **EVERYTHING, **DROPPED),
    "RoPE on another grid": small_config(position="rope_2d", position_site="every_layer", position_grid=3),
    "timm's ResNet": TimmConfig(timm="resnet18", options={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}, **IMAGES),
    "timm's ViT": TimmConfig(
        timm="vit_tiny_patch16_224", options={"patch_size": 8, "depth": 2, "embed_dim": 16, "num_heads": 2}, **IMAGES
    ),
    "timm's Mixer": TimmConfig(
        timm="mlp_mixer.MlpMixer", options={"patch_size": 8, "embed_dim": 16, "num_blocks": 2}, **IMAGES
    ),
}
"""A model of each kind, by name."""


def model_on(device: torch.device, config: ModelConfig) -> nn.Module:
    return placed(install(build_model(config)), device)


def arrays(config: ModelConfig, number: int = 10) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (number, config.in_channels, *config.image_hw), dtype=np.uint8)
    return Images(pixels, np.arange(number) % config.num_classes)


def cuda_side() -> CudaDevice:
    device = CudaDevice.__new__(CudaDevice)  # a constructed one needs a GPU
    device.torch_device = CUDA
    return device


@pytest.mark.parametrize("kind", KINDS)
def test_the_forward_pass_of_every_kind_of_model_stays_on_cuda(kind):
    config = KINDS[kind]
    model = install(build_model(config))  # of real numbers, as a run makes it
    with fake_cuda():
        placed(model, CUDA)
        images = torch.empty(BATCH, config.in_channels, *config.image_hw, device=CUDA)
        for training, precision in product((True, False), ("fp32", "bf16")):
            with cuda_side().autocast(precision):
                logits = model.train(training)(images)
            assert logits.device == CUDA and logits.shape == (BATCH, config.num_classes)


def test_autocast_is_really_bf16_on_fake_cuda():
    with fake_cuda():
        a = torch.empty(8, 8, device=CUDA)
        with cuda_side().autocast("bf16"):
            assert (a @ a).dtype == torch.bfloat16
        with cuda_side().autocast("fp32"):
            assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_data_and_evaluation_of_every_kind_of_model_stay_on_cuda(kind):
    config = KINDS[kind]
    model, data = install(build_model(config)).eval(), arrays(config)
    with fake_cuda():
        losses, *others = scores(placed(model, CUDA), data)
        assert [len(score) for score in others[:-1]] == [10] * 4 and len(losses) == 3
        assert {score.device for score in (losses, *others)} == {CUDA}


def scores(model: nn.Module, data: Images) -> accuracy.Scores:
    mean = std = (0.5,) * data.image_shape[0]
    batches = data.batches(np.arange(len(data)), BATCH, CUDA)
    normalised = ((normalise(pixels, mean, std), labels) for pixels, labels in batches)
    with torch.inference_mode():
        return accuracy.scores_of(model, normalised, autocast=partial(cuda_side().autocast, "bf16"))


def test_an_array_too_large_to_be_kept_on_the_device_comes_batch_by_batch():
    for pixels, labels in arrays(small_config()).batches(np.arange(10), BATCH, META):
        assert pixels.device == labels.device == META


AUGMENTATIONS: dict[str, dict[str, Any]] = {
    **{f"recipe {name}": dict(recipe.data) for name, recipe in RECIPES.items()},
    "padded crop": {"crop_padding": 2},
    "reflected crop": {"crop_padding": 2, "padding_mode": "reflect"},
    "random size": {"crop_scale": (0.3, 1.0), "flip": True},
    "AutoAugment": {"auto_augment": "original-mstd0.5"},
    "AugMix": {"auto_augment": "augmix-m3-w3"},
    "jitter": {"color_jitter": 0.4},
    **{f"erased by {mode}": {"random_erasing": 0.9, "erasing_mode": mode} for mode in get_args(ErasingMode)},
    "mixed": {"mixup": 0.8, "cutmix": 1.0},
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_stays_on_cuda(name):
    config = DataConfig(**{"crop_padding": 0, **AUGMENTATIONS[name]})
    with fake_cuda():
        augment = Augment(config, num_classes=7, label_smoothing=0.1, mean=(0.5,) * 3, std=(0.2,) * 3)
        for step in range(3):  # each draws other operations
            pixels = torch.empty(BATCH, 3, 16, 12, dtype=torch.uint8, device=CUDA)
            labels = torch.empty(BATCH, dtype=torch.int64, device=CUDA)
            images, targets = augment(pixels, labels, seed=1, step=step)
            assert images.device == targets.device == CUDA and images.shape == (BATCH, 3, 16, 12)


NEEDS_NUMBERS = {"shift", "rotate"}
"""They take rows by a mask, whose number depends on its content."""


@pytest.mark.parametrize("name", sorted(set(DISTORTIONS) - NEEDS_NUMBERS - {"jpeg"}))
def test_distortions_stay_on_cuda(name):
    with fake_cuda():
        pixels = torch.empty(BATCH, 3, 8, 8, dtype=torch.uint8, device=CUDA)
        normalised = partial(normalise, mean=(0.5,) * 3, std=(0.2,) * 3)
        images = distorted(pixels, name, 50, indices=np.arange(BATCH), normalise=normalised, patch_hw=(2, 2))
        assert images.device == CUDA


def test_attention_maps_and_what_is_read_off_them_stay_on_cuda():
    config = small_config(position="relative", position_site="every_layer")
    model = install(build_model(config)).eval()
    with fake_cuda():
        placed(model, CUDA)
        maps: list[Tensor] = []
        with torch.inference_mode(), attention_maps(model, lambda _, weights: maps.append(weights)):
            model(torch.empty(BATCH, 3, *config.image_hw, device=CUDA))
        told = [attention_distance(maps[0], grid_distances(config.grid, config.patch_hw)), prefix_share(maps[0], 6)]
        assert {tensor.device for tensor in (*told, roll_out(maps[1], roll_out(maps[0])))} == {CUDA}


RECIPES_OF_STEPS: dict[str, dict[str, Any]] = {
    "AdamW, clipped, averaged": {"clip_norm": 1.0, "ema_decay": 0.9},
    "layer decay": {"layer_decay": 0.7},
    "SGD": {"optimizer": "sgd", "momentum": 0.9},
    "LAMB": {"optimizer": "lamb", "loss": "binary_cross_entropy", "label_smoothing": 0.1},
    "Lion": {"optimizer": "lion"},
    "Muon": {"optimizer": "muon"},
}


def steps_on_meta(
    config: ModelConfig, recipe: TrainConfig, *, targets: Tensor, micro_batch: int | None = None
) -> tuple[list[Tensor], Tensor]:
    """Two steps: (what is left on the device: weights, gradients, optimizer's and averaged tensors; the loss)."""
    model = model_on(META, config).train()
    optimizer = build_optimizer(model, recipe)
    schedule = build_schedule(optimizer, recipe, num_steps=2)
    averaged = average.Average(model, 0.9)
    parameters = list(model.parameters())
    for step in range(2):
        schedule.step_update(step + 1)
        images = torch.empty(BATCH, config.in_channels, *config.image_hw, device=META)
        loss = training_step(
            model, optimizer, images, targets, parameters, recipe, nullcontext, micro_batch=micro_batch
        )
        averaged.update(step)
    # torch keeps the number of steps on the CPU where the optimizer is not fused.
    states = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor) and t.ndim]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return [*parameters, *model.buffers(), *gradients, *states, *averaged.tensors], loss


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_of_every_kind_of_model_stays_on_its_device(kind):
    targets = torch.zeros(BATCH, dtype=torch.int64, device=META)
    tensors, loss = steps_on_meta(KINDS[kind], TrainConfig(optimizer="nadamw"), targets=targets)
    assert {tensor.device for tensor in (*tensors, loss)} == {META}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", RECIPES_OF_STEPS)
def test_a_training_step_by_every_kind_of_recipe_stays_on_its_device(name, soft, monkeypatch):
    of_optimizers = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(of_optimizers, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    recipe = TrainConfig(**RECIPES_OF_STEPS[name])
    targets = torch.zeros(BATCH, 5, device=META) if soft else torch.zeros(BATCH, dtype=torch.int64, device=META)
    tensors, loss = steps_on_meta(small_config(), recipe, targets=targets)
    assert {tensor.device for tensor in (*tensors, loss)} == {META}


@pytest.mark.parametrize("soft", [False, True])
def test_a_training_step_in_micro_batches_stays_on_its_device(soft):
    targets = torch.zeros(BATCH, 5, device=META) if soft else torch.zeros(BATCH, dtype=torch.int64, device=META)
    tensors, loss = steps_on_meta(small_config(), TrainConfig(optimizer="nadamw"), targets=targets, micro_batch=3)
    assert {tensor.device for tensor in (*tensors, loss)} == {META}


# timm's AdamW beside Muon reads its number of steps, which a fake tensor does not have.
@pytest.mark.parametrize("name", sorted(set(RECIPES_OF_STEPS) - {"Muon"}))
def test_loss_clipping_update_and_average_of_every_kind_of_recipe_stay_on_cuda(name):
    recipe, model = TrainConfig(**RECIPES_OF_STEPS[name]), build_model(small_config())
    with fake_cuda():
        placed(model, CUDA)
        optimizer = build_optimizer(model, recipe)
        logits, labels = torch.empty(BATCH, 5, device=CUDA), torch.empty(BATCH, dtype=torch.int64, device=CUDA)
        loss = LOSSES[recipe.loss](logits, labels, label_smoothing=recipe.label_smoothing)
        for parameter in model.parameters():  # as a backward pass would leave it
            parameter.grad = torch.empty_like(parameter)
        averaged = average.Average(model, 0.9)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        averaged.update(0)
        assert {tensor.device for tensor in (loss, norm, *averaged.tensors)} == {CUDA}


OTHER_DEVICE = r"same device|two (different )?devices"
WIDTH = 16
MUTATIONS: dict[str, tuple[Any, str, Any]] = {
    "attention": (Attention, "forward", lambda self, x, **_: x + torch.zeros(WIDTH)),
    "MLP": (MLP, "forward", lambda self, x: x * torch.ones(WIDTH)),
    "position": (Learned1D, "forward", lambda self: torch.cat([torch.zeros(1, WIDTH), self.table])),
    "pool": (TokenPool, "forward", lambda self, tokens: tokens[:, 0] + torch.zeros(WIDTH)),
    "stem": (PatchStem, "project", lambda self, patches: self.proj(patches) + torch.arange(WIDTH)),
}
"""A part that makes a tensor on the CPU: (class, method, what it becomes)."""


@pytest.mark.parametrize("part", MUTATIONS)
def test_a_tensor_that_a_part_makes_on_the_cpu_fails_the_forward_pass(part, monkeypatch):
    monkeypatch.setattr(*MUTATIONS[part])
    model = build_model(config := small_config())
    with fake_cuda():
        placed(model, CUDA)
        with pytest.raises((RuntimeError, TypeError), match=OTHER_DEVICE):
            model(torch.empty(BATCH, 3, *config.image_hw, device=CUDA))


@pytest.mark.parametrize("part", MUTATIONS)
def test_a_tensor_that_a_part_makes_on_the_cpu_fails_the_training_step(part, monkeypatch):
    monkeypatch.setattr(*MUTATIONS[part])
    with pytest.raises((RuntimeError, TypeError), match=rf"{OTHER_DEVICE}|meta"):
        steps_on_meta(small_config(), TrainConfig(), targets=torch.zeros(BATCH, dtype=torch.int64, device=META))


def test_a_tensor_that_is_no_buffer_and_stays_behind_fails_the_forward_pass():
    model = build_model(config := small_config(position="sincos_2d", position_site="stem"))
    table = model.position.tables[0]
    kept = table.table
    del table._buffers["table"]
    table.table = kept
    with fake_cuda():
        placed(model, CUDA)
        with pytest.raises(Exception, match="convert all Tensors to FakeTensors"):
            model(torch.empty(BATCH, 3, *config.image_hw, device=CUDA))


def test_scores_that_meet_a_tensor_on_the_cpu_fail_the_evaluation(monkeypatch):
    monkeypatch.setattr(accuracy, "_in_top5", lambda logits, labels: logits.sum(-1) > torch.zeros(len(labels)))
    config = small_config()
    model, data = build_model(config).eval(), arrays(config)
    with fake_cuda(), pytest.raises(RuntimeError, match=OTHER_DEVICE):
        scores(placed(model, CUDA), data)


def test_a_scale_of_pixels_that_stays_on_the_cpu_fails_the_augmentation(monkeypatch):
    monkeypatch.setattr(augment_module, "_scale_and_shift", lambda *_: (torch.ones(3, 1, 1), torch.zeros(3, 1, 1)))
    with fake_cuda(), pytest.raises(RuntimeError, match=OTHER_DEVICE):
        normalise(torch.empty(BATCH, 3, 8, 8, dtype=torch.uint8, device=CUDA), (0.5,) * 3, (0.2,) * 3)
