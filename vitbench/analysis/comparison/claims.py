"""What does the literature say about the questions of the shipped studies, and do our records agree?

Published numbers are from other data at other scale, so what is compared is the direction: a claim names an arm, or two
levels that interact, and what it expects of the difference from the study's baseline.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from vitbench.analysis.comparison.wording import difference_text, points, verdict_text
from vitbench.analysis.statistics.interactions import Cell
from vitbench.analysis.statistics.verdicts import Decision, Verdict
from vitbench.text import counted

Expectation = Literal["better", "worse", "equivalent", "not better"]

# The names of arms in vitbench/studies, once.
GAP = "gap"
NO_POSITION = "none"
SINCOS = "sincos, stem"
ROPE = "RoPE, every layer"
CONV_STEM = "conv stem, equal MACs"
RESNET_STEM = "ResNet stem, equal MACs"
REGISTERS = "4 registers"
TABLE_8 = {
    NO_POSITION: 0.61382,
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
SMALLER_PATCH, LARGER_PATCH = "the next smaller patch", "the next larger patch"
"""Stand for arms named `4 px`: which there are depends on the variant."""
LARGER_IMAGE = "RoPE on the next larger images"
"""Stands for the arm named `RoPE, 48 px` where the baseline has 32: weights as they are."""
FEWEST_IMAGES = "ResNet (BiT) on the fewest images"
"""Stands for the arm named `ResNet (BiT), 1 %` of the smallest share that was run."""


@dataclass(frozen=True)
class Claim:
    """One statement of the literature on one study."""

    text: str
    source: str
    paper: str
    """The published numbers, with what they are of."""
    study: str
    subject: str | Cell
    """An arm, or a level of each factor of a factorial study, whose interaction is meant."""
    expected: Expectation
    """Of the arm against the baseline; of an interaction, against none: `worse` is below 0."""
    at: Literal["own setting", "baseline's setting"] = "own setting"
    """Whether the arm is to be taken as tuned for itself, or at the learning rate chosen for the baseline."""
    not_comparable: str = ""
    """Why no study here can tell, where none can."""


class Judgement(StrEnum):
    AGREES = "agrees"
    DISAGREES = "disagrees"
    OPEN = "open"
    NOT_COMPARABLE = "not comparable"


def judge(claim: Claim, decision: Decision | None) -> Judgement:
    """Whether the verdict on a claim's subject is what the claim expects. The first case that applies, of:

    1. not comparable: the claim says why no study here can tell, or its subject was not run (None).
    2. open: the verdict claims nothing; or another learning rate, beyond the grid, could turn it.
    3. agrees: equivalence is expected and was shown within the margin, significant or not; or better or worse is
       expected and the verdict is that, however small; or 'not better' is expected and the verdict is worse, or
       equivalence was shown within the margin, significant or not.
    4. disagrees: all else. A significant difference not shown within the margin contradicts 'equivalent', one for the
       better 'not better'; equivalence and the opposite sign contradict 'better' and 'worse'.
    """
    if claim.not_comparable or decision is None:
        return Judgement.NOT_COMPARABLE
    if not decision.verdict.is_settled or decision.caveats.edge_may_turn(decision.verdict):
        return Judgement.OPEN
    agrees = {
        "better": decision.verdict is Verdict.BETTER,
        "worse": decision.verdict is Verdict.WORSE,
        "equivalent": decision.within_margin,
        "not better": decision.within_margin or decision.verdict is Verdict.WORSE,
    }[claim.expected]
    return Judgement.AGREES if agrees else Judgement.DISAGREES


class ClaimRow(NamedTuple):
    """A line of the table `claim | paper | here | verdict`."""

    claim: str
    paper: str
    here: str
    verdict: Judgement


def claim_rows(
    claims: Iterable[Claim],
    decisions: Mapping[str | Cell, Decision],
    *,
    at_baseline_rate: Mapping[str | Cell, Decision] | None = None,
    baseline: str = "",
) -> list[ClaimRow]:
    """The claims beside what a study found. `decisions` by arm, or by levels for interactions; both may be in one.

    `at_baseline_rate`: decisions on arms at what was chosen for the baseline; `baseline`: its arm's name, by
    which the next smaller and larger patches are found.
    """
    rows = []
    for claim in claims:
        there = decisions if claim.at == "own setting" else at_baseline_rate or {}
        arms = [subject for subject in there if isinstance(subject, str)]
        decision = there.get(_subject(claim, arms, baseline))
        rows.append(
            ClaimRow(claim.text, f"{claim.paper} ({claim.source})", _here(claim, decision), judge(claim, decision))
        )
    return rows


def claims_of(study: str) -> list[Claim]:
    """The claims about a study, by its name; none for a study that nobody wrote about."""
    return [claim for claim in CLAIMS if claim.study == study]


def _here(claim: Claim, decision: Decision | None) -> str:
    if claim.not_comparable:
        return claim.not_comparable
    if decision is None:
        return "not run"
    if decision.difference is None:
        return "no seed in common with the baseline"
    verdict = verdict_text(decision, edges=decision.caveats.edge_may_turn(decision.verdict))
    return f"{difference_text(decision)} points, {counted(decision.difference.n, 'seed')}: {verdict}"


def _subject(claim: Claim, arms: Sequence[str], baseline: str) -> str | Cell:
    """The claim's subject; what is named relative to the baseline, or as the least of several, found among the arms."""
    if claim.subject == FEWEST_IMAGES:
        shares = _numbers(arms, prefix="ResNet (BiT), ", unit="%")
        return shares[min(shares)] if shares else ""
    if claim.subject not in (SMALLER_PATCH, LARGER_PATCH, LARGER_IMAGE):
        return claim.subject
    on_images = claim.subject == LARGER_IMAGE
    sizes = _numbers(arms, prefix="RoPE, " if on_images else "", unit="px")
    own = next(iter(_numbers([baseline], prefix="1-D, " if on_images else "", unit="px")), None)
    if own is None:
        return ""
    smaller, larger = ([size for size in sizes if size < own], [size for size in sizes if size > own])
    if claim.subject == SMALLER_PATCH:
        return sizes[max(smaller)] if smaller else ""
    return sizes[min(larger)] if larger else ""


