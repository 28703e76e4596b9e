"""Does every stem give one token per patch, at its stride and with its definition's parameters?"""

from __future__ import annotations

import pytest
import torch

from tests.models.small_models import images_for, num_parameters, small_config, small_model, stirred
from vitbench.config import ViTConfig
from vitbench.models import build_model
from vitbench.models.stems import ConvStem
from vitbench.studies import hybrid
from vitbench.variants import variant


@pytest.mark.against("torch", "attention and patches, with MultiheadAttention and conv2d", "1e-12")
def test_the_patch_stem_is_a_convolution_of_its_own_stride():
    model = small_model(patch_size=(2, 4))
    images = images_for(model.config)
    weight = model.stem.proj.weight.view(16, 3, 2, 4)
    expected = torch.nn.functional.conv2d(images, weight, model.stem.proj.bias, stride=(2, 4))
    torch.testing.assert_close(model.stem(images), expected.flatten(2).transpose(1, 2), rtol=0, atol=1e-12)


RESNETS = [
    # (stages, patch_size, stride of the first convolution, its kernel, pooled after it?)
    ((1,), 1, 1, 3, False),
    ((1, 1), 2, 1, 3, False),
    ((1, 1), 4, 2, 3, False),
    ((1, 1), 8, 2, 7, True),
    ((1, 1, 1), 4, 1, 3, False),
    ((1, 1, 1), 8, 2, 3, False),
    ((1, 1, 1), 16, 2, 7, True),
    ((1, 1, 1, 1), 32, 2, 7, True),
]


@pytest.mark.parametrize(("layers", "stride", "first", "kernel", "pooled"), RESNETS)
def test_a_resnet_stem_has_the_stride_that_patch_size_asks_for(layers, stride, first, kernel, pooled):
    config = small_config(
        stem="resnet", stem_layers=layers, stem_width=8, patch_size=stride, image_size=(2 * stride, 3 * stride)
    )
    model = build_model(config).eval()
    stem = model.stem.backbone.stem
    assert (stem.conv.stride, stem.conv.kernel_size) == ((first, first), (kernel, kernel))
    assert isinstance(stem.pool, torch.nn.Identity) != pooled
    images = images_for(config).float()
    assert model.stem.backbone(images).shape == (2, 8 * 4 * 2 ** (len(layers) - 1), 2, 3)
    assert model.stem(images).shape == (2, 6, 16)


