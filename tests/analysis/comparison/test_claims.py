"""Is each claim judged by the rule, and does it name what the studies have?"""

from __future__ import annotations

import re

import pytest

from vitbench.analysis.comparison.claims import Judgement, claim_rows, claims_of, judge
from vitbench.analysis.comparison.published import CLAIMS, TABLE_8, TABLE_8_BASELINE, Claim
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.verdicts import Decision, Verdict, decide
from vitbench.config import ViTConfig
from vitbench.studies.library import load_study
from vitbench.variants import variant

BASE = ViTConfig(image_size=32, patch_size=4, width=96, depth=6, num_heads=3, num_classes=10)


def claim(expected="better", **fields):
    return Claim(
        **{"text": "", "source": "", "paper": "", "study": "", "subject": "gap", "expected": expected} | fields
    )


def decision(verdict, *, within_margin=False):
    return Decision(verdict, None, 0.005, within_margin=within_margin or verdict is Verdict.EQUIVALENT)


BETTER, WORSE, EQUIVALENT = Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("expected", "verdict", "judgement"),
    [
        ("better", BETTER, "agrees"),
        ("better", WORSE, "disagrees"),
        ("better", EQUIVALENT, "disagrees"),
        ("worse", WORSE, "agrees"),
        ("worse", BETTER, "disagrees"),
        ("equivalent", EQUIVALENT, "agrees"),
        ("equivalent", BETTER, "disagrees"),
        ("equivalent", WORSE, "disagrees"),
        ("not better", WORSE, "agrees"),
        ("not better", EQUIVALENT, "agrees"),
        ("not better", BETTER, "disagrees"),
        *(
            (expected, verdict, "open")
            for expected in ("better", "worse", "equivalent", "not better")
            for verdict in (Verdict.OPEN, Verdict.NONE, Verdict.AT_CEILING, Verdict.AT_FLOOR)
        ),
    ],
)
def test_each_expectation_against_each_verdict(expected, verdict, judgement):
    assert judge(claim(expected), decision(verdict)) == judgement


def test_a_significant_difference_within_the_margin_agrees_with_its_sign_and_with_equivalence():
    small = decision(BETTER, within_margin=True)
    judged = {expected: judge(claim(expected), small) for expected in ("better", "equivalent", "worse", "not better")}
    assert judged == {"better": "agrees", "equivalent": "agrees", "worse": "disagrees", "not better": "agrees"}


def test_registers_that_cost_accuracy_do_not_contradict_that_they_bring_none():
    (one,) = [one for one in claims_of("registers") if not one.not_comparable]
    for points, judgement in (((-3.0, -3.2, -2.8), "agrees"), ((3.0, 3.2, 2.8), "disagrees")):
        (row,) = claim_rows([one], differences(**{one.subject: points}))
        assert row.judgement == judgement


def test_what_was_not_run_or_cannot_be_run_here_is_not_comparable():
    assert judge(claim(), None) is Judgement.NOT_COMPARABLE
    assert judge(claim(not_comparable="one size only"), decision(BETTER)) is Judgement.NOT_COMPARABLE


def differences(**arms):
    return decide(
        {name: PairedDifference({seed: p / 100 for seed, p in enumerate(values)}) for name, values in arms.items()}
    )


def test_a_row_has_the_claim_the_papers_number_ours_and_whether_they_agree():
    one = claim("better", text="GAP is better", source="Somebody 2021", paper="+1.5 points")
    (row,) = claim_rows([one], differences(gap=(3.0, 3.2, 2.8)))
    assert row == (
        "GAP is better",
        "+1.5 points (Somebody 2021)",
        "+3.00 [+2.50, +3.50] points, 3 seeds: better",
        "agrees",
    )
    (row,) = claim_rows([one], {})
    assert (row.ours, row.judgement) == ("not run", "not comparable")
    (row,) = claim_rows([one], decide({"gap": None}))
    assert (row.ours, row.judgement) == ("no seed in common with the baseline", "open")
    (row,) = claim_rows([claim(not_comparable="one size only")], differences(gap=(3.0, 3.2, 2.8)))
    assert (row.ours, row.judgement) == ("one size only", "not comparable")