def _numbers(arms: Iterable[str], *, prefix: str, unit: str) -> dict[float, str]:
    """4 → `4 px` of the arms that are a prefix, a number and a unit; 4 × 8 px are no number."""
    named = re.compile(re.escape(prefix) + r"(\d+(?:\.\d+)?) " + re.escape(unit))
    return {float(match[1]): arm for arm in arms if (match := named.fullmatch(arm))}


def _like_table_8(arm: str) -> Claim:
    """The kinds and places of position embeddings, each against 1-D at the stem."""
    accuracy = TABLE_8[arm]
    costs = arm == NO_POSITION
    return Claim(
        text="Without position embedding accuracy is lost"
        if costs
        else f"Position '{arm}' does as well as 1-D at the stem",
        source="Dosovitskiy et al. 2021, Table 8",
        paper=f"{points(accuracy - TABLE_8_BASELINE)} points: {accuracy} against {TABLE_8_BASELINE}, ImageNet 5-shot, "
        "single runs" + (", relative in the stem's column" if arm.startswith("relative") else ""),
        study="position",
        subject=arm,
        expected="worse" if costs else "equivalent",
    )


_FIGURE_9 = "Dosovitskiy et al. 2021, appendix D.3 and Figure 9"
_PLAIN = "Beyer et al. 2022, arXiv 2205.01580"

