"""Does a user's part stand where the built-in one would, start as it should, and fail with one line where it is wrong?"""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models.users_parts import (
    EVERY_PART,
    PARTS,
    BiasAndRotation,
    ConditionalPosition,
    CosineHead,
    OneLayer,
    ScaleNorm,
)
from vitbench.config import ROLES, ViTConfig
from vitbench.kernels import install
from vitbench.models import Attention, PartError, build_model
from vitbench.models.insides import NoSuchPartError, patch_filters, position_tables
from vitbench.models.parts import ALL, parts_of
from vitbench.models.positions import Learned1D
from vitbench.models.recording import attention_maps, layer_outputs
from vitbench.models.resize import resize
from vitbench.models.seeding import key
from vitbench.refusals import one_line
from vitbench.signals import Ended
from vitbench.user_code import register

BASE = ViTConfig(image_size=16, patch_size=4, width=32, depth=3, num_heads=2, num_classes=10, num_registers=1)
IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def with_part(role: str, code: type, base: ViTConfig = BASE) -> ViTConfig:
    return base.replace(**{role: register(code, role)})


def test_there_is_a_part_for_every_role():
    assert tuple(EVERY_PART) == ROLES


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_what_an_arm_shares_with_the_baseline_starts_equal(role, code):
    baseline, model = build_model(BASE, seed=1), build_model(with_part(role, code), seed=1)
    theirs = dict(baseline.named_parameters())
    shared = [name for name, p in model.named_parameters() if name in theirs and theirs[name].shape == p.shape]
    own = 34 if code is OneLayer else {"norm": 14, "stem": 45, "attention": 30}.get(role, 40)
    assert len(shared) >= own
    for name, parameter in model.named_parameters():
        if name in shared:
            torch.testing.assert_close(parameter, theirs[name], rtol=0, atol=0)


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_the_same_seed_gives_the_same_part_and_moves_no_generator(role, code):
    config = with_part(role, code)
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    first = build_model(config, seed=1)
    drawn = (random.random(), np.random.rand())
    build_model(BASE, seed=1)
    random.seed(3)
    np.random.seed(3)
    assert drawn == (random.random(), np.random.rand())
    torch.manual_seed(4)
    second, other = build_model(config, seed=1), build_model(config, seed=2)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_users_constructor_leaves_the_global_generator_where_a_built_in_part_does(seed):
    torch.manual_seed(seed)
    build_model(BASE.replace(position="none"))
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    build_model(with_part("position", BiasAndRotation))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_every_parameter_gets_a_gradient_and_every_other_setting_goes_with_it(role, code):
    for changes in (
        {},
        {"pre_norm": True, "final_norm": "pooled", "layer_scale": 0.1, "num_registers": 0},
        {"pool": "map", "final_norm": "none", "drop_path": 0.2, "head": "mlp"},
    ):
        changes = {field: value for field, value in changes.items() if field != role}
        model = build_model(with_part(role, code, BASE.replace(**changes)))
        logits = model(IMAGES)
        assert logits.shape == (4, 10) and model.features(IMAGES).shape == (4, 32)
        logits.square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), (changes, name)


def test_all_parts_together_make_a_model():
    config = BASE
    for role, code in EVERY_PART.items():
        config = with_part(role, code, config)
    model = build_model(config).eval()
    assert model(IMAGES).shape == (4, 10)
    assert set(parts_of(model)) >= {"stem", "position", "blocks.2.attention", "blocks.0.norm1", "norm", "pool", "head"}


# What they compute, against formulas.


