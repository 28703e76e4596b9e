"""Which arm keeps its accuracy on distorted test images? A table for each distortion, and the same at full precision."""

from __future__ import annotations

from typing import Any

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.robustness import Robustness
from vitbench.analysis.comparison.wording import difference_text, points, verdict_text
from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.statistics.verdicts import ALPHA
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT
from vitbench.config import DISTORTIONS
from vitbench.config.distortions import label, strength_text

BASELINE = "the baseline"


def robustness(assessment: Assessment) -> list[Table]:
    """A table for each distortion, with a row for each arm that was evaluated on it."""
    return [_table(assessment, of_distortion) for of_distortion in assessment.robustness]


def _table(assessment: Assessment, of_distortion: Robustness) -> Table:
    strongest = strength_text(of_distortion.name, of_distortion.strongest)
    rows = []
    for arm_label, arm in of_distortion.arms.items():
        decision, change = of_distortion.decisions.get(arm_label), arm.change(of_distortion.strongest)
        is_baseline = arm.arm is assessment.comparison.baseline
        rows.append(
            {
                "arm": arm_label,
                "verdict": verdict_text(decision) if decision else BASELINE if is_baseline else ABSENT,
                "difference of changes (points)": difference_text(decision) or ABSENT if decision else ABSENT,
                f"change at {strongest} (points)": points(change.mean) if change else ABSENT,
                "plain (%)": _percent(Summary.of(arm.plain.values())),
                **{
                    f"{strength_text(of_distortion.name, strength)} (%)": _percent(arm.accuracy(strength))
                    for strength in reversed(of_distortion.strengths)
                },
            }
        )
    return Table(f"Distorted test images: {of_distortion.name}", rows, texts=("arm", "verdict"))


def _percent(summary: Summary | None) -> str:
    return ABSENT if summary is None else f"{100 * summary.mean:.2f}"


def robustness_reading(assessment: Assessment) -> list[str]:
    """How to read these tables; nothing where there are none."""
    if not assessment.robustness:
        return []
    names = [of_distortion.name for of_distortion in assessment.robustness]
    return [
        "Distorted test images: mean top-1 over seeds at each arm's setting. Change: accuracy on distorted images minus that "
        "on plain ones, at each seed. Difference of changes: the arm's change minus the baseline's, paired by seed; better is "
        "an arm that loses less. An arm that is worse on plain images has less to lose: read the accuracies beside it.",
        f"These verdicts are about the strongest strength alone, by the same rule, at {ALPHA:g} for all arms of one "
        f"distortion together (Holm). They are not corrected for the number of distortions, here {len(names)}: of many "
        "distortions, some verdict may be chance.",
        "What each does: " + "; ".join(f"{name}: {DISTORTIONS[name].summary}" for name in names) + ".",
    ]


def raw_robustness(assessment: Assessment, arm_label: str) -> dict[str, Any]:
    """An arm's accuracies, changes and verdicts, with units in the names; nothing where no run was evaluated so."""
    values: dict[str, Any] = {}
    for of_distortion in assessment.robustness:
        arm, decision = of_distortion.arms.get(arm_label), of_distortion.decisions.get(arm_label)
        for strength in of_distortion.strengths:
            name = label(of_distortion.name, strength)
            accuracy, change = (arm.accuracy(strength), arm.change(strength)) if arm else (None, None)
            values |= {
                f"{name}_test_top1_mean_percent": 100 * accuracy.mean if accuracy else None,
                f"{name}_test_top1_sd_points": 100 * accuracy.sd if accuracy and accuracy.sd is not None else None,
                f"{name}_test_top1_seeds": accuracy.n if accuracy else 0,
                f"{name}_change_mean_points": 100 * change.mean if change else None,
            }
        name = label(of_distortion.name, of_distortion.strongest)
        difference, interval = (decision.difference, decision.interval) if decision else (None, None)
        values |= {
            f"{name}_difference_of_changes_mean_points": 100 * difference.mean if difference else None,
            f"{name}_interval_low_points": 100 * interval.low if interval else None,
            f"{name}_interval_high_points": 100 * interval.high if interval else None,
            f"{name}_interval_confidence": decision.confidence if decision else None,
            f"{name}_p_holm": decision.adjusted_p if decision else None,
            f"{name}_verdict": decision.verdict.value if decision else "",
        }
    return values
