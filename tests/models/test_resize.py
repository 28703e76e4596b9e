"""Does a model on another grid of patches have the positions that timm, or the definition, would give it?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table_simple
from torch import Tensor

from tests.models.small_models import PLACES, images_for, num_parameters, small_config, small_model
from vitbench.models import ViT, build_model
from vitbench.models.positions import SinCos2D
from vitbench.models.resize import resize, resize_tables

LEARNED = [place for place in PLACES if place[0] not in ("sincos_2d", "rope_2d")]
STEMS = {
    "patch": {},
    "patch_norm": {"stem": "patch_norm"},
    "conv": {"stem": "conv", "stem_width": 4},
    "resnet": {"stem": "resnet", "stem_layers": (1,), "stem_width": 8},
    "resnet, no stage": {"stem": "resnet", "stem_layers": (), "stem_width": 8},
}
GRIDS = [
    ((2, 3), (4, 6)),
    ((6, 6), (3, 3)),
    ((4, 4), (7, 7)),
    ((4, 4), (3, 5)),
    ((5, 3), (2, 6)),
    ((2, 8), (4, 4)),  # as many patches: huggingface/pytorch-image-models#2737
    ((4, 4), (8, 2)),
    ((1, 4), (3, 5)),
    ((3, 4), (3, 6)),
]
"""(rows, columns) of patches, old and new."""

ONE_COLUMN = [((2, 1), (5, 1)), ((5, 4), (2, 1)), ((3, 1), (2, 4)), ((1, 5), (1, 1))]
"""Where torch's own antialiasing, and so timm's, gives wrong values in part."""

grids = pytest.mark.parametrize(("old", "new"), GRIDS)
all_grids = pytest.mark.parametrize(("old", "new"), GRIDS + ONE_COLUMN)
antialiased = pytest.mark.parametrize("antialias", [False, True])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """At this size a second thread only waits, for seconds where the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def image_of(grid: tuple[int, int]) -> tuple[int, int]:
    return 4 * grid[0], 4 * grid[1]


def small_model_on(grid: tuple[int, int], **changes: object) -> ViT:
    return small_model(image_size=image_of(grid), **changes)


def is_table(name: str) -> bool:
    return name.endswith(("table", "rows", "columns"))


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def resized_table(name: str, table: Tensor, old: tuple[int, int], new: tuple[int, int], *, antialias: bool) -> Tensor:
    return resize_tables({name: table}, old_grid=old, new_grid=new, antialias=antialias)[name]


