"""Which part of a run does this process compute, and how do the processes of one run put their parts together?

Each process is a rank with a device of its own. All have the same model and take the same steps; they differ in the images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._C._distributed_c10d import Store
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a rank waits for the others within one step: what ends earlier is noticed by whoever watches the processes."""


@dataclass(frozen=True)
class Ranks:
    """The processes that compute one run together, as one of them sees them. Collective: what all of them must call alike."""

    rank: int = 0
    """From 0, the one that writes."""
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def places(self, batch_size: int) -> NDArray[np.int64]:
        """Which images of every batch are this rank's, by their places in it.

        Place i comes with place B − 1 − i, and in such an order that flipping the slice pairs the two: mixup and cutmix pair
        them in the whole batch, so that they mix the same images within a slice. Slices differ by at most two images.
        """
        first, last = self._range(-(-batch_size // 2))
        ahead = np.arange(first, last)
        mirrored = batch_size - 1 - ahead[::-1]
        return np.concatenate([ahead, mirrored[mirrored >= last]]).astype(np.int64)

    def share(self, batch_size: int) -> float:
        """Of the images of every batch, in (0, 1]."""
        return len(self.places(batch_size)) / batch_size

    def part(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """This rank's of some indices, in their order; parts differ by at most one, and may be empty."""
        first, last = self._range(len(indices))
        return indices[first:last]

    def _range(self, number: int) -> tuple[int, int]:
        return number * self.rank // self.size, number * (self.rank + 1) // self.size

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, in place. Collective."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks. Collective; values are pickled."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return cast(list[T], values)

    def of_first(self, value: T) -> T:
        """Rank 0's value. Collective; it is pickled."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def parallel(self, model: nn.Module, *, leaves_out: bool) -> nn.Module:
        """`model`, whose gradients are from now on the means over all ranks. Collective.

        `leaves_out`: whether a step may leave out parameters, as a user's code and some of timm's models do.
        """
        if self.size == 1:
            return model
        return DistributedDataParallel(model, find_unused_parameters=leaves_out)

    def equalise(self, tensors: Iterable[Tensor]) -> None:
        """Has all ranks go on with rank 0's. Collective."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


ALONE = Ranks()


def least_batch(num_devices: int) -> int:
    """The smallest batch of which every device gets an image: slices are made of pairs, of which one may be single."""
    return 2 * num_devices - 1


@contextmanager
def joined(store: Store, rank: int, size: int, torch_device: torch.device) -> Iterator[Ranks]:
    """The ranks that meet in `store`; leaves them at the end. Gradients go by NCCL on CUDA, all else by gloo."""
    backend = "cpu:gloo,cuda:nccl" if torch_device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Ranks(rank, size)
    finally:
        with suppress(RuntimeError):  # others have ended before
            dist.destroy_process_group()


def is_loss_of_a_rank(error: BaseException) -> bool:
    """Whether an error says that another rank has left: by its type on GPUs, by gloo's texts on CPU."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


LOST = "another rank ended"
"""How the reason of a run begins whose own process met that."""
