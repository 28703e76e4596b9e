"""Are test images changed as other libraries change them, and in any batch alike?"""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as torchvision

from vitbench.config import DISTORTIONS, strengths_on
from vitbench.evaluation.distorted_images import distorted

MEAN, STD = 0.4, 0.25
STRONGEST = [(name, distortion.strengths[-1]) for name, distortion in DISTORTIONS.items()]


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.float() / 255 - MEAN) / STD


def pixels_of(images: int, channels: int = 3, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    return torch.from_numpy(draws.integers(256, size=(images, channels, height, width), dtype=np.uint8))


def changed(pixels: torch.Tensor, name: str, strength: float, *, first: int = 0, patch=(4, 8)) -> torch.Tensor:
    indices = np.arange(first, first + len(pixels))
    return distorted(pixels, name, strength, indices=indices, normalise=normalise, patch_hw=patch)


@pytest.mark.parametrize(("name", "strength"), STRONGEST)
@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_every_batch_size_gives_the_same_bits(name, strength, batch_size):
    pixels = pixels_of(20)
    whole = changed(pixels, name, strength)
    parts = [changed(pixels[at : at + batch_size], name, strength, first=at) for at in range(0, 20, batch_size)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(changed(pixels, name, strength), whole)
    assert not torch.equal(whole, normalise(pixels))


@pytest.mark.parametrize("name", DISTORTIONS)
def test_strength_0_is_the_plain_image(name):
    pixels = pixels_of(3)
    assert torch.equal(changed(pixels, name, 0), normalise(pixels))


@pytest.mark.parametrize(("name", "strength"), STRONGEST)
def test_equal_images_at_different_places_of_the_split_are_changed_differently_where_chance_decides(name, strength):
    images = changed(pixels_of(1).expand(40, -1, -1, -1), name, strength)
    differ = any(not torch.equal(images[0], image) for image in images)
    assert differ == (name not in ("blur", "contrast", "jpeg"))


@pytest.mark.parametrize("name", ["shift", "rotate", "noise", "blur", "contrast", "shuffle", "drop"])
@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_channels_and_of_more_than_8_bits_are_changed_as_those_of_8(name, channels):
    pixels = pixels_of(5, channels)
    strength = DISTORTIONS[name].strengths[0]
    as_floats = distorted(
        pixels.float() / 255,
        name,
        strength,
        indices=np.arange(5),
        normalise=lambda images: (images - MEAN) / STD,
        patch_hw=(4, 8),
    )
    assert torch.equal(as_floats, changed(pixels, name, strength))


@pytest.mark.parametrize("strength", DISTORTIONS["shift"].strengths)
def test_a_shift_rolls_an_image_by_so_many_pixels_in_each_of_four_directions(strength):
    pixels, step = pixels_of(60), int(strength)
    ways = [np.roll(pixels.numpy(), shift, axis) for shift, axis in ((step, 2), (-step, 2), (step, 3), (-step, 3))]
    images = changed(pixels, "shift", strength)
    expected = [
        [torch.equal(image, normalise(torch.from_numpy(way[i]))) for way in ways] for i, image in enumerate(images)
    ]
    assert all(any(row) for row in expected)
    assert all(any(row[way] for row in expected) for way in range(4))


@pytest.mark.against("torchvision", "rotated test images", "1e-4 standard deviations")
@pytest.mark.parametrize("strength", DISTORTIONS["rotate"].strengths)
def test_a_rotation_is_torchvisions_to_the_left_or_the_right(strength):
    pixels = pixels_of(30)
    left, right = (
        torchvision.rotate(normalise(pixels), angle, interpolation=InterpolationMode.BILINEAR)
        for angle in (strength, -strength)
    )
    images = changed(pixels, "rotate", strength)
    errors = torch.stack([(images - way).abs().amax((1, 2, 3)) for way in (left, right)])
    assert errors.amin(0).max() < 1e-4
    assert 5 < int((errors[0] < errors[1]).sum()) < 25


def test_noise_is_normal_and_as_wide_as_its_strength_says():
    pixels = pixels_of(40, 1, 32, 32)
    for strength in DISTORTIONS["noise"].strengths:
        noise = (changed(pixels, "noise", strength) - normalise(pixels)).numpy()
        assert noise.std() == pytest.approx(strength / 100, rel=0.02)
        assert abs(noise.mean()) < 0.02 * strength / 100
        assert stats.kstest(noise.ravel() / (strength / 100), "norm").statistic < 0.01
        assert len({row.tobytes() for row in noise}) == 40


@pytest.mark.against("scipy", "blurred test images", "1e-5 standard deviations")
@pytest.mark.parametrize("strength", DISTORTIONS["blur"].strengths)
@pytest.mark.parametrize("height", [3, 8, 16])
def test_a_blur_is_scipys(strength, height):
    pixels = pixels_of(2, height=height)
    expected = ndimage.gaussian_filter(normalise(pixels).double().numpy(), (0, 0, strength, strength))
    assert np.abs(changed(pixels, "blur", strength).numpy() - expected).max() < 1e-5


def test_contrast_is_taken_away_as_in_imagenet_c():
    pixels = pixels_of(2)
    for strength, kept in ((50, 0.5), (75, 0.25), (90, 0.1)):
        x = pixels.permute(0, 2, 3, 1).double().numpy() / 255
        means = x.mean(axis=(1, 2), keepdims=True)
        expected = ((x - means) * kept + means - MEAN) / STD
        assert np.abs(changed(pixels, "contrast", strength).permute(0, 2, 3, 1).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels):
    pixels = pixels_of(3, channels)
    for strength, quality in ((20, 80), (50, 50), (80, 20)):
        for image, found in zip(pixels, changed(pixels, "jpeg", strength), strict=True):
            picture = Image.fromarray(image[0].numpy() if channels == 1 else image.permute(1, 2, 0).numpy())
            picture.save(file := io.BytesIO(), format="jpeg", quality=quality)
            read = torch.from_numpy(np.array(Image.open(file))).reshape(16, 24, channels).permute(2, 0, 1)
            assert torch.equal(found, normalise(read))


@pytest.mark.parametrize(("strength", "moved"), [(25, 3), (50, 6), (100, 12)])
def test_so_many_patches_change_places_and_each_keeps_its_pixels(strength, moved):
    images, plain = changed(pixels_of(5), "shuffle", strength), normalise(pixels_of(5))
    for image, before in zip(images, plain, strict=True):
        patches = [
            [im[:, y : y + 4, x : x + 8].numpy().tobytes() for y in range(0, 16, 4) for x in range(0, 24, 8)]
            for im in (image, before)
        ]
        assert sorted(patches[0]) == sorted(patches[1])
        assert sum(a != b for a, b in zip(*patches, strict=True)) == moved


@pytest.mark.parametrize(("strength", "dropped"), [(25, 3), (50, 6), (75, 9)])
def test_so_many_patches_become_the_mean_colour_and_the_rest_stays(strength, dropped):
    plain = normalise(pixels_of(5))
    images = changed(pixels_of(5), "drop", strength)
    cells = (images == plain).unflatten(3, (3, 8)).unflatten(2, (4, 4)).all(5).all(3).all(1)
    assert (cells.sum((1, 2)) == 12 - dropped).all()
    assert torch.equal(images, torch.where(images == 0, 0.0, plain))


@pytest.mark.parametrize("name", ["shuffle", "drop"])
def test_what_a_weaker_distortion_does_a_stronger_one_does_too(name):
    plain = normalise(pixels_of(5))
    weak, strong = (
        (changed(pixels_of(5), name, s) != plain).unflatten(3, (3, 8)).unflatten(2, (4, 4)).any(5).any(3).any(1)
        for s in (25, 50)
    )
    assert (weak <= strong).all()


def test_with_two_patches_both_change_places_and_one_is_dropped():
    pixels = pixels_of(2, height=4, width=16)
    assert torch.equal(changed(pixels, "shuffle", 25), normalise(pixels).roll(8, 3))
    left = changed(pixels, "drop", 75) == normalise(pixels)
    assert (left[..., :8].all() or left[..., 8:].all()) and not left.all()


def test_a_shift_goes_to_half_of_the_shorter_side_at_most():
    assert strengths_on("shift", (8, 8)) == (1, 2, 4)
    assert strengths_on("shift", (32, 12)) == (1, 2, 4)
    assert strengths_on("shift", (224, 224)) == (1, 2, 4, 8)
    assert strengths_on("shift", (1, 8)) == ()
