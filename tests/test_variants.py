"""Do the names stand for the models of the papers: as many parameters as timm's, and nothing for what is not a name?"""

from __future__ import annotations

import pytest
import timm
import torch

from vitbench.config import ViTConfig
from vitbench.costs import count
from vitbench.models import ViT
from vitbench.variants import SIZES, variant, variant_names

IN_TIMM = {
    "Ti/16": "vit_tiny_patch16_224",
    "S/8": "vit_small_patch8_224",
    "S/16": "vit_small_patch16_224",
    "S/32": "vit_small_patch32_224",
    "B/8": "vit_base_patch8_224",
    "B/16": "vit_base_patch16_224",
    "B/32": "vit_base_patch32_224",
    "L/14": "vit_large_patch14_224",
    "L/16": "vit_large_patch16_224",
    "L/32": "vit_large_patch32_224",
    "H/14": "vit_huge_patch14_224",
    "R+Ti/16": "vit_tiny_r_s16_p8_224",
    "R26+S/32": "vit_small_r26_s32_224",
    "R50+B/16": "vit_base_r50_s16_224",
    "R50+L/32": "vit_large_r50_s32_224",
}


@pytest.mark.against("timm", "parameter counts of Ti to H at /8 to /32 and of hybrids", "exact")
@pytest.mark.parametrize(("name", "timm_name"), IN_TIMM.items())
def test_a_variant_has_exactly_as_many_parameters_as_timm_s(name, timm_name):
    with torch.device("meta"):
        ours, theirs = ViT(variant(name)), timm.create_model(timm_name, num_classes=1000)
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in (ours, theirs))
    assert count(variant(name)).params == ours == theirs


@pytest.mark.parametrize(
    ("size", "layers", "width", "mlp", "heads"),
    [
        # Touvron et al. 2021 (DeiT), Table 1; Dosovitskiy et al. 2021, Table 1.
        ("Ti", 12, 192, 768, 3),
        ("S", 12, 384, 1536, 6),
        ("B", 12, 768, 3072, 12),
        ("L", 24, 1024, 4096, 16),
        ("H", 32, 1280, 5120, 16),
    ],
)
def test_a_size_is_that_of_its_paper(size, layers, width, mlp, heads):
    config = variant(f"{size}/16")
    assert (config.depth, config.width, config.mlp_width, config.num_heads) == (layers, width, mlp, heads)


def test_the_default_configuration_is_ti_16():
    assert variant("Ti/16") == ViTConfig()


@pytest.mark.parametrize("name", variant_names())
def test_every_listed_name_stands_for_a_configuration_of_its_patch_size(name):
    config = variant(name)
    # Patches of R+Ti/16 are 8 × 8 on a map of stride 4 (timm's vit_tiny_r_s16_p8_224: 7 × 7 places at 224 pixels).
    assert config.patch_size == (32 if name == "R+Ti/16" else int(name.rpartition("/")[2]))
    assert config.stem == {"R": "resnet", "C": "conv"}.get(name[0] if "+" in name else "", "patch")
    assert config.image_size == (32 if config.patch_size < 8 else 224)


def test_the_resnet_stems_have_the_layers_of_the_papers():
    # Steiner et al. 2021 (R26); Dosovitskiy et al. 2021, section 4.1 (R50 at strides 32 and 16).
    layers = {name: variant(name).stem_layers for name in ("R+Ti/16", "R26+S/32", "R50+L/32", "R50+B/16")}
    assert layers == {"R+Ti/16": (), "R26+S/32": (2, 2, 2, 2), "R50+L/32": (3, 4, 6, 3), "R50+B/16": (3, 4, 9)}


@pytest.mark.against("Xiao et al. 2021", "channels of the convolutional stems, blocks left", "as printed")
@pytest.mark.parametrize(("name", "channels"), [("C+Ti/16", [24, 48, 96, 192]), ("C+S/16", [48, 96, 192, 384])])
def test_the_conv_stems_have_the_channels_of_their_paper_and_one_block_fewer(name, channels):
    config = variant(name)
    with torch.device("meta"):
        model = ViT(config)
    convolutions = [layer for layer in model.stem.layers if isinstance(layer, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == channels and channels[-1] == config.width
    assert len(model.blocks) == variant(name.removeprefix("C+")).depth - 1 == 11
    assert config.replace(depth=12, stem="patch", stem_width=64) == variant(name.removeprefix("C+"))


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("C+Ti/16", -1.4),
        ("C+S/16", 0.0),
        ("C+B/16", 0.8),
        ("C+B/32", 2.1),
        ("C+L/16", 0.5),
        ("C+H/16", 0.4),
        ("C+Ti/32", -4.4),
    ],
)
def test_a_conv_stem_and_one_block_fewer_cost_about_what_the_plain_variant_costs(name, percent):
    ours, plain = count(variant(name)).macs, count(variant(name.removeprefix("C+"))).macs
    assert 100 * (ours / plain - 1) == pytest.approx(percent, abs=0.05)


@pytest.mark.parametrize(
    ("name", "stem_width"), [("C+Nano/2", 32), ("C+Micro/4", 32), ("C+Mini/8", 24), ("C+Ti/32", 12), ("C+Nano/16", 8)]
)
def test_any_size_and_power_of_two_has_a_conv_stem_that_doubles_up_to_its_width_from_8_or_more(name, stem_width):
    config = variant(name)
    assert config.stem_width == stem_width
    last = stem_width * config.patch_size // 2
    assert last == config.width or (stem_width == 8 and last > config.width)
    model = ViT(config)
    assert model(torch.zeros(2, 3, *config.image_hw)).shape == (2, 1000)


def test_changes_go_on_top_of_the_name():
    config = variant("Micro/4", image_size=(16, 24), pool="gap", num_classes=10)
    assert config == ViTConfig(
        width=64,
        depth=4,
        num_heads=2,
        mlp_ratio=2,
        patch_size=4,
        image_size=(16, 24),
        pool="gap",
        num_classes=10,
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("B16", "did you mean .*B/16"),
        ("ViT-B/16", "B/16"),
        ("b/16", "B/16"),
        ("Micr/4", "Micro/4"),
        ("R50+B16", r"R50\+B/16"),
        ("R26+B/16", r"the ResNet stems are R\+Ti/16, R26\+S/32, R50\+B/16, R50\+L/32"),
        ("R18+B/16", "the ResNet stems are"),
        ("C+Ti16", r"did you mean C\+Ti/16"),
        ("c+s/16", r"did you mean C\+S/16"),
        ("C50+S/16", r"C\+S/16"),
        ("Conv+Ti/16", r"C\+Ti/16"),
        ("C+R50+B/16", r"R50\+B/16"),
        ("C+B/14", "patch_size 14 must be a power of two, 2 or more, for stem 'conv'"),
        ("C+B/1", "patch_size 1 must be a power of two"),
        ("C+B/0", "patch_size"),
        ("C+B/64", "patch_size 64 does not divide 224; give image_size"),
        ("B/１６", "B/16"),
        ("resnet50", "a size .*Ti, S, B, L, H.* and a patch size"),
        ("", f"a size .{', '.join(SIZES)}., a slash and a patch size"),
        ("B/15", "patch_size 15 does not divide 224; give image_size"),
        ("B/16 ", "B/16"),
        ("B/0", "patch_size"),
    ],
)
def test_an_unknown_name_is_refused_with_a_hint(name, hint):
    with pytest.raises(ValueError, match=hint):
        variant(name)


def test_a_field_that_does_not_exist_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="did you mean num_heads"):
        variant("B/16", num_head=8)
