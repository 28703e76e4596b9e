"""Do batches come in exactly the order asked for, whole and unchanged?"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from vitbench.data import Images, load

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


@pytest.fixture
def streamed(image_folder, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    return load(str(image_folder)).train


@pytest.mark.parametrize("where", ["before its first batch", "later"])
def test_a_decoding_process_that_is_killed_ends_the_stream_with_one_line(streamed, monkeypatch, where):
    read, parent = streamed.files.read, os.getpid()

    def killed(index):
        if os.getpid() != parent and index == (0 if where == "before its first batch" else 4):
            os.kill(os.getpid(), signal.SIGKILL)
        return read(index)

    monkeypatch.setattr(streamed.files, "read", killed)
    with pytest.raises(
        ValueError, match=r"^a process that decodes the train split of 'pets@.*' was killed by SIGKILL; .*$"
    ):
        list(streamed.batches(np.arange(6), 2, CPU))
    assert not multiprocessing.active_children()


def test_a_process_killed_in_the_middle_of_a_batch_ends_the_stream(streamed):
    streamed.num_workers = 1
    order = np.zeros(6_000, np.int64)  # batches of 1 MB, more than a pipe holds
    batches = streamed.batches(order, 3_000, CPU)
    next(batches)
    (child,) = multiprocessing.active_children()
    pipe_is_full = time.monotonic() + 60
    while Path(f"/proc/{child.pid}/wchan").exists() and child.is_alive() and time.monotonic() < pipe_is_full:
        if Path(f"/proc/{child.pid}/stat").read_text().split(") ")[1][0] == "S":  # asleep: it waits for the pipe
            break
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ValueError, match="was killed by SIGKILL"):
        list(batches)


def test_streaming_needs_no_shared_memory(streamed, monkeypatch):
    # Shared memory is a file to the kernel: none may grow beyond 1 kB, and batches are of 1.4 kB.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        batches = list(streamed.batches(np.arange(6), 4, CPU))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [len(images) for images, _ in batches] == [4, 2]


def test_a_stream_that_is_left_early_leaves_no_process(streamed):
    batches = streamed.batches(np.arange(6), 1, CPU)
    next(batches)
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_deep_images_are_the_same_mapped_and_as_a_copy_on_a_device(dtype):
    array = (np.random.default_rng(0).random((6, 2, 3, 3)) * 65535).astype(dtype)
    array[0, 0, 0] = [0, 32768, 65535]
    images = Images(array, np.arange(6))
    order = np.array([0, 5, 3])
    cpu = torch.device("cpu")
    ((mapped, _),) = images.batches(order, 3, cpu)
    ((copied, _),) = images._resident_batches(order, 3, cpu)
    unit = np.float32(65535 if dtype == "uint16" else 1)
    assert torch.equal(mapped, copied) and np.array_equal(mapped.numpy(), array[order].astype(np.float32) / unit)
