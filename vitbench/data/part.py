"""Which images of a batch are at hand? All, or those that one of several processes has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a batch, by their places in it. Draws are made for the whole batch, so that an image's do not depend on who
    has it.
    """

    places: NDArray[np.int64] | None = None
    """None: all."""
    batch_size: int = 0
    """Of the whole batch, where `places` are given."""

    def whole(self, images: int) -> int:
        """How many images the whole batch has, of which `images` are at hand."""
        return images if self.places is None else self.batch_size

    def of(self, draws: NDArray[Number]) -> NDArray[Number]:
        """The rows [b, …] of the images at hand, of what was drawn for the whole batch [B, …]."""
        return draws if self.places is None else draws[self.places]

    def order(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is at hand of whole batches, which follow each other in `order`: [M · B] → [M · b]."""
        return order if self.places is None else order.reshape(-1, self.batch_size)[:, self.places].reshape(-1)

    def place(self, index: int) -> int:
        """The place in the batch of the image at hand with this index."""
        return index if self.places is None else int(self.places[index])


WHOLE = Part()
