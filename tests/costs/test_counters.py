"""Once they see fused attention, do fvcore and FlopCounterMode count what the closed form does? And what timm publishes?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from vitbench.config import ViTConfig
from vitbench.costs import counters
from vitbench.costs.counters import (
    FUSED_ATTENTION,
    NORMS,
    count_with_flop_counter,
    count_with_fvcore,
    fvcore_operations,
)
from vitbench.costs.counts import Counts
from vitbench.costs.cross_check import CountMismatchError, check_agreement
from vitbench.costs.macs import count, count_parts
from vitbench.models import ViT
from vitbench.models.parts import ALL
from vitbench.variants import variant

SMALL: dict[str, Any] = {
    "image_size": (32, 48),
    "patch_size": 8,
    "width": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_ratio": 2.5,
    "num_classes": 7,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gap": {"pool": "gap"},
    "mean_all": {"pool": "mean_all"},
    "map": {"pool": "map"},
    "map, swiglu and registers": {"pool": "map", "activation": "swiglu", "num_registers": 3},
    "norm after pooling": {"pool": "gap", "final_norm": "pooled"},
    "no last norm": {"final_norm": "none"},
    "no position": {"position": "none"},
    "class token without position": {"embed_class_token": False},
    "1-D, every layer": {"position_site": "every_layer"},
    "1-D, shared": {"position_site": "every_layer_shared"},
    "2-D": {"position": "learned_2d"},
    "2-D, every layer": {"position": "learned_2d", "position_site": "every_layer"},
    "sines": {"position": "sincos_2d", "position_site": "every_layer"},
    "rope": {"position": "rope_2d", "position_site": "every_layer"},
    "relative": {"position": "relative", "position_site": "every_layer"},
    "relative, shared, gap": {"position": "relative", "position_site": "every_layer_shared", "pool": "gap"},
    "relative and registers": {"position": "relative", "position_site": "every_layer", "num_registers": 2},
    "patch_norm": {"stem": "patch_norm"},
    "oblong patches": {"patch_size": (4, 8)},
    "conv": {"stem": "conv", "stem_width": 8},
    "conv and norm before": {"stem": "conv", "stem_width": 8, "pre_norm": True},
    "resnet, no stage": {"stem": "resnet", "stem_layers": (), "stem_width": 8, "patch_size": 16},
    "resnet, no stage, stride 2": {"stem": "resnet", "stem_layers": (), "stem_width": 8, "patch_size": 2},
    "resnet, no stage, stride 1": {
        "stem": "resnet",
        "stem_layers": (),
        "stem_width": 8,
        "patch_size": 5,
        "image_size": (10, 15),
        "pre_norm": True,
    },
    "resnet, 1 stage": {"stem": "resnet", "stem_layers": (2,), "stem_width": 8, "patch_size": 4},
    "resnet, first stride 1": {"stem": "resnet", "stem_layers": (1, 2), "stem_width": 8, "patch_size": 2},
    "resnet, first stride 2": {"stem": "resnet", "stem_layers": (1, 1, 2), "stem_width": 8},
    "resnet, first stride 4": {"stem": "resnet", "stem_layers": (3, 2), "stem_width": 16, "pre_norm": True},
    "swiglu": {"activation": "swiglu"},
    "registers": {"num_registers": 4},
    "mlp head": {"head": "mlp"},
    "no classes": {"num_classes": 0},
    "mlp head, no classes": {"head": "mlp", "num_classes": 0},
    "norm before": {"pre_norm": True},
    "norms, scales, no bias": {"qk_norm": True, "layer_scale": 0.1, "qkv_bias": False, "proj_bias": False},
    "grey images": {"in_channels": 1},
}
HARD = ("plain", "map", "relative and registers", "relative, shared, gap", "conv", "resnet, first stride 4")
"""Those whose operators depend on device, dtype and gradient mode."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small an operator takes longer to share between threads than to compute, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(
    config: ViTConfig, *, device: str, batch_size: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[ViT, torch.Tensor]:
    """A model, its weights left as memory has them, and black images."""
    with torch.device("meta"):
        model = ViT(config).eval().to(dtype)
    images = torch.zeros(batch_size, config.in_channels, *config.image_hw, dtype=dtype, device=device)
    return model.to_empty(device=device), images


def expected(config: ViTConfig, *, batch_size: int = 1) -> dict[str, Counts]:
    """The closed form's parts that are not empty, for a batch."""
    parts = {
        part: Counts(counts.params, batch_size * counts.macs, batch_size * counts.activations)
        for part, counts in count_parts(config).items()
    }
    if config.pool == "map":  # one query is projected for the whole batch
        others = batch_size - 1
        parts["pool"] += Counts(macs=-others * config.width**2, activations=-others * config.width)
    return {part: counts for part, counts in parts.items() if counts != Counts()}


