"""What the tests of `vitbench.data` share: small image folders and tars made by hand, a cache of their own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"

Pixels = dict[str, np.ndarray]
"""File name below the data set's folder → uint8 [H, W] or [H, W, 3]."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("VITBENCH_CACHE", str(folder))
    monkeypatch.delenv("VITBENCH_CACHE_LIMIT_GB", raising=False)
    return folder


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


@pytest.fixture
def pixels() -> Pixels:
    return random_pixels()


@pytest.fixture
def image_folder(tmp_path: Path, pixels: Pixels) -> Path:
    return write_folder(tmp_path / "data" / "pets", pixels)


@pytest.fixture
def builds() -> tuple[list[str], Callable[[str, int, int], None]]:
    """(what was reported, the callback that reports it): empty where nothing was built."""
    seen: list[str] = []
    return seen, lambda what, done, total: seen.append(f"{what} {done}/{total}")
