"""Are weights from timm the same model here, for everything that a ViTConfig can say, and is the rest refused by name?"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
from timm.layers import AttentionPoolLatent, GluMlp, GroupNormAct, RmsNorm, StdConv2dSame, SwiGLU, SwiGLUPacked
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from timm.models.vision_transformer_hybrid import HybridEmbed, _resnetv2
from torch import nn

from tests.models.convert.agreement import AGREEMENT, assert_agree, assert_drops_alike, random_weights
from vitbench.models import convert
from vitbench.variants import variant

SMALL: dict[str, Any] = {
    "img_size": (8, 12),
    "patch_size": 4,
    "num_classes": 5,
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
}
AVERAGE = {"global_pool": "avg", "class_token": False}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # timm's arguments, and what they are as a ViTConfig.
    "class token": ({}, {"pool": "cls", "final_norm": "tokens"}),
    "class token, norm after pooling": ({"fc_norm": True}, {"final_norm": "pooled"}),
    "avg": (AVERAGE, {"pool": "gap", "final_norm": "pooled"}),
    "avg, norm before pooling": (AVERAGE | {"fc_norm": False}, {"pool": "gap", "final_norm": "tokens"}),
    "avg beside an unused class token": ({"global_pool": "avg"}, {"pool": "gap", "num_registers": 1}),
    "avg with the class token": ({"global_pool": "avg", "pool_include_prefix": True}, {"pool": "mean_all"}),
    "map": ({"global_pool": "map", "class_token": False}, {"pool": "map"}),
    "map beside an unused class token": ({"global_pool": "map"}, {"pool": "map", "num_registers": 1}),
    "no last norm": ({"final_norm": False}, {"final_norm": "none"}),
    "no position": ({"pos_embed": "none"}, {"position": "none"}),
    "no position, avg": (AVERAGE | {"pos_embed": "none"}, {"position": "none", "pool": "gap"}),
    "places of patches alone": ({"no_embed_class": True}, {"embed_class_token": False}),
    "registers": ({"reg_tokens": 2}, {"num_registers": 2}),
    "registers without places": ({"reg_tokens": 2, "no_embed_class": True}, {"num_registers": 2}),
    "registers, avg": (AVERAGE | {"reg_tokens": 2, "no_embed_class": True}, {"num_registers": 2, "pool": "gap"}),
    "registers and an unused class token": ({"reg_tokens": 2, "global_pool": "avg"}, {"num_registers": 3}),
    "registers, map": ({"reg_tokens": 2, "global_pool": "map"}, {"num_registers": 3, "pool": "map"}),
    "qk_norm": ({"qk_norm": True}, {"qk_norm": True}),
    "no qkv_bias": ({"qkv_bias": False}, {"qkv_bias": False}),
    "LayerScale": ({"init_values": 0.1}, {"layer_scale": 0.1}),
    "pre_norm, quick_gelu": (
        {"pre_norm": True, "act_layer": "quick_gelu"},
        {"pre_norm": True, "activation": "quick_gelu"},
    ),
    "gelu_tanh": ({"act_layer": "gelu_tanh"}, {"activation": "gelu_tanh"}),
    "relu": ({"act_layer": "relu"}, {"activation": "relu"}),
    "SwiGLUPacked": ({"mlp_layer": SwiGLUPacked, "act_layer": "silu", "mlp_ratio": 4.0}, {"activation": "swiglu"}),
    "SwiGLU": ({"mlp_layer": SwiGLU, "act_layer": "silu"}, {"activation": "swiglu", "mlp_ratio": 2.0}),
    "another epsilon": ({"norm_layer": lambda width, **k: nn.LayerNorm(width, eps=1e-3, **k)}, {"norm_eps": 1e-3}),
    "no classifier": ({"num_classes": 0}, {"num_classes": 0}),
    "grey images": ({"in_chans": 1}, {"in_channels": 1}),
    "square image": ({"img_size": 16, "patch_size": 8}, {"image_size": 16, "patch_size": 8}),
    "oblong patches": ({"patch_size": (2, 4)}, {"patch_size": (2, 4)}),
    "one head": ({"num_heads": 1}, {"num_heads": 1}),
    "depth 1, uneven MLP": ({"depth": 1, "mlp_ratio": 2.6875}, {"depth": 1, "mlp_ratio": 43 / 16}),
    "any image size": ({"dynamic_img_size": True}, {"image_size": (8, 12)}),
}


def folded_places(peer: VisionTransformer, registers: int) -> dict[str, Any]:
    """timm gives registers, and a class token that is not pooled, places that are added to the tokens themselves."""
    if peer.pos_embed is None or peer.no_embed_class or not registers:
        return {}
    return {"pos_embed": (slice(None), slice(peer.num_prefix_tokens - registers, peer.num_prefix_tokens))}


@pytest.mark.against("timm", "logits and all gradients, every setting that converts", AGREEMENT)
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_timm_s(name):
    arguments, fields = MODELS[name]
    peer = random_weights(VisionTransformer(**SMALL | arguments))
    registers = fields.get("num_registers", 0)
    model = assert_agree(convert.from_timm, peer, summed=folded_places(peer, registers))
    assert {field: getattr(model.config, field) for field in fields} == fields


@pytest.mark.against("timm", "logits and all gradients, every setting that converts", AGREEMENT)
def test_gradients_of_folded_places_are_those_of_the_tokens_that_they_were_added_to():
    peer = random_weights(VisionTransformer(**SMALL, reg_tokens=2))
    model = convert.from_timm(peer)
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    for module in (peer, model):
        module(images).square().sum().backward()
    torch.testing.assert_close(peer.pos_embed.grad[0, 1:3], model.registers.grad, rtol=0, atol=1e-8)


def hybrid(layers: tuple[int, ...], *, backbone_channels: int = 3, **arguments: Any) -> VisionTransformer:
    """As timm builds vit_small_r26_s32, vit_base_r50_s16 and vit_tiny_r_s16_p8, but narrow and on small images."""
    return on_backbone(_resnetv2(layers, in_chans=backbone_channels), **arguments)


def on_backbone(backbone: nn.Module, **arguments: Any) -> VisionTransformer:
    settings = SMALL | {"img_size": (64, 96), "patch_size": 1, "depth": 2, "embed_dim": 24}
    return VisionTransformer(**settings | arguments, embed_layer=lambda **k: HybridEmbed(backbone=backbone, **k))


@pytest.mark.against("timm", "logits and all gradients, every setting that converts", AGREEMENT)
@pytest.mark.parametrize(("layers", "stride"), [((1, 1, 2), 16), ((1, 1, 1, 1), 32)])
def test_outputs_and_gradients_of_hybrids_are_timm_s(layers, stride):
    model = assert_agree(convert.from_timm, random_weights(hybrid(layers)))
    assert (model.config.stem, model.config.stem_layers, model.config.patch_size) == ("resnet", layers, stride)


@pytest.mark.against("timm", "logits and all gradients, every setting that converts", AGREEMENT)
@pytest.mark.parametrize(("patch", "channels"), [(1, 3), (2, 1), (4, 3), (8, 3)])
def test_outputs_and_gradients_of_patches_on_the_first_convolution_alone_are_timm_s(patch, channels):
    peer = hybrid((), patch_size=patch, in_chans=channels, backbone_channels=channels)
    config = assert_agree(convert.from_timm, random_weights(peer)).config
    assert (config.stem, config.stem_layers, config.patch_size) == ("resnet", (), 4 * patch)
    assert config.in_channels == channels and config.grid == (16 // patch, 24 // patch)


@pytest.mark.parametrize(("layers", "patch"), [((1, 1), 2), ((), (2, 4))])
def test_other_patches_on_a_feature_map_are_refused(layers, patch):
    with pytest.raises(ValueError, match=r"^patch_size .* cannot be expressed: patches are 1 × 1 on a ResNetV2"):
        convert.from_timm(hybrid(layers, patch_size=patch))


@pytest.mark.against("timm", "logits of named models", "1e-9")
def test_r_ti_16_is_timm_s_in_float32_too():
    peer = random_weights(timm.create_model("vit_tiny_r_s16_p8_224")).float()
    model = convert.from_timm(peer)
    assert model.config == variant("R+Ti/16")
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer(images), rtol=0, atol=1e-5)


@pytest.mark.against("timm", "logits and all gradients, every setting that converts", AGREEMENT)
def test_outputs_and_gradients_of_a_hybrid_with_other_groups_are_timm_s():
    weights, norm = partial(StdConv2dSame, eps=1e-8), partial(GroupNormAct, num_groups=8)
    backbone = ResNetV2(
        (1, 1), num_classes=0, global_pool="", preact=False, stem_type="same", conv_layer=weights, norm_layer=norm
    )
    model = assert_agree(convert.from_timm, random_weights(on_backbone(backbone)))
    assert (model.config.stem_groups, model.config.patch_size) == (8, 8)


@pytest.mark.against("timm", "logits of named models", "1e-9")
@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "deit3_small_patch16_224",
        "vit_wee_patch16_reg1_gap_256",
        "vit_base_patch16_siglip_224",
        "vit_base_patch32_clip_quickgelu_224",
        "vit_small_patch14_reg4_dinov2",
        "vit_tiny_r_s16_p8_224",
        "vit_small_r26_s32_224",
        "vit_base_r50_s16_224",
    ],
)
def test_named_models_of_timm_are_the_same_here(name):
    smaller = {"img_size": 64} if name.startswith(("vit_small_r26", "vit_base_r50")) else {}
    peer = random_weights(timm.create_model(name, depth=1, **smaller))
    model = convert.from_timm(peer)
    images = torch.randn(1, 3, *model.config.image_hw, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(images), peer(images), rtol=0, atol=1e-9)


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "another global_pool": ("global_pool", {"global_pool": "max"}),
    "registers in the mean": (
        "pool_include_prefix",
        {"reg_tokens": 1, "global_pool": "avg", "pool_include_prefix": True},
    ),
    "the class token in map": ("pool_include_prefix", {"global_pool": "map", "pool_include_prefix": True}),
    "RMSNorm": ("norm_layer", {"norm_layer": RmsNorm}),
    "another nonlinearity": ("act_layer", {"act_layer": "silu"}),
    "gates by sigmoid": ("act_layer", {"mlp_layer": partial(GluMlp, gate_last=False), "act_layer": "sigmoid"}),
    "gates last": ("gate_last", {"mlp_layer": GluMlp, "act_layer": "silu"}),
    "no bias in the MLP": ("proj_bias", {"proj_bias": False}),
    "norms inside attention": ("scale_attn_norm", {"scale_attn_norm": True}),
    "norms inside the MLP": ("scale_mlp_norm", {"scale_mlp_norm": True}),
    "post-norm": ("block_fn", {"block_fn": ResPostBlock}),
    "parallel branches": ("block_fn", {"block_fn": ParallelScalingBlock}),
    "differential attention": ("attn_layer", {"attn_layer": "diff"}),
    "norm after the patches": ("embed_norm_layer", {"embed_norm_layer": nn.LayerNorm}),
    "dropout before the classifier": ("drop_rate", {"drop_rate": 0.1}),
    "left-out patches": ("patch_drop_rate", {"patch_drop_rate": 0.1}),
    "two rates of dropout": ("proj_drop_rate", {"pos_drop_rate": 0.1, "proj_drop_rate": 0.2}),
    "map beside SwiGLU": ("attn_pool.mlp", {"global_pool": "map", "mlp_layer": SwiGLU, "act_layer": "silu"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_expressed_is_refused_by_timm_s_name_of_the_field(name):
    field, arguments = REFUSED[name]
    with pytest.raises(ValueError, match=rf"^{field} .* cannot be expressed: "):
        convert.from_timm(VisionTransformer(**SMALL | arguments))


@pytest.mark.against("timm", "where training drops out, by a dropout that counts", "1e-9")
@pytest.mark.parametrize("arguments", [{}, {"global_pool": "map"}, {"mlp_layer": SwiGLU, "act_layer": "silu"}])
def test_training_drops_out_where_timm_does(arguments, monkeypatch):
    peer = VisionTransformer(**SMALL | arguments, pos_drop_rate=0.1, proj_drop_rate=0.1, attn_drop_rate=0.2)
    assert_drops_alike(convert.from_timm, peer, monkeypatch)


def test_rates_of_what_drops_are_kept():
    peer = VisionTransformer(**SMALL, pos_drop_rate=0.1, proj_drop_rate=0.1, attn_drop_rate=0.2, drop_path_rate=0.3)
    config = convert.from_timm(peer).config
    assert (config.dropout, config.attention_dropout) == (0.1, 0.2)
    assert config.drop_path == pytest.approx(0.3)


def change_drop_path(peer):
    peer.blocks[0].drop_path1 = timm.layers.DropPath(0.5)


def change_attention_pool(peer):
    peer.attn_pool = AttentionPoolLatent(16, num_heads=4, mlp_ratio=2.0, norm_layer=nn.LayerNorm)


def change_one_block(peer):
    peer.blocks[1].attn.q_norm = peer.blocks[1].attn.k_norm = nn.LayerNorm(8)


def change_one_epsilon(peer):
    peer.blocks[1].norm1.eps = 1e-3


def add_a_parameter(peer):
    peer.gate = nn.Parameter(torch.ones(3))


def change_the_stem(peer):
    peer.patch_embed.img_size = None


def drop_in_the_pool(peer):
    peer.attn_pool.proj_drop = nn.Dropout(0.1)


def drop_one_branch(peer):
    for i, block in enumerate(peer.blocks):
        block.drop_path1 = timm.layers.DropPath(0.1 * i)


def leave_out_the_bias(peer):
    peer.head = nn.Linear(16, 5, bias=False)


def lap_patches(peer):
    peer.patch_embed.proj.stride = (2, 2)


def share_a_layer(peer):
    peer.blocks[1].mlp.fc1.weight = peer.blocks[0].mlp.fc1.weight


def mix_dtypes(peer):
    peer.head.half()


def take_out_the_blocks(peer):
    peer.blocks = nn.Sequential()


def learn_the_nonlinearity(peer):
    for block in peer.blocks:
        block.mlp.act = nn.PReLU()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (change_drop_path, "drop_path_rate"),
        (change_attention_pool, "attn_pool.num_heads"),
        (change_one_block, "block_fn"),
        (change_one_epsilon, "norm_layer.eps"),
        (add_a_parameter, "gate cannot be expressed"),
        (change_the_stem, "img_size"),
        (drop_in_the_pool, "attn_pool.proj_drop 0.1"),
        (drop_one_branch, "drop_path_rate"),
        (leave_out_the_bias, "head.bias None"),
        (lap_patches, "patch_embed.proj"),
        (share_a_layer, "blocks.1.mlp.fc1.weight 'that of blocks.0.mlp.fc1.weight'"),
        (mix_dtypes, "dtype"),
        (take_out_the_blocks, "depth 0"),
        (learn_the_nonlinearity, "act_layer 'PReLU'"),
    ],
)
def test_what_was_changed_after_building_is_refused_too(change, says):
    peer = VisionTransformer(**SMALL, global_pool="map")
    change(peer)
    with pytest.raises(ValueError, match=f"^{says}"):
        convert.from_timm(peer)


class Doubled(VisionTransformer):
    def forward(self, x):
        return 2 * super().forward(x)


class Squeezed(VisionTransformer):
    def forward_features(self, x, **settings):
        return torch.tanh(super().forward_features(x, **settings))


class Named(VisionTransformer):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Narrow(VisionTransformer):
    def forward(self, x):
        return super().forward(x)[:, :1]


class Broken(VisionTransformer):
    def forward(self, x):
        raise RuntimeError("not\nfor you")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Doubled, r"with equal weights, logits differ by \d"),
        (Squeezed, r"with equal weights, logits differ by \d"),
        (Named, r"it gives dict for logits of \[2, 5\]"),
        (Narrow, r"it gives \[2, 1\] for logits of \[2, 5\]"),
        (Broken, "its forward pass fails with RuntimeError: not for you"),
    ],
)
def test_a_forward_pass_that_someone_changed_is_found_by_its_outputs(kind, says):
    peer = kind(**SMALL)
    nn.init.zeros_(peer.head.weight)  # so that the peer itself gives no sign of it
    with pytest.raises(ValueError, match=rf"^{kind.__name__} cannot be expressed: {says}"):
        convert.from_timm(peer)


def test_a_hook_behind_a_tiny_scale_is_found_too():
    peer = VisionTransformer(**SMALL, init_values=1e-5)
    peer.blocks[0].attn.register_forward_hook(lambda module, arguments, output: -output)
    with pytest.raises(ValueError, match="logits differ"):
        convert.from_timm(peer)


def test_another_epsilon_in_the_resnet_is_found_too():
    peer = hybrid((1, 1, 2))
    peer.patch_embed.backbone.stem.norm.eps = 1e-2
    with pytest.raises(ValueError, match="logits differ"):
        convert.from_timm(peer)


def test_drop_path_in_the_resnet_is_refused():
    backbone = ResNetV2((1, 1, 2), num_classes=0, global_pool="", preact=False, stem_type="same", drop_path_rate=0.5)
    peer = VisionTransformer(
        **SMALL | {"img_size": 64, "patch_size": 1}, embed_layer=lambda **k: HybridEmbed(backbone=backbone, **k)
    )
    with pytest.raises(ValueError, match=r"^patch_embed.backbone.stages.1.blocks.0.drop_path"):
        convert.from_timm(peer)


@pytest.mark.against("timm", "logits and all gradients, every setting that converts", AGREEMENT)
def test_an_image_that_patches_do_not_divide_is_cropped_as_timm_does():
    peer = random_weights(VisionTransformer(**SMALL | {"img_size": (11, 14)}))
    model = convert.from_timm(peer)
    assert model.config.image_size == (8, 12)
    images = torch.randn(2, 3, 11, 14, dtype=torch.float64)
    torch.testing.assert_close(model(images[:, :, :8, :12]), peer(images), rtol=0, atol=1e-9)


def test_all_parameters_of_a_conversion_are_trainable():
    peer = VisionTransformer(**SMALL).requires_grad_(False)
    assert all(parameter.requires_grad for parameter in convert.from_timm(peer).parameters())


def test_what_is_no_configuration_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"^the module cannot be expressed: .*num_classes") as refusal:
        convert.from_timm(VisionTransformer(**SMALL | {"num_classes": 2_000_000}))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deit_tiny_distilled_patch16_224", "dist_token"),
        ("vit_base_patch16_rope_224", "module 'Eva'"),
        ("vit_relpos_small_patch16_224", "module 'VisionTransformerRelPos'"),
        ("vit_small_resnet26d_224", "embed_layer"),
        ("resnet18", "module 'ResNet'"),
    ],
)
def test_models_of_another_make_are_refused(name, says):
    peer = timm.create_model(name)
    with pytest.raises(ValueError, match=f"^{says}"):
        convert.from_timm(peer)


def test_the_module_itself_is_left_as_it_was():
    peer = VisionTransformer(**SMALL).train()
    peer.blocks[1].eval()
    before = {name: value.clone() for name, value in peer.state_dict().items()}
    model = convert.from_timm(peer)
    assert peer.training and not peer.blocks[1].training and peer.blocks[0].training
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in peer.state_dict().items())


def test_a_model_without_storage_keeps_its_structure():
    with torch.device("meta"):
        peer = VisionTransformer(**SMALL)
    assert convert.from_timm(peer).config.width == 16


def test_dtype_is_kept():
    peer = VisionTransformer(**SMALL).bfloat16()
    assert {p.dtype for p in convert.from_timm(peer).parameters()} == {torch.bfloat16}


def test_backbones_of_timm_that_only_look_alike_are_refused():
    backbone = ResNetV2((1, 1, 2), num_classes=0, global_pool="", preact=True)
    peer = VisionTransformer(
        **SMALL | {"img_size": 64, "patch_size": 1}, embed_layer=lambda **k: HybridEmbed(backbone=backbone, **k)
    )
    with pytest.raises(ValueError, match="cannot be expressed"):
        convert.from_timm(peer)
