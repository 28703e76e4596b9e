"""Are labels of the generated sets a matter of place alone, and is a model without positions therefore at chance?"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vitbench import data
from vitbench.data import shapes

TASKS = ("shapes", "shapes/relation", "shapes/quadrant", "shapes/majority")


def patches(image: np.ndarray, size: tuple[int, int]) -> Counter[bytes]:
    height, width = size
    return Counter(
        image[:, y : y + height, x : x + width].tobytes()
        for y in range(0, image.shape[1], height)
        for x in range(0, image.shape[2], width)
    )


@pytest.mark.parametrize("dataset", TASKS)
@pytest.mark.parametrize("size", [(8, 8), (4, 4), (2, 2), (1, 1), (8, 4), (2, 8)])
def test_another_class_s_placement_of_the_same_contents_has_the_same_multiset_of_patches(dataset, size):
    task, rng = shapes.find_task(dataset), np.random.RandomState(0)
    contents = shapes.draw_contents(rng, 5, discs=task.discs, squares=task.squares)
    by_class = [
        shapes.render(contents, shapes.place(task.draw(rng, np.full(5, label)))) for label in range(shapes.NUM_CLASSES)
    ]
    for n in range(5):
        first = patches(by_class[0][n], size)
        for other in by_class[1:]:
            assert not np.array_equal(by_class[0][n], other[n])
            assert patches(other[n], size) == first


def test_a_patch_that_crosses_cells_does_tell_placements_apart():
    contents = shapes.draw_contents(np.random.RandomState(0), 1, discs=1, squares=1)
    left, right = (shapes.render(contents, shapes.place(np.array([[d, 5]])))[0] for d in (4, 6))
    assert patches(left, (16, 16)) != patches(right, (16, 16))


def test_contents_go_to_the_cells_that_the_placement_names():
    contents = np.arange(16, dtype=np.uint8)[None, :, None, None].repeat(8, 2).repeat(8, 3)
    image = shapes.render(contents, shapes.place(np.array([[6, 3]])))[0, 0]
    cells = image[::8, ::8]
    assert cells.tolist() == [[2, 3, 4, 1], [5, 6, 0, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert np.array_equal(image, cells.repeat(8, 0).repeat(8, 1))


@pytest.mark.parametrize(
    ("dataset", "placements"),
    # Halves: one placement each. Relation: 4 lines × the pairs (0, 2), (0, 3), (1, 3). Quadrant: 4 cells × 15 others.
    # Majority: 6 of 8 cells in the half × 2 of 8 in the other.
    [("shapes", 1), ("shapes/relation", 12), ("shapes/quadrant", 60), ("shapes/majority", 28 * 28)],
)
def test_every_class_has_as_many_placements(dataset, placements):
    counts = Counter(placement.label for placement in shapes.find_task(dataset).placements)
    assert counts == dict.fromkeys(range(4), placements)


def test_labels_of_shapes_are_what_the_picture_shows():
    images, labels = shapes.generate("shapes")[1]
    # Only a disc lights the middle of its cell.
    middles = images[:, 0].reshape(-1, 4, 8, 4, 8)[:, :, 3:5, :, 3:5].mean(axis=(2, 4))
    is_disc = middles > 100
    halves = [is_disc[:, :, :2], is_disc[:, :, 2:], is_disc[:, :2], is_disc[:, 2:]]
    full = np.stack([half.all(axis=(1, 2)) for half in halves], axis=1)
    assert (is_disc.sum(axis=(1, 2)) == 8).all()
    assert np.array_equal(full.argmax(axis=1), labels)
    assert (full.sum(axis=1) == 1).all()


def find_objects(image: np.ndarray) -> tuple[int, int]:
    """(disc cell, square cell), from pixels: only the disc lights the middle of its cell, only the square a corner."""
    cells = [image[0, y : y + 8, x : x + 8].astype(int) for y in range(0, 32, 8) for x in range(0, 32, 8)]
    disc = int(np.argmax([cell[3:5, 3:5].mean() for cell in cells]))
    square = int(np.argmax([cell[[1, 1, 6, 6], [1, 6, 1, 6]].mean() for cell in cells]))
    return disc, square


def test_labels_of_relation_are_what_the_picture_shows():
    images, labels = shapes.generate("shapes/relation")[1]
    for image, label in zip(images[:200], labels[:200], strict=True):
        disc, square = find_objects(image)
        rows, columns = disc // 4 - square // 4, disc % 4 - square % 4
        assert (rows == 0) != (columns == 0) and abs(rows + columns) >= 2
        assert [columns < 0, columns > 0, rows < 0, rows > 0].index(True) == label
        # The offset in reading order decides it too, for 1-D position embeddings.
        offset = disc - square
        assert label == ((0 if offset < 0 else 1) if abs(offset) < 4 else (2 if offset < 0 else 3))


def test_labels_of_quadrant_are_what_the_picture_shows():
    images, labels = shapes.generate("shapes/quadrant")[1]
    for image, label in zip(images[:200], labels[:200], strict=True):
        disc, square = find_objects(image)
        assert disc != square
        assert (disc // 4 >= 2, disc % 4 >= 2) == ((False, False), (False, True), (True, False), (True, True))[label]


def test_nobody_can_tell_more_than_93_percent_of_majority_from_what_the_picture_shows():
    """Bayes' rule on 3,000 pictures: how many of the 784 placements of each class look so without a disc and a square."""
    images, labels = (np.concatenate(parts) for parts in zip(*shapes.generate("shapes/majority"), strict=True))
    cells = images[:3000, 0].reshape(-1, 4, 8, 4, 8).transpose(0, 1, 3, 2, 4).astype(int)
    is_disc = cells[..., 3:5, 3:5].mean(axis=(3, 4)) > 100
    is_square = cells[..., [1, 1, 6, 6], [1, 6, 1, 6]].mean(axis=3) > 100
    assert (is_disc.sum(axis=(1, 2)) == 7).all() and (is_square.sum(axis=(1, 2)) == 7).all()
    assert not (is_disc & is_square).any()
    rows, columns = np.mgrid[:4, :4]
    halves = np.stack([columns < 2, columns >= 2, rows < 2, rows >= 2])
    discs = (is_disc[:, None] & halves).sum(axis=(2, 3))
    free = 8 - discs - (is_square[:, None] & halves).sum(axis=(2, 3))
    # The disc that is left out is in the half where five of seven are seen, on a free cell of it, or in the other.
    ways = np.where(discs == 5, free, np.where(discs == 6, 2 - free, 0))
    best = ways == ways.max(axis=1, keepdims=True)
    right = (best / best.sum(axis=1, keepdims=True))[np.arange(3000), labels[:3000]]
    assert (ways[np.arange(3000), labels[:3000]] > 0).all()
    assert 0.915 < right.mean() < 0.945