def test_a_bias_and_a_rotation_are_what_attention_gets_in_every_block():
    model = build_model(with_part("position", BiasAndRotation)).eval().double()
    part = model.position
    x = torch.randn(2, BASE.num_tokens, 32, dtype=torch.float64)
    for number, block in enumerate(model.blocks):
        layer = block.attention
        q, k, v = layer.qkv(x).view(2, -1, 3, 2, 16).permute(2, 0, 3, 1, 4)
        sign = torch.ones(BASE.num_tokens, 1, dtype=torch.float64)
        sign[:2] = -1  # class token and register
        weights = ((q * sign) @ (k * sign).transpose(-2, -1) / 4 + part.bias[number]).softmax(dim=-1)
        expected = layer.proj((weights @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer.weights(x), weights)
        torch.testing.assert_close(layer(x, read=slice(0, 1)), expected[:, :1])


def test_a_position_is_told_the_block_that_tokens_enter():
    model = build_model(with_part("position", ConditionalPosition)).eval()
    outputs: list[Tensor] = []
    with layer_outputs(model, lambda _, output: outputs.append(output)):
        model.tokens(IMAGES)
    stem, first, second = outputs[:3]
    convolved = F.conv2d(
        first[:, 2:].transpose(1, 2).reshape(4, 32, 4, 4),
        model.position.conv.weight,
        model.position.conv.bias,
        padding=1,
        groups=32,
    )
    moved = torch.cat([first[:, :2], first[:, 2:] + convolved.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(model.blocks[1](moved), second)
    prefix = torch.cat([model.class_token, model.registers]).expand(4, 2, 32)
    torch.testing.assert_close(model.blocks[0](torch.cat([prefix, stem], dim=1)), first)


def test_the_class_token_is_the_same_whether_the_last_block_computes_all_tokens_or_not():
    for role, code in PARTS:
        if role == "pool":
            continue
        model = build_model(with_part(role, code)).eval()
        expected = model.tokens(IMAGES)[:, 0]
        model.head = nn.Identity()
        torch.testing.assert_close(model.features(IMAGES), expected)


# How they start.


def test_layers_start_as_built_in_ones_and_a_users_own_parameters_as_the_constructor_has_them():
    model = build_model(with_part("norm", ScaleNorm), seed=1)
    assert all(norm.scale == 2 for name, norm in parts_of(model).items())
    position = build_model(with_part("position", ConditionalPosition), seed=1).position
    drawn = torch.empty(32, 1, 3, 3).normal_(
        0, 1 / 3, generator=torch.Generator().manual_seed(key(1, "position.conv.weight"))
    )
    torch.testing.assert_close(position.conv.weight, drawn, rtol=0, atol=0)
    assert (position.conv.bias == 0).all()
    bias = build_model(with_part("position", BiasAndRotation), seed=1).position.bias
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(1, "position"))
        torch.testing.assert_close(bias, torch.randn(bias.shape), rtol=0, atol=0)


def test_init_weights_has_the_last_word():
    model = build_model(with_part("head", CosineHead), seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(1, "head.init_weights"))
        torch.testing.assert_close(model.head.classes, torch.randn(10, 32).sign(), rtol=0, atol=0)


class TableOfOurs(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.inner = Learned1D(config)
        self.bias = nn.Parameter(torch.full((config.width,), 7.0))

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        return tokens + self.inner() + self.bias if block == 0 else tokens


def test_what_is_ours_in_a_users_part_is_initialised_as_ours():
    position = build_model(with_part("position", TableOfOurs), seed=1).position
    drawn = torch.empty(16, 32).normal_(
        0, 32**-0.5, generator=torch.Generator().manual_seed(key(1, "position.inner.table"))
    )
    torch.testing.assert_close(position.inner.table, drawn, rtol=0, atol=0)
    assert (position.bias == 7).all()


class Gated(OneLayer):
    """Its gate is drawn by the constructor."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.gate = nn.Parameter(torch.rand(config.width))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.gate


def test_constructors_of_one_part_in_several_blocks_draw_other_numbers():
    first, second, third = (block.mlp.gate for block in build_model(with_part("mlp", Gated)).blocks)
    assert not torch.equal(first, second) and not torch.equal(second, third) and not torch.equal(first, third)


class Embedded(OneLayer):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.rows = nn.Embedding(40, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.rows.weight.mean(dim=0)


def test_an_embedding_in_a_users_part_starts_at_the_scale_of_position_tables():
    """At 1/√width, as in big_vision; torch's own start is at 1."""
    rows = build_model(with_part("mlp", Embedded)).blocks[0].mlp.rows
    assert rows.weight.std().item() == pytest.approx(BASE.width**-0.5, rel=0.1)


class ScaledLinear(nn.Linear):
    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.scale = nn.Parameter(torch.full((1,), 7.0))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class WithScaledLinear(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.layer = ScaledLinear(config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def test_what_a_user_adds_to_a_layer_of_torchs_stays_as_the_constructor_has_it():
    layer = build_model(with_part("mlp", WithScaledLinear)).blocks[0].mlp.layer
    assert layer.scale.item() == 7
    assert not layer.bias.any() and 0 < layer.weight.abs().max() <= (6 / (2 * BASE.width)) ** 0.5


# Where they run.


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_native_operators_compute_the_rest_and_change_nothing_but_rounding(role, code):
    model = build_model(with_part(role, code)).eval()
    native = install(copy.deepcopy(model))
    torch.testing.assert_close(native(IMAGES), model(IMAGES), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(native(IMAGES), model(IMAGES), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_native_operators_train_beside_any_part(role, code):
    model = install(build_model(with_part(role, code)).train())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(IMAGES), torch.arange(4))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_part_gets_the_precision_that_it_gets_without_native_operators():
    seen: list[torch.dtype] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].dtype)

    config = BASE
    for role in ("attention", "mlp", "pool", "head"):
        config = with_part(role, EVERY_PART[role], config)
    for model in (build_model(config), install(build_model(config))):
        for part in parts_of(model).values():
            part.register_forward_pre_hook(note)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(IMAGES)
    half = len(seen) // 2
    assert seen[:half] == seen[half:] and half == 8


@pytest.mark.parametrize(("role", "code"), PARTS)
def test_compiled_without_a_break_it_computes_the_same(role, code):
    model = build_model(with_part(role, code)).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), model(IMAGES))


def test_a_copy_computes_with_its_own_parameters():
    model = build_model(with_part("position", BiasAndRotation)).eval()
    twin = copy.deepcopy(model)
    before = model(IMAGES)
    with torch.no_grad():
        twin.position.bias.mul_(3)
    torch.testing.assert_close(model(IMAGES), before, rtol=0, atol=0)
    assert not torch.allclose(twin(IMAGES), before)


# What is wrong is one line.


class Part(nn.Module):
    """A part that does what its subclass says."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, *_: int) -> Tensor:
        return x


class Wider(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        return torch.cat([x, x], dim=-1)


class TokenLess(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        return x[:, :-1]


class BroadcastsSilently(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        return x.mean(dim=1, keepdim=True)


class Double(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        return x.double()


class Tuple(Part):
    def forward(self, x: Tensor, *_: int) -> tuple[Tensor, None]:
        return x, None


class Raises(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        return x @ torch.zeros(5, 5)


class Indices(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        return x.long()


class NoSuper(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        pass


class Lazy(Part):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.layer = nn.LazyLinear(3)


class RaisesAtBirth(Part):
    def __init__(self, config: ViTConfig) -> None:
        raise KeyError("no such thing")


class EndsTheProcess(Part):
    def __init__(self, config: ViTConfig) -> None:
        raise SystemExit(0)


class EndsTheProcessLater(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        raise SystemExit(0)


class NoMethod(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()


class WrongBias(NoMethod):
    def attention_bias(self, q: Tensor, block: int) -> Tensor:
        return torch.zeros(q.shape[2], 3)


class WrongTurn(NoMethod):
    def rotate(self, x: Tensor, block: int) -> Tensor:
        return x[..., :2]


class WrongPreLogits(Part):
    def pre_logits(self, pooled: Tensor) -> Tensor:
        return pooled[:, :5]


class RaisesInPreLogits(Part):
    def pre_logits(self, pooled: Tensor) -> Tensor:
        return pooled @ pooled


class Exits(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        raise SystemExit(3)


class Unfilled(Part):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.gate = nn.Parameter(torch.empty(config.width))


class HalfUnfilled(Part):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__(config)
        self.gate = nn.Parameter(torch.ones(config.width))
        with torch.no_grad():
            self.gate[: config.width // 2] = torch.nan


class BadInit(Part):
    def init_weights(self) -> None:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("role", "code", "reason"),
    [
        ("mlp", Wider, r"mlp Wider@\w{8} gives \[4, 18, 64\], expected \[4, 18, 32\]"),
        ("attention", TokenLess, r"attention TokenLess@\w{8} gives \[4, 17, 32\], expected \[4, 18, 32\], of an input"),
        ("attention", BroadcastsSilently, r"gives \[4, 1, 32\], expected \[4, 18, 32\]"),
        ("norm", Double, r"norm Double@\w{8} gives torch.float64 of an input torch.float32"),
        ("position", Tuple, r"position Tuple@\w{8} gives a tuple, not a tensor \[4, 18, 32\]"),
        ("position", Raises, r"fails with an input \[4, 18, 32\]: RuntimeError: .*\(test_parts.py:\d+\)"),
        ("stem", Part, r"stem Part@\w{8} gives \[4, 3, 16, 16\], expected \[4, 16, 32\]"),
        ("pool", Part, r"pool Part@\w{8} gives \[4, 17, 32\], expected \[4, 32\]"),
        ("head", Part, r"head Part@\w{8} gives \[4, 32\], expected \[4, 10\]"),
        ("activation", Indices, r"activation Indices@\w{8} gives torch.int64"),
        ("mlp", NoSuper, r"mlp NoSuper@\w{8} does not call super\(\).__init__\(\)"),
        ("mlp", Lazy, r"has a lazy layer"),
        ("mlp", RaisesAtBirth, r"cannot be built: KeyError: 'no such thing' \(test_parts.py:\d+\)"),
        ("mlp", EndsTheProcess, r"cannot be built: SystemExit: 0 \(test_parts.py:\d+\)"),
        ("mlp", EndsTheProcessLater, r"fails with an input \[4, 18, 32\]: SystemExit: 0 \(test_parts.py:\d+\)"),
        ("position", NoMethod, r"has none of forward\(tokens, block\), attention_bias"),
        (
            "position",
            WrongBias,
            r"WrongBias@\w{8}.attention_bias gives \[1, 1, 18, 3\], expected what broadcasts to \[4, 2, 18, 18\]",
        ),
        ("position", WrongTurn, r"WrongTurn@\w{8}.rotate gives \[4, 2, 18, 2\], expected \[4, 2, 18, 16\]"),
        ("head", WrongPreLogits, r"head WrongPreLogits@\w{8}.pre_logits gives \[4, 5\], expected \[4, 32\]"),
        (
            "head",
            RaisesInPreLogits,
            r"RaisesInPreLogits@\w{8}.pre_logits fails with an input \[4, 32\]: RuntimeError: .*\(test_parts.py:\d+\)",
        ),
        (
            "mlp",
            BadInit,
            r"blocks.0.mlp BadInit fails in init_weights\(\): RuntimeError: not today \(test_parts.py:\d+\)",
        ),
        ("mlp", Exits, r"mlp Exits@\w{8} fails with an input \[4, 18, 32\]: SystemExit: 3"),
        ("mlp", Unfilled, r"blocks.0.mlp Unfilled leaves gate NaN, or unfilled \(torch.empty\)"),
        ("mlp", HalfUnfilled, r"blocks.0.mlp HalfUnfilled leaves gate NaN, or unfilled"),
    ],
)
def test_what_a_part_does_wrong_is_one_line_that_names_it(role, code, reason):
    with pytest.raises(PartError, match=reason) as refusal:
        build_model(with_part(role, code))(IMAGES)
    assert "\n" not in str(refusal.value) and "\n" not in one_line(refusal.value)


class OutOfMemory(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_that_is_short_is_no_fault_of_the_part():
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        build_model(with_part("mlp", OutOfMemory))(IMAGES)


class Signalled(Part):
    def forward(self, x: Tensor, *_: int) -> Tensor:
        raise Ended(143)


def test_a_signal_that_ends_the_process_is_no_fault_of_the_part():
    with pytest.raises(Ended):
        build_model(with_part("mlp", Signalled))(IMAGES)


def test_a_users_attention_that_does_not_derive_from_ours_cannot_be_told_of_rotations():
    mean = dict(PARTS[len(EVERY_PART) :])["attention"]
    for position in ("rope_2d", "relative"):
        config = with_part("attention", mean).replace(position=position, position_site="every_layer")
        with pytest.raises(PartError, match=r"derive it from vitbench.models.Attention"):
            build_model(config)
    with pytest.raises(PartError, match=r"derive it"):
        build_model(with_part("position", BiasAndRotation, with_part("attention", mean)))
    relu = with_part("attention", EVERY_PART["attention"])
    assert build_model(relu.replace(position="rope_2d", position_site="every_layer"))(IMAGES).shape == (4, 10)


# Nothing is silently wrong.


def test_attention_maps_of_a_users_attention_are_refused_unless_it_tells_them():
    model = build_model(with_part("attention", EVERY_PART["attention"]))
    with pytest.raises(NoSuchPartError, match=r"without a method weights"), attention_maps(model, lambda *_: None):
        pass

    maps: list[Tensor] = []
    model = build_model(with_part("attention", Telling)).eval()
    with attention_maps(model, lambda _, weights: maps.append(weights)):
        model(IMAGES)
    assert len(maps) == 3 and (maps[0] == 0.5).all()
    biased = build_model(with_part("position", BiasAndRotation)).eval()
    with attention_maps(biased, lambda _, weights: maps.append(weights)):
        biased(IMAGES)


class Telling(Attention):
    def weights(self, x: Tensor) -> Tensor:
        return torch.full((len(x), self.num_heads, x.shape[1], x.shape[1]), 0.5)


def test_filters_and_tables_of_users_parts_are_refused():
    with pytest.raises(NoSuchPartError, match=r"stem 'PixelStem@\w{8}' is a user's"):
        patch_filters(build_model(with_part("stem", EVERY_PART["stem"])))
    with pytest.raises(NoSuchPartError, match=r"position 'ConditionalPosition@\w{8}' is a user's"):
        position_tables(build_model(with_part("position", ConditionalPosition)))


class AnySize(ConditionalPosition):
    any_image_size = True


class SaysItDoes(BiasAndRotation):
    any_image_size = True


def test_images_of_another_size_come_only_to_parts_that_say_that_they_take_them():
    with pytest.raises(
        ValueError, match=r"position, a user's ConditionalPosition, was trained; .* any_image_size = True"
    ):
        resize(build_model(with_part("position", ConditionalPosition)), 32, antialias=True)
    with pytest.raises(ValueError, match=r"changes position.bias, although its class has any_image_size"):
        resize(build_model(with_part("position", SaysItDoes)), 32, antialias=True)
    model = resize(build_model(with_part("position", AnySize)), 32, antialias=True)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_the_last_block_computes_all_tokens_where_a_users_part_may_want_to_see_them():
    for role, code in PARTS:
        read = build_model(with_part(role, code)).read
        assert (read == ALL) == (role in ("attention", "mlp", "norm", "pool")), role
