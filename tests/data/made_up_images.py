"""Small image folders and tars made by hand, for the tests of data."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"

Pixels = dict[str, np.ndarray]
"""File name below the data set's folder → uint8 [H, W] or [H, W, 3]."""


def random_pixels(
    *, classes: tuple[str, ...] = ("cat", "dog"), train: int = 3, test: int = 2, shape: tuple[int, ...] = (12, 10, 3)
) -> Pixels:
    rng = np.random.default_rng(0)
    return {
        f"{split}/{name}/{i}.png": rng.integers(256, size=shape, dtype=np.uint8)
        for split, count in (("train", train), ("test", test))
        for name in classes
        for i in range(count)
    }


def write_folder(folder: Path, pixels: Pixels) -> Path:
    for name, array in pixels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / name)
    return folder


def write_tars(folder: Path, pixels: Pixels) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for name, array in pixels.items():
                if name.startswith(split):
                    buffer = io.BytesIO()
                    Image.fromarray(array).save(buffer, "PNG")
                    member = tarfile.TarInfo(name)
                    member.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(member, buffer)
    return folder
