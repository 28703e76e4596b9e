"""Does weight decay reach weights alone, and is the schedule the one that is written down?"""

from __future__ import annotations

import inspect
import math
from itertools import pairwise

import pytest
import timm
import torch
from timm.optim import (
    create_optimizer_v2,
    get_optimizer_class,
    get_optimizer_info,
    list_optimizers,
    param_groups_layer_decay,
)
from torch import nn

from vitbench.config import OPTIMIZER_OPTIONS, RunConfig, TrainConfig, ViTConfig
from vitbench.models import build_model
from vitbench.training.optimizer import MUONS, build_optimizer, build_schedule, freeze, options_taken

SMALL = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "num_classes": 5}


def decayed(config: TrainConfig, **model: object) -> dict[str, bool]:
    """Name of each parameter → whether it decays, as the optimizer's groups have it."""
    built = build_model(ViTConfig(**{**SMALL, **model}))
    optimizer = build_optimizer(built, config)
    rates = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(built.named_parameters())
    assert len(rates) == len(named) == sum(len(group["params"]) for group in optimizer.param_groups)
    assert set(rates.values()) <= {0.0, config.weight_decay}
    return {name: rates[id(p)] > 0 for name, p in named.items()}


def test_the_weights_of_linear_layers_decay_and_nothing_else_of_a_small_vit():
    block = ["attention.qkv.weight", "attention.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"]
    expected = {"stem.proj.weight", "head.classifier.weight", *(f"blocks.{i}.{w}" for i in (0, 1) for w in block)}
    groups = decayed(TrainConfig(), num_registers=1, qk_norm=True, layer_scale=0.1)
    assert {name for name, decays in groups.items() if decays} == expected
    for name in (
        "class_token",
        "registers",
        "position.tables.0.class_token",
        "position.tables.0.table",
        "stem.proj.bias",
        "norm.weight",
        "norm.bias",
        "blocks.0.norm1.weight",
        "blocks.0.attention.qkv.bias",
        "blocks.0.attention.q_norm.weight",
        "blocks.0.scale1.gamma",
        "head.classifier.bias",
    ):
        assert groups[name] is False, name


@pytest.mark.parametrize(
    ("model", "without", "with_decay"),
    [
        (
            {"position": "relative", "position_site": "every_layer"},
            ["blocks.0.attention.relative.table", "blocks.1.attention.relative.table"],
            [],
        ),
        ({"position": "learned_2d"}, ["position.tables.0.rows", "position.tables.0.columns"], []),
        (
            {"pool": "map"},
            ["pool.query", "pool.norm.weight"],
            ["pool.q.weight", "pool.kv.weight", "pool.mlp.fc1.weight"],
        ),
        ({"head": "mlp"}, ["head.hidden.bias"], ["head.hidden.weight"]),
        ({"stem": "patch_norm"}, ["stem.norm_patch.weight", "stem.norm_token.weight"], ["stem.proj.weight"]),
        (
            {"stem": "conv"},
            ["stem.layers.1.weight", "stem.layers.1.bias"],
            ["stem.layers.0.weight", "stem.proj.weight"],
        ),
        (
            {"stem": "resnet", "stem_layers": (1,), "stem_width": 8},
            ["stem.backbone.stem.norm.weight", "stem.backbone.stages.0.blocks.0.norm1.bias"],
            ["stem.backbone.stem.conv.weight", "stem.backbone.stages.0.blocks.0.conv2.weight"],
        ),
    ],
)
def test_tables_and_norms_of_every_factor_do_not_decay_and_its_weights_do(model, without, with_decay):
    groups = decayed(TrainConfig(), **model)
    assert not any(groups[name] for name in without) and all(groups[name] for name in with_decay)
    for name, parameter in build_model(ViTConfig(**{**SMALL, **model})).named_parameters():
        assert not groups[name] or parameter.dim() >= 2, name


def test_decay_shrinks_a_weight_without_gradient_by_rate_times_decay_and_leaves_its_bias():
    # Loshchilov & Hutter 2019, Algorithm 2: θ ← θ − lr · λ · θ.
    layer = nn.Linear(3, 2)
    weight, bias = (p.detach().clone() for p in layer.parameters())
    optimizer = build_optimizer(nn.Sequential(layer), TrainConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), weight * (1 - 0.1 * 0.5))
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)])
def test_the_optimizer_is_the_one_that_was_named(name, kind):
    optimizer = build_optimizer(nn.Linear(2, 2), TrainConfig(optimizer=name, learning_rate=0.03))
    assert isinstance(optimizer, kind) and all(group["lr"] == 0.03 for group in optimizer.param_groups)