@pytest.mark.parametrize(
    ("patch_size", "root", "kernel", "pooled"),
    [(1, 1, 3, False), (2, 2, 3, False), (3, 1, 3, False), (4, 4, 7, True), (6, 2, 3, False), (32, 4, 7, True)],
)
def test_without_stages_patches_on_the_map_bring_what_the_first_convolution_leaves(patch_size, root, kernel, pooled):
    config = small_config(
        stem="resnet",
        stem_layers=(),
        stem_width=8,
        stem_groups=4,
        patch_size=patch_size,
        image_size=(2 * patch_size, 3 * patch_size),
    )
    model = build_model(config).eval()
    stem, patch = model.stem.backbone.stem, patch_size // root
    assert stem.conv.kernel_size == (kernel, kernel) and isinstance(stem.pool, torch.nn.Identity) != pooled
    assert model.stem.proj.kernel_size == model.stem.proj.stride == (patch, patch)
    images = images_for(config).float()
    feature_map, tokens = model.stem.backbone(images), model.stem(images)
    assert feature_map.shape == (2, 8, 2 * patch, 3 * patch) and tokens.shape == (2, 6, 16)
    weight = model.stem.proj.weight.flatten(1)
    below = feature_map[:, :, patch:, 2 * patch :].flatten(1) @ weight.T + model.stem.proj.bias
    torch.testing.assert_close(tokens[:, 5], below, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("groups", "width", "expected"), [(32, 64, 32), (32, 8, 8), (4, 8, 4), (3, 8, 1), (64, 16, 16)]
)
def test_a_resnet_stem_norms_as_many_groups_as_it_is_told_or_as_divide_its_width(groups, width, expected):
    stem = build_model(small_config(stem="resnet", stem_layers=(1,), stem_width=width, stem_groups=groups)).stem
    norms = [module for module in stem.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert len(norms) == 5  # of the stem, of three convolutions, and of the shortcut
    assert {norm.num_groups for norm in norms} == {expected}


@pytest.mark.parametrize("size", ["Nano/2", "Micro/4", "Small32/4", "B/16"])
def test_the_hybrid_study_norms_groups_of_two_channels_as_the_paper_s_resnet_does(size):
    base = variant(size, image_size=32)
    (arm, *_) = [arm for arm in hybrid.arms(base) if arm.name.startswith("ResNet stem")]
    model = build_model(arm.apply(base).replace(depth=1))
    first = next(module for module in model.stem.modules() if isinstance(module, torch.nn.GroupNorm))
    assert first.num_channels == 2 * first.num_groups


def test_groups_of_one_channel_hide_what_colour_an_image_has_and_groups_of_two_do_not():
    """A channel normed by itself is the same whatever is added to it everywhere, far from the border."""

    def shown(groups: int) -> float:
        model = small_model(stem="resnet", stem_layers=(1,), stem_width=8, stem_groups=groups, image_size=64)
        images = images_for(model.config)
        redder = images.clone()
        redder[:, 0] += 1
        norm = model.stem.backbone.stem.norm
        conv = torch.nn.functional.conv2d  # without padding, so that there is no border
        weight = model.stem.backbone.stem.conv.weight
        plain, red = norm(conv(images, weight)), norm(conv(redder, weight))
        return ((red - plain).norm() / plain.norm()).item()

    assert shown(8) < 1e-6
    assert shown(4) > 0.01


def test_resnet_tokens_are_in_raster_order():
    model = small_model(stem="resnet", stem_layers=(1,), stem_width=8, patch_size=4)
    images = images_for(model.config)
    feature_map, tokens = model.stem.backbone(images), model.stem(images)
    for i, (row, column) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]):
        expected = feature_map[:, :, row, column] @ model.stem.proj.weight[:, :, 0, 0].T + model.stem.proj.bias
        torch.testing.assert_close(tokens[:, i], expected, rtol=0, atol=1e-10)


def test_a_conv_stem_halves_and_doubles_until_the_patch_size():
    # Xiao et al. 2021: 3×3 convolutions of stride 2, batch norm, ReLU; then 1×1.
    config = small_config(stem="conv", stem_width=8, image_size=(16, 24), patch_size=8)
    model = stirred(build_model(config)).double().train()
    convolutions = [m for m in model.stem.layers if isinstance(m, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 8), (8, 16), (16, 32)]
    x = images = images_for(config)
    for i, convolution in enumerate(convolutions):
        norm = model.stem.layers[3 * i + 1]
        x = torch.nn.functional.conv2d(x, convolution.weight, stride=2, padding=1)
        mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, correction=0)
        x = (x - mean) / (var + 1e-5).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        x = x.clamp(min=0)
    expected = x.flatten(2).transpose(1, 2) @ model.stem.proj.weight[:, :, 0, 0].T + model.stem.proj.bias
    assert expected.shape == (2, 2 * 3, 16)
    torch.testing.assert_close(model.stem(images), expected, rtol=0, atol=1e-11)


def test_the_parameters_of_a_conv_stem_are_those_counted_by_hand():
    stem = ConvStem(small_config(stem="conv", stem_width=8, patch_size=4))
    assert num_parameters(stem) == (3 * 8 * 9 + 2 * 8) + (8 * 16 * 9 + 2 * 16) + (16 * 16 + 16)


@pytest.mark.against("torchvision", "logits and all gradients, patches and conv stem", "1e-9, 1e-8")
@pytest.mark.parametrize("name", ["C+Ti/16", "C+S/16"])
def test_a_conv_stem_is_torchvision_s(name):
    from torchvision.models.vision_transformer import ConvStemConfig, VisionTransformer

    config = variant(name, image_size=64)
    channels = [config.stem_width * 2**i for i in range(4)]
    theirs = VisionTransformer(
        64,
        16,
        1,
        config.num_heads,
        config.width,
        config.mlp_width,
        conv_stem_configs=[ConvStemConfig(out, kernel_size=3, stride=2) for out in channels],
    ).double()
    stem = stirred(ConvStem(config)).double()
    state = dict(zip(theirs.conv_proj.state_dict(), stem.state_dict().values(), strict=True))
    theirs.conv_proj.load_state_dict(state)
    images = images_for(config)
    results = [stem(images), theirs._process_input(images)]  # in training mode: batch norm by the batch
    torch.testing.assert_close(*results, rtol=0, atol=1e-9)
    weights = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for result in results:
        (result * weights).mean().backward()
    for ours, expected in zip(stem.parameters(), theirs.conv_proj.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=0, atol=1e-8)
        assert expected.grad.any()
    torch.testing.assert_close(stem.eval()(images), theirs.eval()._process_input(images), rtol=0, atol=1e-9)


