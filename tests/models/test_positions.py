"""Is every position embedding what its source says, wherever it is put, and at the cost of its definition's parameters?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat, apply_rot_embed_cat

from tests.models.small_models import PLACES, images_for, num_parameters, small_config, small_model
from vitbench.config import ViTConfig
from vitbench.models import build_model
from vitbench.models.positions import (
    Learned1D,
    Learned2D,
    RelativePosition,
    RotaryPosition,
    SinCos2D,
    coordinates,
    sincos_2d,
)

PREFIXES = [{"pool": "gap"}, {"pool": "cls"}, {"pool": "gap", "num_registers": 2}, {"pool": "cls", "num_registers": 2}]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_values(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=i))
    return module.double()


def reference_sincos_2d(h: int, w: int, width: int, temperature: float = 10_000.0) -> np.ndarray:
    """big_vision's posemb_sincos_2d (models/vit.py), with NumPy for JAX."""
    y, x = np.mgrid[:h, :w]
    omega = np.arange(width // 4) / (width // 4 - 1)
    omega = 1.0 / (temperature**omega)
    y = np.einsum("m,d->md", y.flatten(), omega)
    x = np.einsum("m,d->md", x.flatten(), omega)
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


def raster(rows: int, columns: int) -> torch.Tensor:
    """[2, patches]: column and row of each."""
    return torch.from_numpy(np.mgrid[:rows, :columns][::-1].reshape(2, -1).copy())


@pytest.mark.against("big_vision", "posemb_sincos_2d, its lines in NumPy", "1e-6")
@pytest.mark.parametrize(("rows", "columns", "width"), [(2, 3, 8), (14, 14, 192), (7, 5, 64), (1, 9, 12)])
def test_sincos_2d_is_that_of_big_vision(rows, columns, width):
    result = sincos_2d(raster(rows, columns), width=width).numpy()
    np.testing.assert_allclose(result, reference_sincos_2d(rows, columns, width), rtol=0, atol=1e-6)


def test_sincos_2d_of_one_frequency_is_sine_and_cosine_of_the_place():
    np.testing.assert_allclose(
        sincos_2d(raster(2, 2), width=4).numpy(),
        [[f(p) for p in (x, y) for f in (np.sin, np.cos)] for y in (0, 1) for x in (0, 1)],
        atol=1e-7,
    )


def test_coordinates_are_columns_and_rows_in_raster_order():
    config = small_config(position="sincos_2d")
    assert torch.equal(coordinates(config), raster(*config.grid).double())
    assert torch.equal(coordinates(config.replace(position_grid=config.grid)), raster(*config.grid).double())


def test_coordinates_on_another_grid_are_where_a_table_would_be_resampled_from():
    # Bilinear, between its ends, of a table that holds its own coordinates; at the ends it repeats the last entry.
    config = ViTConfig(
        image_size=(6, 9), patch_size=1, width=16, num_heads=2, position="sincos_2d", position_grid=(3, 4)
    )
    y, x = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    table = torch.stack([x, y])[None].double()
    resampled = torch.nn.functional.interpolate(table, size=(6, 9), mode="bilinear", align_corners=False)[0].flatten(1)
    places = coordinates(config)
    inside = (places >= 0) & (places <= torch.tensor([[3.0], [2.0]]))
    assert 0.4 < inside.double().mean() < 1
    torch.testing.assert_close(places[inside], resampled[inside], rtol=0, atol=1e-12)


@pytest.mark.against("timm", "rotary positions on another grid's coordinates, with RotaryEmbeddingCat", "1e-5")
def test_rotary_positions_on_another_grid_turn_queries_and_keys_by_what_timms_do():
    config = ViTConfig(
        image_size=(6, 9),
        patch_size=1,
        width=16,
        num_heads=2,
        pool="gap",
        position="rope_2d",
        position_site="every_layer",
        position_grid=(3, 4),
    )
    theirs = RotaryEmbeddingCat(
        8, temperature=100, in_pixels=False, feat_shape=[6, 9], ref_feat_shape=[3, 4], grid_indexing="xy"
    ).get_embed()
    q, k = (normal(1, 2, 54, 8, seed=seed).float() for seed in (0, 1))
    turn = RotaryPosition(config)
    ours = turn(q) @ turn(k).mT
    expected = apply_rot_embed_cat(q, theirs) @ apply_rot_embed_cat(k, theirs).mT
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(RotaryPosition(config.replace(position_grid=None)).cos[1, 0], torch.tensor(1.0).cos())


@pytest.mark.parametrize("changes", PREFIXES)
def test_prefix_tokens_get_zeros_from_sincos_2d_and_learned_2d(changes):
    config = small_config(**changes)
    for table in (SinCos2D(config)(), with_values(Learned2D(config))()):
        assert table.shape == (config.num_prefix_tokens + 6, 16)
        assert not table[: config.num_prefix_tokens].any() and table[config.num_prefix_tokens :].any(dim=1).all()


def test_learned_2d_is_the_column_s_half_beside_the_row_s():
    position = with_values(Learned2D(small_config(pool="gap")))
    assert position.rows.shape == (2, 8) and position.columns.shape == (3, 8)
    expected = [torch.cat([position.columns[x], position.rows[y]]) for y in range(2) for x in range(3)]
    assert torch.equal(position(), torch.stack(expected))


@pytest.mark.against("transformers", "learned_2d, with DETR's", "exact")
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (5, 2), (4, 4)])
def test_learned_2d_is_that_of_detr(rows, columns):
    pytest.importorskip("transformers", reason="transformers comes with the extra `test`")
    from transformers.models.detr.modeling_detr import DetrLearnedPositionEmbedding

    ours = with_values(Learned2D(small_config(image_size=(4 * rows, 4 * columns), pool="gap")))
    theirs = DetrLearnedPositionEmbedding(8).double()
    with torch.no_grad():
        theirs.row_embeddings.weight[:rows] = ours.rows
        theirs.column_embeddings.weight[:columns] = ours.columns
    [expected] = theirs((1, 3, rows, columns), "cpu", torch.float64)
    assert torch.equal(ours(), expected.flatten(1).T)