def cubic(x: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """The cubic convolution kernel (Keys 1981, with a free)."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def resampling_matrix(old: int, new: int, *, antialias: bool) -> NDArray[np.float64]:
    """[new, old]. Without antialias, a = −0.75 and borders repeated (OpenCV); with, a = −0.5, widened, cut off (PIL)."""
    scale = old / new
    centres = (np.arange(new) + 0.5) * scale - 0.5
    if antialias:
        weights = cubic((np.arange(old) - centres[:, None]) / max(scale, 1.0), a=-0.5)
        return weights / weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    for i, centre in enumerate(centres):
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[i, min(max(j, 0), old - 1)] += cubic(np.array(j - centre), a=-0.75)
    return matrix


TABLE, ROWS, COLUMNS = (f"position.tables.0.{leaf}" for leaf in ("table", "rows", "columns"))
RELATIVE = "blocks.0.attention.relative.table"
ENTRIES = {
    TABLE: lambda grid: grid[0] * grid[1],
    ROWS: lambda grid: grid[0],
    COLUMNS: lambda grid: grid[1],
    RELATIVE: lambda grid: 2 * grid[0] * grid[1] - 1,
}


def by_timm(table: Tensor, old: Sequence[int], new: Sequence[int], *, antialias: bool, prefix: int = 0) -> Tensor:
    """[prefix + patches, D] → the same on the new grid. timm takes equal sizes for equal grids unless told the old one."""
    return resample_abs_pos_embed(table[None], list(new), list(old), num_prefix_tokens=prefix, antialias=antialias)[0]


@pytest.mark.against("timm", "resized position tables", "1e-6")
@antialiased
@grids
def test_learned_1d_tables_are_those_of_timm(old, new, antialias):
    table = normal(old[0] * old[1], 8).float()
    expected = by_timm(table, old, new, antialias=antialias)
    torch.testing.assert_close(resized_table(TABLE, table, old, new, antialias=antialias), expected, rtol=0, atol=1e-6)


@pytest.mark.against("timm", "resized position tables", "1e-6")
@antialiased
@grids
def test_learned_2d_tables_make_the_whole_table_that_timm_makes_of_the_whole_table(old, new, antialias):
    state = {ROWS: normal(old[0], 8).float(), COLUMNS: normal(old[1], 8).float()}
    resized = resize_tables(state, old_grid=old, new_grid=new, antialias=antialias)

    def whole(state: dict[str, Tensor]) -> Tensor:
        return torch.stack([torch.cat([column, row]) for row in state[ROWS] for column in state[COLUMNS]])

    torch.testing.assert_close(whole(resized), by_timm(whole(state), old, new, antialias=antialias), rtol=0, atol=1e-6)


PREFIXES = [
    {"pool": "gap"},
    {"pool": "cls"},
    {"pool": "cls", "num_registers": 2},
    {"pool": "cls", "embed_class_token": False},
    {"pool": "map", "num_registers": 2},
]


@pytest.mark.against("timm", "resized position tables", "1e-6")
@pytest.mark.parametrize("changes", PREFIXES)
def test_prefix_tokens_keep_their_places_bit_by_bit(changes):
    model = small_model_on((2, 8), **changes).float()
    given, resized = model.position.tables[0], resize(model, 16, antialias=True).position.tables[0]
    prefix = model.config.num_prefix_tokens
    torch.testing.assert_close(
        resized(), by_timm(given(), (2, 8), (4, 4), antialias=True, prefix=prefix), rtol=0, atol=1e-6
    )
    assert torch.equal(resized()[:prefix], given()[:prefix])


@pytest.mark.against("timm", "resized position tables", "1e-6")
@pytest.mark.parametrize(("position", "site"), [place for place in LEARNED if place[0] != "relative"])
@antialiased
def test_tables_at_every_site_are_those_of_timm(position, site, antialias):
    model = small_model_on((4, 4), position=position, position_site=site, num_registers=1).float()
    resized = resize(model, (12, 20), antialias=antialias)
    assert len(resized.position.tables) == (3 if site == "every_layer" else 1)
    for given, table in zip(model.position.tables, resized.position.tables, strict=True):
        expected = by_timm(given(), (4, 4), (3, 5), antialias=antialias, prefix=2)
        torch.testing.assert_close(table(), expected, rtol=0, atol=1e-6)


@pytest.mark.against("timm", "resized position tables", "1e-6")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@antialiased
def test_half_precision_tables_are_resampled_in_float32(dtype, antialias):
    table = normal(16, 8).to(dtype)
    resized = resized_table(TABLE, table, (4, 4), (7, 3), antialias=antialias)
    assert resized.dtype == dtype and torch.equal(resized, by_timm(table, (4, 4), (7, 3), antialias=antialias))


@antialiased
@all_grids
def test_float64_tables_are_a_cubic_convolution_in_float64_throughout(old, new, antialias):
    state = {name: normal(ENTRIES[name](old), 4) for name in (TABLE, ROWS, COLUMNS)}
    vertical, horizontal = (resampling_matrix(o, n, antialias=antialias) for o, n in zip(old, new, strict=True))
    expected = {
        TABLE: np.einsum("yh,xw,hwd->yxd", vertical, horizontal, state[TABLE].reshape(*old, 4)).reshape(-1, 4),
        ROWS: vertical @ state[ROWS].numpy(),
        COLUMNS: horizontal @ state[COLUMNS].numpy(),
    }
    resized = resize_tables(state, old_grid=old, new_grid=new, antialias=antialias)
    for name, table in resized.items():
        assert table.is_contiguous()
        np.testing.assert_allclose(table.numpy(), expected[name], rtol=0, atol=1e-12)


@antialiased
def test_learned_2d_keeps_the_axis_that_keeps_its_size(antialias):
    state = {ROWS: normal(3, 8), COLUMNS: normal(5, 8)}
    wider, taller = (resize_tables(state, old_grid=(3, 5), new_grid=g, antialias=antialias) for g in ((3, 7), (7, 5)))
    assert torch.equal(wider[ROWS], state[ROWS]) and len(wider[COLUMNS]) == 7
    assert torch.equal(taller[COLUMNS], state[COLUMNS]) and len(taller[ROWS]) == 7


def displacements(grid: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
    """For every query i and key j in raster order: j − i, and (rows, columns) from i to j."""
    places = list(itertools.product(range(grid[0]), range(grid[1])))
    for (i, (y1, x1)), (j, (y2, x2)) in itertools.product(enumerate(places), enumerate(places)):
        yield j - i, y2 - y1, x2 - x1


def expanded(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """1-D offsets [2n − 1, D] → displacements [D, 2H − 1, 2W − 1], pair by pair."""
    rows, columns = grid
    plane = torch.full((table.shape[1], 2 * rows - 1, 2 * columns - 1), torch.nan, dtype=table.dtype)
    for offset, y, x in displacements(grid):
        plane[:, y + rows - 1, x + columns - 1] = table[offset + rows * columns - 1]
    return plane


def contracted(plane: Tensor, grid: tuple[int, int]) -> Tensor:
    """The mean over all pairs that have an offset, pair by pair: back to [2n − 1, D]."""
    rows, columns = grid
    n = rows * columns
    sums, counts = torch.zeros(2 * n - 1, len(plane), dtype=plane.dtype), torch.zeros(2 * n - 1, 1)
    for offset, y, x in displacements(grid):
        sums[offset + n - 1] += plane[:, y + rows - 1, x + columns - 1]
        counts[offset + n - 1] += 1
    return sums / counts


@pytest.mark.against("timm", "resized position tables", "1e-6")
@grids
def test_relative_tables_are_the_mean_over_pairs_of_displacements_resized_by_timm(old, new):
    table = 0.25 * normal(2 * old[0] * old[1] - 1, 4).float()  # σ as `initialize` has it at width 16
    shape = (4, 2 * new[0] - 1, 2 * new[1] - 1)
    expected = contracted(resize_rel_pos_bias_table_simple(expanded(table, old), new, shape), new)
    resized = resized_table(RELATIVE, table, old, new, antialias=False)
    torch.testing.assert_close(resized, expected, rtol=0, atol=1e-6)


@pytest.mark.against("timm", "resized position tables", "1e-6")
@grids
def test_antialiased_relative_tables_are_the_mean_over_pairs_of_displacements_resized_by_timm(old, new):
    table = 0.25 * normal(2 * old[0] * old[1] - 1, 4).float()  # σ as `initialize` has it at width 16
    old_plane, new_plane = ([2 * n - 1 for n in grid] for grid in (old, new))
    flat = by_timm(expanded(table, old).flatten(1).T, old_plane, new_plane, antialias=True)
    expected = contracted(flat.T.reshape(4, *new_plane), new)
    resized = resized_table(RELATIVE, table, old, new, antialias=True)
    torch.testing.assert_close(resized, expected, rtol=0, atol=1e-6)


@antialiased
@all_grids
def test_float64_relative_tables_are_resampled_in_float64_throughout(old, new, antialias):
    table = normal(2 * old[0] * old[1] - 1, 4)
    vertical, horizontal = (
        resampling_matrix(2 * o - 1, 2 * n - 1, antialias=antialias) for o, n in zip(old, new, strict=True)
    )
    plane = np.einsum("yh,xw,dhw->dyx", vertical, horizontal, expanded(table, old).numpy())
    expected = contracted(torch.from_numpy(plane), new)
    resized = resized_table(RELATIVE, table, old, new, antialias=antialias)
    torch.testing.assert_close(resized, expected, rtol=0, atol=1e-12)


@antialiased
@pytest.mark.parametrize(("old", "new"), [((6, 7), (7, 9)), ((7, 6), (10, 8)), ((1, 8), (1, 13)), ((8, 1), (12, 1))])
def test_a_relative_table_linear_in_the_displacement_stays_so_away_from_borders(old, new, antialias):
    # Of the planes that are linear in (y, x), a table of 1-D offsets can hold those that rise along the raster:
    # y·W + x. Wherever its four samples an axis lie within the old plane, cubic convolution reproduces them if
    # a = −0.5; for a = −0.75 its four weights at t miss t by ½ · t(1−t)(1−2t) of a step, at most ½ / 6√3.
    n_old, n_new = old[0] * old[1], new[0] * new[1]
    table = torch.arange(1 - n_old, n_old, dtype=torch.float64)[:, None]
    resized = resized_table(RELATIVE, table, old, new, antialias=antialias)
    y_scale, x_scale = ((2 * o - 1) / (2 * n - 1) for o, n in zip(old, new, strict=True))
    y, x = (torch.arange(1 - n, n, dtype=torch.float64) for n in new)
    expected = contracted((y[:, None] * y_scale * old[1] + x * x_scale)[None], new)
    at_borders = {
        offset
        for offset, y, x in displacements(new)
        if abs(y * y_scale) > max(old[0] - 3, 0) or abs(x * x_scale) > max(old[1] - 3, 0)
    }
    inside = [offset + n_new - 1 for offset in range(1 - n_new, n_new) if offset not in at_borders]
    bound = 1e-12 if antialias else 0.5 / (6 * 3**0.5) * (old[1] * (old[0] > 1) + (old[1] > 1))
    assert len(inside) >= 15
    torch.testing.assert_close(resized[inside], expected[inside], rtol=0, atol=bound)


@grids
def test_the_relative_vector_of_a_patch_to_itself_is_kept_where_nothing_is_smoothed(old, new):
    table = normal(2 * old[0] * old[1] - 1, 4)
    resized = resized_table(RELATIVE, table, old, new, antialias=False)
    torch.testing.assert_close(resized[len(resized) // 2], table[len(table) // 2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ENTRIES)
@antialiased
@all_grids
def test_a_constant_table_stays_constant(name, old, new, antialias):
    table = torch.full((ENTRIES[name](old), 4), 0.7, dtype=torch.float64)
    resized = resized_table(name, table, old, new, antialias=antialias)
    assert len(resized) == ENTRIES[name](new)
    torch.testing.assert_close(resized, torch.full_like(resized, 0.7), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("position", "site"), [("none", "stem"), *PLACES])
@antialiased
def test_the_same_size_changes_not_a_bit(position, site, antialias):
    model = small_model(position=position, position_site=site)
    resized = resize(model, (8, 12), antialias=antialias)
    given, state = model.state_dict(), resized.state_dict()
    assert list(state) == list(given) and all(torch.equal(state[name], given[name]) for name in given)
    images = images_for(model.config)
    assert resized is not model and torch.equal(resized(images), model(images))


@pytest.mark.parametrize(
    ("stem", "position", "site"),
    [
        *(("patch", *place) for place in [("none", "stem"), *PLACES]),
        *((stem, "learned_1d", "stem") for stem in STEMS if stem != "patch"),
    ],
)
def test_a_resized_model_has_the_given_one_s_names_and_weights_and_runs_on_images_of_its_size_alone(
    stem, position, site
):
    model = small_model(position=position, position_site=site, **STEMS[stem])
    resized = resize(model, 16, antialias=True)
    assert resized.config == model.config.replace(image_size=16)
    given, state, fresh = model.state_dict(), resized.state_dict(), build_model(resized.config).state_dict()
    assert list(state) == list(given) == list(fresh)
    for name, values in state.items():
        assert values.shape == fresh[name].shape and values.is_contiguous()
        assert is_table(name) or torch.equal(values, given[name])
    assert resized(images_for(resized.config)).isfinite().all()
    with pytest.raises(ValueError, match=r"images are \(8, 12\) pixels, but image_size is \(16, 16\)"):
        resized(images_for(model.config))


@pytest.mark.parametrize(("position", "site"), LEARNED)
def test_every_table_of_every_site_is_resized_by_itself_and_shared_ones_stay_shared(position, site):
    model = small_model(position=position, position_site=site)
    resized = resize(model, 16, antialias=False)
    assert num_parameters(resized) == num_parameters(build_model(resized.config))
    tables = [values for name, values in resized.named_parameters() if is_table(name)]
    assert len(tables) == (3 if site == "every_layer" else 1) * (2 if position == "learned_2d" else 1)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(tables, 2))
    if position == "relative":
        modules = {id(block.attention.relative) for block in resized.blocks}
        assert len(modules) == len(tables)


@pytest.mark.parametrize(
    ("position", "site"), [("sincos_2d", "stem"), ("sincos_2d", "every_layer"), ("rope_2d", "every_layer")]
)
def test_fixed_positions_are_those_of_a_model_built_at_that_size(position, site):
    model = small_model(position=position, position_site=site)
    resized, fresh = resize(model, (16, 20), antialias=True), build_model(model.config.replace(image_size=(16, 20)))
    buffers = dict(resized.named_buffers())
    assert buffers.keys() == dict(fresh.named_buffers()).keys() and buffers
    for name, expected in fresh.named_buffers():
        assert torch.equal(buffers[name], expected.double())
    fresh.double().eval().load_state_dict(model.state_dict())
    images = images_for(resized.config)
    assert torch.equal(resized(images), fresh(images))


@pytest.mark.parametrize("pool", ["gap", "map"])
@pytest.mark.parametrize("stem", ["patch", "patch_norm"])
def test_without_position_an_image_beside_itself_is_the_same_set_of_patches(pool, stem):
    model = small_model(position="none", pool=pool, stem=stem)
    images = images_for(model.config)
    resized = resize(model, (16, 36), antialias=False)
    torch.testing.assert_close(resized(images.tile(1, 1, 2, 3)), model(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_the_given_model_is_left_as_it_is_and_shares_no_memory(stem):
    model = small_model(position="relative", position_site="every_layer_shared", **STEMS[stem])
    before = {name: values.clone() for name, values in model.state_dict().items()}
    for image_size in (16, (8, 12)):
        resized = resize(model, image_size, antialias=True)
        with torch.no_grad():
            for values in [*resized.parameters(), *resized.buffers()]:
                values.zero_()
        assert model.config == small_config(**STEMS[stem], position="relative", position_site="every_layer_shared")
        assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_dtype_mode_and_frozen_parameters_are_kept_module_by_module():
    model = build_model(small_config(stem="conv", stem_width=4)).to(torch.bfloat16)
    model.blocks[1].float()
    model.stem.eval()
    model.position.requires_grad_(False)
    model.blocks[2].attention.kernel = "matmul"
    resized = resize(model, 16, antialias=True)
    for given, result in zip(model.modules(), resized.modules(), strict=True):
        assert result.training == given.training
    for given, result in zip(model.parameters(), resized.parameters(), strict=True):
        assert isinstance(result, torch.nn.Parameter) and result.is_leaf and result.grad is None
        assert (result.dtype, result.requires_grad) == (given.dtype, given.requires_grad)
    assert [b.dtype for b in resized.buffers()] == [b.dtype for b in model.buffers()]
    assert [block.attention.kernel for block in resized.blocks] == ["auto", "auto", "matmul"]


@pytest.mark.parametrize(("position", "site"), PLACES)
def test_a_resized_model_is_on_the_given_one_s_device(position, site):
    model = small_model(position=position, position_site=site).to("meta")
    resized = resize(model, 16, antialias=True)
    assert all(values.is_meta for values in [*resized.parameters(), *resized.buffers()])


def test_fixed_tables_have_the_given_one_s_dtype():
    model = small_model(position="sincos_2d").half()
    table = resize(model, 16, antialias=True).position.tables[0].table
    assert torch.equal(table, SinCos2D(model.config.replace(image_size=16)).table.half())


@pytest.mark.parametrize(("position", "site"), LEARNED)
def test_a_resized_model_learns_in_every_table(position, site):
    model = small_model(position=position, position_site=site, pool="gap")
    resized = resize(model, 16, antialias=True)
    resized(images_for(resized.config)).square().sum().backward()
    for name, parameter in resized.named_parameters():
        if is_table(name):
            assert parameter.grad.abs().amax(dim=1).min() > 0, name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_caller_s_random_stream_does_not_move():
    model = small_model()
    state = torch.get_rng_state()
    resize(model, 16, antialias=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_size_that_patches_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"patch_size 4 does not divide image_size 10; try one of \[1, 2, 5, 10\]"):
        resize(small_model(), 10, antialias=True)


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("new", [(3, 2), (5, 4)])
def test_a_table_of_another_grid_than_said_is_refused(name, new):
    with pytest.raises(ValueError, match=rf"old_grid \(5, 4\) means \d+ entries of {name}, which has \d+; give the"):
        resized_table(name, normal(ENTRIES[name]((2, 3)), 4), (5, 4), new, antialias=True)


def test_whatever_is_no_position_table_passes_through_as_it_is():
    state = small_model(num_registers=2).state_dict()
    resized = resize_tables(state, old_grid=(2, 3), new_grid=(4, 4), antialias=True)
    assert list(resized) == list(state)
    assert {name for name in state if resized[name] is not state[name]} == {"position.tables.0.table"}