def test_a_claim_about_the_baselines_rate_looks_there_and_nowhere_else():
    own, other = differences(gap=(0.1, -0.1, 0.0)), differences(gap=(-3.0, -3.2, -2.8))
    at_baselines = claim("worse", at="baseline's setting")
    assert claim_rows([at_baselines], own)[0].judgement == "not comparable"
    assert claim_rows([at_baselines], own, at_baseline_setting=other)[0].judgement == "agrees"


@pytest.mark.parametrize(
    ("baseline", "smaller", "larger"), [("4 px", "2 px", "7 px"), ("2 px", None, "4 px"), ("14 px", "7 px", None)]
)
def test_the_next_patch_is_found_by_the_baselines_size(baseline, smaller, larger):
    sizes = [2, 4, 7, 14]
    found = differences(**{f"{size} px": (size, size + 0.1, size - 0.1) for size in sizes if f"{size} px" != baseline})
    rows = claim_rows(claims_of("patch_size"), found, baseline=baseline)
    for row, expected in zip(rows, (larger, smaller), strict=True):
        size = f"+{int(expected.split()[0]):.2f} " if expected else "not run"
        assert row.ours.startswith(size)


def test_without_a_baseline_of_square_patches_no_patch_is_the_next():
    found = differences(**{"2 px": (2, 2.1, 1.9), "8 px": (8, 8.1, 7.9)})
    for baseline in ("", "4 × 8 px"):
        assert {row.ours for row in claim_rows(claims_of("patch_size"), found, baseline=baseline)} == {"not run"}


def test_rotary_positions_are_judged_on_the_next_larger_images_as_they_are():
    arms = ("RoPE, 24 px", "RoPE, 48 px", "RoPE, 64 px", "RoPE, 48 px, fine-tuned", "sincos, 48 px")
    found = differences(**{arm: (size, size + 0.1, size - 0.1) for size, arm in enumerate(arms, start=1)})
    (row,) = claim_rows(claims_of("resolution"), found, baseline="1-D, 32 px")
    assert row.ours.startswith("+2.00 ")
    (row,) = claim_rows(claims_of("resolution"), found, baseline="1-D, 64 px")
    assert row.ours == "not run"


def test_resnets_are_judged_on_the_fewest_images_that_were_run():
    arms = ("ResNet (BiT), 100 %", "ResNet (BiT), 3.16 %", "ResNet (BiT), 10 %", "MLP-Mixer, 1 %")
    found = differences(**{arm: (size, size + 0.1, size - 0.1) for size, arm in enumerate(arms, start=1)})
    (row,) = claim_rows(claims_of("data_size"), found, baseline="ViT, 100 %")
    assert row.ours.startswith("+2.00 ")
    assert claim_rows(claims_of("data_size"), {}, baseline="ViT, 100 %")[0].ours == "not run"


def test_the_next_patches_are_named_as_the_study_names_them():
    arms = load_study("patch_size").all_arms(variant("Micro/4", image_size=32, num_classes=10))
    found = differences(**{arm.name: (1.0, 1.1, 0.9) for arm in arms[1:]})
    rows = claim_rows(claims_of("patch_size"), found, baseline=arms[0].name)
    assert len(rows) == 2 and all(row.ours.startswith("+1.00 ") for row in rows)


@pytest.mark.parametrize(("study", "prefix"), [("resolution", "RoPE, "), ("data_size", "ResNet (BiT), ")])
def test_arms_that_stand_for_several_are_named_as_the_study_names_them(study, prefix):
    arms = load_study(study).all_arms(variant("Micro/4", num_classes=10))
    found = differences(**{arm.name: (1.0, 1.1, 0.9) for arm in arms[1:]})
    (row,) = claim_rows(claims_of(study), found, baseline=arms[0].name)
    assert row.ours.startswith("+1.00 ") and any(arm.name.startswith(prefix) for arm in arms)


