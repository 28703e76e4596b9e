"""Are the authors' checkpoints read as timm reads them, in all their layouts, and everything else refused in one line?

The files are made up: random arrays under the names and in the shapes that vision_transformer and big_vision write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import HybridEmbed, _resnetv2

from tests.models.convert.saved_weights import (
    CLASSES,
    DEPTH,
    HEADS,
    HIDDEN,
    WIDTH,
    checkpoint,
    save,
)
from vitbench.models import convert


def twin(**arguments: Any) -> VisionTransformer:
    defaults = {"img_size": 12, "patch_size": 4, "num_classes": CLASSES, "embed_dim": WIDTH, "depth": DEPTH}
    defaults |= {"num_heads": HEADS, "mlp_ratio": HIDDEN / WIDTH, "act_layer": "gelu_tanh"}
    return VisionTransformer(**defaults | arguments).eval()


BIG_VISION_AVERAGE = {"global_pool": "avg", "class_token": False, "fc_norm": False}
FILES: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    # What the checkpoint is, under which prefix it lies, and timm's arguments for the same.
    "vision_transformer": ({"layout": "vit"}, "", {}),
    "vision_transformer, training state": ({"layout": "vit"}, "opt/target/", {}),
    "vision_transformer, gap": ({"layout": "vit", "pool": "gap"}, "", BIG_VISION_AVERAGE),
    "big_vision, cls": ({"layout": "bv"}, "params/", {"no_embed_class": True}),
    "big_vision, gap": ({"layout": "bv", "pool": "gap"}, "params/", BIG_VISION_AVERAGE),
    "big_vision, map": ({"layout": "bv", "pool": "map"}, "params/", {"global_pool": "map", "class_token": False}),
    "big_vision, image tower": ({"layout": "bv"}, "params/img/", {"no_embed_class": True}),
    "big_vision, layers stacked": ({"layout": "stacked"}, "params/", {"no_embed_class": True}),
}


def assert_same(model: torch.nn.Module, peer: torch.nn.Module, size: int) -> None:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.double()(images), peer.double()(images), rtol=0, atol=1e-9)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in peer.parameters())


@pytest.mark.against("timm", "files in the layouts of the paper's .npz checkpoints", "1e-9")
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_is_the_model_that_timm_reads(tmp_path, name):
    settings, prefix, arguments = FILES[name]
    path = save(tmp_path, checkpoint(**settings), prefix)
    peer = twin(**arguments)
    peer.load_pretrained(str(path))
    assert_same(convert.from_npz(path), peer, 12)


@pytest.mark.against("timm", "files in the layouts of the paper's .npz checkpoints", "1e-9")
@pytest.mark.parametrize(("layers", "grid"), [((1, 2, 1), 4), ((1, 1, 1, 1), 2)])
def test_a_hybrid_s_checkpoint_is_the_model_that_timm_reads(tmp_path, layers, grid):
    path = save(tmp_path, checkpoint("vit", grid=grid, resnet=layers))
    peer = twin(img_size=64, patch_size=1, embed_layer=lambda **k: HybridEmbed(backbone=_resnetv2(layers), **k))
    peer.load_pretrained(str(path))
    model = convert.from_npz(path)
    assert model.config.stem_layers == layers and model.config.image_size == 64
    assert_same(model, peer, 64)


@pytest.mark.against("timm", "files in the layouts of the paper's .npz checkpoints", "1e-9")
def test_a_checkpoint_of_patches_on_the_root_alone_is_the_model_that_timm_reads(tmp_path):
    path = save(
        tmp_path, checkpoint("vit", grid=2, patch=8, resnet=())
    )  # as R_Ti_16-….npz: conv_root, gn_root, embedding
    peer = twin(img_size=64, patch_size=8, embed_layer=lambda **k: HybridEmbed(backbone=_resnetv2(()), **k))
    peer.load_pretrained(str(path))
    model = convert.from_npz(path)
    assert (model.config.stem_layers, model.config.patch_size, model.config.image_size) == ((), 32, 64)
    assert_same(model, peer, 64)


def test_the_nonlinearity_is_jax_s_unless_another_is_asked_for(tmp_path):
    path = save(tmp_path, checkpoint("vit"))
    assert convert.from_npz(path).config.activation == "gelu_tanh"
    peer = twin(act_layer="gelu")
    peer.load_pretrained(str(path))
    assert_same(convert.from_npz(path, activation="gelu"), peer, 12)


def test_a_tanh_layer_before_the_classifier_is_kept(tmp_path):
    # timm leaves it out, so by hand: Dosovitskiy et al. 2021, section 3.1.
    hidden = {"pre_logits/kernel": np.eye(WIDTH, dtype=np.float32), "pre_logits/bias": np.zeros(WIDTH, np.float32)}
    path = save(tmp_path, checkpoint("vit") | hidden)
    peer = twin()
    peer.load_pretrained(str(path))
    model = convert.from_npz(path).double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        features = peer.double().forward_head(peer.forward_features(images), pre_logits=True)
        torch.testing.assert_close(model(images), peer.head(torch.tanh(features)), rtol=0, atol=1e-9)
    assert model.config.head == "mlp"


def test_bfloat16_is_read_without_numpy_knowing_it(tmp_path):
    arrays = checkpoint("bv")
    as_bfloat16 = {n: torch.from_numpy(a).bfloat16().view(torch.int16).numpy().view("V2") for n, a in arrays.items()}
    model = convert.from_npz(save(tmp_path, as_bfloat16, "params/"))
    expected = torch.from_numpy(arrays["head/bias"]).bfloat16().float()
    assert torch.equal(model.head.classifier.bias, expected)


def test_a_checkpoint_without_a_classifier_gives_features(tmp_path):
    arrays = {name: array for name, array in checkpoint("vit").items() if not name.startswith("head/")}
    model = convert.from_npz(save(tmp_path, arrays))
    assert model.config.num_classes == 0 and model(torch.zeros(1, 3, 12, 12)).shape == (1, WIDTH)


def test_sines_are_asked_for_where_there_is_no_table(tmp_path):
    arrays = {name: array for name, array in checkpoint("bv", pool="gap").items() if name != "pos_embedding"}
    path = save(tmp_path, arrays, "params/")
    with pytest.raises(ValueError, match=r"^position None: .* has no position table; give sincos_2d or none"):
        convert.from_npz(path)
    with pytest.raises(ValueError, match=r"^image_size is missing: "):
        convert.from_npz(path, position="sincos_2d")
    config = convert.from_npz(path, position="sincos_2d", image_size=(8, 12)).config
    assert (config.position, config.grid) == ("sincos_2d", (2, 3))


def test_an_oblong_image_is_told_by_the_caller(tmp_path):
    arrays = checkpoint("vit", pool="gap")
    arrays["Transformer/posembed_input/pos_embedding"] = arrays["Transformer/posembed_input/pos_embedding"][:, :6]
    path = save(tmp_path, arrays)
    with pytest.raises(ValueError, match=r"^image_size is missing: .*6 places"):
        convert.from_npz(path)
    assert convert.from_npz(path, image_size=(8, 12)).config.grid == (2, 3)
    assert convert.from_npz(path, image_size_if_untold=(8, 12)).config.grid == (2, 3)
    with pytest.raises(ValueError, match=r"^image_size 12 gives 9 patches, but .* holds 6 places; give"):
        convert.from_npz(path, image_size=12)


def test_a_square_table_tells_the_image_size_whatever_else_is_supposed(tmp_path):
    path = save(tmp_path, checkpoint("vit"))
    assert convert.from_npz(path, image_size_if_untold=24).config.image_size == 12


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gate/kernel": (WIDTH,)}, "gate/kernel cannot be expressed"),
        (
            {"pre_logits/kernel": (WIDTH, 8), "pre_logits/bias": (8,)},
            r"head.hidden.weight \[8, 16\] cannot be expressed",
        ),
        (
            {"Transformer/encoderblock_1/LayerNorm_0/scale": None},
            "Transformer/encoderblock_1/LayerNorm_0/scale is missing",
        ),
        ({"conv_root/kernel": (7, 7, 3, 64)}, "embedding/kernel .* cannot be expressed"),
        ({"embedding/kernel": None}, "no embedding/kernel"),
        ({"embedding/kernel": (WIDTH,)}, "is not a checkpoint of a ViT"),
        ({"cls": ()}, "is not a checkpoint of a ViT"),
        ({"Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel": (WIDTH,)}, "is not a checkpoint"),
        ({"Transformer/encoderblock_1/MultiHeadDotProductAttention_1/out/kernel": (WIDTH,)}, "is not a checkpoint"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused_in_one_line(tmp_path, change, says):
    arrays = checkpoint("vit")
    for name, shape in change.items():
        if shape is None:
            del arrays[name]
        else:
            arrays[name] = np.ones(shape, np.float32)
    path = save(tmp_path, arrays)
    with pytest.raises(ValueError, match=says) as refusal:
        convert.from_npz(path)
    assert "\n" not in str(refusal.value)


def not_npz(folder: Path, kind: str) -> Path:
    path = save(folder, checkpoint("vit"))
    match kind:
        case "text":
            path.write_text("not a zip")
        case "empty":
            path.write_bytes(b"")
        case "cut off":
            path.write_bytes(path.read_bytes()[:3000])
        case "damaged":
            content = bytearray(path.read_bytes())
            middle = slice(len(content) // 3, len(content) // 3 + 64)
            content[middle] = bytes(255 - byte for byte in content[middle])
            path.write_bytes(content)
        case "a single array":
            with path.open("wb") as file:
                np.save(file, np.ones(3))
        case "Python objects":
            np.savez(path, **{"embedding/kernel": np.array([{}, None], dtype=object)})
        case "missing":
            path.unlink()
    return path


@pytest.mark.parametrize("kind", ["text", "empty", "cut off", "damaged", "a single array", "Python objects", "missing"])
def test_a_file_that_is_not_npz_is_refused_in_one_line(tmp_path, kind):
    with pytest.raises(ValueError, match=r"weights\.npz cannot be read as npz: ") as refusal:
        convert.from_npz(not_npz(tmp_path, kind))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("array", [np.array(["a", "b"]), np.array([1j]), np.zeros(2, "f2,f2"), np.array([b"xy"])])
def test_what_is_no_number_is_refused_by_its_name(tmp_path, array):
    path = save(tmp_path, checkpoint("vit") | {"head/kernel": array})
    with pytest.raises(ValueError, match=r"weights\.npz is not a checkpoint of a ViT: head/kernel holds ") as refusal:
        convert.from_npz(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("other", [np.array(["adam"]), np.array([{}], dtype=object)])
def test_what_lies_beside_the_weights_is_not_read(tmp_path, other):
    path = tmp_path / "weights.npz"
    weights = {f"opt/target/{name}": array for name, array in checkpoint("vit").items()}
    np.savez(path, **weights, **{"opt/state": other})
    assert convert.from_npz(path).config.depth == DEPTH


@pytest.mark.parametrize("dtype", [">f4", "f2", "f8", "longdouble"])
def test_weights_are_read_in_any_floating_point_format(tmp_path, dtype):
    arrays = {name: array.astype(dtype) for name, array in checkpoint("vit").items()}
    model = convert.from_npz(save(tmp_path, arrays))
    np.testing.assert_array_equal(model.head.classifier.bias.detach(), arrays["head/bias"].astype("f8"))