NARROW = {"stem": "resnet", "stem_width": 8}
STRIDES: dict[str, tuple[ViTConfig, int, int]] = {
    # A model, the stride that it says, and how many places lie between the border of the map and what is far from it.
    "patch": (small_config(image_size=32), 4, 0),
    "patch_norm": (small_config(image_size=32, stem="patch_norm"), 4, 0),
    "conv, 2": (small_config(image_size=32, patch_size=2, stem="conv"), 2, 1),
    "conv, 8": (small_config(image_size=128, patch_size=8, stem="conv"), 8, 2),
    "C+Ti/16": (variant("C+Ti/16", image_size=256, depth=1), 16, 2),
    "resnet, 1": (small_config(image_size=32, patch_size=1, stem_layers=(2,), **NARROW), 1, 4),
    "resnet, 2": (small_config(image_size=64, patch_size=2, stem_layers=(1, 1), **NARROW), 2, 5),
    "resnet, 4": (small_config(image_size=128, patch_size=4, stem_layers=(1, 1), **NARROW), 4, 5),
    "resnet, 8": (small_config(image_size=256, patch_size=8, stem_layers=(1, 1, 1), **NARROW), 8, 5),
    "resnet, no stage": (small_config(image_size=128, patch_size=8, stem_layers=(), **NARROW), 8, 2),
    "resnet, no stage, 6": (small_config(image_size=96, patch_size=6, stem_layers=(), **NARROW), 6, 2),
    "R26+S/32": (variant("R26+S/32", image_size=1024, width=16, depth=1, num_heads=1, **NARROW), 32, 7),
    "R50+B/16": (variant("R50+B/16", image_size=1024, width=16, depth=1, num_heads=1, **NARROW), 16, 12),
    "R50+L/32": (variant("R50+L/32", image_size=1024, width=16, depth=1, num_heads=1, **NARROW), 32, 8),
}


@pytest.mark.parametrize("name", STRIDES)
def test_what_moves_by_one_stride_in_the_image_moves_by_one_place_among_the_tokens(name):
    config, stride, margin = STRIDES[name]
    stem = stirred(build_model(config).stem).double().eval()
    side = config.image_hw[0] // stride
    generator = torch.Generator().manual_seed(0)
    spot = torch.randn(config.in_channels, stride, stride, generator=generator, dtype=torch.float64)

    def tokens(row: int, column: int) -> torch.Tensor:
        images = torch.zeros(1, config.in_channels, *config.image_hw, dtype=torch.float64)
        images[0, :, row : row + stride, column : column + stride] = spot
        return stem(images).view(side, side, config.width)

    middle = side // 2 * stride
    with torch.no_grad():
        before, after = tokens(middle, middle), tokens(middle + stride, middle - stride)
    near, far = slice(margin, side - margin - 1), slice(margin + 1, side - margin)
    moved, still = before[near, far], after[far, near]
    torch.testing.assert_close(still, moved, rtol=0, atol=1e-9)
    assert (before[near, far] - after[near, far]).abs().max() > 1e-3  # something was there to move


@pytest.mark.parametrize(
    "changes",
    [{"stem": "patch"}, {"stem": "patch_norm"}, {"stem": "conv"}, {"stem": "resnet", "stem_layers": (1,)}],
    ids=lambda changes: changes["stem"],
)
def test_every_stem_sees_every_pixel_of_the_image(changes):
    model = small_model(**changes)
    images = images_for(model.config).requires_grad_()
    model.stem(images).square().sum().backward()
    assert (images.grad != 0).all()