def test_adamw_has_the_usual_constants():
    (group, _) = build_optimizer(nn.Linear(2, 2), TrainConfig()).param_groups
    assert group["betas"] == (0.9, 0.999) and group["eps"] == 1e-8 and not group["amsgrad"]


def test_an_unknown_optimizer_is_refused_with_its_name_and_where_to_look():
    with pytest.raises(ValueError, match=r"(?s)optimizer 'adamv'.*list_optimizers"):
        build_optimizer(nn.Linear(2, 2), TrainConfig(optimizer="adamv"))


BETAS, MOMENTUM, EPS = (0.8, 0.95), 0.7, 1e-3
AVAILABLE = [
    name for name in list_optimizers() if not str(get_optimizer_info(name).opt_class).startswith(("apex", "bits"))
]


@pytest.mark.filterwarnings("ignore:It is highly recommended to have 'opt_einsum'")
@pytest.mark.parametrize("name", AVAILABLE)
def test_an_option_that_an_optimizer_takes_reaches_it_and_every_other_is_refused(name):
    # The truth is the optimizer's constructor.
    constructor = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
    for option, value in {"betas": BETAS, "momentum": MOMENTUM, "eps": EPS}.items():
        has_two = option != "betas" or name.removeprefix("c") not in ("adan", "adanw", "adafactor")
        if option in constructor and has_two:
            config = TrainConfig(optimizer=name, **{option: value})
            groups = build_optimizer(build_model(ViTConfig(**SMALL)), config).param_groups
            if name in MUONS and option == "eps":  # Muon's own is for Newton–Schulz
                groups = [group for group in groups if group.get("use_fallback")]
            assert groups and all(group[option] == value for group in groups), option
            continue
        with pytest.raises(ValueError, match=rf"{option} .*: optimizer '{name}' has .*; leave it out"):
            build_optimizer(nn.Linear(2, 2), TrainConfig(optimizer=name, **{option: value}))


def test_what_is_known_without_timm_is_what_timm_knows():
    assert {name: options_taken(name) for name in OPTIMIZER_OPTIONS} == OPTIMIZER_OPTIONS


def test_the_defaults_of_an_optimizer_are_timms():
    for name in ("sgd", "lion", "lamb", "momentum", "adam"):
        ours = build_optimizer(nn.Linear(2, 2), TrainConfig(optimizer=name)).defaults
        assert ours == create_optimizer_v2(nn.Linear(2, 2), opt=name, lr=1e-3, weight_decay=0.0).defaults


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"momentum": 1.0}, "momentum"),
        ({"eps": 0.0}, "eps"),
        ({"optimizer": "sgd", "momentum": 0.0}, "momentum 0 leaves Nesterov's SGD"),
        ({"optimizer": "SGD", "betas": BETAS}, r"betas \(0.8, 0.95\): optimizer 'SGD' has only momentum; leave it out"),
        ({"optimizer": "lion", "eps": 1e-8}, "eps 1e-08: optimizer 'lion' has only betas; leave it out"),
        ({"min_learning_rate": 0.01}, "min_learning_rate 0.01 is more than learning_rate 0.001"),
    ],
)
def test_options_without_meaning_are_refused_at_birth(values, says):
    with pytest.raises(ValueError, match=says):
        TrainConfig(**values)