@pytest.mark.against("fvcore", "parameters, MACs and activations, part by part", "exact")
@pytest.mark.against("torch", "parameters, MACs and activations, part by part, with FlopCounterMode", "exact")
@pytest.mark.parametrize("name", CONFIGS)
def test_three_counters_agree_exactly_in_every_part(name):
    config = ViTConfig(**{**SMALL, **CONFIGS[name]})
    model, images = build(config, device="meta")
    with torch.no_grad():
        assert count_with_fvcore(model, images)[0] == expected(config)
        assert count_with_flop_counter(model, images) == expected(config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("gradients", [False, True], ids=["without gradients", "with gradients"])
@pytest.mark.parametrize("name", HARD)
def test_counts_depend_on_neither_device_nor_dtype_nor_gradients_and_rise_with_the_batch(name, gradients, dtype):
    config = ViTConfig(**{**SMALL, **CONFIGS[name]})
    model, images = build(config, device="cpu", batch_size=3, dtype=dtype)
    with torch.set_grad_enabled(gradients):
        assert count_with_fvcore(model, images)[0] == expected(config, batch_size=3)
        assert count_with_flop_counter(model, images) == expected(config, batch_size=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("gradients", [False, True], ids=["without gradients", "with gradients"])
@pytest.mark.parametrize("name", HARD)
def test_counts_on_cuda_are_the_same(name, gradients, dtype):
    config = ViTConfig(**{**SMALL, **CONFIGS[name]})
    model, images = build(config, device="cuda", batch_size=3, dtype=dtype)
    with torch.set_grad_enabled(gradients):
        assert count_with_fvcore(model, images)[0] == expected(config, batch_size=3)
        assert count_with_flop_counter(model, images) == expected(config, batch_size=3)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("kernel", ["fused", "matmul"])
def test_counts_do_not_depend_on_the_attention_kernel(kernel, device):
    config = ViTConfig(**{**SMALL, **CONFIGS["relative"]})
    model, images = build(config, device=device)
    for block in model.blocks:
        block.attention.kernel = kernel
    with torch.no_grad():
        assert count_with_fvcore(model, images)[0] == expected(config)
        assert count_with_flop_counter(model, images) == expected(config)


@pytest.mark.parametrize("name", ["conv", "resnet, first stride 4"])
def test_where_torch_traces_no_convolutions_on_meta_a_copy_on_cpu_is_counted_alike(name, monkeypatch):
    config = ViTConfig(**{**SMALL, **CONFIGS[name]})
    model, images = build(config, device="meta")
    monkeypatch.setattr(counters, "_traces_convolutions_on_meta", lambda: False)
    monkeypatch.delattr(counters, "_convolve")
    assert count_with_fvcore(model, images)[0] == expected(config)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_counting_leaves_the_model_as_it_was():
    model, images = build(ViTConfig(**{**SMALL, **CONFIGS["conv"]}), device="cpu")
    # Built without values: what memory held may be NaN, which equals nothing, in running statistics too.
    for tensor in model.state_dict().values():
        tensor.fill_(0.5 if tensor.is_floating_point() else 1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_with_fvcore(model, images)
    count_with_flop_counter(model, images)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Kernel(nn.Module):
    """One fused attention operator by itself. q [B, H, N, d] → what it returns."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.operator = getattr(torch.ops.aten, name)
        takes_bias = any(argument.name == "attn_bias" for argument in self.operator.default._schema.arguments)
        takes_logsumexp = any("compute_log" in argument.name for argument in self.operator.default._schema.arguments)
        self.more = (None,) * takes_bias + (True,) * takes_logsumexp

    def forward(self, q):
        keys = q.new_zeros(*q.shape[:2], 2 * q.shape[2], q.shape[3])
        return self.operator(q, keys, keys, *self.more)


@pytest.mark.parametrize("name", FUSED_ATTENTION)
def test_every_fused_attention_operator_is_counted_as_its_two_products(name):
    if not hasattr(torch.ops.aten, name):
        pytest.skip(f"torch {torch.__version__} has no {name}")
    q = torch.zeros(2, 3, 16, 8, device="meta", dtype=torch.bfloat16)
    try:
        parts = count_with_flop_counter(Kernel(name), q)
    except NotImplementedError:
        pytest.skip(f"{name} cannot run on meta, nor on this machine's devices")
    assert parts == {"elsewhere": Counts(macs=2 * 3 * 16 * 32 * (8 + 8), activations=2 * 3 * 16 * (32 + 8))}


class Recurrent(nn.Module):
    """Sequences [B, T, C] through a bidirectional LSTM of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 4, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_lstm_is_counted_as_its_products_with_inputs_and_states(device):
    model, sequences = Recurrent().eval().to(device), torch.zeros(2, 7, 6, device=device)
    # 4 gates of 4 units; 2 × 7 places, 2 directions; the second layer's inputs are 2 × 4.
    macs = 14 * 2 * (16 * (6 + 4) + 16 * (8 + 4))
    expected = Counts(sum(p.numel() for p in model.parameters()), macs, activations=14 * 2 * 2 * (16 + 16))
    with torch.no_grad():
        assert count_with_fvcore(model, sequences)[0] == {"lstm": expected}
        assert count_with_flop_counter(model, sequences) == {"lstm": expected}


class Called(nn.Module):
    """A function of images [B, C, H, W], and no more."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images, torch.zeros(6, 3, 4, 2, device=images.device))


CALLS = {
    # A function of 1 × 3 × 8 × 10 pixels and 6 kernels of 3 × 4 × 2, and at how many places it is evaluated.
    "as few arguments as can be": (lambda x, w: torch.conv2d(x, w), 5 * 9),
    "by name": (lambda x, w: torch.conv2d(weight=w, input=x, stride=2), 3 * 5),
    "same": (lambda x, w: torch.conv2d(x, w, padding="same"), 8 * 10),
    "same, dilated": (lambda x, w: torch.conv2d(x, w, None, 1, "same", (2, 3)), 8 * 10),
    "valid": (lambda x, w: torch.conv2d(x, w, padding="valid", stride=(2, 1)), 3 * 9),
    "one axis": (lambda x, w: torch.conv1d(x.flatten(2), w.flatten(2), stride=8), 10),
    "three axes": (lambda x, w: torch.conv3d(x[..., None], w[..., None], padding=(0, 0, 1)), 5 * 9 * 3),
    "transposed": (lambda x, w: torch.conv_transpose2d(x.repeat(1, 2, 1, 1), w, stride=2), 8 * 10),
    "transposed, one axis": (lambda x, w: torch.conv_transpose1d(x.repeat(1, 2, 1, 1).flatten(2), w.flatten(2)), 80),
    "einsum": (lambda x, w: torch.einsum("bchw,ockl->bohw", x, w[..., :1, :1]), 8 * 10 / 8),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", CALLS)
def test_convolutions_are_counted_however_they_are_called(name, device):
    function, places = CALLS[name]
    model, images = Called(function), torch.zeros(1, 3, 8, 10, device=device)
    for parts in (count_with_fvcore(model, images)[0], count_with_flop_counter(model, images)):
        assert parts["elsewhere"].macs == places * 6 * 3 * 4 * 2


class Shared(nn.Module):
    """A layer that is called by itself, and from within another module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.outer = nn.Sequential(nn.Linear(4, 4), self.layer)

    def forward(self, x):
        return self.outer(self.layer(x))


def test_what_a_shared_layer_does_within_another_module_is_that_module_s():
    model, inputs = Shared(), torch.zeros(1, 4, device="meta")
    expected = {"layer": Counts(20, 16, 4), "outer": Counts(20, 32, 8)}
    assert count_with_fvcore(model.to("meta"), inputs)[0] == expected
    assert count_with_flop_counter(model, inputs) == expected


def test_a_module_that_is_given_a_parameter_is_counted_without_gradients():
    model = nn.Sequential(nn.Linear(4, 4)).to("meta")
    token = nn.Parameter(torch.zeros(1, 4, device="meta"))  # as CaiT gives its class token to a norm
    with torch.no_grad():
        assert count_with_flop_counter(model, token) == {"0": Counts(20, 16, 4)}


def test_without_the_handlers_either_counter_misses_the_products_of_attention():
    from fvcore.nn import FlopCountAnalysis  # its import warns, unless `counters` has made it before

    config = variant("B/16")
    products = 12 * 2 * 197**2 * 768
    linear_layers = count(config).macs - products
    meta, on_meta = build(config, device="meta")
    model, images = build(config, device="cpu")
    meta.read = model.read = ALL
    with torch.no_grad():
        bare = FlopCountAnalysis(meta, on_meta).unsupported_ops_warnings(False)
        parts, norms = count_with_fvcore(meta, on_meta)
        assert bare.total() - norms == linear_layers
        assert f"{bare.total() / 1e9:.2f}" == "16.87"
        assert sum(parts.values(), Counts()).macs == linear_layers + products
        if torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in flop_registry:
            pytest.skip(f"torch {torch.__version__} counts fused attention on CPU by itself")
        with FlopCounterMode(display=False) as counter:
            model(images)
        assert counter.get_total_flops() == 2 * linear_layers
        assert f"{linear_layers / 1e9:.2f}" == "16.85"
        whole = sum(count_with_flop_counter(model, images).values(), Counts())
    assert whole.macs == linear_layers + products
    assert f"{whole.macs / 1e9:.2f}" == "17.56"


PUBLISHED = {
    # timm's results tables at 224 px, made with fvcore: million parameters, GMACs, million activations.
    "Ti/16": (5.72, 1.26, 5.97),
    "S/32": (22.88, 1.15, 2.50),
    "S/16": (22.05, 4.61, 11.95),
    "B/32": (88.22, 4.41, 5.01),
    "B/16": (86.57, 17.58, 23.90),
    "B/8": (86.58, 78.22, 161.69),
    "L/16": (304.33, 61.60, 63.52),
    "L/14": (304.20, 81.08, 88.79),
    "H/14": (630.76, 167.40, 139.41),
    "R+Ti/16": (6.34, 0.44, 2.06),
    "R26+S/32": (36.43, 3.56, 9.85),
    "R50+B/16": (97.89, 21.66, 35.28),
    "R50+L/32": (328.99, 19.58, 24.41),
}
HEADLESS = ("H/14", "R50+B/16")
"""Rows of weights without a classifier."""


@pytest.mark.against(
    "timm", "its published tables: parameters, activations, MACs once norms are added", "rounding; rounding; 0.5 %"
)
@pytest.mark.against("fvcore", "parameters, MACs and activations, part by part", "exact")
@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_with_norms_added_to_macs_are_what_timm_publishes(name):
    million_params, gmacs, million_activations = PUBLISHED[name]
    config = variant(name, num_classes=0 if name in HEADLESS else 1000)
    counts = count(config)
    assert counts.params / 1e6 == pytest.approx(million_params, abs=0.0051)
    assert counts.activations / 1e6 == pytest.approx(million_activations, abs=0.0051)
    # Norms are 0.4 % (Ti) to 0.1 % (B, L, H) of a ViT's MACs; of a hybrid's 0.6 to 2.7 %: the ResNet's group norms, and
    # weight standardisation by batch norm.
    with torch.no_grad():
        operations = fvcore_operations(*build(config, device="meta"))
    norms = sum(operations[""][norm] for norm in NORMS)
    assert 0 < norms < 0.028 * counts.macs
    assert operations[""].total() == counts.macs + norms
    assert operations[""].total() / 1e9 == pytest.approx(gmacs, rel=0.005, abs=0.005)  # or as rounded there
    assert name.startswith("R") or counts.macs / 1e9 == pytest.approx(gmacs, rel=0.01)


@pytest.mark.against("torch", "parameters, MACs and activations, part by part, with FlopCounterMode", "exact")
@pytest.mark.parametrize("name", PUBLISHED)
def test_full_sizes_cost_in_every_block_exactly_what_torch_counts(name):
    config = variant(name)
    with torch.no_grad():
        assert count_with_flop_counter(*build(config, device="meta")) == expected(config)


def test_counts_that_differ_name_the_part_and_every_number():
    right = {"stem": Counts(10, 1000, 100), "head": Counts(20, 2000, 200)}
    wrong = {**right, "head": Counts(20, 2011, 200)}
    with pytest.raises(CountMismatchError, match=r"head.* macs are 2,000 by ours, 2,011 by theirs, 2,000 by others"):
        check_agreement({"ours": right, "theirs": wrong, "others": right})


@pytest.mark.parametrize(
    "wrong", [Counts(21, 2000, 200), Counts(20, 2000, 202), Counts(20, 0, 200), Counts(20, 2000, -200)]
)
def test_one_parameter_and_more_than_half_a_percent_of_the_others_is_too_much(wrong):
    right = Counts(20, 2000, 200)
    with pytest.raises(CountMismatchError):
        check_agreement({"ours": {"head": right}, "theirs": {"head": wrong}})


def test_half_a_percent_is_agreement_and_is_told():
    ours, theirs = {"head": Counts(20, 2000, 200), "pool": Counts()}, {"head": Counts(20, 1990, 200)}
    assert check_agreement({"ours": ours, "theirs": theirs}) == pytest.approx(0.005)


def test_a_part_that_only_one_counter_has_is_no_agreement():
    with pytest.raises(CountMismatchError, match="elsewhere"):
        check_agreement({"ours": {"head": Counts()}, "theirs": {"elsewhere": Counts(macs=-5)}})
