"""How are images handed out in batches, in the order that was asked for?

`Images` reads one array; `StreamedImages` decodes what is too large for that, with the same pixels. Batches are uint8, or
float32 where pixels have more than 8 bits: 16-bit levels then count from 0 to 1, as shares of 65,535.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import get_args

import numpy as np
import torch

from vitbench.data.decode import StoredImage, as_kind, fit
from vitbench.data.info import DataInfo, Dtype
from vitbench.data.reading import FileSplit
from vitbench.files import error_reason
from vitbench.machine import cpu_cores
from vitbench.signals import leave_to_parent

RESIDENT_BYTES = 2 * 2**30
"""An array up to this size is copied to a CUDA device once and stays there."""


_TORCH = {"uint8": torch.uint8, "uint16": torch.int16, "float32": torch.float32}
"""How tensors hold pixels; torch knows little to do with uint16, so that these bits pass as int16."""


def _signed(images: np.ndarray) -> np.ndarray:
    return images.view(np.int16) if images.dtype == np.uint16 else images


def as_levels(images: torch.Tensor) -> torch.Tensor:
    """uint8 and float32 as they are; the bits of uint16, in an int16 tensor, as float32 in [0, 1]."""
    if images.dtype != torch.int16:
        return images
    return (images.to(torch.int32) & 0xFFFF).float() / 65535


class Images:
    """Images in one array, usually memory-mapped: uint8, uint16 or float32 [N, C, H, W], and labels int64 [N]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        assert images.dtype in get_args(Dtype) and images.ndim == 4 and len(images) == len(labels)
        # Slices of a memmap, a subclass of the array, take longer.
        self.array = np.asarray(images)
        self.labels = np.array(labels, dtype=np.int64)
        self._resident: dict[torch.device, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        _, channels, height, width = self.array.shape
        return channels, height, width

    def batches(
        self, order: np.ndarray, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(uint8 or float32 [B, C, H, W], int64 [B]) on `device`, in the order of `order` [M]; the last may be ragged."""
        order = np.asarray(order, dtype=np.int64)
        on_cuda = device.type == "cuda"
        if on_cuda and self.array.nbytes <= RESIDENT_BYTES:
            yield from self._resident_batches(order, batch_size, device)
            return
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            # A fresh pinned tensor per batch: the caching host allocator hands its memory out again only when the
            # asynchronous copy that reads it is done. One buffer reused by hand would be overwritten too early.
            images = torch.empty(
                (len(rows), *self.image_shape), dtype=_TORCH[self.array.dtype.name], pin_memory=on_cuda
            )
            labels = torch.empty(len(rows), dtype=torch.int64, pin_memory=on_cuda)
            # The bounds were checked above; "raise" would make numpy go through a buffer.
            assert rows.min() >= 0 and rows.max() < len(self)
            np.take(_signed(self.array), rows, axis=0, out=images.numpy(), mode="clip")
            np.take(self.labels, rows, out=labels.numpy(), mode="clip")
            yield (as_levels(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True))

    def _resident_batches(
        self, order: np.ndarray, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if device not in self._resident:
            # torch will not wrap a read-only map without a warning, hence the copy.
            self._resident[device] = torch.from_numpy(np.array(_signed(self.array))).to(device)
        images = self._resident[device]
        labels = torch.from_numpy(self.labels).to(device)
        rows = torch.from_numpy(order).to(device)
        for start in range(0, len(order), batch_size):
            batch = rows[start : start + batch_size]
            yield as_levels(images.index_select(0, batch)), labels.index_select(0, batch)


Change = Callable[[StoredImage, int, int], np.ndarray]
"""From an image as it is stored, the number of its batch and its place in that, to [C, H, W] of the size of batches."""


class StreamedImages:
    """Images that worker processes decode as they are asked for, with the interface of `Images`."""

    def __init__(
        self,
        files: FileSplit,
        size: tuple[int, int],
        in_channels: int,
        *,
        dtype: Dtype = "uint8",
        resized: tuple[int, int] | None = None,
        num_workers: int | None = None,
    ) -> None:
        """`size` and `resized` as `fit` takes them."""
        self.files = files
        self.size = size
        self.resized = resized
        self.in_channels = in_channels
        self.dtype = dtype
        self.num_workers = num_workers or max(1, min(8, cpu_cores() - 1))

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 [N]."""
        return self.files.labels()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.in_channels, *self.size

    def batches(
        self, order: np.ndarray, batch_size: int, device: torch.device, *, change: Change | None = None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(uint8 or float32 [B, C, H, W], int64 [B]) on `device`, in the order of `order` [M]; the last batch may be ragged.

        Images are brought to size by `change`, in the processes that decode; if None, as `fit` does. Raises ValueError,
        naming the file, where an image cannot be read, and where a process that decodes is killed.
        """
        for pixels, numbers in self.stored(order, batch_size, change=change):
            images, labels = torch.from_numpy(_signed(pixels)), torch.from_numpy(numbers)
            if device.type == "cuda":
                images, labels = images.pin_memory(), labels.pin_memory()
            yield (as_levels(images.to(device, non_blocking=True)), labels.to(device, non_blocking=True))

    def stored(
        self, order: np.ndarray, batch_size: int, *, change: Change | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same as arrays, with pixels of the type that the set has."""
        order = np.asarray(order, dtype=np.int64)
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        numbered = list(enumerate(batches))
        # The k-th of n processes decodes batches k, k + n, …, and waits where the pipe is full.
        num_workers = min(self.num_workers, len(batches))
        workers: list[tuple[BaseProcess, Connection]] = []
        try:
            workers.extend(self._start(numbered[k::num_workers], change) for k in range(num_workers))
            for k in range(len(batches)):
                yield self._receive(*workers[k % num_workers])
        finally:
            for process, pipe in workers:
                process.kill()
                process.join()
                pipe.close()

    def _start(
        self, batches: Sequence[tuple[int, np.ndarray]], change: Change | None
    ) -> tuple[BaseProcess, Connection]:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=self._decode, args=(batches, change, ours, theirs), daemon=True)
        process.start()
        theirs.close()  # the pipe then ends with the process, even in the middle of a batch
        return process, ours

    def _decode(
        self,
        batches: Sequence[tuple[int, np.ndarray]],
        change: Change | None,
        other_end: Connection,
        pipe: Connection,
    ) -> None:
        other_end.close()  # the pipe then breaks with the parent
        leave_to_parent()
        with suppress(BrokenPipeError):
            for number, rows in batches:
                try:
                    batch: tuple[np.ndarray, np.ndarray] | Exception = self._batch(number, rows, change)
                except Exception as error:  # sent to the parent, which raises it
                    batch = error
                # Through the pipe, not through shared memory: of that, containers have 64 MB.
                pipe.send(batch)

    def _batch(self, number: int, rows: np.ndarray, change: Change | None) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((len(rows), *self.image_shape), dtype=self.dtype)
        labels = np.empty(len(rows), dtype=np.int64)
        for i, row in enumerate(rows.tolist()):
            image, labels[i] = self.files.read(row)
            name = self.files.image_name(row)
            if change is None:
                images[i] = fit(image, self.size, self.in_channels, name, resized=self.resized, dtype=self.dtype)
                continue
            image = as_kind(image, self.in_channels, name, self.dtype)
            try:
                images[i] = change(image, number, i)
            except Exception as error:  # of Pillow's many, for images of few pixels or little memory
                raise ValueError(
                    f"{name} cannot be augmented ({error_reason(error)}); leave auto_augment out, or the image"
                ) from error
        return images, labels

    def _receive(self, process: BaseProcess, pipe: Connection) -> tuple[np.ndarray, np.ndarray]:
        try:
            batch: tuple[np.ndarray, np.ndarray] | Exception = pipe.recv()
        except (EOFError, OSError) as error:
            process.join()
            code = process.exitcode or 0
            reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            raise ValueError(
                f"a process that decodes {self.files.title} {reason}; where memory ran out, give it more or make "
                "batch_size smaller"
            ) from error
        if isinstance(batch, Exception):
            raise batch
        return batch


@dataclass(frozen=True)
class ImageData:
    """Both splits of a data set, decoded to the size asked for."""

    info: DataInfo
    """As `describe` gives it: the native size, whatever size was asked for."""
    train: Images | StreamedImages
    test: Images | StreamedImages
    mean: tuple[float, ...]
    """Per channel over train: of integers as shares of their type's largest value, in [0, 1]; of float32 as they are."""
    std: tuple[float, ...]
    sha256: str
    """Of train images, train labels, test images, test labels as bytes: [N, C, H, W] and int64, little-endian."""
    class_names: tuple[str, ...] = ()
    """By label; empty where classes have no names."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of batches."""
        _, height, width = self.train.image_shape
        return height, width
