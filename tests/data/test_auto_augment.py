"""Are policies drawn as timm draws them, and done to images as timm does it with Pillow?"""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as timm_policies

import vitbench.data.auto_augment as module
from tests.data.pillow import IMAGES, as_image, images_of_all_kinds
from vitbench.data.auto_augment import Layer, apply_layers, policy, policy_layers, rand_layers

MEAN = (0.4, 0.5, 0.6)
FILL = (102, 128, 153)
SETTINGS = {"img_mean": FILL, "interpolation": Image.Resampling.BICUBIC}
RAND = (
    "rand-m9-mstd0.5-inc1",
    "rand-m15-mmax20-n3-p0.7",
    "rand-m7-mstd101",
    "rand-m8-n4-tweights",
    "rand-m9-n3-t3aw",
    "rand-m5-n1-mstd3",
)
AUTO = ("original", "originalr-mstd0.5", "v0", "v0r-mstd1", "3a")
AUGMIX = ("augmix-m4", "augmix-m5-w2-d2-mstd0.5", "augmix-m3-a0.7-b1")
NUMBER = 6000


def timm_transform(text, settings=SETTINGS):
    kind = text.split("-")[0]
    if kind == "augmix":
        settings = {**settings, "translate_pct": 0.3}
    build = {"rand": timm_policies.rand_augment_transform, "augmix": timm_policies.augment_and_mix_transform}
    return build.get(kind, timm_policies.auto_augment_transform)(text, dict(settings))


def layers_of(text: str, batch: int, settings=SETTINGS, seed: int = 0) -> list[Layer]:
    draw = rand_layers if text.startswith("rand") else policy_layers
    return draw(timm_transform(text, settings), batch, seed, 0)


def drawn_by_timm(text: str, settings=SETTINGS) -> list[list[tuple[str, float, int]]]:
    """What timm would do to each of NUMBER images: (function, argument, resampling), in order."""
    transform = timm_transform(text, settings)
    operations = transform.ops if text.startswith("rand") else chain(*transform.policy)

    def recorder(name):
        def record(done, argument=0.0, *, resample, fillcolor):
            assert fillcolor == FILL
            if isinstance(resample, tuple):
                resample = random.choice(resample)
            if name == "desaturate":
                return [*done, ("color", min(1, max(0, 1 - argument)), resample)]
            if name == "gaussian_blur_rand":
                return [*done, ("gaussian_blur", random.uniform(0.1, 2.0 * argument), resample)]
            return [*done, (name, argument, resample)]

        return record

    for operation in operations:
        operation.aug_fn = recorder(operation.aug_fn.__name__)
    random.seed(1)
    np.random.seed(1)
    return [transform([]) for _ in range(NUMBER)]


@pytest.mark.against("timm", "operations and magnitudes that policies draw: chi-square and KS tests", "p > 0.0005")
@pytest.mark.parametrize("text", [*RAND, *AUTO])
def test_operations_and_magnitudes_are_distributed_as_timms(text):
    ours, theirs = layers_of(text, NUMBER), drawn_by_timm(text)
    sequences = [
        Counter(" ".join(filter(None, names)) for names in zip(*(layer.names for layer in ours), strict=True)),
        Counter(" ".join(name for name, *_ in done) for done in theirs),
    ]
    frequent = [key for key in set().union(*sequences) if sum(counts[key] for counts in sequences) > 40]
    table = [[counts[key] for key in frequent] for counts in sequences]
    for row, counts in zip(table, sequences, strict=True):
        row.append(NUMBER - sum(counts[key] for key in frequent) + 1)
    assert stats.chi2_contingency(table).pvalue > 0.0005
    for name in {name for done in theirs for name, *_ in done}:
        arguments = np.concatenate([layer.arguments[layer.names == name] for layer in ours])
        expected = [argument for done in theirs for other, argument, _ in done if other == name]
        assert stats.ks_2samp(arguments, expected).pvalue > 0.0005, name


def test_interpolation_is_the_one_asked_for_or_drawn_for_each():
    def shares(settings: dict) -> list[float]:
        return [layer.bicubic[layer.names != ""].mean() for layer in layers_of("rand", 2000, settings)]

    assert shares(SETTINGS) == [1, 1]
    assert shares({**SETTINGS, "interpolation": Image.Resampling.BILINEAR}) == [0, 0]
    assert all(0.45 < share < 0.55 for share in shares({"img_mean": FILL}))


