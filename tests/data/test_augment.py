"""Is a batch changed as the configuration says, by draws that belong to (seed, step)?"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.transforms.v2 import functional as reference

import vitbench.data.augment as module
from vitbench.config import DataConfig
from vitbench.data import Augment, normalise, with_channels
from vitbench.data.augment import crop, crop_by_index, mirror
from vitbench.data.seeding import random_state

MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.2)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (16, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


LABELS = torch.arange(16) % 4


def augment(label_smoothing: float = 0.0, **config: float) -> Augment:
    return Augment(DataConfig(**config), 4, label_smoothing, MEAN, STD)


@pytest.mark.against("Pillow", "grey of coloured images, with mode L", "exact")
def test_colours_become_pillows_grey_and_grey_three_equal_colours(images):
    every = torch.cartesian_prod(*[torch.arange(0, 256, 5, dtype=torch.uint8)] * 3).T.reshape(1, 3, 52, 52 * 52)
    for colours in (images, every):
        by_pillow = [np.asarray(Image.fromarray(one.permute(1, 2, 0).numpy()).convert("L")) for one in colours]
        assert torch.equal(with_channels(colours, 1), torch.from_numpy(np.stack(by_pillow))[:, None])
    grey = images[:, :1]
    assert torch.equal(with_channels(grey, 3), torch.cat([grey] * 3, dim=1)) and with_channels(grey, 1) is grey
    with pytest.raises(ValueError, match="channels 2 cannot be had from images of 3; give grey or RGB images"):
        with_channels(images, 2)


def test_normalise_agrees_with_torchvision(images):
    expected = reference.normalize(images.double() / 255, list(MEAN), list(STD))
    result = normalise(images, MEAN, STD)
    assert result.dtype == torch.float32 and result.is_contiguous()
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)


def test_a_channel_that_never_varies_becomes_zero():
    flat = torch.full((2, 1, 3, 3), 51, dtype=torch.uint8)
    assert normalise(flat, (0.2,), (0.0,)).abs().max() < 1e-6


def test_statistics_of_another_number_of_channels_are_refused(images):
    with pytest.raises(ValueError, match="one value per channel; images have 3"):
        normalise(images, (0.5,), (0.5,))


def test_nothing_asked_for_is_normalise_alone(images):
    floats, targets = augment()(images, LABELS, seed=0, step=0)
    assert torch.equal(floats, normalise(images, MEAN, STD)) and torch.equal(targets, LABELS)


def test_crop_agrees_with_torchvision_for_every_offset(images):
    for top in range(5):
        for left in range(5):
            expected = reference.crop(reference.pad(images, [2]), top, left, 9, 7)
            assert torch.equal(crop(images, 2, np.full(16, top), np.full(16, left)), expected)


def test_the_accelerator_s_crop_takes_the_same_windows(images):
    top, left = np.random.default_rng(0).integers(7, size=(2, 16))
    padded = functional.pad(images, [3] * 4)
    by_index = crop_by_index(padded, 9, 7, torch.from_numpy(top), torch.from_numpy(left))
    assert torch.equal(by_index, crop(images, 3, top, left))


def test_reflecting_crop_agrees_with_torchvision_for_every_offset(images):
    for top in range(5):
        for left in range(5):
            expected = reference.crop(reference.pad(images.float(), [2], padding_mode="reflect"), top, left, 9, 7)
            cropped = crop(images, 2, np.full(16, top), np.full(16, left), "reflect")
            assert torch.equal(cropped.float(), expected)


def test_mirror_exchanges_left_and_right_where_told(images):
    result = mirror(images, np.array([0, 1] * 8))
    assert torch.equal(result[0::2], images[0::2])
    assert torch.equal(result[1::2], reference.horizontal_flip(images[1::2]))


def test_offsets_differ_between_images_and_reach_every_corner():
    flat = torch.full((512, 3, 4, 4), 255, dtype=torch.uint8)
    cropped, _ = augment(crop_padding=1)(flat, torch.zeros(512, dtype=torch.int64), seed=0, step=0)
    lit = (cropped[:, 0] > 0).flatten(1).int()
    assert len({tuple(row) for row in lit.tolist()}) == 9  # 3 offsets in each direction


def test_about_half_of_a_large_batch_is_flipped():
    ramp = torch.arange(8, dtype=torch.uint8).repeat(1000, 3, 1, 1)
    flipped, _ = augment(flip=True)(ramp, torch.zeros(1000, dtype=torch.int64), seed=0, step=0)
    share = (flipped[:, 0, 0, 0] > flipped[:, 0, 0, -1]).float().mean()
    assert 0.43 < share < 0.57


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        ({}, "3b2092ef6f50f58e"),
        ({"crop_padding": 2}, "c48a0c3cbe9c55b4"),
        ({"flip": True}, "4a80e274078454c4"),
        ({"crop_padding": 2, "flip": True}, "318d4c0c30aa741b"),
        ({"mixup": 0.8}, "2f28ebcfb5a83387"),
        ({"cutmix": 1.0}, "8838ecb439125314"),
        ({"crop_padding": 3, "flip": True, "mixup": 0.8, "cutmix": 1.0}, "2478aab0710fc700"),
    ],
)
def test_what_there_was_before_auto_augment_gives_the_same_bits(config, digest):
    """Digests were made by the code that had crops, flips, mixup and cutmix alone."""
    pixels = torch.from_numpy(np.random.RandomState(0).randint(256, size=(16, 3, 9, 7)).astype(np.uint8))
    transform, sha = augment(label_smoothing=0.1, **config), hashlib.sha256()
    for step in range(3):
        for result in transform(pixels, LABELS, seed=7, step=step):
            sha.update(result.numpy().tobytes())
    assert sha.hexdigest()[:16] == digest


@pytest.mark.parametrize(
    "config",
    [
        {"crop_padding": 2},
        {"flip": True},
        {"mixup": 0.8},
        {"cutmix": 1.0},
        {"mixup": 0.8, "cutmix": 1.0},
        {"crop_scale": (0.2, 1.0)},
        {"color_jitter": 0.5},
        {"random_erasing": 0.5},
        {
            "crop_scale": (0.2, 1.0),
            "flip": True,
            "auto_augment": "rand-m9-mstd0.5",
            "random_erasing": 0.5,
            "mixup": 0.8,
        },
    ],
)
def test_draws_depend_on_seed_and_step_alone(images, config):
    transform = augment(**config)
    first, targets = transform(images, LABELS, seed=1, step=2)
    torch.manual_seed(9)
    np.random.seed(9)
    again, targets_again = transform(images, LABELS, seed=1, step=2)
    assert torch.equal(first, again) and torch.equal(targets, targets_again)
    others = [transform(images, LABELS, seed=s, step=t)[0] for s, t in ((1, 3), (2, 2), (2, 1))]
    assert not any(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(
    "config",
    [
        {"crop_padding": 2, "flip": True},
        {"mixup": 0.8, "cutmix": 1.0},
        {"crop_scale": (0.2, 1.0), "auto_augment": "3a", "color_jitter": 0.3, "random_erasing": 0.5},
    ],
)
def test_global_generators_and_the_images_given_are_left_alone(images, config):
    np.random.seed(4)
    torch.manual_seed(4)
    expected = np.random.rand(), torch.rand(())
    np.random.seed(4)
    torch.manual_seed(4)
    before = images.clone()
    augment(**config)(images, LABELS, seed=0, step=0)
    assert (np.random.rand(), torch.rand(())) == expected
    assert torch.equal(images, before)


def test_mixup_mixes_images_and_targets_in_one_proportion(images):
    mixed, targets = augment(mixup=1.0)(images, LABELS, seed=0, step=0)
    plain = normalise(images, MEAN, STD)
    # Images pair with the batch in reverse: label 0 (first) with label 3 (last).
    share = float(targets[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(targets[0], torch.tensor([share, 0, 0, 1 - share]))
    torch.testing.assert_close(mixed, share * plain + (1 - share) * plain.flip(0), rtol=1e-5, atol=1e-5)


def test_cutmix_s_targets_are_the_shares_of_area(images):
    mixed, targets = augment(cutmix=1.0)(images, LABELS, seed=0, step=1)
    plain = normalise(images, MEAN, STD)
    assert ((mixed == plain) | (mixed == plain.flip(0))).all()
    kept = (mixed[0] == plain[0]).all(0).float().mean()
    assert 0 < kept < 1
    assert float(targets[0, 0]) == pytest.approx(float(kept), abs=1e-6)


def test_label_smoothing_is_in_mixed_targets_and_not_in_indices(images):
    _, targets = augment(label_smoothing=0.2, mixup=1.0)(images, LABELS, seed=0, step=0)
    torch.testing.assert_close(targets.sum(1), torch.ones(16))
    assert float(targets.min()) == pytest.approx(0.05)  # 0.2 / 4 classes
    _, indices = augment(label_smoothing=0.2)(images, LABELS, seed=0, step=0)
    assert torch.equal(indices, LABELS)


EVERYTHING = {
    "crop_scale": (0.2, 1.0),
    "flip": True,
    "auto_augment": "3a",
    "color_jitter": 0.3,
    "random_erasing": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
}


def test_the_order_is_crop_flip_policy_jitter_normalise_erase_mix(images, monkeypatch):
    done = []
    names = ("resized_crop", "mirror", "color_jitter", "normalise", "erase")
    for name in names:
        original = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *a, name=name, original=original, **k: done.append(name) or original(*a, **k)
        )
    transform = augment(**EVERYTHING)
    policy, mixup = transform.auto_augment, transform.mixup
    transform.auto_augment = lambda *a: done.append("auto_augment") or policy(*a)
    transform.mixup = lambda *a: done.append("mixup") or mixup(*a)
    transform(images, LABELS, seed=0, step=0)
    assert done == ["resized_crop", "mirror", "auto_augment", "color_jitter", "normalise", "erase", "mixup"]


def test_every_purpose_has_a_stream_of_draws_of_its_own_at_seed_and_step(images, monkeypatch):
    streams = []
    monkeypatch.setattr(module, "random_state", lambda *stream: streams.append(stream) or random_state(*stream))
    augment(**EVERYTHING)(images, LABELS, seed=3, step=4)
    assert len({purpose for purpose, *_ in streams}) == len(streams) == 5
    assert {tuple(key) for _, *key in streams} == {(3, 4)}


@pytest.mark.parametrize("added", ["auto_augment", "color_jitter", "random_erasing", "mixup", "flip"])
def test_an_augmentation_that_is_added_changes_no_draw_of_another(images, monkeypatch, added):
    """What the other augmentations are called with, but for the images, is what it was."""

    def drawn(config):
        calls = {}
        for name in ("resized_crop", "mirror", "color_jitter"):
            original = originals[name]

            def record(images, *draws, name=name, original=original):
                calls[name] = draws
                return original(images, *draws)

            monkeypatch.setattr(module, name, record)
        transform = augment(**config)
        transform(images, LABELS, seed=3, step=4)
        return calls

    originals = {name: getattr(module, name) for name in ("resized_crop", "mirror", "color_jitter")}
    before = drawn({name: value for name, value in EVERYTHING.items() if name != added})
    after = drawn(EVERYTHING)
    shared = [name for name in before if name in after]
    assert "resized_crop" in shared
    for name in shared:
        assert repr(before[name]) == repr(after[name]), name


def test_bilinear_bicubic_or_one_of_both_resizes_crops(images, monkeypatch):
    chosen = []
    monkeypatch.setattr(module, "resized_crop", lambda images, boxes, bicubic: chosen.append(bicubic) or images)
    for interpolation in ("bilinear", "bicubic", "random"):
        augment(crop_scale=(0.5, 1.0), crop_interpolation=interpolation)(images, LABELS, seed=0, step=0)
    assert not chosen[0].any() and chosen[1].all() and chosen[2].any() and not chosen[2].all()


def test_geometric_augmentation_is_for_images_of_any_kind():
    config = DataConfig(crop_scale=(0.2, 1.0), flip=True, random_erasing=0.5, mixup=0.8)
    for pixels in (torch.randint(0, 256, (4, 7, 8, 8), dtype=torch.uint8), torch.rand(4, 2, 8, 8)):
        channels = pixels.shape[1]
        floats, _ = Augment(config, 4, 0.0, (0.5,) * channels, (0.5,) * channels)(pixels, LABELS[:4], seed=0, step=0)
        assert floats.dtype == torch.float32 and floats.isfinite().all()
