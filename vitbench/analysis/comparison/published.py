"""What does the literature say about the questions of the shipped studies? Plain data, with the numbers of the sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.analysis.comparison.wording import points
from vitbench.analysis.statistics.interactions import Cell


@dataclass(frozen=True)
class BySize:
    """Stands for one of the arms with a number in their names, where which numbers there are depends on variant and data."""

    which: Literal["smallest", "next smaller", "next larger"]
    name: str
    """With `#` for the number: `RoPE, # px`."""
    baseline: str = ""
    """Likewise, the name of the baseline, whose number the next is next to."""


@dataclass(frozen=True)
class Claim:
    """One statement of the literature on one study."""

    text: str
    source: str
    paper: str
    """The published numbers, with what they are of."""
    study: str
    subject: str | BySize | Cell
    """An arm, or a level of each factor of a factorial study, whose interaction is meant."""
    expected: Literal["better", "worse", "equivalent", "not better"]
    """Of the arm against the baseline; of an interaction, against none: `worse` is below 0."""
    at: Literal["own setting", "baseline's setting"] = "own setting"
    """Whether the arm is to be taken as tuned for itself, or at the learning rate chosen for the baseline."""
    not_comparable: str = ""
    """Why no study here can tell, where none can."""


TABLE_8 = {
    "none": 0.61382,
    "1-D, every layer": 0.63964,
    "1-D, every layer, shared": 0.64292,
    "2-D, stem": 0.64001,
    "2-D, every layer": 0.64046,
    "2-D, every layer, shared": 0.64022,
    "relative, every layer": 0.64032,
}
"""Dosovitskiy et al. 2021: ViT-B/16, ImageNet 5-shot linear accuracy, single values."""
TABLE_8_BASELINE = 0.64206
"""1-D, stem."""


def _like_table_8(arm: str) -> Claim:
    """On a kind and place of position embedding, against 1-D at the stem."""
    accuracy = TABLE_8[arm]
    is_worse = arm == "none"
    return Claim(
        text="Without position embedding accuracy is lost"
        if is_worse
        else f"Position '{arm}' does as well as 1-D at the stem",
        source="Dosovitskiy et al. 2021, Table 8",
        paper=f"{points(accuracy - TABLE_8_BASELINE)} points: {accuracy} against {TABLE_8_BASELINE}, ImageNet 5-shot, "
        "single runs" + (", relative in the stem's column" if arm.startswith("relative") else ""),
        study="position",
        subject=arm,
        expected="worse" if is_worse else "equivalent",
    )


_FIGURE_9 = "Dosovitskiy et al. 2021, appendix D.3 and Figure 9"
_PLAIN = "Beyer et al. 2022, arXiv 2205.01580"

CLAIMS = (
    Claim(
        text="At the class token's learning rate, averaging the patch tokens does worse",
        source=_FIGURE_9,
        paper="curves only: at 8e-4, the class token's rate, averaging falls behind",
        study="pooling",
        subject="gap",
        expected="worse",
        at="baseline's setting",
    ),
    Claim(
        text="At a learning rate of its own, averaging the patch tokens does as well as a class token",
        source=_FIGURE_9,
        paper="curves only: at 3e-4 it keeps up; the gap was 'fully explained by the requirement for a different "
        "learning-rate'",
        study="pooling",
        subject="gap",
        expected="equivalent",
    ),
    Claim(
        text="Averaging the patch tokens does better than a class token",
        source=_PLAIN,
        paper="+1.5, +1.6, +1.8 points: 76.5, 78.5, 80.0 against 75.0, 76.9, 78.2, S/16, ImageNet, 90, 150, 300 epochs",
        study="pooling",
        subject="gap",
        expected="better",
    ),
    *map(_like_table_8, TABLE_8),
    Claim(
        text="Fixed sine–cosine positions do better than learned ones",
        source=_PLAIN,
        paper="+1.5, +0.5, +0.4 points: 76.5, 78.5, 80.0 against 75.0, 78.0, 79.6, S/16, ImageNet, 90, 150, 300 epochs",
        study="position",
        subject="sincos, stem",
        expected="better",
    ),
    Claim(
        text="Fixed sine–cosine positions do as well as learned ones, once crops are alike",
        source=f"an independent reproduction of {_PLAIN}",
        paper="+0.3 points: 76.5 against 76.2, S/16, ImageNet, 90 epochs, ±0.2 between runs",
        study="position",
        subject="sincos, stem",
        expected="equivalent",
    ),
    Claim(
        text="At the resolution of training, rotary positions do as well as absolute ones",
        source="Heo et al. 2024, RoPE-ViT",
        paper="+0.2 points: 83.6 (axial) against 83.4, DeiT-III-B, ImageNet, 224 px",
        study="position",
        subject="RoPE, every layer",
        expected="equivalent",
    ),
    Claim(
        text="At a higher resolution than that of training, rotary positions do better than absolute ones",
        source="Heo et al. 2024, RoPE-ViT",
        paper="+1.1 points: 83.9 (axial) against 82.8, DeiT-III-B, ImageNet, trained at 224 and tested at 384 px",
        study="resolution",
        subject=BySize("next larger", "RoPE, # px", "1-D, # px"),
        expected="better",
    ),
    Claim(
        text="On few images a ResNet does better than a ViT",
        source="Dosovitskiy et al. 2021, Figures 3 and 4",
        paper="curves only: 'ResNets perform better with smaller pre-training datasets', from 9 M images on",
        study="data_size",
        subject=BySize("smallest", "ResNet (BiT), # %"),
        expected="better",
    ),
    Claim(
        text="Larger patches do worse",
        source="Dosovitskiy et al. 2021, Table 5",
        paper="−4.5 and −5.4 points: B/32 73.38 against B/16 77.91, L/32 71.16 against L/16 76.53, ImageNet alone, "
        "384 px",
        study="patch_size",
        subject=BySize("next larger", "# px", "# px"),
        expected="worse",
    ),
    Claim(
        text="Smaller patches do better",
        source="Dosovitskiy et al. 2021, Table 5",
        paper="+4.5 and +5.4 points: B/16 77.91 against B/32 73.38, L/16 76.53 against L/32 71.16, ImageNet alone, "
        "384 px; the numbers of 'larger patches', the other way round",
        study="patch_size",
        subject=BySize("next smaller", "# px", "# px"),
        expected="better",
    ),
    Claim(
        text="At equal compute, a convolutional stem does better than patches of pixels",
        source="Xiao et al. 2021, 'Early convolutions'",
        paper="+4.6, +3.6, +3.0 points: top-1 error 28.6, 26.1, 24.7 against 33.2, 29.7, 27.7, ImageNet, 1 GF, 100, "
        "200, 400 epochs",
        study="hybrid",
        subject="conv stem, equal MACs",
        expected="better",
    ),
    Claim(
        text="A ResNet stem does better than patches of pixels in a small model, at about equal compute",
        source="Dosovitskiy et al. 2021, Table 6",
        paper="+0.75 points at half the compute: R50+B/32 84.90 with 106 exaFLOPs against B/16 84.15 with 224, JFT",
        study="hybrid",
        subject="ResNet stem, equal MACs",
        expected="better",
    ),
    Claim(
        text="In a large model, a ResNet stem gains little",
        source="Dosovitskiy et al. 2021, Table 6",
        paper="+0.30 points for more compute: R50+L/16 86.60 with 859 exaFLOPs against L/16 86.30 with 783, JFT",
        study="hybrid",
        subject="ResNet stem, equal MACs",
        expected="equivalent",
        not_comparable="models of one small size only",
    ),
    Claim(
        text="Registers bring a small model no accuracy",
        source="Darcet et al. 2024, 'Registers'",
        paper="no gain for small models",
        study="registers",
        subject="4 registers",
        expected="not better",
    ),
    Claim(
        text="Registers remove artefacts from a large model's attention",
        source="Darcet et al. 2024, 'Registers'",
        paper="artefacts of large models disappear with 4 registers",
        study="registers",
        subject="4 registers",
        expected="better",
        not_comparable="small models, of which accuracy alone is compared",
    ),
    Claim(
        text="Position embeddings at every layer conflict with averaging the patch tokens",
        source="Lee et al. 2025, arXiv 2502.02919",
        paper="either helps alone, together they lose; there every layer has a norm for its position embedding, here none",
        study="position_pooling",
        subject=("1-D, every layer", "gap"),
        expected="worse",
    ),
)
