"""Where are the discs? Generated images whose labels depend on where things are, and on nothing else.

A model that cannot tell places apart is provably at chance here, so these sets test what position embeddings are for.

An image is a 4×4 grid of 8-pixel cells. Sixteen cell contents are drawn first, without looking at the label: so many
discs and outlined squares of random brightness, the rest empty, each with noise of its own. A placement then says
which content goes to which cell.

`shapes`: eight discs fill one half of the image, eight squares the other. Where are the discs: left (0), right (1),
above (2) or below (3)?
`shapes/relation`: one disc and one square, in one row or one column with a cell or two between them. Where is the
disc, seen from the square: left (0), right (1), above (2) or below (3)?
`shapes/quadrant`: one disc and one square in any two cells. In which quadrant is the disc, in reading order?
`shapes/majority`: eight discs and eight squares in all cells, six of the discs in one half; then a disc and a square are
left out, whichever. Where are most discs: left (0), right (1), above (2) or below (3)? Two halves may look alike in that,
so that even who knows all this is right on 93 % alone: a set on which nothing ends at the ceiling.

Why a model without position information is at chance. Let the patch size divide 8 (each side). Every patch then lies
inside one cell, so the multiset of an image's patches is the union of its sixteen contents' patches, wherever the
placement puts them. The contents are drawn independently of the placement, and the label is a function of the
placement. The multiset is therefore independent of the label. A ViT with `position="none"` and `pool="gap"` maps each
patch alike, its blocks commute with permutations of tokens, and the mean forgets their order: its output is a function
of the multiset, hence independent of the label, and with balanced classes its expected accuracy is 1/4. The same holds
for a class token or attention pooling without positions. It does not hold for a stem whose receptive field crosses
cell borders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from einops import rearrange

from vitbench.data.seeding import random_state

CELL = 8
"""Side of a cell in pixels."""
GRID = 4
"""Cells per row and column."""
SIZE = CELL * GRID
NUM_CLASSES = 4
MAJORITY, HIDDEN = 6, 1
"""Of the eight discs of `shapes/majority`, so many are in the half that it asks for, and so many are not drawn."""
TRAIN_IMAGES = 4000
TEST_IMAGES = 1000

_SEED = 20201022  # the day on which the ViT paper appeared; what matters is that it never changes
_BACKGROUND, _NOISE = 64, 16
_BRIGHTNESS = (144, 224)


def _masks() -> tuple[np.ndarray, np.ndarray]:
    """(filled disc, outlined square): bool [8, 8], 32 and 20 pixels lit, 6 pixels across, centred in the cell."""
    middle = (CELL - 1) / 2
    y, x = np.mgrid[:CELL, :CELL] - middle
    # Outlined, because a filled one differs from the disc in its four corners only: telling the two apart would then
    # be most of the task, and the task is about places.
    return (y**2 + x**2) < 3.2**2, np.maximum(abs(y), abs(x)) == 2.5


def draw_contents(rng: np.random.RandomState, num_images: int, *, discs: int, squares: int) -> np.ndarray:
    """Cell contents, drawn without a label: uint8 [N, 16, 8, 8]; the discs come first, then the squares, then nothing.

    Integers throughout, so that every platform draws the same pixels.
    """
    contents = _BACKGROUND + rng.randint(-_NOISE, _NOISE + 1, size=(num_images, GRID * GRID, CELL, CELL))
    brightness = rng.randint(*_BRIGHTNESS, size=(num_images, discs + squares, 1, 1)) - _BACKGROUND
    disc, square = _masks()
    contents[:, : discs + squares] += np.stack([disc] * discs + [square] * squares) * brightness
    return contents.astype(np.uint8)


def place(objects: np.ndarray) -> np.ndarray:
    """Cell [N, 16] that each content goes to, given the cells of the objects [N, K]; the empty ones fill up in order."""
    num_images, num_objects = objects.shape
    taken = (np.arange(GRID * GRID) == objects[..., None]).any(axis=1)
    empty = np.nonzero(~taken)[1].reshape(num_images, GRID * GRID - num_objects)
    return np.concatenate([objects, empty], axis=1)


def render(contents: np.ndarray, placement: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, 32, 32]: content j of image n stands in cell `placement[n, j]`."""
    cells = np.empty_like(contents)
    cells[np.arange(len(contents))[:, None], placement] = contents
    pattern = "n (rows columns) y x -> n 1 (rows y) (columns x)"
    return np.ascontiguousarray(rearrange(cells, pattern, rows=GRID))


