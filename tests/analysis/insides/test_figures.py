"""Do the figures of a model show the numbers they are given, in files that are the same every time and hold any size?"""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from vitbench.analysis.insides.attention import class_token_figure, distance_figure, rollout_figure
from vitbench.analysis.insides.cka import cka_figure
from vitbench.analysis.insides.confusion import confusion_figure
from vitbench.analysis.insides.figures import KINDS, render
from vitbench.analysis.insides.weights import filters_figure, position_figure
from vitbench.analysis.writing import drawing, saving

ABOUT = "Run 01234567: width 64, depth 4"
DRAWS = np.random.default_rng(0)


def encoded(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def shown(number: int, *, colored: bool = True) -> list[dict[str, object]]:
    shape = (8, 8, 3) if colored else (8, 8)
    return [
        {
            "row": i,
            "label": f"class {i}",
            "predicted": f"class {i % 2}",
            "png": encoded(DRAWS.integers(0, 256, shape, dtype=np.uint8)),
        }
        for i in range(number)
    ]


def numbers_of(kind: str, *, heads: int = 2, classes: int = 3, colored: bool = True) -> dict[str, object]:
    channels = 3 if colored else 1
    return {
        "filters": {
            "num_filters": 64,
            "patch_size": [4, 4],
            "share_of_variance": [0.5, 0.3, 0.2],
            "components": DRAWS.normal(size=(3, channels, 4, 4)).tolist(),
        },
        "position": {
            "position": "learned_1d",
            "num_tables": 1,
            "tile_rows": [0, 1],
            "tile_columns": [0, 2],
            "similarity": DRAWS.uniform(-1, 1, (2, 2, 2, 3)).tolist(),
        },
        "distance": {
            "distance_pixels": DRAWS.uniform(1, 9, (4, heads)).tolist(),
            "uniform_pixels": 8.5,
            "prefix_share": np.zeros((4, heads)).tolist(),
            "num_prefix_tokens": 1,
            "num_images": 128,
        },
        "rollout": {
            "reads": "the class token",
            "images": shown(3, colored=colored),
            "prefix_share": [0, 0, 0],
            "relative": DRAWS.gamma(1, size=(3, 2, 2)).tolist(),
        },
        "class-token": {
            "block": 4,
            "images": shown(8, colored=colored),
            "prefix_share": np.zeros((8, heads)).tolist(),
            "relative": DRAWS.gamma(1, size=(8, heads, 2, 2)).tolist(),
        },
        "cka": {
            "run_ids": ["0123456789abcdef", "fedcba9876543210"],
            "layers": [["stem", "1", "2"], ["stem", "1"]],
            "cka": [[1, 0.5], [0.5, None], [0.25, 0.75]],
            "num_images": 128,
        },
        "confusion": {
            "classes": [f"class {i}" for i in range(classes)],
            "counts": (np.eye(classes, dtype=int) * 3 + 1).tolist(),
            "top1": 0.6,
            "num_images": 100,
        },
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_as_svg_and_png_of_the_width_of_a_readme_the_same_every_time(kind):
    numbers = numbers_of(kind)
    files = render(kind, numbers, ABOUT, formats=("png", "svg"))
    assert render(kind, numbers, ABOUT, formats=("svg",))["svg"] == files["svg"]
    assert ElementTree.fromstring(files["svg"]).tag.endswith("svg") and b"fill: #ffffff" in files["svg"]
    with Image.open(io.BytesIO(files["png"])) as image:
        assert image.width == drawing.WIDTH * saving.PNG_DOTS_PER_INCH
        # On a dark page as on a light one: the background is white, and covers all.
        assert image.mode == "RGB" and image.getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["distance", "class-token"])
def test_a_model_with_one_head_can_be_drawn(kind):
    assert render(kind, numbers_of(kind, heads=1, colored=False), ABOUT)["svg"]


@pytest.mark.parametrize("classes", [2, 100])
def test_any_number_of_classes_can_be_drawn(classes):
    assert render("confusion", numbers_of("confusion", classes=classes), ABOUT)["svg"]


@pytest.fixture(autouse=True)
def house_style():
    with mpl.rc_context(drawing.STYLE):
        yield


def images_in(figure) -> list[np.ndarray]:
    return [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in figure.axes if axes.images]


def words_in(figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def test_each_filter_is_scaled_from_its_smallest_to_its_largest_value_over_all_colours():
    numbers = numbers_of("filters")
    numbers["components"][1] = np.full((3, 4, 4), 0.1).tolist()
    pictures = images_in(filters_figure(numbers, ABOUT))
    first = np.array(numbers["components"][0])
    expected = np.moveaxis((first - first.min()) / (first.max() - first.min()), 0, -1)
    np.testing.assert_allclose(pictures[0], expected, rtol=0, atol=1e-12)
    assert (pictures[1] == 0.5).all() and len(pictures) == 3


def test_a_tile_of_position_similarity_lies_where_its_patch_does():
    numbers = numbers_of("position")
    figure = position_figure(numbers, ABOUT)
    (whole,) = images_in(figure)[:1]
    np.testing.assert_allclose(whole[:2, :3], numbers["similarity"][0][0])
    np.testing.assert_allclose(whole[-2:, :3], numbers["similarity"][1][0])
    np.testing.assert_allclose(whole[-2:, -3:], numbers["similarity"][1][1])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3"]
    assert "2 × 2 tiles, evenly spaced, of 2 × 3" in words_in(figure)


def test_every_head_is_a_point_in_pixels_at_its_block_beside_uniform_attention():
    numbers = numbers_of("distance", heads=3)
    axes = distance_figure(numbers, ABOUT).axes[0]
    points = [tuple(point) for point in axes.collections[0].get_offsets()]
    assert points == [(b + 1, d) for b, row in enumerate(numbers["distance_pixels"]) for d in row]
    assert list(axes.lines[0].get_ydata()) == [8.5, 8.5]
    assert "(px)" in axes.get_ylabel() and axes.get_ylim()[0] == 0


def test_rollout_shows_image_weights_and_their_product_and_who_was_mistaken():
    numbers = numbers_of("rollout", colored=False)
    figure = rollout_figure(numbers, ABOUT)
    pictures = images_in(figure)
    for i in range(3):
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(numbers["images"][i]["png"]))))
        weights = np.array(numbers["relative"][i])
        assert (pictures[i] == pixels).all()
        np.testing.assert_allclose(pictures[3 + i], weights)
        mask = (weights / weights.max()).repeat(4, axis=0).repeat(4, axis=1)
        assert np.abs(pictures[6 + i] - pixels * mask).max() <= 0.5
    titles = [axes.get_title(loc="center") for axes in figure.axes[:3]]
    assert titles == ["class 0\n", "class 1\n", "class 2\n→ class 0"]
    assert "read for the class token" in words_in(figure)