def test_learned_1d_has_a_row_for_the_class_token_and_none_for_registers():
    position = with_values(Learned1D(small_config(pool="cls", num_registers=2)))
    assert torch.equal(position(), torch.cat([position.class_token, torch.zeros(2, 16), position.table]))
    position = with_values(Learned1D(small_config(pool="gap", num_registers=2)))
    assert torch.equal(position(), torch.cat([torch.zeros(2, 16), position.table]))


@pytest.mark.parametrize("changes", PREFIXES)
def test_relative_logits_are_those_of_a_double_loop(changes):
    config = small_config(**changes)
    position = with_values(RelativePosition(config))
    prefix, n, heads, d = config.num_prefix_tokens, 6, 2, 8
    q = normal(3, heads, prefix + n, d, seed=9)
    assert position.table.shape == (2 * n - 1, heads * d)
    expected = torch.zeros(3, heads, prefix + n, prefix + n, dtype=torch.float64)
    for i, j in itertools.product(range(n), range(n)):
        for h in range(heads):
            embedding = position.table[j - i + n - 1, h * d : (h + 1) * d]
            expected[:, h, prefix + i, prefix + j] = (q[:, h, prefix + i] * embedding).sum(dim=-1)
    torch.testing.assert_close(position(q), expected, rtol=0, atol=1e-13)