@pytest.mark.parametrize("dataset", TASKS)
def test_classes_are_exactly_balanced_and_counts_are_as_described(dataset):
    (train, train_labels), (test, test_labels) = shapes.generate(dataset)
    assert train.shape == (4000, 1, 32, 32) and test.shape == (1000, 1, 32, 32)
    assert np.bincount(train_labels).tolist() == [1000] * 4
    assert np.bincount(test_labels).tolist() == [250] * 4


@pytest.mark.parametrize("dataset", TASKS)
def test_no_image_occurs_twice_in_train_or_test(dataset):
    (train, _), (test, _) = shapes.generate(dataset)
    assert len({image.tobytes() for image in (*train, *test)}) == 5000


@pytest.mark.parametrize("dataset", TASKS)
def test_generation_is_deterministic_and_ignores_the_global_generator(dataset):
    np.random.seed(1)
    first = shapes.generate(dataset)
    np.random.seed(2)
    second = shapes.generate(dataset)
    for (images, labels), (again, labels_again) in zip(first, second, strict=True):
        assert np.array_equal(images, again) and np.array_equal(labels, labels_again)


def test_brightness_says_nothing_about_the_label():
    images, labels = shapes.generate("shapes")[0]
    sums = images.sum(axis=(1, 2, 3), dtype=np.int64)
    means = [sums[labels == label].mean() for label in range(4)]
    standard_error = sums.std() / np.sqrt(1000)
    assert np.ptp(means) < 6 * standard_error


def test_a_larger_size_repeats_pixels_so_that_cells_stay_apart():
    small, large = data.load("shapes"), data.load("shapes", image_size=(64, 64))
    assert large.train.image_shape == (1, 64, 64)
    assert np.array_equal(large.test.array[:10], np.kron(small.test.array[:10], np.ones((1, 1, 2, 2), np.uint8)))


@pytest.mark.parametrize("size", [(48, 48), (32, 64), (16, 16)])
def test_a_size_that_would_blur_the_cells_is_refused(size):
    with pytest.raises(ValueError, match=r"^image_size .* use a square multiple of 32$"):
        data.load("shapes", image_size=size)
