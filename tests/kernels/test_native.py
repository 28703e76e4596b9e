"""Native operators against torch's own in float64, on the same bf16 values; and when they are used, and when not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vitbench.config import ViTConfig
from vitbench.device import open_device
from vitbench.kernels import native, operators
from vitbench.models import build_model

BF16 = torch.finfo(torch.bfloat16).eps

needs_native = pytest.mark.skipif(native.state()[0] is None, reason=f"no native operators: {native.state()[1]}")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype).requires_grad_()


def exact(*tensors: Tensor | None) -> list[Tensor | None]:
    """Leaves of the same values in float64."""
    return [None if t is None else t.detach().double().requires_grad_() for t in tensors]


def assert_close(given: Tensor, expected: Tensor, *, roundings: float) -> None:
    """Within so many roundings to bf16 of the largest value."""
    error = (given.double() - expected).abs().max().item()
    assert error <= roundings * BF16 * expected.abs().max().item()


def assert_same_gradients(
    out: Tensor, reference: Tensor, given: list[Tensor | None], expected: list[Tensor | None], *, roundings: float
) -> None:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(99)).bfloat16()
    (out.double() * weights).sum().backward()
    (reference * weights).sum().backward()
    for of_given, of_expected in zip(given, expected, strict=True):
        if of_given is not None:
            assert_close(of_given.grad, of_expected.grad, roundings=roundings)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
}


@needs_native
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "width", "hidden"), [(1, 16, 48), (7, 64, 80), (600, 96, 256)])
def test_mlp_is_that_of_float64(activation, rows, width, hidden):
    x, w1, b1 = random(rows, width, dtype=torch.bfloat16), random(hidden, width, seed=1), random(hidden, seed=2)
    w2 = random(width, hidden, seed=3)
    arguments = exact(x, w1.bfloat16(), b1, w2.bfloat16())
    out = operators.mlp(x, w1, b1, w2, activation)
    reference = F.linear(ACTIVATIONS[activation](F.linear(*arguments[:3])), arguments[3])
    assert_close(out, reference.detach(), roundings=1)
    assert_same_gradients(out, reference, [x, w1, b1, w2], arguments, roundings=2)


@needs_native
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_nonlinearity_is_exact_to_bf16_from_minus_12_to_12(activation):
    x = torch.linspace(-12, 12, 4801).bfloat16()
    # One hidden unit per column of the identity: what goes in comes out through the nonlinearity alone.
    identity = torch.eye(16)
    rows = F.pad(x[:, None], (0, 15))
    out = operators.mlp(rows, identity, torch.zeros(16), identity, activation)[:, 0]
    expected = ACTIVATIONS[activation](x.double())
    assert torch.all((out.double() - expected).abs() <= 0.51 * BF16 * expected.abs() + 1e-7)


@needs_native
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("read", [None, slice(0, 1), slice(2, None)], ids=str)
@pytest.mark.parametrize(
    ("images", "tokens", "heads", "head_dim"),
    [(1, 4, 1, 16), (3, 65, 3, 64), (2, 33, 2, 80), (2, 257, 2, 32), (1, 1025, 1, 64)],
)
def test_self_attention_is_that_of_float64(images, tokens, heads, head_dim, read, bias):
    width = heads * head_dim
    x = random(images, tokens, width, dtype=torch.bfloat16)
    w_qkv, b_qkv = random(3 * width, width, seed=1), random(3 * width, seed=2) if bias else None
    w_proj = random(width, width, seed=3)
    with torch.no_grad():
        w_qkv *= width**-0.5
    x64, w64, b64, p64 = arguments = exact(x, w_qkv.bfloat16(), b_qkv, w_proj.bfloat16())
    out = operators.self_attention(x, w_qkv, b_qkv, w_proj, num_heads=heads, read=read)
    q, k, v = rearrange(F.linear(x64, w64, b64), "b n (three h d) -> three b h n d", three=3, h=heads)
    attended = F.scaled_dot_product_attention(q[:, :, read or slice(None)], k, v)
    reference = F.linear(rearrange(attended, "b h n d -> b n (h d)"), p64)
    assert_close(out, reference.detach(), roundings=3)
    assert_same_gradients(out, reference, [x, w_qkv, b_qkv, w_proj], arguments, roundings=6)


@needs_native
@pytest.mark.parametrize("read", [None, slice(0, 1), slice(2, None)], ids=str)
@pytest.mark.parametrize(("images", "tokens", "heads", "head_dim"), [(3, 65, 3, 64), (2, 33, 2, 80)])
def test_rotated_self_attention_is_that_of_float64(images, tokens, heads, head_dim, read):
    """Pairs of neighbours as complex numbers, each times e^(i angle), as Su et al. 2021 have it."""
    width = heads * head_dim
    x = random(images, tokens, width, dtype=torch.bfloat16)
    w_qkv, b_qkv, w_proj = random(3 * width, width, seed=1), random(3 * width, seed=2), random(width, width, seed=3)
    with torch.no_grad():
        w_qkv *= width**-0.5
    angles = 3 * torch.randn(tokens, head_dim // 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    cos, sin = angles.cos().float(), angles.sin().float()
    turns = torch.stack([torch.stack([cos, cos], -1).flatten(1), torch.stack([-sin, sin], -1).flatten(1)])
    x64, w64, b64, p64 = arguments = exact(x, w_qkv.bfloat16(), b_qkv, w_proj.bfloat16())
    out = operators.self_attention(x, w_qkv, b_qkv, w_proj, num_heads=heads, read=read, turns=turns)
    q, k, v = rearrange(F.linear(x64, w64, b64), "b n (three h d) -> three b h n d", three=3, h=heads)
    q, k = (
        torch.view_as_real(
            torch.view_as_complex(one.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
        ).flatten(-2)
        for one in (q, k)
    )
    attended = F.scaled_dot_product_attention(q[:, :, read or slice(None)], k, v)
    reference = F.linear(rearrange(attended, "b h n d -> b n (h d)"), p64)
    assert_close(out, reference.detach(), roundings=3)
    assert_same_gradients(out, reference, [x, w_qkv, b_qkv, w_proj], arguments, roundings=6)


@needs_native
@pytest.mark.parametrize(("rows", "width"), [(1, 16), (130, 48), (1000, 192)])
def test_residual_sums_and_norms_are_those_of_float64(rows, width):
    stream, branch = random(rows, width), random(rows, width, seed=1, dtype=torch.bfloat16)
    branch_bias, weight, bias = random(width, seed=2), random(width, seed=3), random(width, seed=4)
    given = [stream, branch, branch_bias, weight, bias]
    s, b, c, w, v = expected = exact(*given)
    total, out = operators.add_norm(*given, 1e-6)
    total = operators.add(total, out, branch_bias)
    first = s + b + c
    normed = F.layer_norm(first, (width,), w, v, 1e-6)
    reference = first + normed + c
    assert total.dtype == torch.float32
    assert_close(out, normed.detach(), roundings=0.51)
    assert_same_gradients(total, reference, given, expected, roundings=2)


@needs_native
def test_a_norm_alone_is_that_of_float64():
    given = [random(70, 32), random(32, seed=1), random(32, seed=2)]
    expected = exact(*given)
    out = operators.norm(*given, 1e-6)
    reference = F.layer_norm(expected[0], (32,), *expected[1:], 1e-6)
    assert_close(out, reference.detach(), roundings=0.51)
    assert_same_gradients(out, reference, given, expected, roundings=1)


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
    model, images = (
        build_model(config).train(not config.drop_path),
        torch.randn(6, 3, 16, 24, generator=torch.Generator().manual_seed(1)),
    )
    exact_model = build_model(config).double().train(model.training)
    exact_logits, exact_gradients = outputs_and_gradients(exact_model, images.double(), autocast=False)
    with native.plain():
        plain_logits, plain_gradients = outputs_and_gradients(model, images, autocast=True)
    logits, gradients = outputs_and_gradients(model, images, autocast=True)

    def distance(a: Tensor, b: Tensor) -> float:
        return ((a - b).norm() / b.norm()).item()

    assert distance(logits, exact_logits) <= 1.5 * distance(plain_logits, exact_logits)
    assert distance(gradients, exact_gradients) <= 1.5 * distance(plain_gradients, exact_gradients)


@pytest.mark.parametrize("name", ["cls", "registers", "rope", "relative", "qk_norm", "pooled norm"])
def test_leaving_out_what_nobody_reads_changes_neither_logits_nor_gradients(name):
    model = build_model(VARIANTS[name]).double()
    images = torch.randn(4, 3, 16, 24, dtype=torch.float64)
    logits, gradients = outputs_and_gradients(model, images, autocast=False)
    with native.plain():
        all_logits, all_gradients = outputs_and_gradients(model, images, autocast=False)
    torch.testing.assert_close(logits, all_logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients, all_gradients, rtol=0, atol=1e-12)


def test_the_last_block_computes_the_class_token_alone():
    model, seen = build_model(SMALL), []
    model.blocks[-1].mlp.register_forward_hook(lambda _, __, out: seen.append(out.shape[1]))
    images = torch.randn(2, 3, 16, 24)
    model(images)
    with native.plain():
        model(images)
    model.tokens(images)
    assert seen == [1, 25, 25]


@needs_native
def test_the_same_step_twice_is_the_same_to_the_bit():
    images = torch.randn(40, 3, 16, 24)
    logits, gradients = outputs_and_gradients(build_model(SMALL), images, autocast=True)
    again, gradients_again = outputs_and_gradients(build_model(SMALL), images, autocast=True)
    assert torch.equal(logits, again) and torch.equal(gradients, gradients_again)


@needs_native
def test_without_gradients_nothing_is_kept_and_logits_are_the_same(monkeypatch):
    kept: list[bool] = []

    def note(name: str, *arguments: object, **others: object) -> None:
        if name in (places := {"mlp": 4, "self_attention": 5}):
            kept.append(arguments[places[name]] is not None)
        native.call(name, *arguments, **others)

    monkeypatch.setattr(operators, "call", note)
    model, images = build_model(SMALL), torch.randn(9, 3, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        with_gradients = model(images)
        with torch.inference_mode():
            without = model(images)
    assert torch.equal(with_gradients.detach(), without)
    assert kept == 6 * [True] + 6 * [False]


@needs_native
def test_nan_stays_nan():
    model, images = build_model(SMALL), torch.randn(2, 3, 16, 24)
    images[1, 0, 0, 0] = float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert torch.all(torch.isfinite(logits[0])) and torch.all(torch.isnan(logits[1]))


@needs_native
def test_they_are_used_under_bf16_autocast_on_dense_cpu_tensors_alone():
    x = torch.randn(2, 4, 32)
    assert not native.usable(x)
    with torch.autocast("cpu", torch.float16):
        assert not native.usable(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert native.usable(x)
        assert not native.usable(x[..., :30])
        assert not native.usable(x.double())
        assert not native.usable(x.to("meta"))
        assert not native.usable(torch.nn.Parameter(x))
        assert not native.usable(x[:0])
        weight = torch.randn(32, 48)
        assert native.usable(x, weight)
        assert not native.usable(x, weight.t())
        assert not native.usable(x, weight.bfloat16())
        with native.plain():
            assert not native.usable(x)
        assert native.usable(x)


def reason_of(environment: dict[str, str]) -> str:
    program = "from vitbench.kernels import native; print(native.describe())"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


@needs_native
def test_parameters_in_bf16_and_empty_batches_go_through_torch():
    images = torch.randn(3, 3, 16, 24)
    with torch.autocast("cpu", torch.bfloat16):
        logits = build_model(SMALL).bfloat16()(images)
        assert build_model(SMALL)(images[:0]).shape == (0, 5)
    logits.float().sum().backward()
    assert torch.all(torch.isfinite(logits))


@needs_native
def test_frozen_parameters_get_no_gradient_and_the_others_the_same():
    images = torch.randn(5, 3, 16, 24)
    _, gradients = outputs_and_gradients(build_model(SMALL), images, autocast=True)
    model = build_model(SMALL)
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
@pytest.mark.parametrize("variable", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1", "OMP_NUM_THREADS=3"])
def test_gradients_are_the_same_with_fewer_or_more_threads_than_cores(variable):
    program = (
        "import torch; from vitbench.kernels import operators\n"
        "torch.manual_seed(0); torch.set_num_threads(3)\n"
        "x = torch.randn(900, 64).bfloat16(); w = torch.randn(128, 64, requires_grad=True)\n"
        "v = torch.randn(64, 128)\n"
        "operators.mlp(x, w, torch.zeros(128), v, 'gelu').sum().backward(); print(w.grad.abs().sum().item())"
    )
    name, _, value = variable.partition("=")
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for env in ({**os.environ, name: value}, {**os.environ, "OMP_NUM_THREADS": "1"})
    ]
    assert float(said[0]) == pytest.approx(float(said[1]), rel=1e-4)


def test_a_machine_without_compiler_says_so_and_computes_with_torch(tmp_path):
    environment = {"PATH": str(tmp_path), "VITBENCH_CACHE": str(tmp_path), "HOME": str(tmp_path)}
    assert reason_of(environment).startswith("torch: ")
    assert native.state()[0] is None or "no C++ compiler" in reason_of(environment)


def test_a_compiler_that_fails_is_quoted(tmp_path):
    compiler = tmp_path / "g++"
    script = (
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'a warning' >&2; echo 'error: no such option' >&2; exit 1\n"
    )
    compiler.write_text(script)
    compiler.chmod(0o755)
    reason = reason_of({"PATH": f"{tmp_path}:/bin:/usr/bin", "VITBENCH_CACHE": str(tmp_path), "HOME": str(tmp_path)})
    assert native.state()[0] is None or reason == "torch: error: no such option"


def test_they_can_be_switched_off():
    assert reason_of({**os.environ, native.SWITCH: "torch"}) == f"torch: {native.SWITCH}=torch"


@needs_native
def test_compiling_is_done_once(tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    first = native._build()
    changed = first.stat().st_mtime_ns
    assert native._build() == first and first.stat().st_mtime_ns == changed
    assert Path(first).parent == tmp_path / "kernels"


@needs_native
def test_running_out_of_memory_is_an_error_that_a_row_can_tell():
    # Packing a weight of 4096 × 4096 takes 32 MiB, and 16 are left.
    program = (
        "import resource, torch; from vitbench.kernels import operators, native\n"
        "from vitbench.device import is_out_of_memory\n"
        "x, w = torch.zeros(16, 4096, dtype=torch.bfloat16), torch.zeros(4096, 4096); bias = torch.zeros(4096)\n"
        "operators.mlp(x[:, :64], w[:64, :64].contiguous(), bias[:64], w[:64, :64].contiguous(), 'gelu')\n"
        "size = 4096 * int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**24, size + 2**24))\n"
        "try: operators.mlp(x, w, bias, w, 'gelu')\n"
        "except MemoryError as error: print(is_out_of_memory(error), error)"
    )
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "True out of memory in the native operator mlp"


@needs_native
def test_the_profiler_sees_them_with_their_flops():
    from torch.profiler import profile

    model = build_model(SMALL.replace(pool="gap"))
    images = torch.randn(2, 3, 16, 24)
    with open_device("cpu").autocast("bf16"), profile(with_flops=True) as profiler:
        model(images)
    names = {event.key for event in profiler.key_averages()}
    assert {"vitbench::mlp", "vitbench::self_attention", "vitbench::add_norm"} <= names


COMPILER = """#!/bin/sh
[ "$1" = --version ] && { echo made up 1.0; exit; }
echo compiled >> "$LOG"
while [ "$1" != -o ]; do shift; done
rm "$2"; head -c 9000 /dev/zero > "$2"
"""


@pytest.fixture
def made_up_compiler(tmp_path, monkeypatch):
    """Compiles anything to 9,000 zeros; gives how often it did."""
    (tmp_path / "c++").write_text(COMPILER)
    (tmp_path / "c++").chmod(0o755)
    (tmp_path / "log").touch()
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    return lambda: len((tmp_path / "log").read_text().splitlines())


@pytest.mark.skipif(
    sys.platform == "win32", reason="native operators are for Linux, and the compiler is a shell script"
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda library: os.truncate(library, 4096),
        lambda library: os.truncate(library, 0),
        lambda library: library.write_bytes(library.read_bytes()[:-1] + b"\1"),
        lambda library: library.unlink(),
        lambda library: library.with_suffix(".sha256").unlink(),
        lambda library: library.with_suffix(".sha256").write_bytes(b"\xff"),
    ],
    ids=["truncated", "empty", "flipped", "gone", "without digest", "with a damaged digest"],
)
def test_a_damaged_library_is_compiled_again_and_a_whole_one_is_not(made_up_compiler, damage):
    library = native._build()
    assert native._build() == library and made_up_compiler() == 1
    damage(library)
    assert native._build() == library and made_up_compiler() == 2
    assert library.read_bytes() == bytes(9000)
    assert native._build() == library and made_up_compiler() == 2
    assert {path.suffix for path in library.parent.iterdir()} <= {".so", ".sha256", ".lock"}


@needs_native
def test_a_truncated_library_is_no_crash_of_the_process_that_loads_it(tmp_path):
    library = Path(native.state()[0]._name)
    (tmp_path / "kernels").mkdir()
    for path in (library, library.with_suffix(".sha256")):
        shutil.copy(path, tmp_path / "kernels")
    os.truncate(tmp_path / "kernels" / library.name, 4096)
    # Without a compiler's time: it fails, and torch's own operators are what is left.
    program = (
        "import subprocess; from vitbench.kernels import native; run = subprocess.run\n"
        "def refuse(command, **options):\n"
        "    if '-o' in command: raise OSError('no compiler here')\n"
        "    return run(command, **options)\n"
        "subprocess.run = refuse\n"
        "print(native.describe())"
    )
    environment = {**os.environ, "VITBENCH_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "torch: no compiler here\n")