@pytest.mark.against("transformers", "attention with relative positions, with Wav2Vec2-BERT's", "1e-9, 1e-8")
def test_the_layer_with_relative_positions_is_that_of_wav2vec2_bert():
    # Shaw et al. 2018, eq. 5. Theirs has one table for all heads, so there is a layer of theirs for every head of ours:
    # that head's table, and of the output's weights that head's columns. What they return is to be summed.
    pytest.importorskip("transformers", reason="transformers comes with the extra `test`")
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention

    layer = small_model(position="relative", position_site="every_layer", pool="gap").blocks[0].attention
    config = Wav2Vec2BertConfig(
        hidden_size=16,
        num_attention_heads=2,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=5,
        right_max_position_embeddings=5,
        attn_implementation="eager",
    )
    heads = [slice(0, 8), slice(8, 16)]
    theirs = [Wav2Vec2BertSelfAttention(config).double().eval() for _ in heads]
    with torch.no_grad():
        for i, (their, head) in enumerate(zip(theirs, heads, strict=True)):
            for j, linear in enumerate((their.linear_q, their.linear_k, their.linear_v)):
                linear.weight.copy_(layer.qkv.weight[16 * j : 16 * (j + 1)])
                linear.bias.copy_(layer.qkv.bias[16 * j : 16 * (j + 1)])
            their.distance_embedding.weight.copy_(layer.relative.table[:, head])
            their.linear_out.weight.zero_()
            their.linear_out.weight[:, head] = layer.proj.weight[:, head]
            their.linear_out.bias.copy_(layer.proj.bias if i == 0 else torch.zeros(16))

    tokens = [normal(3, 6, 16).requires_grad_() for _ in range(2)]
    outputs = layer(tokens[0]), sum(their(tokens[1])[0] for their in theirs)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-9)
    for output in outputs:
        (output * normal(3, 6, 16, seed=1)).sum().backward()

    def summed(kind: str) -> torch.Tensor:
        linears = ("linear_q", "linear_k", "linear_v")
        return torch.cat([sum(t.get_parameter(f"{linear}.{kind}").grad for t in theirs) for linear in linears])

    expected = {
        "qkv.weight": summed("weight"),
        "qkv.bias": summed("bias"),
        "proj.weight": torch.cat([t.linear_out.weight.grad[:, h] for t, h in zip(theirs, heads, strict=True)], dim=1),
        "proj.bias": theirs[0].linear_out.bias.grad,
        "relative.table": torch.cat([t.distance_embedding.weight.grad for t in theirs], dim=1),
    }
    assert expected.keys() == dict(layer.named_parameters()).keys()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=0, atol=1e-8)
    torch.testing.assert_close(tokens[0].grad, tokens[1].grad, rtol=0, atol=1e-8)


def rope(**changes: object) -> RotaryPosition:
    return RotaryPosition(small_config(image_size=(16, 24), position="rope_2d", position_site="every_layer", **changes))


def test_rope_turns_pairs_of_channels_as_complex_numbers_by_column_then_row():
    q = normal(2, 2, 24, 8)
    z = torch.view_as_complex(q.view(2, 2, 24, 4, 2)).numpy()
    y, x = np.divmod(np.arange(24), 6)
    frequencies = np.array([1.0, 0.1])  # 100^(−k/2): Su et al. 2021 with base 100 (Heo et al. 2024), 2 pairs an axis
    angles = np.concatenate([np.outer(x, frequencies), np.outer(y, frequencies)], axis=1)
    expected = torch.view_as_real(torch.from_numpy(z * np.exp(1j * angles))).reshape(2, 2, 24, 8)
    torch.testing.assert_close(rope(pool="gap")(q), expected, rtol=0, atol=1e-6)  # its angles are stored in float32


def test_rope_keeps_norms_and_leaves_prefix_tokens_untouched():
    q = normal(2, 2, 3 + 24, 8)
    turned = rope(pool="cls", num_registers=2)(q)
    assert torch.equal(turned[:, :, :3], q[:, :, :3])
    assert (turned[:, :, 4:] - q[:, :, 4:]).abs().amax(dim=(0, 1, 3)).min() > 0.1
    torch.testing.assert_close(turned.norm(dim=-1), q.norm(dim=-1), rtol=1e-6, atol=0)


def test_rope_s_dot_products_depend_on_relative_places_alone():
    q, k = (normal(1, 2, 1, 8, seed=i).expand(1, 2, 24, 8) for i in range(2))
    position = rope(pool="gap")
    products = (position(q) @ position(k).transpose(-2, -1)).view(2, 4, 6, 4, 6)
    seen: dict[tuple[int, int], torch.Tensor] = {}
    for y1, x1, y2, x2 in itertools.product(range(4), range(6), range(4), range(6)):
        value = seen.setdefault((y2 - y1, x2 - x1), products[:, y1, x1, y2, x2])
        torch.testing.assert_close(products[:, y1, x1, y2, x2], value, rtol=0, atol=1e-5)
    distinct = torch.stack(list(seen.values()))
    assert len(distinct) == 7 * 11
    assert (torch.cdist(distinct, distinct) + torch.eye(len(distinct))).min() > 1e-4


