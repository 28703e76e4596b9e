"""Do worker processes change images as one process would, whatever their number, and which images reach them?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp

from tests.data.made_up_images import random_pixels, write_folder, write_tars
from vitbench.config import DataConfig
from vitbench.data import Augment, Images, StreamedImages, load
from vitbench.data.image_transform import ImageTransform
from vitbench.data.loading import stored_train

CPU = torch.device("cpu")
CROPS = DataConfig(crop_scale=(0.08, 1.0), flip=True, auto_augment="rand-m9-mstd0.5-inc1")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Larger than 64 pixels: brought to 224 by default."""
    return write_folder(tmp_path / "photographs", random_pixels(train=8, shape=(80, 100, 3)))


def stored(folder: Path, config: DataConfig, size: tuple[int, int] | None = None) -> StreamedImages | None:
    return stored_train(load(str(folder), image_size=size), config, str(folder), root=None)


def transform_of(config: DataConfig, *, first_step: int = 0, batch_size: int = 4) -> ImageTransform:
    return ImageTransform(config, (32, 32), (0.5, 0.5, 0.5), 0, first_step, batch_size)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_changed_batches_are_those_of_one_process_whatever_the_number_of_workers(photographs, num_workers):
    images = stored(photographs, CROPS, (32, 32))
    images.num_workers = num_workers
    order, transform = np.array([3, 1, 0, 2, 5, 5, 5, 4, 6, 7, 8, 9]), transform_of(CROPS)
    for number, (pixels, labels) in enumerate(images.batches(order, 4, CPU, change=transform)):
        for place, row in enumerate(order[4 * number : 4 * number + 4]):
            image, label = images.files.read(row)
            assert np.array_equal(pixels[place], transform(image, number, place))
            assert labels[place] == label


def test_an_epoch_from_its_middle_goes_on_with_the_same_bits(photographs):
    images, order = stored(photographs, CROPS, (32, 32)), np.arange(12)
    whole = [pixels for pixels, _ in images.batches(order, 4, CPU, change=transform_of(CROPS))]
    rest = [pixels for pixels, _ in images.batches(order[4:], 4, CPU, change=transform_of(CROPS, first_step=1))]
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_an_image_that_comes_again_is_changed_anew(photographs):
    images = stored(photographs, CROPS, (32, 32))
    ((pixels, _),) = images.batches(np.zeros(4, dtype=np.int64), 4, CPU, change=transform_of(CROPS))
    assert len({image.numpy().tobytes() for image in pixels}) == 4


def test_crops_see_pixels_that_a_centre_crop_had_cut_off(tmp_path):
    """A red band at the left edge of a wide image."""
    pixels = np.zeros((80, 200, 3), dtype=np.uint8)
    pixels[:, :40, 0] = 255
    pixels[:, 100, 1] = 255  # a line in the centre, where there would be one colour alone
    folder = write_folder(tmp_path / "bands", {f"{s}/{c}/0.png": pixels for s in ("train", "test") for c in "ab"})
    images = stored(folder, CROPS, (32, 32))
    config = DataConfig(crop_scale=(0.1, 0.1))
    transform = transform_of(config, batch_size=64)
    ((cropped, _),) = images.batches(np.zeros(64, dtype=np.int64), 64, CPU, change=transform)
    assert (cropped[:, 0] == 255).any() and not (load(str(folder), image_size=(32, 32)).train.array[:, 0] == 255).any()


def test_a_broken_image_is_named(photographs):
    images = stored(photographs, CROPS, (32, 32))
    (photographs / "train" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"^image 'cat/1.png' of the train split .* cannot be read"):
        list(images.batches(np.arange(4), 4, CPU, change=transform_of(CROPS)))


def test_an_image_of_more_colours_than_its_set_is_named_before_it_is_changed(tmp_path):
    folder = write_folder(tmp_path / "grey", random_pixels(train=2, shape=(80, 100)))
    images = stored(folder, CROPS, (32, 32))
    Image.new("RGB", (80, 80)).save(folder / "train" / "dog" / "0.png")
    with pytest.raises(ValueError, match=r"^image 'dog/0.png' of the train split of 'grey@.*' is coloured"):
        list(images.batches(np.arange(4), 4, CPU, change=transform_of(DataConfig(crop_scale=(0.5, 1.0)))))


def test_an_image_that_cannot_be_changed_is_named(photographs):
    def change(image: Image.Image, number: int, place: int) -> np.ndarray:
        raise TypeError("no colour")

    images = stored(photographs, CROPS, (32, 32))
    with pytest.raises(
        ValueError,
        match=r"^image 'cat/2.png' of the train split of '.*' cannot be augmented \(no colour\); leave auto_",
    ):
        list(images.batches(np.array([2]), 1, CPU, change=change))


@pytest.mark.parametrize(
    ("limit", "fields", "streams"),
    [
        ("4", {"crop_scale": (0.08, 1.0)}, True),
        ("4", {"crop_padding": 4, "flip": True, "auto_augment": "v0"}, False),
        ("0", {"crop_scale": (0.08, 1.0)}, True),
        ("0", {"auto_augment": "v0"}, True),
        ("0", {"color_jitter": 0.4}, True),
        ("0", {"crop_padding": 4, "flip": True, "mixup": 0.8, "random_erasing": 0.25}, False),
    ],
)
def test_workers_change_crops_of_larger_images_and_colours_of_what_is_streamed_anyway(
    photographs, monkeypatch, limit, fields, streams
):
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", limit)
    assert (stored(photographs, DataConfig(**fields)) is not None) == streams