@pytest.mark.parametrize(("heads", "images"), [(2, 8), (8, 6)])
def test_each_head_of_each_image_has_a_picture(heads, images):
    numbers = numbers_of("class-token", heads=heads)
    pictures = images_in(class_token_figure(numbers, ABOUT))
    found = {tuple(p.ravel()) for p in pictures if p.shape == (2, 2)}
    assert found == {tuple(np.ravel(each)) for image in numbers["relative"][:images] for each in image}


def test_heads_beyond_sixteen_are_left_out_and_said_to_be():
    assert "The first 16 heads" in words_in(class_token_figure(numbers_of("class-token", heads=20), ABOUT))


def test_cka_writes_its_values_into_their_cells_with_both_runs_on_the_axes():
    axes = cka_figure(numbers_of("cka"), ABOUT).axes[0]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "1.00", (1, 0): "0.50", (0, 1): "0.50", (0, 2): "0.25", (1, 2): "0.75"}
    assert "01234567" in axes.get_ylabel() and "fedcba98" in axes.get_xlabel()


def test_long_names_of_weights_stay_on_the_page():
    weights = [f"timm:vit_base_patch16_clip_224.openai_ft_in12k_in1k@{i}1234567" for i in range(2)]
    figure = cka_figure({**numbers_of("cka"), "run_ids": weights}, ABOUT)
    figure.draw_without_rendering()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        box = axis.label.get_window_extent()
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= 0.86 * figure.bbox.y1


def test_confusion_is_in_percent_of_each_class_and_its_diagonal_is_the_accuracy():
    numbers = {
        "classes": ["a", "b", "c"],
        "counts": [[3, 1, 0], [0, 5, 5], [0, 0, 0]],
        "top1": 8 / 14,
        "num_images": 14,
    }
    matrix, bars = confusion_figure(numbers, ABOUT).axes
    np.testing.assert_allclose(matrix.images[0].get_array().filled(np.nan), [[75, 25, 0], [0, 50, 50], 3 * [np.nan]])
    points = np.ma.filled(bars.collections[1].get_offsets(), np.nan)
    np.testing.assert_allclose(points, [[75, 0], [50, 1], 2 * [np.nan]])
    assert "(%)" in bars.get_xlabel()


@pytest.mark.parametrize(
    "name", ["a name of a class that goes on for a line or two {}", "{} 位置嵌入の名前がとても長い場合", "{}"]
)
def test_names_of_many_classes_do_not_lie_on_each_other_and_warn_of_nothing(name):
    size = 300
    numbers = {
        "classes": [name.format(i) for i in range(size)],
        "counts": np.eye(size, dtype=int).tolist(),
        "top1": 1.0,
        "num_images": size,
    }
    assert render("confusion", numbers, ABOUT)["svg"]
    with mpl.rc_context(drawing.STYLE):
        figure = confusion_figure(numbers, ABOUT)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        labels = figure.axes[0].get_yticklabels()
        boxes = sorted((label.get_window_extent(renderer) for label in labels), key=lambda box: box.y0)
    assert len({label.get_text() for label in labels}) == len(labels)
    assert all(a.y1 <= b.y0 + 2 for a, b in pairwise(boxes)) and len(boxes) <= 40
    assert figure.axes[0].get_position().width > 0.3
