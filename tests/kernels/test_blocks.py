"""Does a model with native blocks compute what it computed before, as exactly, and is it the same model in all else?"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitbench.config import TimmConfig, ViTConfig
from vitbench.device import open_device
from vitbench.kernels import install, native, operators
from vitbench.kernels.blocks import NativeBlock, NativeLayerNorm, NativeMLP
from vitbench.models import ViT, build_model
from vitbench.models.attention import Attention
from vitbench.models.blocks import Block

needs_native = pytest.mark.skipif(native.state()[0] is None, reason=f"no native operators: {native.state()[1]}")


SMALL = ViTConfig(image_size=(16, 24), patch_size=4, width=64, depth=3, num_heads=2, num_classes=5)


VARIANTS = {
    "cls": SMALL,
    "gap": SMALL.replace(pool="gap"),
    "registers": SMALL.replace(num_registers=3),
    "map": SMALL.replace(pool="map"),
    "rope": SMALL.replace(position="rope_2d", position_site="every_layer"),
    "relative": SMALL.replace(position="relative", position_site="every_layer"),
    "every layer": SMALL.replace(position_site="every_layer"),
    "qk_norm": SMALL.replace(qk_norm=True),
    "qk_norm and rope": SMALL.replace(qk_norm=True, position="rope_2d", position_site="every_layer"),
    "qk_norm, relative, registers": SMALL.replace(
        qk_norm=True, num_registers=3, pool="gap", position="relative", position_site="every_layer_shared"
    ),
    "layer_scale": SMALL.replace(layer_scale=0.5),
    "swiglu": SMALL.replace(activation="swiglu"),
    "no biases": SMALL.replace(qkv_bias=False, proj_bias=False),
    "pooled norm": SMALL.replace(final_norm="pooled"),
    "width of another multiple": SMALL.replace(width=72, mlp_ratio=1.5),
    "hidden width of another multiple": SMALL.replace(mlp_ratio=1.1),
    "heads of 48": SMALL.replace(width=96),
    "norm before": SMALL.replace(pre_norm=True),
    "drop path, in evaluation": SMALL.replace(drop_path=0.2),
}


def outputs_and_gradients(model: torch.nn.Module, images: Tensor, *, autocast: bool) -> tuple[Tensor, Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(images)
    F.cross_entropy(logits.double(), torch.arange(len(images)) % 5).backward()
    gradients = torch.cat([p.grad.double().flatten() for p in model.parameters()])
    return logits.detach().double(), gradients


@needs_native
@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_a_model_on_native_operators_is_as_near_to_float64_as_on_torchs_own(config):
    model = build_model(config).train(not config.drop_path)
    images = torch.randn(6, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    exact_model = build_model(config).double().train(model.training)
    exact_logits, exact_gradients = outputs_and_gradients(exact_model, images.double(), autocast=False)
    plain_logits, plain_gradients = outputs_and_gradients(model, images, autocast=True)
    logits, gradients = outputs_and_gradients(install(model), images, autocast=True)

    def distance(a: Tensor, b: Tensor) -> float:
        return ((a - b).norm() / b.norm()).item()

    assert distance(logits, exact_logits) <= 1.5 * distance(plain_logits, exact_logits)
    assert distance(gradients, exact_gradients) <= 1.5 * distance(plain_gradients, exact_gradients)


def native_model() -> ViT:
    return install(build_model(SMALL))


@needs_native
def test_the_same_step_twice_is_the_same_to_the_bit():
    images = torch.randn(40, 3, 16, 24)
    logits, gradients = outputs_and_gradients(native_model(), images, autocast=True)
    again, gradients_again = outputs_and_gradients(native_model(), images, autocast=True)
    assert torch.equal(logits, again) and torch.equal(gradients, gradients_again)


@needs_native
def test_without_gradients_nothing_is_kept_and_logits_are_the_same(monkeypatch):
    kept: list[bool] = []

    def note(name: str, *arguments: object, **others: object) -> None:
        if name in (places := {"mlp": 4, "self_attention": 7}):
            kept.append(arguments[places[name]] is not None)
        native.call(name, *arguments, **others)

    monkeypatch.setattr(operators, "call", note)
    model, images = native_model(), torch.randn(9, 3, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        with_gradients = model(images)
        with torch.inference_mode():
            without = model(images)
    assert torch.equal(with_gradients.detach(), without)
    assert kept == 6 * [True] + 6 * [False]


@needs_native
def test_nan_stays_nan():
    model, images = native_model(), torch.randn(2, 3, 16, 24)
    images[1, 0, 0, 0] = float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert torch.all(torch.isfinite(logits[0])) and torch.all(torch.isnan(logits[1]))


@needs_native
def test_parameters_in_bf16_and_empty_batches_go_through_torch():
    images = torch.randn(3, 3, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        logits = native_model().bfloat16()(images)
        assert native_model()(images[:0]).shape == (0, 5)
    logits.float().sum().backward()
    assert torch.all(torch.isfinite(logits))


@needs_native
def test_frozen_parameters_get_no_gradient_and_the_others_the_same():
    images = torch.randn(5, 3, 16, 24)
    _, gradients = outputs_and_gradients(native_model(), images, autocast=True)
    model = native_model()
    frozen = {
        name: "attention.qkv" in name or "norm" in name or "class" in name for name, _ in model.named_parameters()
    }
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen[name])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    F.cross_entropy(logits.double(), torch.arange(5)).backward()
    expected = dict(zip(frozen, gradients.split([p.numel() for p in model.parameters()]), strict=True))
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == frozen[name]
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad.double().flatten(), expected[name])


@needs_native
def test_the_profiler_sees_them_with_their_flops():
    from torch.profiler import profile

    model = install(build_model(SMALL.replace(pool="gap")))
    images = torch.randn(2, 3, 16, 24)
    with open_device("cpu").autocast("bf16"), profile(with_flops=True) as profiler:
        model(images)
    names = {event.key for event in profiler.key_averages()}
    assert {"vitbench::mlp", "vitbench::self_attention", "vitbench::add_norm"} <= names


@needs_native
@pytest.mark.parametrize(("tokens", "called"), [(257, True), (1025, True), (1026, False)])
def test_native_attention_takes_up_to_1025_tokens(monkeypatch, tokens, called):
    calls = []
    real = operators.self_attention
    monkeypatch.setattr(operators, "self_attention", lambda *a, **k: calls.append(1) or real(*a, **k))
    layer = install(build_model(SMALL.replace(width=32, num_heads=1)).blocks[0].attention)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(1, tokens, 32, dtype=torch.bfloat16))
    assert bool(calls) is called


def test_installing_changes_no_parameter_and_no_name_and_what_is_copied_or_pickled_stays_native():
    plain, model = build_model(SMALL), native_model()
    assert isinstance(model.blocks[0], Block) and isinstance(model.blocks[0].attention, Attention)
    for copied in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), install(copy.deepcopy(model))):
        assert all(type(block) is NativeBlock and type(block.mlp) is NativeMLP for block in copied.blocks)
        assert [name for name, _ in copied.named_modules()] == [name for name, _ in plain.named_modules()]
        expected = plain.state_dict()
        assert copied.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in copied.state_dict().items())


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_in_fp32_not_a_bit_of_a_logit_or_a_gradient_changes(config):
    images = torch.randn(2, 3, 16, 24)
    expected = outputs_and_gradients(build_model(config).eval(), images, autocast=False)
    actual = outputs_and_gradients(install(build_model(config)).eval(), images, autocast=False)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@needs_native
def test_a_part_that_a_user_replaced_is_called_as_it_was_written():
    class Doubled(nn.Module):
        def forward(self, x: Tensor, *, read: slice) -> Tensor:
            return 2 * x[:, read]

    model = native_model()
    model.blocks[0].attention = Doubled()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 3, 16, 24)).shape == (2, 5)


def test_norms_outside_the_residual_stream_and_models_of_timm_stay_as_they_are():
    model = install(build_model(SMALL.replace(pool="map", qk_norm=True, stem="patch_norm", pre_norm=True)))
    native_norms = {name for name, module in model.named_modules() if isinstance(module, NativeLayerNorm)}
    assert native_norms == {"pre_norm", "norm", *(f"blocks.{i}.norm{n}" for i in range(3) for n in (1, 2))}
    options = {"patch_size": 4, "num_blocks": 1, "embed_dim": 8}
    mixer = TimmConfig(timm="mlp_mixer.MlpMixer", image_size=8, in_channels=1, num_classes=10, options=options)
    before = [type(module) for module in build_model(mixer).modules()]
    assert [type(module) for module in install(build_model(mixer)).modules()] == before