@pytest.mark.parametrize("clip_norm", [None, 100.0])
def test_lamb_does_not_clip_where_no_clipping_to_1_was_asked_for(clip_norm):
    """Second step of LAMB (You et al. 2020, algorithm 2) without decay, by hand: after a gradient of 10, one of 0.1."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    model = nn.ParameterList([weight])
    optimizer = build_optimizer(model, TrainConfig(optimizer="lamb", learning_rate=0.5, clip_norm=clip_norm))
    mean = square = expected = 0.0
    for step, gradient in enumerate((10.0, 0.1), start=1):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected -= 0.5 * (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.999**step)) + 1e-6)
    assert weight.item() == pytest.approx(expected, rel=1e-9)


def test_sgd_without_momentum_is_a_step_down_the_gradient():
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(
        layer, TrainConfig(optimizer="momentum", momentum=0.0, learning_rate=0.5, weight_decay=0.0)
    )
    for _ in range(2):
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before - 1.0)


def rates(num_steps: int, warmup_fraction: float, **changes: object) -> list[float]:
    config = TrainConfig(learning_rate=2.0, warmup_fraction=warmup_fraction, **changes)
    optimizer = build_optimizer(nn.Linear(2, 2), config)
    schedule = build_schedule(optimizer, config, num_steps=num_steps)
    seen = []
    for step in range(num_steps):
        schedule.step_update(step + 1)
        (rate,) = {group["lr"] for group in optimizer.param_groups}
        seen.append(rate)
    return seen


SHAPES = [(1, 0.0), (10, 0.0), (20, 0.2), (100, 0.1), (97, 0.33), (3, 0.5)]


@pytest.mark.parametrize(("num_steps", "warmup_fraction"), SHAPES)
def test_the_rate_rises_linearly_from_the_first_step_then_falls_and_is_never_0(num_steps, warmup_fraction):
    seen, warmup = rates(num_steps, warmup_fraction), round(num_steps * warmup_fraction)
    for step in range(warmup - 1):
        assert seen[step] == pytest.approx(2.0 * (step + 1) / warmup)
    falling = seen[max(warmup - 1, 0) :]
    assert all(a > b for a, b in pairwise(falling)) and min(seen) > 0
    assert max(seen) <= 2.0


@pytest.mark.parametrize(("num_steps", "warmup_fraction"), SHAPES)
def test_warm_up_reaches_the_rate_and_a_half_cosine_takes_it_to_0_after_the_last_step(num_steps, warmup_fraction):
    # Loshchilov & Hutter 2017, eq. 5, over what warm-up leaves of the run, as in big_vision.
    warmup = round(num_steps * warmup_fraction)
    expected = [
        2.0 * (t / warmup if t < warmup else (1 + math.cos(math.pi * (t - warmup) / (num_steps + 1 - warmup))) / 2)
        for t in range(1, num_steps + 1)
    ]
    assert rates(num_steps, warmup_fraction) == pytest.approx(expected)


@pytest.mark.parametrize(("num_steps", "warmup_fraction"), SHAPES)
def test_the_linear_schedule_is_a_straight_line_from_the_rate_to_0_after_the_last_step(num_steps, warmup_fraction):
    warmup = round(num_steps * warmup_fraction)
    expected = [
        2.0 * (t / warmup if t < warmup else 1 - (t - warmup) / (num_steps + 1 - warmup))
        for t in range(1, num_steps + 1)
    ]
    assert rates(num_steps, warmup_fraction, schedule="linear") == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_schedule_ends_at_the_least_rate_after_the_last_step(schedule):
    seen = rates(50, 0.2, schedule=schedule, min_learning_rate=0.5)
    plain = rates(50, 0.2, schedule=schedule)
    assert seen[:10] == pytest.approx(plain[:10])  # warm-up, from 0
    assert seen[10:] == pytest.approx([0.5 + rate * (2.0 - 0.5) / 2.0 for rate in plain[10:]])
    assert seen[-1] > 0.5


MUON = TrainConfig(optimizer="muon", learning_rate=0.01, weight_decay=0.0)
HIDDEN = {
    f"blocks.{i}.{layer}.weight" for i in (0, 1) for layer in ("attention.qkv", "attention.proj", "mlp.fc1", "mlp.fc2")
}


def by_muon(model: nn.Module, config: TrainConfig) -> dict[str, bool]:
    """Name of each parameter → whether Muon takes it, as the optimizer itself notes in its first step."""
    optimizer = build_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    return {name: optimizer.state[p]["use_muon"] for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["muon", "adamuon"])
@pytest.mark.parametrize("model", [{}, {"stem": "conv"}, {"pool": "map"}, {"head": "mlp", "position": "learned_2d"}])
def test_muon_takes_the_linear_layers_of_the_blocks_and_nothing_else(name, model):
    built = build_model(ViTConfig(**{**SMALL, **model}))
    before = {name: p.detach().clone() for name, p in built.named_parameters()}
    taken = by_muon(built, MUON.replace(optimizer=name))
    assert {name for name, muon in taken.items() if muon} == HIDDEN
    assert not any(torch.equal(p, before[name]) for name, p in built.named_parameters())


def test_compiling_does_not_change_what_muon_takes():
    compiled = torch.compile(build_model(ViTConfig(**SMALL)))
    taken = by_muon(compiled, MUON)
    assert {name.removeprefix("_orig_mod.") for name, muon in taken.items() if muon} == HIDDEN


def test_with_muon_what_is_left_to_adamw_moves_as_with_adamw_at_the_same_rate():
    weights = {}
    for optimizer in ("muon", "adamw"):
        model = build_model(ViTConfig(**SMALL))
        chosen = build_optimizer(model, MUON.replace(optimizer=optimizer, weight_decay=0.3))
        for step in range(3):
            for i, parameter in enumerate(model.parameters()):
                generator = torch.Generator().manual_seed(100 * step + i)
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            chosen.step()
        weights[optimizer] = dict(model.named_parameters())
    for name, parameter in weights["muon"].items():
        alike = torch.allclose(parameter, weights["adamw"][name], rtol=1e-5, atol=1e-7)
        assert alike == (name not in HIDDEN), name


def test_muons_first_step_is_orthogonal_with_the_root_mean_square_of_adamws():
    # Liu et al. 2025: 0.2 · √max(out, in) times an orthogonal matrix. Newton–Schulz leaves singular values near 1.
    model = build_model(ViTConfig(**SMALL))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    by_muon(model, MUON)
    for name in HIDDEN:
        parameter = dict(model.named_parameters())[name]
        update = (parameter.detach() - before[name]) / 0.01
        singular = torch.linalg.svdvals(update) / (0.2 * max(update.shape) ** 0.5)
        assert singular.min() > 0.6 and singular.max() < 1.3, (name, singular)
        assert update.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


def test_muon_decays_the_weights_it_takes():
    model = build_model(ViTConfig(**SMALL))
    (hidden,) = [
        group for group in build_optimizer(model, TrainConfig(optimizer="muon")).param_groups if "use_muon" in group
    ]
    assert hidden["weight_decay"] == 0.05 and hidden["momentum"] == 0.95 and len(hidden["params"]) == len(HIDDEN)


def rates_of(config: TrainConfig, *, steps: int = 3, **model: object) -> dict[str, float]:
    """Name of each trained parameter → its learning rate after some steps of the schedule."""
    built = build_model(ViTConfig(**{**SMALL, **model}))
    freeze(built, config)
    optimizer = build_optimizer(built, config)
    schedule = build_schedule(optimizer, config, num_steps=10)
    for step in range(steps):
        schedule.step_update(step + 1)
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in built.named_parameters() if id(p) in by_id}


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.against("timm", "shares of the learning rate under layer decay", "1e-12")
def test_rates_fall_from_layer_to_layer_as_timms_do(optimizer):
    plain = rates_of(TrainConfig(optimizer=optimizer), depth=3)
    rates = rates_of(TrainConfig(optimizer=optimizer, layer_decay=0.5), depth=3)
    shares = {name: rate / plain[name] for name, rate in rates.items()}
    theirs = timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=16, num_heads=2, img_size=32, num_classes=5)
    scale_of = {id(p): g["lr_scale"] for g in param_groups_layer_decay(theirs, layer_decay=0.5) for p in g["params"]}
    timms = {name: scale_of[id(p)] for name, p in theirs.named_parameters()}
    for ours, name in (
        ("class_token", "cls_token"),
        ("position.tables.0.table", "pos_embed"),
        ("stem.proj.weight", "patch_embed.proj.weight"),
        *((f"blocks.{i}.mlp.fc1.weight", f"blocks.{i}.mlp.fc1.weight") for i in range(3)),
        *((f"blocks.{i}.norm1.bias", f"blocks.{i}.norm1.bias") for i in range(3)),
        ("head.classifier.weight", "head.weight"),
    ):
        assert shares[ours] == pytest.approx(timms[name], rel=1e-12), ours
    # timm has the last norm beside the last block, BEiT's code and MAE's, like ours, beside the head.
    assert shares["norm.weight"] == shares["norm.bias"] == pytest.approx(1)


def test_attention_alone_is_trained_with_the_head_and_nothing_else_moves():
    config = TrainConfig(trainable="attention", layer_decay=0.5)
    trained = set(rates_of(config))
    parts = ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias")
    blocks = {f"blocks.{i}.attention.{part}" for i in (0, 1) for part in parts}
    assert trained == blocks | {"head.classifier.weight", "head.classifier.bias"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"train": {"trainable": "attention"}}, "give weights to start from"),
        ({"train": {"layer_decay": 0.5}, "model": {"timm": "resnet18"}}, "is for the blocks of a ViT"),
        ({"train": {"layer_decay": 1.5}}, "layer_decay"),
    ],
)
def test_fine_tuning_options_without_meaning_are_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        RunConfig(**fields)