CLAIMS = (
    Claim(
        text="At the class token's learning rate, averaging the patch tokens does worse",
        source=_FIGURE_9,
        paper="curves only: at 8e-4, the class token's rate, averaging falls behind",
        study="pooling",
        subject=GAP,
        expected="worse",
        at="baseline's setting",
    ),
    Claim(
        text="At a learning rate of its own, averaging the patch tokens does as well as a class token",
        source=_FIGURE_9,
        paper="curves only: at 3e-4 it keeps up; the gap was 'fully explained by the requirement for a different "
        "learning-rate'",
        study="pooling",
        subject=GAP,
        expected="equivalent",
    ),
    Claim(
        text="Averaging the patch tokens does better than a class token",
        source=_PLAIN,
        paper="+1.5, +1.6, +1.8 points: 76.5, 78.5, 80.0 against 75.0, 76.9, 78.2, S/16, ImageNet, 90, 150, 300 epochs",
        study="pooling",
        subject=GAP,
        expected="better",
    ),
    *map(_like_table_8, TABLE_8),
    Claim(
        text="Fixed sine–cosine positions do better than learned ones",
        source=_PLAIN,
        paper="+1.5, +0.5, +0.4 points: 76.5, 78.5, 80.0 against 75.0, 78.0, 79.6, S/16, ImageNet, 90, 150, 300 epochs",
        study="position",
        subject=SINCOS,
        expected="better",
    ),
    Claim(
        text="Fixed sine–cosine positions do as well as learned ones, once crops are alike",
        source=f"an independent reproduction of {_PLAIN}",
        paper="+0.3 points: 76.5 against 76.2, S/16, ImageNet, 90 epochs, ±0.2 between runs",
        study="position",
        subject=SINCOS,
        expected="equivalent",
    ),
    Claim(
        text="At the resolution of training, rotary positions do as well as absolute ones",
        source="Heo et al. 2024, RoPE-ViT",
        paper="+0.2 points: 83.6 (axial) against 83.4, DeiT-III-B, ImageNet, 224 px",
        study="position",
        subject=ROPE,
        expected="equivalent",
    ),
    Claim(
        text="At a higher resolution than that of training, rotary positions do better than absolute ones",
        source="Heo et al. 2024, RoPE-ViT",
        paper="+1.1 points: 83.9 (axial) against 82.8, DeiT-III-B, ImageNet, trained at 224 and tested at 384 px",
        study="resolution",
        subject=LARGER_IMAGE,
        expected="better",
    ),
    Claim(
        text="On few images a ResNet does better than a ViT",
        source="Dosovitskiy et al. 2021, Figures 3 and 4",
        paper="curves only: 'ResNets perform better with smaller pre-training datasets', from 9 M images on",
        study="data_size",
        subject=FEWEST_IMAGES,
        expected="better",
    ),
    Claim(
        text="Larger patches do worse",
        source="Dosovitskiy et al. 2021, Table 5",
        paper="−4.5 and −5.4 points: B/32 73.38 against B/16 77.91, L/32 71.16 against L/16 76.53, ImageNet alone, "
        "384 px",
        study="patch_size",
        subject=LARGER_PATCH,
        expected="worse",
    ),
    Claim(
        text="Smaller patches do better",
        source="Dosovitskiy et al. 2021, Table 5",
        paper="+4.5 and +5.4 points: B/16 77.91 against B/32 73.38, L/16 76.53 against L/32 71.16, ImageNet alone, "
        "384 px; the numbers of 'larger patches', the other way round",
        study="patch_size",
        subject=SMALLER_PATCH,
        expected="better",
    ),
    Claim(
        text="At equal compute, a convolutional stem does better than patches of pixels",
        source="Xiao et al. 2021, 'Early convolutions'",
        paper="+4.6, +3.6, +3.0 points: top-1 error 28.6, 26.1, 24.7 against 33.2, 29.7, 27.7, ImageNet, 1 GF, 100, "
        "200, 400 epochs",
        study="hybrid",
        subject=CONV_STEM,
        expected="better",
    ),
    Claim(
        text="A ResNet stem does better than patches of pixels in a small model, at about equal compute",
        source="Dosovitskiy et al. 2021, Table 6",
        paper="+0.75 points at half the compute: R50+B/32 84.90 with 106 exaFLOPs against B/16 84.15 with 224, JFT",
        study="hybrid",
        subject=RESNET_STEM,
        expected="better",
    ),
    Claim(
        text="In a large model, a ResNet stem gains little",
        source="Dosovitskiy et al. 2021, Table 6",
        paper="+0.30 points for more compute: R50+L/16 86.60 with 859 exaFLOPs against L/16 86.30 with 783, JFT",
        study="hybrid",
        subject=RESNET_STEM,
        expected="equivalent",
        not_comparable="models of one small size only",
    ),
    Claim(
        text="Registers bring a small model no accuracy",
        source="Darcet et al. 2024, 'Registers'",
        paper="no gain for small models",
        study="registers",
        subject=REGISTERS,
        expected="not better",
    ),
    Claim(
        text="Registers remove artefacts from a large model's attention",
        source="Darcet et al. 2024, 'Registers'",
        paper="artefacts of large models disappear with 4 registers",
        study="registers",
        subject=REGISTERS,
        expected="better",
        not_comparable="small models, of which accuracy alone is compared",
    ),
    Claim(
        text="Position embeddings at every layer conflict with averaging the patch tokens",
        source="Lee et al. 2025, arXiv 2502.02919",
        paper="either helps alone, together they lose; there every layer has a norm for its position embedding, here none",
        study="position_pooling",
        subject=("1-D, every layer", GAP),
        expected="worse",
    ),
)
"""Numbers are those of the sources; none is ours."""
