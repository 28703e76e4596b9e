"""Do decoded images, labels, statistics and hashes equal those computed from the files by other means?"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from tests.data.made_up_images import REAL_DATA, random_pixels, write_folder, write_tars
from vitbench.data import StreamedImages, describe, load

CPU = torch.device("cpu")
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def expected_split(pixels, split):
    names = sorted(name for name in pixels if name.startswith(split))
    images = np.stack([pixels[name].transpose(2, 0, 1) for name in names])
    return images, np.array([["cat", "dog"].index(name.split("/")[1]) for name in names])


def all_of(images):
    batches = list(images.batches(np.arange(len(images)), 4, CPU))
    return torch.cat([x for x, _ in batches]).numpy(), torch.cat([y for _, y in batches]).numpy()


def check_against_files(data, pixels):
    (train, train_labels), (test, test_labels) = (expected_split(pixels, "train"), expected_split(pixels, "test"))
    for images, expected, labels in ((data.train, train, train_labels), (data.test, test, test_labels)):
        got, got_labels = all_of(images)
        assert np.array_equal(got, expected) and np.array_equal(got_labels, labels)
        assert np.array_equal(images.labels, labels)
    np.testing.assert_allclose(data.mean, (train / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, (train / 255).std(axis=(0, 2, 3)), rtol=1e-12)
    digest = hashlib.sha256()
    for part in (train, train_labels.astype("<i8"), test, test_labels.astype("<i8")):
        digest.update(part.tobytes())
    assert data.sha256 == digest.hexdigest()


def test_a_folder_gives_the_pixels_that_were_stored(image_folder, pixels):
    data = load("pets", root=image_folder.parent)
    check_against_files(data, pixels)
    assert data.info == describe("pets", root=image_folder.parent)


def test_a_tar_gives_the_pixels_that_were_stored(tmp_path, pixels):
    check_against_files(load(str(write_tars(tmp_path / "pets", pixels))), pixels)


def test_streamed_images_equal_cached_ones(image_folder, pixels, monkeypatch):
    cached = load(str(image_folder), image_size=(9, 8))
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    streamed = load(str(image_folder), image_size=(9, 8))
    assert isinstance(streamed.train, StreamedImages)
    assert (streamed.mean, streamed.std, streamed.sha256) == (cached.mean, cached.std, cached.sha256)
    order = np.array([4, 1, 1, 5, 0])
    for (x, y), (sx, sy) in zip(
        cached.train.batches(order, 2, CPU), streamed.train.batches(order, 2, CPU), strict=True
    ):
        assert torch.equal(x, sx) and torch.equal(y, sy)
    assert list(streamed.train.batches(order[:0], 2, CPU)) == []


def test_workers_that_share_a_tar_do_not_disturb_each_other(tmp_path, monkeypatch):
    pixels = random_pixels(train=40)
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    data = load(str(write_tars(tmp_path / "pets", pixels)))
    data.train.files.read(0)
    data.train.num_workers = 2
    names = sorted((name for name in pixels if name.startswith("train")), key=natural)
    by_file = np.stack([pixels[name].transpose(2, 0, 1) for name in names])
    assert np.array_equal(all_of(data.train)[0], by_file) and np.array_equal(
        all_of(data.train)[1], np.repeat([0, 1], 40)
    )


def natural(name):
    split, animal, file = name.split("/")
    return split, animal, int(file.removesuffix(".png"))


def test_the_second_load_builds_nothing(image_folder, builds):
    seen, progress = builds
    load(str(image_folder), progress=progress)
    assert seen == ["decoding train 6/6", "decoding test 4/4"]
    seen.clear()
    load(str(image_folder), progress=progress)
    assert seen == []


def test_a_changed_file_makes_the_cache_stale(image_folder, pixels, builds):
    seen, progress = builds
    first = load(str(image_folder))
    file = image_folder / "train/cat/0.png"
    pixels["train/cat/0.png"] = 255 - pixels["train/cat/0.png"]
    Image.fromarray(pixels["train/cat/0.png"]).save(file)
    os.utime(file, ns=(1, 1))
    second = load(str(image_folder), progress=progress)
    assert seen and second.sha256 != first.sha256
    check_against_files(second, pixels)


@pytest.mark.parametrize("limit", ["4", "0"])
def test_an_unreadable_image_is_named_and_never_replaced_by_another(image_folder, monkeypatch, cache, limit):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", limit)
    broken = image_folder / "train/dog/1.png"
    describe(str(image_folder))
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"^image 'dog/1.png' of the train split of 'pets@.*' cannot be read") as error:
        load(str(image_folder))
    assert "\n" not in str(error.value)
    assert list(cache.glob("data/*/.building*")) == []
    broken.write_bytes(whole)
    assert len(load(str(image_folder)).train) == 6


def test_an_image_broken_after_measuring_stops_the_stream_with_its_name(image_folder, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    data = load(str(image_folder))
    (image_folder / "train/dog/1.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"^image 'dog/1.png' of the train split"):
        all_of(data.train)


def test_a_truncated_jpeg_is_refused_not_filled_up_with_grey(tmp_path):
    folder = write_folder(tmp_path / "pets", random_pixels())
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    (folder / "test/cat/9.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"^image 'cat/9.jpg' of the test split .*truncated"):
        load(str(folder))


def test_digits_are_scikit_learn_s_in_one_fixed_stratified_split():
    digits, truth = load("digits"), load_digits()
    assert len(digits.train) == 1198 and len(digits.test) == 599
    stored = {
        (np.rint(image * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(truth.images, truth.target, strict=True)
    }
    for images in (digits.train, digits.test):
        assert {(x.tobytes(), int(y)) for x, y in zip(images.array, images.labels, strict=True)} <= stored
        shares = np.bincount(images.labels) / len(images)
        np.testing.assert_allclose(shares, np.bincount(truth.target) / 1797, atol=2e-3)
    both = sorted(x.tobytes() for x in (*digits.train.array, *digits.test.array))
    assert both == sorted(np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in truth.images)


def test_built_in_images_never_change():
    # Recorded when the sets were made: a different hash means that old records are not comparable.
    assert load("digits").sha256[:16] == "8655ec9de668e619"
    assert load("shapes").sha256[:16] == "fd6c0a9fe8a05ba7"
    assert load("shapes/relation").sha256[:16] == "86484de8a16ba8fd"
    assert load("shapes/quadrant").sha256[:16] == "6b8e7d2bd751b418"
    assert load("shapes/majority").sha256[:16] == "e8b5266d5b7d5842"


def test_a_size_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"^image_size \(0, 8\) must be positive"):
        load("digits", image_size=(0, 8))


@pytest.mark.skipif(not (REAL_DATA / "FashionMNIST").is_dir(), reason="Fashion-MNIST is not on this machine")
def test_fashion_mnist_equals_its_idx_files():
    data = load("torch/fashion_mnist", root=REAL_DATA)
    raw = REAL_DATA / "FashionMNIST" / "raw"
    for images, name in ((data.train, "train"), (data.test, "t10k")):
        # idx: a header of 16 bytes before pixels, of 8 before labels (Le Cun's description of MNIST).
        stored = np.fromfile(raw / f"{name}-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)
        assert np.array_equal(images.array, stored)
        assert np.array_equal(images.labels, np.fromfile(raw / f"{name}-labels-idx1-ubyte", np.uint8, offset=8))
    assert data.mean == pytest.approx((0.2860,), abs=1e-4) and data.std == pytest.approx((0.3530,), abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL_DATA / "cifar10").is_dir(), reason="CIFAR-10 is not on this machine")
def test_cifar10_tars_are_described_and_decoded():
    import tarfile

    info = describe("cifar10", root=REAL_DATA)
    assert info.dataset.startswith("cifar10@") and info.image_size == (32, 32) and info.in_channels == 3
    assert (info.num_classes, info.train_images, info.test_images) == (10, 50000, 10000)
    data = load("cifar10", root=REAL_DATA)
    recorded = (REFERENCE / "records" / "pooling.jsonl").read_text()
    assert f'"{info.dataset}"' in recorded and f'"data_sha256":"{data.sha256}"' in recorded
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    with tarfile.open(REAL_DATA / "cifar10" / "test.tar") as tar:
        for index, name in ((0, "test/airplane/0000.jpg"), (9999, "test/truck/0999.jpg")):
            file = tar.extractfile(name)
            assert file is not None
            with file, Image.open(file) as image:
                assert np.array_equal(data.test.array[index].transpose(1, 2, 0), np.asarray(image))