@pytest.mark.against("Pillow", "images after all operations of a policy, done one by one by timm", "exact")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("text", [*RAND, *AUTO])
def test_images_are_those_that_timms_operations_give_one_by_one(text, channels):
    images = torch.cat([images_of_all_kinds((channels, 20, 13))] * 4)
    before, fill = images.clone(), FILL[:channels]
    layers = layers_of(text, 4 * IMAGES, {"img_mean": fill})
    result = apply_layers(images, layers, fill)
    assert torch.equal(images, before)
    for i in range(len(images)):
        expected = as_image(images[i])
        for layer in layers:
            name, argument = layer.names[i], float(layer.arguments[i])
            if name == "posterize" and argument < 1:
                expected = expected.point([0] * 256 * channels)  # Pillow 13 refuses to keep no bits
            elif name:
                function = getattr(timm_policies, name)
                whole = name in ("solarize", "solarize_add", "posterize")
                has_none = name in ("invert", "equalize", "auto_contrast")
                values = () if has_none else (int(argument) if whole else argument,)
                resample = Image.Resampling.BICUBIC if layer.bicubic[i] else Image.Resampling.BILINEAR
                expected = function(expected, *values, fillcolor=fill, resample=resample)
        pixels = np.asarray(expected).reshape(20, 13, channels).transpose(2, 0, 1)
        assert np.array_equal(result[i].numpy(), pixels), (i, [layer.names[i] for layer in layers])


@pytest.mark.against("timm", "images that AugMix gives, by KS tests of means, spreads and changes", "p > 0.0005")
@pytest.mark.parametrize("text", AUGMIX)
def test_augmix_gives_images_like_timms(text):
    image = images_of_all_kinds((3, 12, 10))[5:6]
    number = 500
    ours = policy(text, MEAN, "bicubic")(image.expand(number, -1, -1, -1), 0, 0).numpy()
    transform = timm_transform(text)
    random.seed(2)
    np.random.seed(2)
    theirs = np.stack([np.asarray(transform(as_image(image[0]))).transpose(2, 0, 1) for _ in range(number)])
    for feature in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: np.abs(x - image.numpy().astype(float)).mean((1, 2, 3)),
        lambda x: x[:, 1, 6, 5],
    ):
        assert stats.ks_2samp(feature(ours.astype(float)), feature(theirs.astype(float))).pvalue > 0.0005


def test_augmix_translates_by_at_most_three_tenths_of_the_side():
    """As in timm's transforms: elsewhere 0.45."""
    operations = policy("augmix-m10", MEAN, "bicubic").args[0].ops
    shares = {op.hparams["translate_pct"] for op in operations if "translate" in op.aug_fn.__name__}
    assert shares == {0.3}


def test_chains_of_augmix_are_one_to_three_operations_long(monkeypatch):
    """Hendrycks et al. 2020, section 3: each chain of one to three operations."""
    lengths = []

    def record(images, layers, fill):
        lengths.extend(sum((layer.names != "").astype(int) for layer in layers))
        return apply_layers(images, layers, fill)

    monkeypatch.setattr(module, "apply_layers", record)
    policy("augmix-m4", MEAN, "bicubic")(torch.zeros(64, 3, 4, 4, dtype=torch.uint8), 0, 0)
    assert len(lengths) == 3 * 64 and set(lengths) == {1, 2, 3}


def test_signs_of_levels_are_drawn_anew_in_every_step():
    transform = timm_transform("rand-m9-n1-p1")
    transform.ops = [operation for operation in transform.ops if operation.aug_fn.__name__ == "rotate"]
    first, second = (np.sign(rand_layers(transform, 64, 0, step)[0].arguments) for step in (0, 1))
    assert set(first) == {-1, 1} and not np.array_equal(first, second)


def test_what_lies_outside_gets_the_mean_colour_as_in_timm():
    white = torch.full((64, 3, 16, 16), 255, dtype=torch.uint8)
    layer = Layer(np.array(["translate_x_rel"] * 64), np.full(64, 0.25), np.zeros(64, dtype=bool))
    moved = policy("rand-n1-p1-m10", MEAN, "bicubic")(white, 0, 0)
    assert apply_layers(white, [layer], FILL)[0, :, 0, -1].tolist() == list(FILL)
    colours = {tuple(colour) for colour in moved.permute(0, 2, 3, 1).reshape(-1, 3).tolist()}
    assert FILL in colours


@pytest.mark.parametrize("text", [*RAND[:2], *AUTO[:2], *AUGMIX])
def test_draws_are_of_seed_and_step_and_leave_global_generators_alone(text):
    images, change = images_of_all_kinds((3, 9, 7)), policy(text, MEAN, "random")
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    first = change(images, 1, 2)
    assert (random.random(), np.random.rand()) == expected
    assert torch.equal(first, change(images, 1, 2))
    assert not any(torch.equal(first, change(images, *key)) for key in ((1, 3), (2, 2), (2, 1)))
