"""How many images a second does the data pipeline give: augmented, decoded, from the cache, and streamed?"""

from __future__ import annotations

import io
from itertools import count

import numpy as np
import pytest
from PIL import Image

from vitbench.config import DataConfig
from vitbench.data import Augment, Images, load, train_batches
from vitbench.data.decode import fit
from vitbench.data.image_transform import ImageTransform
from vitbench.data.loading import stored_train

BATCH = 128
IN_MEMORY = 10_000
"""Images of CIFAR-10's shape."""
AUGMENTATIONS = {
    "none": DataConfig(),
    "crop": DataConfig(crop_padding=4),
    "flip": DataConfig(flip=True),
    "crop and flip": DataConfig(crop_padding=4, flip=True),
    "mixup": DataConfig(mixup=0.8),
    "cutmix": DataConfig(cutmix=1.0),
}
INCEPTION = {"crop_scale": (0.08, 1.0), "flip": True}
STREAMED = {
    "crop and flip": DataConfig(**INCEPTION),
    "and RandAugment": DataConfig(**INCEPTION, auto_augment="rand-m9-mstd0.5-inc1"),
    "and 3-Augment": DataConfig(**INCEPTION, auto_augment="3a", color_jitter=0.3),
}
FILES = 256
SIZE = (224, 224)
PHOTOGRAPH = (375, 500)
"""Height and width: ImageNet's most frequent."""


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_an_epoch_of_augmented_batches(timed, device, augmentation):
    generator = np.random.default_rng(0)
    pixels = generator.integers(256, size=(IN_MEMORY, 3, 32, 32), dtype=np.uint8)
    images = Images(pixels, np.arange(IN_MEMORY) % 10)
    augment = Augment(
        AUGMENTATIONS[augmentation], num_classes=10, label_smoothing=0.0, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    everything, epochs = np.arange(IN_MEMORY), count()

    def epoch() -> None:
        number = next(epochs)
        batches = train_batches(images, everything, batch_size=BATCH, seed=0, epoch=number, device=device.torch_device)
        for step, (batch, labels) in enumerate(batches):
            augment(batch, labels, seed=0, step=step)

    each = IN_MEMORY // BATCH * BATCH
    timed(epoch, group=f"augmentation, 32 px, batch {BATCH}", label=augmentation, items=each, unit="images")


def photograph(seed: int) -> Image.Image:
    """Noise at a few pixels' scale, which as JPEG is about as large as a photograph."""
    height, width = PHOTOGRAPH
    coarse = np.random.default_rng(seed).integers(256, size=(height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_decoding_one_photograph(timed):
    file = io.BytesIO()
    photograph(0).save(file, "jpeg", quality=90)

    def decode() -> None:
        fit(Image.open(io.BytesIO(file.getvalue())), SIZE, 3, "photograph")

    timed(decode, group="decoding", label="a 500 × 375 JPEG to 224 px", unit="images")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of JPEGs."""
    root = tmp_path_factory.mktemp("photographs")
    for split, number in (("train", FILES), ("test", 2)):
        for i in range(number):
            path = root / split / ("cat", "dog")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(i).save(path, quality=90)
    return root


def test_filling_the_cache(timed, folder, tmp_path, monkeypatch):
    caches = count()

    def fill() -> None:
        monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / str(next(caches))))
        load(str(folder), image_size=SIZE)

    timed(fill, group="cache, 224 px", label="filled", items=FILES, unit="images", min_rounds=5)


def test_opening_what_is_in_the_cache(timed, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    load(str(folder), image_size=SIZE)
    timed(lambda: load(str(folder), image_size=SIZE), group="cache, 224 px", label="opened")


@pytest.mark.parametrize("limit", ["4", "0"], ids=["cached", "streamed"])
def test_an_epoch_from_files(timed, device, folder, tmp_path, monkeypatch, limit):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", limit)
    images = load(str(folder), image_size=SIZE).train

    def epoch() -> None:
        for _ in images.batches(np.arange(FILES), 32, device.torch_device):
            pass

    label = "read" if limit != "0" else "streamed by workers"
    timed(epoch, group="cache, 224 px", label=label, items=FILES, unit="images", min_rounds=5)


@pytest.mark.parametrize("augmentation", STREAMED)
def test_an_epoch_of_crops_of_files(timed, device, folder, tmp_path, monkeypatch, augmentation):
    """Beside `streamed by workers`: what augmenting costs over decoding alone."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    config, batch_size = STREAMED[augmentation], 32
    data = load(str(folder), image_size=SIZE)
    images = stored_train(data, config, str(folder), root=None)
    transform = ImageTransform(config, SIZE, data.mean, seed=0, first_step=0, batch_size=batch_size)

    def epoch() -> None:
        for _ in images.batches(np.arange(FILES), batch_size, device.torch_device, change=transform):
            pass

    timed(epoch, group="cache, 224 px", label=f"streamed, {augmentation}", items=FILES, unit="images", min_rounds=5)