def test_images_that_are_stored_at_the_size_of_the_run_are_cropped_in_batches(image_folder):
    assert stored(image_folder, CROPS) is None
    assert stored(image_folder, CROPS, (12, 10)) is None
    assert stored(image_folder, CROPS, (16, 16)) is not None
    assert stored_train(load("digits", image_size=(16, 16)), CROPS, "digits", root=None) is None


def test_files_that_can_only_be_read_from_their_start_are_not_cropped(photographs, monkeypatch):
    monkeypatch.setattr("vitbench.data.reading.ListedSplit.random_access", False)
    with pytest.raises(
        ValueError, match=r"^crop_scale crops images as they are stored, but .* no random access; give a"
    ):
        stored(photographs, CROPS)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{"crop_scale": (0.2, 1.0)}, {"auto_augment": "rand-m9-mstd0.5-inc1"}])
def test_images_one_by_one_and_in_batches_have_the_same_distribution(tmp_path, fields):
    """On a set whose images have the size of the run, so that it can be read both ways."""
    pixels = np.asarray(Image.fromarray(random_pixels()["train/cat/0.png"][:4, :4]).resize((32, 32)))
    config, number = DataConfig(flip=True, **fields), 2000
    folder = write_folder(tmp_path / "same", {f"{s}/{c}/0.png": pixels for s in ("train", "test") for c in "ab"})
    data = load(str(folder))
    assert isinstance(data.train, Images)
    one_by_one = ImageTransform(config, (32, 32), data.mean, 0, 0, number)
    image = Image.fromarray(pixels)
    single = np.stack([one_by_one(image, 0, place) for place in range(number)])
    augment = Augment(config, num_classes=2, label_smoothing=0.0, mean=data.mean, std=data.std)
    batch = torch.from_numpy(np.repeat(data.train.array[:1], number, axis=0))
    normalised, _ = augment(batch, torch.zeros(number, dtype=torch.int64), seed=1, step=0)
    mean, std = (np.array(values)[:, None, None] for values in (data.mean, data.std))
    batched = (255 * (normalised.numpy() * std + mean)).round()
    for statistic in (
        lambda x: x.mean(axis=(1, 2, 3)),
        lambda x: x.std(axis=(1, 2, 3)),
        lambda x: x[:, 0, :16].mean(axis=(1, 2)) - x[:, 0, 16:].mean(axis=(1, 2)),
        lambda x: x[:, 2, :, :16].mean(axis=(1, 2)) - x[:, 2, :, 16:].mean(axis=(1, 2)),
        lambda x: np.abs(np.diff(x, axis=-1)).mean(axis=(1, 2, 3)),
    ):
        assert ks_2samp(statistic(single.astype(float)), statistic(batched)).pvalue > 0.001


def test_evaluation_sees_the_middle_of_images_and_statistics_stay(photographs, monkeypatch):
    whole = load(str(photographs), image_size=(32, 32))
    cached = load(str(photographs), image_size=(32, 32), eval_crop=0.5)
    assert (cached.mean, cached.std, cached.sha256) == (whole.mean, whole.std, whole.sha256)
    image = Image.open(photographs / "test" / "cat" / "0.png")
    expected = image.resize((80, 64), Image.Resampling.BICUBIC).crop((24, 16, 56, 48))
    assert np.array_equal(cached.test.array[0], np.asarray(expected).transpose(2, 0, 1))
    monkeypatch.setenv("VITBENCH_CACHE_LIMIT_GB", "0")
    streamed = load(str(photographs), image_size=(32, 32), eval_crop=0.5)
    assert isinstance(streamed.train, StreamedImages) and streamed.sha256 == whole.sha256
    for split in ("train", "test"):
        ((pixels, _),) = getattr(streamed, split).batches(np.arange(4), 4, CPU)
        assert np.array_equal(pixels, getattr(cached, split).array[:4])


def test_built_in_sets_are_evaluated_in_their_middle_or_refuse(monkeypatch):
    whole, middle = load("digits", image_size=(12, 12)), load("digits", image_size=(6, 6), eval_crop=0.5)
    assert np.array_equal(middle.test.array, whole.test.array[:, :, 3:9, 3:9])
    assert middle.sha256 == load("digits", image_size=(6, 6)).sha256
    with pytest.raises(
        ValueError, match=r"^eval_crop would blur the cells of 'shapes' into each other; leave it at 1$"
    ):
        load("shapes", eval_crop=0.9)


def test_a_tar_is_cropped_as_a_folder_is(tmp_path):
    pixels = random_pixels(train=4, shape=(80, 100, 3))
    folders = write_folder(tmp_path / "folder" / "pets", pixels), write_tars(tmp_path / "tar" / "pets", pixels)
    (a, _), (b, _) = (
        next(stored(folder, CROPS, (32, 32)).batches(np.arange(4), 4, CPU, change=transform_of(CROPS)))
        for folder in folders
    )
    assert torch.equal(a, b)
