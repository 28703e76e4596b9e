"""On which changed test images can a run be evaluated, and how strongly is each change made?

Strength 0 would be the plain image. A strength is part of a metric's name, `shift_4/test_top1`; a table with other strengths
gives other metrics, and never other values of the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vitbench.text import did_you_mean

PLAIN = "test_top1"
"""The metric of the test images as they are."""


@dataclass(frozen=True)
class Distortion:
    """One way to change a test image. `strengths` ascend; `unit` follows a strength in words: `4 pixels`."""

    strengths: tuple[float, ...]
    unit: str
    summary: str
    source: str
    """Where it is from, and in what it differs from that."""
    of_patches: bool = False
    """Whether it moves or removes the patches of a ViT, and so has no meaning for other models."""
    moves: bool = False
    """Whether what is in the image may be in another place, or gone."""


DISTORTIONS: dict[str, Distortion] = {
    "shift": Distortion(
        (1, 2, 4, 8),
        "pixels",
        "moved left, right, up or down; what leaves the image comes back on the other side",
        "Chaman and Dokmanic 2021 (circular shifts). At most half of the shorter side",
        moves=True,
    ),
    "rotate": Distortion(
        (10, 20, 30),
        "degrees",
        "turned about its centre, to the left or to the right; corners take the mean colour",
        "Engstrom et al. 2019 (up to 30 degrees), who fill with black",
        moves=True,
    ),
    "noise": Distortion(
        (25, 50, 100),
        "% of a standard deviation",
        "normal noise, in standard deviations of the training images' pixels in each channel",
        "Hendrycks and Dietterich 2019: about severity 2 of CIFAR-10-C to 4 of ImageNet-C. Not clipped",
    ),
    "blur": Distortion(
        (0.5, 1, 2),
        "pixels",
        "Gaussian blur of this standard deviation",
        "Hendrycks and Dietterich 2019: 0.4 to 1 for CIFAR-10-C, 1 to 6 for ImageNet-C",
    ),
    "contrast": Distortion(
        (50, 75, 90),
        "% taken away",
        "every channel drawn towards its mean over the image",
        "Hendrycks and Dietterich 2019: severities 2 and 4 of CIFAR-10-C, 4 of ImageNet-C",
    ),
    "jpeg": Distortion(
        (20, 50, 80),
        "below quality 100",
        "saved as JPEG of quality 80, 50 and 20 and read again",
        "Hendrycks and Dietterich 2019: 80 to 40 for CIFAR-10-C, 25 to 7 for ImageNet-C",
    ),
    "shuffle": Distortion(
        (25, 50, 100),
        "% of patches",
        "so many of the model's patches change places among themselves, and none of these stays",
        "Naseer et al. 2021, section 3.3, who shuffle the cells of a grid; here, the model's own patches",
        of_patches=True,
        moves=True,
    ),
    "drop": Distortion(
        (25, 50, 75),
        "% of patches",
        "so many of the model's patches take the mean colour",
        "Naseer et al. 2021, section 3.1 (random PatchDrop), who fill with black",
        of_patches=True,
        moves=True,
    ),
}
"""By name, in the order of tables."""


def distortion_names(value: Any) -> tuple[str, ...]:
    """Names from a list, or from a text with commas, in the order of `DISTORTIONS`.

    Raises ValueError for an unknown name, and for one that comes twice.
    """
    if not isinstance(value, str | Iterable):
        raise ValueError(f"evaluate {value!r} is no list of names; give some of {', '.join(DISTORTIONS)}")
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else [*value]
    for name in names:
        if name not in DISTORTIONS:
            hint = did_you_mean(str(name), DISTORTIONS, f"there are {', '.join(DISTORTIONS)}")
            raise ValueError(f"evaluate {name!r} is not known; {hint}")
        if names.count(name) > 1:
            raise ValueError(f"evaluate {name!r} is given twice; give it once")
    return tuple(name for name in DISTORTIONS if name in names)


def strengths_on(name: str, image_hw: tuple[int, int]) -> tuple[float, ...]:
    """The strengths that have a meaning on images of (height, width), ascending.

    A circular shift by more than half of a side is a smaller one the other way.
    """
    strengths = DISTORTIONS[name].strengths
    return tuple(s for s in strengths if s <= min(image_hw) / 2) if name == "shift" else strengths


def label(name: str, strength: float) -> str:
    """`shift_4`: what its metrics' names begin with."""
    return f"{name}_{strength:g}"


def distorted_metric(name: str, strength: float, metric: str = PLAIN) -> str:
    """`shift_4/test_top1`."""
    return f"{label(name, strength)}/{metric}"


def distorted_accuracies(metrics: Mapping[str, float]) -> dict[str, dict[float, float]]:
    """Top-1 accuracies of a run by distortion and strength, ascending, from its metrics by name."""
    accuracies = {
        name: {
            strength: metrics[metric]
            for strength in distortion.strengths
            if (metric := distorted_metric(name, strength)) in metrics
        }
        for name, distortion in DISTORTIONS.items()
    }
    return {name: by_strength for name, by_strength in accuracies.items() if by_strength}


def strength_text(name: str, strength: float) -> str:
    """`4 pixels`, `quality 80`."""
    return f"quality {100 - strength:g}" if name == "jpeg" else f"{strength:g} {DISTORTIONS[name].unit}"


def distortion_objections(
    names: Iterable[str], *, image_hw: tuple[int, int], channels: int, patches: int | None
) -> Iterator[str]:
    """Why some of the distortions have no meaning for a model, in lines with the remedy.

    `patches`: how many a ViT has; None for a model that is no ViT.
    """
    for name in names:
        if name == "jpeg" and channels not in (1, 3):
            yield (
                f"evaluate 'jpeg' is for grey and RGB images, and these have {channels} channels; leave it out "
                "(all others are for any)"
            )
        if not strengths_on(name, image_hw):
            yield f"evaluate {name!r} has no meaning on images of one pixel a side; leave it out"
        if DISTORTIONS[name].of_patches and patches is None:
            yield f"evaluate {name!r} changes the patches of a ViT, and this model is another; leave it out"
        if DISTORTIONS[name].of_patches and patches == 1:
            yield f"evaluate {name!r} needs several patches, and the model has one; leave it out, or make patches smaller"
