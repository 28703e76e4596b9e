"""How many images a second does the data pipeline give: augmented, decoded, from the cache, and streamed?"""

from __future__ import annotations

import io
from functools import partial
from itertools import count
from statistics import median

import numpy as np
import pytest
import torch
from PIL import Image

from vitbench.config import DataConfig, TrainConfig
from vitbench.data import Augment, Images, epoch_order, load
from vitbench.data.decode import fit
from vitbench.data.image_transform import ImageTransform
from vitbench.data.loading import stored_train
from vitbench.kernels import install
from vitbench.models import build_model
from vitbench.training.optimizer import build_optimizer
from vitbench.training.step import training_step
from vitbench.variants import variant

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
    "resized crop": DataConfig(crop_scale=(0.08, 1.0)),
    "RandAugment": DataConfig(auto_augment="rand-m9-mstd0.5-inc1"),
    "AutoAugment": DataConfig(auto_augment="original"),
    "3-Augment and jitter": DataConfig(auto_augment="3a", color_jitter=0.3),
    "AugMix": DataConfig(auto_augment="augmix"),
    "jitter": DataConfig(color_jitter=0.4),
    "erasing": DataConfig(random_erasing=0.25),
    "RandAugment and mixup": DataConfig(auto_augment="rand-m9-mstd0.5-inc1", mixup=0.8),
}
INCEPTION = {"crop_scale": (0.08, 1.0), "flip": True}
STREAMED = {
    "crop and flip": DataConfig(**INCEPTION),
    "and RandAugment": DataConfig(**INCEPTION, auto_augment="rand-m9-mstd0.5-inc1"),
    "and 3-Augment": DataConfig(**INCEPTION, auto_augment="3a", color_jitter=0.3),
}
WARMUP_STEPS, STEPS = 3, 20
REACH = 0.9
"""Share of the training step's images/s that is to be left with RandAugment and mixup, on two cores."""
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
        order = epoch_order(everything, batch_size=BATCH, seed=0, epoch=number)
        batches = images.batches(order, BATCH, device.torch_device)
        for step, (batch, labels) in enumerate(batches):
            augment(batch, labels, seed=0, step=step)

    each = IN_MEMORY // BATCH * BATCH
    timed(epoch, group=f"augmentation, 32 px, batch {BATCH}", label=augmentation, items=each, unit="images")


def test_training_with_randaugment_and_mixup_against_without(in_turn, device):
    """Steps of Small32/4 on batches that are augmented just before, and on the same batches normalised alone."""
    config = TrainConfig(precision="auto")
    model = install(build_model(variant("Small32/4").replace(num_classes=10)).to(device.torch_device))
    optimizer, parameters = build_optimizer(model, config), list(model.parameters())
    autocast = partial(device.autocast, device.resolve_precision(config.precision))
    pixels = np.random.default_rng(0).integers(256, size=(BATCH, 3, 32, 32), dtype=np.uint8)
    images, labels = (torch.from_numpy(array).to(device.torch_device) for array in (pixels, np.arange(BATCH) % 10))
    augments = {
        name: Augment(AUGMENTATIONS[name], num_classes=10, label_smoothing=0.0, mean=(0.5,) * 3, std=(0.25,) * 3)
        for name in ("none", "RandAugment and mixup")
    }

    def step(name: str, number: int) -> None:
        batch, targets = augments[name](images, labels, seed=0, step=number)
        training_step(model, optimizer, batch, targets, parameters, config, autocast)

    def measure() -> dict[str, list[float]]:
        times: dict[str, list[float]] = {name: [] for name in augments}
        for number in range(-WARMUP_STEPS, STEPS):
            for name, seconds in times.items():
                spent = device.time(partial(step, name, number + WARMUP_STEPS))
                if number >= 0:
                    seconds.append(spent)
        return times

    times = in_turn(measure, group="training on augmented images")
    without, augmented = (median(seconds) for seconds in times.values())
    ratios = sorted(a / b for a, b in zip(*times.values(), strict=True))
    print(
        f"\nSmall32/4, batch {BATCH}: {BATCH / without:,.0f} images/s without, {BATCH / augmented:,.0f} with RandAugment and "
        f"mixup; ratio {median(ratios):.3f} ({ratios[STEPS // 4]:.3f} to {ratios[-STEPS // 4]:.3f}, quartiles of {STEPS})"
    )
    assert median(ratios) >= REACH


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