def test_an_interaction_is_named_by_its_levels():
    (one,) = claims_of("position_pooling")
    a, b = one.subject
    found = decide({(a, b): PairedDifference({0: -0.03, 1: -0.031, 2: -0.029})})
    assert claim_rows([one], {}, interactions=found)[0].judgement == "agrees"


@pytest.mark.against("Dosovitskiy et al. 2021, Table 8", "what claims quote", "exact")
def test_table_8_is_quoted_as_published():
    rows = {one.subject: one for one in CLAIMS if "Table 8" in one.source}
    assert rows.keys() == TABLE_8.keys()
    assert rows["none"].paper.startswith("−2.82 points: 0.61382 against 0.64206")
    assert max(TABLE_8.values()) - sorted(TABLE_8.values())[1] < 0.0033 + 5e-5  # 'none' aside: within 0.33 points
    assert TABLE_8["1-D, every layer, shared"] > TABLE_8_BASELINE
    assert {one.expected for one in rows.values()} == {"worse", "equivalent"}


@pytest.mark.parametrize("study", ["pooling", "position", "hybrid", "registers"])
def test_every_claim_names_an_arm_of_its_study(study):
    names = {arm.name for arm in load_study(study).all_arms(BASE)}
    assert {one.subject for one in claims_of(study)} <= names


QUOTED = [one for one in CLAIMS if " points" in one.paper]


def quoted_and_recomputed(paper):
    """(differences as quoted, the same subtracted from the accuracies, or errors, that are quoted after them).

    Of `+1.5, +1.6 points: 76.5, 78.5 against 75.0, 76.9`, or `−4.5 and −5.4 points: B/32 73.38 against B/16 77.91, …`.
    """
    stated, numbers = re.split(r" points[^:]*: ", re.sub(r"±[0-9.]+", "", paper), maxsplit=1)
    quoted = re.findall(r"[+−]\d+\.\d+", stated)
    values = [float(value) for value in re.findall(r"\d+\.\d+", numbers)]
    assert len(values) == 2 * len(quoted) > 0, paper
    in_lists = len(re.findall(r"\d+\.\d+", numbers.split("against")[0])) == len(quoted)
    half = len(quoted)
    mine, theirs = (values[:half], values[half:]) if in_lists else (values[::2], values[1::2])
    scale = -1 if "error" in numbers else 100 if max(values) < 1 else 1
    digits = len(quoted[0].partition(".")[2])
    return quoted, [
        f"{scale * (one - other):+.{digits}f}".replace("-", "−") for one, other in zip(mine, theirs, strict=True)
    ]


@pytest.mark.parametrize("one", QUOTED, ids=lambda one: one.text)
def test_the_differences_that_a_claim_quotes_are_those_of_the_numbers_that_it_quotes(one):
    quoted, recomputed = quoted_and_recomputed(one.paper)
    assert quoted == recomputed


@pytest.mark.parametrize("one", QUOTED, ids=lambda one: one.text)
def test_what_a_claim_expects_is_what_its_numbers_show(one):
    """An effect of the expected sign, or where equivalence is expected one that the margin's reasons call none."""
    quoted, _ = quoted_and_recomputed(one.paper)
    signs = {value[0] for value in quoted}
    if one.expected == "equivalent":
        assert all(abs(float(value.replace("−", "-"))) <= 0.33 for value in quoted)
    else:
        assert signs == {{"better": "+", "worse": "−"}[one.expected]}


def test_a_claim_without_numbers_is_one_of_those_whose_source_gives_none():
    without = {(one.study, one.source.split(",")[0]) for one in CLAIMS if one not in QUOTED}
    assert without == {
        ("pooling", "Dosovitskiy et al. 2021"),  # curves
        ("data_size", "Dosovitskiy et al. 2021"),  # curves
        ("registers", "Darcet et al. 2024"),  # in words
        ("position_pooling", "Lee et al. 2025"),
    }
