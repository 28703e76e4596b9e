"""Do batches come in exactly the order asked for, whole and unchanged?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.data import Images

CPU = torch.device("cpu")


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(11, 2, 3, 4), dtype=np.uint8), rng.integers(5, size=11)


def test_batches_follow_the_order_and_the_last_may_be_ragged(arrays):
    pixels, labels = arrays
    order = np.array([7, 0, 0, 10, 3])
    batches = list(Images(pixels, labels).batches(order, 2, CPU))
    assert [len(x) for x, _ in batches] == [2, 2, 1]
    assert np.array_equal(torch.cat([x for x, _ in batches]).numpy(), pixels[order])
    assert np.array_equal(torch.cat([y for _, y in batches]).numpy(), labels[order])
    assert {(x.dtype, y.dtype) for x, y in batches} == {(torch.uint8, torch.int64)}


def test_a_read_only_map_is_read_without_a_warning_and_never_written(arrays, tmp_path):
    pixels, labels = arrays
    np.save(tmp_path / "x.npy", pixels)
    images = Images(np.load(tmp_path / "x.npy", mmap_mode="r"), labels)
    for batch, _ in images.batches(np.arange(11), 4, CPU):
        batch.zero_()
    assert np.array_equal(np.load(tmp_path / "x.npy"), pixels)


def test_the_copy_on_a_device_gives_the_same_batches(arrays):
    images = Images(*arrays)
    order = np.array([9, 1, 1, 4, 6])
    for (x, y), (rx, ry) in zip(images.batches(order, 2, CPU), images._resident_batches(order, 2, CPU), strict=True):
        assert torch.equal(x, rx) and torch.equal(y, ry)


def test_size_and_length_are_those_of_the_array(arrays):
    images = Images(*arrays)
    assert len(images) == 11 and images.image_shape == (2, 3, 4) and images.labels.dtype == np.int64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("resident", [True, False])
def test_batches_on_cuda_equal_those_on_the_cpu(arrays, resident, monkeypatch):
    if not resident:
        monkeypatch.setattr("vitbench.data.images.RESIDENT_BYTES", 0)
    images, order = Images(*arrays), np.array([9, 1, 1, 4, 6])
    on_cuda = list(images.batches(order, 2, torch.device("cuda")))
    for (x, y), (cx, cy) in zip(images.batches(order, 2, CPU), on_cuda, strict=True):
        assert cx.is_cuda and torch.equal(x, cx.cpu()) and torch.equal(y, cy.cpu())