@pytest.mark.parametrize(
    ("position", "site", "name"),
    [
        ("relative", "every_layer", "relative"),
        ("relative", "every_layer_shared", "relative"),
        ("rope_2d", "every_layer", "rotary"),
    ],
)
def test_a_position_within_attention_is_live_in_every_block(position, site, name):
    model = small_model(position=position, position_site=site)
    tokens = normal(2, 7, 16)
    for block in model.blocks:
        placed = block(tokens)
        assert getattr(block.attention, name) is not None
        setattr(block.attention, name, None)
        changed = (block(tokens) - placed)[:, 1:]  # the class token's relative logits are none
        assert changed.abs().amax(dim=-1).min() > 1e-3


ADDED_PARAMETERS = {
    # 4 × 6 patches, D = 24, 3 blocks, a class token.
    ("learned_1d", "stem"): (24 + 1) * 24,
    ("learned_1d", "every_layer"): 3 * (24 + 1) * 24,
    ("learned_1d", "every_layer_shared"): (24 + 1) * 24,
    ("learned_2d", "stem"): (4 + 6) * 12,
    ("learned_2d", "every_layer"): 3 * (4 + 6) * 12,
    ("learned_2d", "every_layer_shared"): (4 + 6) * 12,
    ("relative", "every_layer"): 3 * 47 * 24,
    ("relative", "every_layer_shared"): 47 * 24,
    ("sincos_2d", "stem"): 0,
    ("sincos_2d", "every_layer"): 0,
    ("rope_2d", "every_layer"): 0,
}


@pytest.mark.parametrize(("position", "site"), PLACES)
def test_a_position_embedding_adds_exactly_the_parameters_of_its_definition(position, site):
    shape = {"image_size": (16, 24), "patch_size": 4, "width": 24, "depth": 3}
    without = build_model(small_config(**shape, position="none"))
    with_it = build_model(small_config(**shape, position=position, position_site=site))
    assert num_parameters(with_it) - num_parameters(without) == ADDED_PARAMETERS[position, site]


@pytest.mark.parametrize(("site", "tables"), [("stem", 1), ("every_layer", 3), ("every_layer_shared", 1)])
@pytest.mark.parametrize("changes", [{}, {"num_registers": 2}, {"pool": "mean_all"}])
def test_a_class_token_that_is_not_embedded_is_one_row_a_table_fewer_and_goes_without_a_place(changes, site, tables):
    fields = {"position": "learned_1d", "position_site": site, **changes}
    embedded, model = small_model(**fields), small_model(**fields, embed_class_token=False)
    assert num_parameters(embedded) - num_parameters(model) == tables * 16
    prefix = model.config.num_prefix_tokens
    for table, other in zip(model.position.tables, embedded.position.tables, strict=True):
        assert not table()[:prefix].any() and table()[prefix:].any(dim=1).all()
        assert other()[0].any() and not other()[1:prefix].any()
    inputs = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    images = images_for(model.config)
    logits = model(images)
    assert torch.equal(inputs[0][:, :1], model.class_token.expand(2, 1, 16))
    # It is the embedded one with a row of zeros.
    zeros = {name: torch.zeros_like(value) for name, value in embedded.state_dict().items()}
    embedded.load_state_dict(zeros | model.state_dict())
    torch.testing.assert_close(embedded(images), logits, rtol=0, atol=1e-12)
    assert (small_model(**fields)(images) - logits).abs().max() > 1e-3


@pytest.mark.parametrize("num_registers", [0, 2])
def test_a_class_token_that_is_not_embedded_has_timm_s_places(num_registers):
    from timm.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(
        (8, 12), 4, embed_dim=16, depth=1, num_heads=2, no_embed_class=True, reg_tokens=num_registers
    )
    ours = Learned1D(small_config(embed_class_token=False, num_registers=num_registers))
    assert ours.table.shape == theirs.pos_embed.shape[1:] == (6, 16)
    with torch.no_grad():
        ours.table.copy_(theirs.pos_embed[0])
        theirs.cls_token.zero_()
        if num_registers:
            theirs.reg_token.zero_()
    assert torch.equal(theirs._pos_embed(torch.zeros(1, 6, 16))[0], ours())


def test_without_a_class_token_there_is_no_row_for_it():
    none, learned = (build_model(small_config(pool="gap", position=p)) for p in ("none", "learned_1d"))
    assert num_parameters(learned) - num_parameters(none) == 6 * 16


