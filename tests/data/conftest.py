"""What the tests of `vitbench.data` share: a folder of images for each test, a cache of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.made_up_images import Pixels, random_pixels, write_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("VITBENCH_CACHE", str(folder))
    monkeypatch.delenv("VITBENCH_CACHE_LIMIT_GB", raising=False)
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
