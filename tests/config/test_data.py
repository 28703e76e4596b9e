"""Are augmentations without a meaning refused, each in one line, and are policies those that timm reads?"""

from __future__ import annotations

import re

import pytest
from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform

from vitbench.config import DataConfig, RunConfig, ViTConfig
from vitbench.refusals import one_line

POLICIES = (
    *("rand-m9-mstd0.5-inc1", "rand", "rand-m9", "rand-n3-m7", "rand-p0.25-mmax15-m12", "rand-mstd101", "rand-inc0"),
    *(
        "rand-mstd1-tweights",
        "rand-t3a-n1",
        "rand-m6-t3aw-n14",
        "original",
        "originalr-mstd0.5",
        "v0",
        "v0r-mstd1",
        "3a",
    ),
    *("3a-mstd0.25", "augmix", "augmix-m5-w4-d2", "augmix-a0.5-b1-mstd1"),
)
NO_POLICIES = {
    "": "must begin with one of rand, original",
    "random": "must begin with one of",
    "rand-": "no section ''",
    "rand m9": "must begin with one of",
    "rand-m9.5": "no section 'm9.5'; write sections as in 'rand-m9-n2-p0.5-mstd0.5-mmax10-inc1-tweights'",
    "rand-mstdinf": "no section 'mstdinf'",
    "rand-w0": "no section 'w0'",
    "rand-tnone": "no section 'tnone'",
    "rand-inc2": "no section 'inc2'",
    "rand-m٣": "no section",
    "rand-m9-m8": "gives m twice",
    "rand-n0": "n must be from 1 to 100",
    "rand-n16-tweights": "n is more than the 15 operations of 'weights'",
    "rand-n15-t3aw": "n is more than the 14 operations of '3aw'",
    "rand-p1.5": "p is a probability",
    "v0-m9": "no section 'm9'; write sections as in 'v0-mstd0.5'",
    "augmix-d0": "d must be from 1",
    "augmix-a0": "a, of the Beta distribution, must be more than 0",
}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_a_policy_here_is_one_for_timm(policy):
    assert DataConfig(auto_augment=policy).auto_augment == policy
    kind = policy.split("-")[0]
    build = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}.get(kind, auto_augment_transform)
    build(policy, {"img_mean": (128,) * 3})


@pytest.mark.parametrize("policy", NO_POLICIES)
def test_what_timm_refuses_or_passes_over_is_refused_in_one_line(policy):
    with pytest.raises(ValueError, match=re.escape(NO_POLICIES[policy])) as caught:
        DataConfig(auto_augment=policy)
    assert "\n" not in one_line(caught.value) and "auto_augment" in one_line(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"crop_scale": (0.5, 1), "crop_padding": 4}, "two crops; set crop_padding to 0, or leave crop_scale out"),
        ({"crop_scale": (1, 0.5)}, r"crop_scale \(1, 0.5\): .* give \(0.5, 1\)"),
        ({"crop_scale": (0.5, 1), "crop_ratio": (2, 1)}, r"crop_ratio \(2, 1\): .* give \(1, 2\)"),
        ({"crop_scale": (0, 1)}, "crop_scale 0: "),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale 1.5: "),
        ({"crop_scale": 0.5}, "crop_scale 0.5: "),
        ({"crop_ratio": (0.5, 2)}, "crop_ratio .* has no meaning without crop_scale"),
        ({"crop_interpolation": "bilinear"}, "crop_interpolation 'bilinear' .* without crop_scale or auto_augment"),
        ({"padding_mode": "reflect"}, "padding_mode 'reflect' has no meaning without crop_padding"),
        ({"erasing_mode": "const"}, "erasing_mode 'const' has no meaning without random_erasing"),
        (
            {"auto_augment": "rand-m9", "color_jitter": 0.3},
            "color_jitter 0.3 has no effect beside auto_augment 'rand-m9'",
        ),
        ({"random_erasing": 1}, "random_erasing 1: "),
        ({"eval_crop": 0}, "eval_crop 0: "),
        ({"repeated_augmentation": 0}, "repeated_augmentation 0: "),
    ],
)
def test_an_augmentation_without_a_meaning_is_refused_in_one_line(fields, words):
    with pytest.raises(ValueError) as caught:
        DataConfig(**fields)
    line = one_line(caught.value)
    assert re.search(words, line) and "\n" not in line, line


def test_jitter_comes_after_3_augment_as_in_timm():
    for policy in ("3a", "rand-t3a", "rand-t3aw"):
        assert DataConfig(auto_augment=policy, color_jitter=0.3).policy_has_jitter


@pytest.mark.parametrize("fields", [{"auto_augment": "3a"}, {"color_jitter": 0.4}])
@pytest.mark.parametrize(("channels", "fits"), [(1, True), (2, False), (3, True), (4, False), (13, False)])
def test_colours_are_changed_in_grey_and_rgb_images_alone(fields, channels, fits):
    def build() -> RunConfig:
        return RunConfig(model=ViTConfig(in_channels=channels), data=DataConfig(**fields))

    if fits:
        build()
        return
    with pytest.raises(ValueError, match=f"{next(iter(fields))} is for grey and RGB images, .* {channels} channels"):
        build()


def test_any_number_of_channels_is_cropped_flipped_erased_and_mixed():
    data = DataConfig(crop_scale=(0.5, 1), flip=True, random_erasing=0.5, mixup=0.2, cutmix=1)
    RunConfig(model=ViTConfig(in_channels=13), data=data)


def test_no_more_is_reflected_than_there_is():
    model = ViTConfig(image_size=(8, 16), patch_size=8)
    RunConfig(model=model, data=DataConfig(crop_padding=7, padding_mode="reflect"))
    with pytest.raises(
        ValueError, match="crop_padding 8 is too much to reflect images of 8 × 16 pixels; use 7 or less"
    ):
        RunConfig(model=model, data=DataConfig(crop_padding=8, padding_mode="reflect"))


def test_a_crop_that_is_named_takes_the_place_of_the_other_kind():
    """What a data set recommends, or a budget sets, need not be taken away by hand."""
    padded = DataConfig(crop_padding=4, padding_mode="reflect", flip=True)
    resized = DataConfig(crop_scale=(0.08, 1.0), crop_ratio=(0.5, 2.0), flip=True)
    assert padded.with_fields(crop_scale=(0.2, 1.0)) == DataConfig(crop_scale=(0.2, 1.0), flip=True)
    assert resized.with_fields(crop_padding=2) == DataConfig(crop_padding=2, flip=True)
    assert padded.with_fields(crop_scale=None) == padded and resized.with_fields(crop_padding=0) == resized
    with pytest.raises(ValueError, match="are two crops"):
        padded.with_fields(crop_scale=(0.2, 1.0), crop_padding=4)


def test_a_crop_that_images_of_few_pixels_lose_takes_its_padding_mode_along():
    data = DataConfig(crop_padding=4, padding_mode="reflect")
    assert data.resampled((32, 32), (16, 16)) == DataConfig(crop_padding=2, padding_mode="reflect")
    assert data.resampled((32, 32), (3, 3)) == DataConfig()