def shuffled(images: torch.Tensor, order: list[int]) -> torch.Tensor:
    """The 4 × 4 blocks of 8 × 12 images, in another order."""
    blocks = [images[..., y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4, 8)]
    new = [blocks[i] for i in order]
    return torch.cat([torch.cat(new[:3], dim=-1), torch.cat(new[3:], dim=-1)], dim=-2)


@pytest.mark.parametrize("pool", ["gap", "map", "cls", "mean_all"])
def test_without_position_patches_are_a_set(pool):
    model = small_model(pool=pool, position="none", num_registers=1)
    images, order = images_for(model.config), [3, 1, 5, 0, 2, 4]
    torch.testing.assert_close(model(shuffled(images, order)), model(images), rtol=0, atol=1e-12)
    prefix = model.config.num_prefix_tokens
    tokens, moved = model.tokens(images), model.tokens(shuffled(images, order))
    torch.testing.assert_close(moved[:, prefix:], tokens[:, prefix:][:, order], rtol=0, atol=1e-12)
    torch.testing.assert_close(moved[:, :prefix], tokens[:, :prefix], rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 1, 5, 0, 2, 4], [2, 3, 4, 5, 0, 1]])
def test_without_position_and_under_gap_shuffled_patches_give_the_same_logits_to_the_last_bit_of_float32(order):
    # A sum in another order may round its 53rd bit otherwise, so no more can be asked of float64: its float32 is exact.
    model = small_model(pool="gap", position="none")
    images = images_for(model.config)
    moved = shuffled(images, order)
    assert torch.equal(model(moved).float(), model(images).float())
    assert torch.equal(model.tokens(moved).float(), model.tokens(images).float()[:, order])


@pytest.mark.parametrize("pool", ["gap", "map", "cls", "mean_all"])
@pytest.mark.parametrize(("position", "site"), PLACES)
def test_with_position_the_order_of_patches_matters(pool, position, site):
    model = build_model(small_config(pool=pool, position=position, position_site=site)).double().eval()
    images = images_for(model.config)
    for order in ([1, 0, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]):  # left for right; the upper row for the lower
        assert (model(shuffled(images, order)) - model(images)).abs().max() > 1e-5


@pytest.mark.parametrize(("position", "site"), [p for p in PLACES if p[0] not in ("relative", "rope_2d")])
def test_an_added_position_goes_into_the_blocks_that_its_site_names(position, site):
    model = small_model(position=position, position_site=site)
    inputs, outputs = [], []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        block.register_forward_hook(lambda _, args, out: outputs.append(out))
    images = images_for(model.config)
    model(images)
    stem = torch.cat([model.class_token.expand(2, 1, 16), model.stem(images)], dim=1)
    added = [after - before for before, after in zip([stem, *outputs], inputs, strict=False)]
    assert added[0].abs().max() > 0.1
    for i in (1, 2):
        if site == "stem":
            assert not added[i].any()
        else:
            assert added[i].abs().max() > 0.1
            same = torch.allclose(added[i], added[0], rtol=0, atol=1e-12)
            assert same == (site == "every_layer_shared" or position == "sincos_2d")


@pytest.mark.parametrize("position", ["learned_1d", "learned_2d", "relative"])
def test_shared_tables_are_own_tables_that_are_equal(position):
    shared = small_model(position=position, position_site="every_layer_shared")
    own = small_model(position=position, position_site="every_layer")
    state, source = own.state_dict(), shared.state_dict()
    for name in state:
        if name.startswith("position.tables."):
            state[name] = source["position.tables.0." + name.split(".", 3)[3]]
        else:
            state[name] = source.get(name, source.get("blocks.0.attention.relative.table"))
    own.load_state_dict(state)
    images = images_for(own.config)
    torch.testing.assert_close(own(images), shared(images), rtol=0, atol=1e-12)


def test_images_of_another_grid_with_as_many_patches_are_refused():
    # huggingface/pytorch-image-models#2737: 2 × 8 patches on a model of 4 × 4 went through with the wrong places.
    model = small_model(image_size=(16, 16))
    with pytest.raises(ValueError, match=r"images are \(8, 32\) pixels, but image_size is \(16, 16\)"):
        model(torch.zeros(1, 3, 8, 32, dtype=torch.float64))