@dataclass(frozen=True)
class Placement:
    """`cells` of the discs, then of the squares, and the label that they make."""

    label: int
    cells: tuple[int, ...]


def _half_placements() -> Iterator[Placement]:
    cells = range(GRID * GRID)
    halves = (
        [cell for cell in cells if cell % GRID < GRID // 2],
        [cell for cell in cells if cell % GRID >= GRID // 2],
        [cell for cell in cells if cell // GRID < GRID // 2],
        [cell for cell in cells if cell // GRID >= GRID // 2],
    )
    for label, discs in enumerate(halves):
        yield Placement(label, (*discs, *(cell for cell in cells if cell not in discs)))


def _relation_placements() -> Iterator[Placement]:
    for disc, square in _pairs():
        rows, columns = disc // GRID - square // GRID, disc % GRID - square % GRID
        # Neighbours are left out: they share a border, and their relation is learned far more slowly.
        if (rows == 0) != (columns == 0) and abs(rows + columns) >= 2:
            yield Placement([columns < 0, columns > 0, rows < 0, rows > 0].index(True), (disc, square))


def _quadrant_placements() -> Iterator[Placement]:
    for disc, square in _pairs():
        yield Placement(2 * (disc // GRID // 2) + disc % GRID // 2, (disc, square))


def _majority_placements() -> Iterator[Placement]:
    for placement in _half_placements():
        half, other = placement.cells[:8], placement.cells[8:]
        for inside in combinations(half, MAJORITY):
            for outside in combinations(other, 8 - MAJORITY):
                discs = (*inside, *outside)
                yield Placement(placement.label, (*discs, *(cell for cell in range(GRID * GRID) if cell not in discs)))


def _pairs() -> Iterator[tuple[int, int]]:
    cells = range(GRID * GRID)
    return ((disc, square) for disc in cells for square in cells if disc != square)


@dataclass(frozen=True)
class Task:
    """What lies in an image, and every placement that the task knows."""

    discs: int
    squares: int
    placements: tuple[Placement, ...]
    hidden: int = 0
    """So many discs and squares of a placement are left out of an image, whichever."""

    def draw(self, rng: np.random.RandomState, labels: np.ndarray) -> np.ndarray:
        """Cells [N, discs + squares] of one random placement for each label [N]."""
        cells = np.empty((len(labels), self.discs + self.squares), dtype=np.int64)
        for label in range(NUM_CLASSES):
            choices = np.array([placement.cells for placement in self.placements if placement.label == label])
            has_label = labels == label
            drawn = choices[rng.randint(len(choices), size=has_label.sum())]
            cells[has_label] = self._visible(rng, drawn) if self.hidden else drawn
        return cells

    def _visible(self, rng: np.random.RandomState, cells: np.ndarray) -> np.ndarray:
        """Cells [N, discs + squares] of random ones of all discs and of all squares in `cells` [N, all]."""

        def some(kind: np.ndarray, count: int) -> np.ndarray:
            order = np.argsort(rng.randint(2**31, size=kind.shape), axis=1, kind="stable")
            return np.take_along_axis(kind, order[:, :count], axis=1)

        discs, squares = np.split(cells, [self.discs + self.hidden], axis=1)
        return np.concatenate([some(discs, self.discs), some(squares, self.squares)], axis=1)


def find_task(dataset: str) -> Task:
    match dataset:
        case "shapes":
            return Task(8, 8, tuple(_half_placements()))
        case "shapes/relation":
            return Task(1, 1, tuple(_relation_placements()))
        case "shapes/quadrant":
            return Task(1, 1, tuple(_quadrant_placements()))
        case "shapes/majority":
            return Task(8 - HIDDEN, 8 - HIDDEN, tuple(_majority_placements()), hidden=HIDDEN)
    raise AssertionError(dataset)


def generate(dataset: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((images, labels) of train, of test): uint8 [N, 1, 32, 32] and int64 [N], classes exactly balanced."""
    train = _generate_split(dataset, 0, TRAIN_IMAGES)
    return train, _generate_split(dataset, 1, TEST_IMAGES)


def _generate_split(dataset: str, which: int, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    task = find_task(dataset)
    rng = random_state(dataset, _SEED, which)
    contents = draw_contents(rng, num_images, discs=task.discs, squares=task.squares)
    labels = rng.permutation(np.arange(num_images, dtype=np.int64) % NUM_CLASSES)
    return render(contents, place(task.draw(rng, labels))), labels
