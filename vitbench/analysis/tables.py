"""Which numbers a comparison comes to, as Markdown, CSV, LaTeX and on the terminal.

Everything is computed from the records; equal records give equal bytes.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.analysis.comparison import (
    ArmResult,
    Comparison,
    Difference,
    StudyInfo,
    Summary,
    load_comparisons,
)
from vitbench.analysis.markup import ABSENT, count_text, escape_latex, escape_markdown, significant
from vitbench.analysis.notes import listed, rate_text
from vitbench.analysis.output import MARK, remove_stale, write
from vitbench.analysis.profile_tables import write_profiles
from vitbench.profiling.profile_store import list_profiles
from vitbench.records import Outcome

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = (
    "arm",
    "params",
    "GMACs",
    "MACs relative to baseline",
    "top-1 (%)",
    "difference (points, 95 % interval)",
    "learning rate",
    "top-1 at baseline's rate (%)",
    "training (images/s)",
    "inference (images/s)",
    "peak memory (MiB)",
    "completed runs",
)
TERMINAL_COLUMNS = {
    "arm": "arm",
    "top-1 (%)": "top-1 (%)",
    "difference (points, 95 % interval)": "difference (points)",
    "learning rate": "rate",
    "GMACs": "GMACs",
    "completed runs": "completed",
}
"""What fits a terminal of 80 columns, and under which heading."""


def write_tables(store_root: str | Path, study_infos: Mapping[str, StudyInfo] | None = None) -> list[Path]:
    """Writes `tables/<study>/<slug>.{md,csv,tex}`, the index `tables/README.md`, and the tables of every device's profile.

    Returns the paths. Raises ValueError where there are neither records nor profiles, or the folder cannot be written.
    """
    profiles = write_profiles(store_root)
    comparisons = load_comparisons(store_root, study_infos, needed=not profiles)
    if not comparisons:
        return profiles
    directory = Path(store_root) / "tables"
    written = []
    for comparison in comparisons:
        stem = directory / comparison.study / comparison.slug
        for suffix, text in (("md", markdown(comparison)), ("csv", csv_text(comparison)), ("tex", latex(comparison))):
            written.append(write(stem.parent / f"{stem.name}.{suffix}", text))
    remove_stale(directory, written=written, suffixes=(".csv", ".tex", ".md"))
    return [*written, write(directory / "README.md", _index(comparisons)), *profiles]


def print_tables(
    store_root: str | Path,
    study_infos: Mapping[str, StudyInfo] | None = None,
    *,
    studies: Iterable[str] | None = None,
    console: Console | None = None,
) -> None:
    """Prints the main columns of every comparison, or of those of `studies`, with its notes."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pipe has no width of its own; 80 columns would fold every cell.
    console = console or Console(width=None if sys.stdout.isatty() else 140)
    wanted = None if studies is None else set(studies)
    for comparison in load_comparisons(store_root, study_infos, needed=not list_profiles(store_root)):
        if wanted is not None and comparison.study not in wanted:
            continue
        shown = [COLUMNS.index(name) for name in TERMINAL_COLUMNS]
        table = Table(title=Text(comparison.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name, heading in TERMINAL_COLUMNS.items():
            table.add_column(heading, justify="left" if name == "arm" else "right", overflow="fold")
        for row in rows(comparison):
            table.add_row(*(Text(row[index]) for index in shown))
        console.print(table)
        for note in comparison.notes:
            console.print(Text(f"- {note}"))
        console.print()


def rows(comparison: Comparison) -> list[list[str]]:
    """The cells under COLUMNS, one row per arm, as plain text for people."""
    return [_row(comparison, arm) for arm in comparison.arms]


def raw_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The same numbers at full precision, with their units in their names; None where there is none."""
    return [_raw_row(comparison, arm) for arm in comparison.arms]


def facts(comparison: Comparison) -> dict[str, str]:
    """What the numbers of a comparison share, as label and text."""
    environment = comparison.environment
    machine = [
        environment.device,
        f"machine {environment.machine}",
        environment.precision,
        "compiled" if environment.compiled else "eager",
        f"torch {environment.torch}",
        f"{listed(comparison.environment_values('threads'))} threads",
    ]
    named = {
        "Question": comparison.question,
        "Source": comparison.source,
        "Data": _data_text(comparison),
        "Variant": comparison.variant,
        "Budget": f"{comparison.budget}, {comparison.train.epochs} epochs",
        "Seeds": listed(comparison.seeds),
        "Environment": listed(machine),
        "Harness version": str(comparison.harness_version),
    }
    return {label: text for label, text in named.items() if text}


def conventions(comparison: Comparison) -> list[str]:
    """How to read the numbers."""
    sentences = [
        f"Top-1 is test accuracy after the final epoch: mean ± standard deviation over n seeds, {_rates_text(comparison)}."
    ]
    if comparison.baseline is not None:
        sentences.append(
            f"Differences are from {comparison.baseline.label}, paired by seed, with a 95 % t-interval; an interval that "
            "contains 0 is inconclusive. Intervals are not corrected for the number of arms."
        )
    memory = (
        "Peak memory is the most bytes of tensors alive at once in one training step"
        if comparison.environment.device.startswith("cpu")
        else "Peak memory is the peak of the CUDA allocator"
    )
    sentences += [
        "1 MAC = 2 FLOPs; MACs are per image, forward; softmax and norms are not counted.",
        f"{memory}, the largest over the runs behind top-1; images per second are medians over the same runs.",
    ]
    return sentences


def _rates_text(comparison: Comparison) -> str:
    """At which learning rate an arm's number is, and whether that was a choice."""
    fixed = [arm for arm in comparison.arms if arm.is_fixed]
    if len(fixed) == len(comparison.arms):
        rates = {rate for arm in fixed for rate in arm.grid}
        if len(rates) > 1:
            return "at one fixed learning rate per arm, not the same for all, without tuning"
        return f"at one fixed learning rate, {rate_text(*rates)}, for every arm, without tuning"
    chosen = (
        "at the learning rate with the best mean validation accuracy of that arm over the seeds at which every rate has "
        "a result"
    )
    if fixed:
        chosen += f"; that of {listed(arm.label for arm in fixed)} was fixed, without tuning"
    return chosen


def markdown(comparison: Comparison, *, level: int = 1) -> str:
    """Title, facts, table, notes and conventions; `level` is that of its heading."""
    escape = escape_markdown
    lines = [f"{'#' * level} {escape(comparison.title)}", "", f"<!-- {MARK}; do not edit -->", ""]
    lines += [f"- **{label}:** {escape(text)}" for label, text in facts(comparison).items()]
    lines += ["", f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    lines += [f"| {' | '.join(map(escape, row))} |" for row in rows(comparison)]
    if comparison.notes:
        lines += ["", "Notes:", "", *(f"- {escape(note)}" for note in comparison.notes)]
    lines += ["", "Conventions:", "", *(f"- {escape(sentence)}" for sentence in conventions(comparison))]
    return "\n".join(lines) + "\n"


def csv_text(comparison: Comparison) -> str:
    """One line per arm; full precision; empty where there is no number."""
    buffer = io.StringIO()
    raw = raw_rows(comparison)
    writer = csv.DictWriter(buffer, fieldnames=list(raw[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(raw)
    return buffer.getvalue()


def latex(comparison: Comparison) -> str:
    """A `table` environment in booktabs style."""
    escape = escape_latex
    caption = " ".join([f"{comparison.title}.", comparison.question, *conventions(comparison)]).replace("  ", " ")
    body = [" & ".join(map(escape, row)) + r" \\" for row in rows(comparison)]
    return "\n".join(
        [
            f"% {MARK}; do not edit. Needs \\usepackage{{booktabs}} and \\usepackage{{graphicx}}.",
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{escape(caption)}}}",
            f"  \\label{{tab:{re.sub(r'[^A-Za-z0-9.-]+', '-', comparison.study)}-{comparison.slug}}}",
            r"  \resizebox{\linewidth}{!}{%",
            f"  \\begin{{tabular}}{{l{'r' * (len(COLUMNS) - 1)}}}",
            r"    \toprule",
            f"    {' & '.join(map(escape, COLUMNS))} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _index(comparisons: list[Comparison]) -> str:
    """All Markdown tables on one page, with links to their files."""
    by_study: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        by_study[comparison.study].append(comparison)
    lines = ["# Tables", "", f"<!-- {MARK}; do not edit -->", ""]
    for study, ones in by_study.items():
        links = ", ".join(f"[{one.slug}]({study}/{one.slug}.md)" for one in ones)
        lines.append(f"- {escape_markdown(study)}: {links}")
    for study, ones in by_study.items():
        lines += ["", f"## {escape_markdown(study)}"]
        for one in ones:
            files = " · ".join(f"[{suffix}]({study}/{one.slug}.{suffix})" for suffix in ("md", "csv", "tex"))
            lines += ["", markdown(one, level=3), files]
    return "\n".join(lines) + "\n"


def _row(comparison: Comparison, arm: ArmResult) -> list[str]:
    memory = arm.costs("peak_memory_bytes")
    baseline = comparison.baseline
    return [
        f"{arm.label} (baseline)" if arm is baseline else arm.label,
        count_text(arm.params),
        significant(arm.macs / 1e9) if arm.macs else ABSENT,
        f"{arm.macs / baseline.macs:.2f}×" if baseline is not None and arm.macs and baseline.macs else ABSENT,
        percent(arm.test_top1),
        points(comparison.difference(arm)),
        _rate_cell(arm),
        percent(comparison.at_baseline_rate(arm)),
        significant(arm.median_cost("train_images_per_second")),
        significant(arm.median_cost("infer_images_per_second")),
        significant(max(memory) / 2**20) if memory else ABSENT,
        _runs_cell(arm),
    ]


def _raw_row(comparison: Comparison, arm: ArmResult) -> dict[str, Any]:
    top1, at_baseline_rate, difference = arm.test_top1, comparison.at_baseline_rate(arm), comparison.difference(arm)
    val_top1 = Summary.of(arm.metric("val_top1", arm.learning_rate).values())
    baseline, outcomes = comparison.baseline, arm.outcomes

    def scaled(statistic: Summary | Difference | None, name: str) -> float | None:
        value = getattr(statistic, name, None)
        return None if value is None else 100 * value

    return {
        "arm": arm.label,
        "is_baseline": arm is baseline,
        "params": arm.params,
        "macs_per_image": arm.macs,
        "macs_relative_to_baseline": arm.macs / baseline.macs if baseline is not None and baseline.macs else None,
        "test_top1_mean_percent": scaled(top1, "mean"),
        "test_top1_sd_points": scaled(top1, "sd"),
        "test_top1_seeds": top1.n if top1 else 0,
        "val_top1_mean_percent": scaled(val_top1, "mean"),
        "difference_mean_points": scaled(difference, "mean"),
        "difference_ci95_low_points": scaled(difference, "low"),
        "difference_ci95_high_points": scaled(difference, "high"),
        "difference_pairs": difference.n if difference else None,
        "learning_rate": arm.learning_rate,
        "learning_rate_edge": arm.edge,
        "learning_rates_tried": len(arm.learning_rates),
        "test_top1_at_baseline_rate_mean_percent": scaled(at_baseline_rate, "mean"),
        "test_top1_at_baseline_rate_sd_points": scaled(at_baseline_rate, "sd"),
        "test_top1_at_baseline_rate_seeds": at_baseline_rate.n if at_baseline_rate else 0,
        "train_images_per_second_median": arm.median_cost("train_images_per_second"),
        "infer_images_per_second_median": arm.median_cost("infer_images_per_second"),
        "train_seconds_median": arm.median_cost("train_seconds"),
        "peak_memory_bytes_max": max(arm.costs("peak_memory_bytes"), default=None),
        **{f"runs_{outcome.value}": count for outcome, count in outcomes.items()},
    }


def percent(summary: Summary | None) -> str:
    """`97.22 ± 0.34 (n=3)` from fractions."""
    if summary is None:
        return ABSENT
    spread = "" if summary.sd is None else f" ± {100 * summary.sd:.2f}"
    return f"{100 * summary.mean:.2f}{spread} (n={summary.n})"


def points(difference: Difference | None) -> str:
    """`+0.56 [−0.31, +1.43]` from fractions; `(n=1)` in place of an interval that one pair cannot have."""
    if difference is None:
        return ABSENT
    if difference.low is None or difference.high is None:
        return f"{_signed(difference.mean)} (n={difference.n})"
    return f"{_signed(difference.mean)} [{_signed(difference.low)}, {_signed(difference.high)}]"


def _signed(fraction: float) -> str:
    text = f"{100 * fraction:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def _rate_cell(arm: ArmResult) -> str:
    if arm.learning_rate is None:
        return ABSENT
    remark = " (fixed)" if arm.is_fixed else " (edge)" if arm.edge else ""
    return f"{rate_text(arm.learning_rate)}{remark}"


def _runs_cell(arm: ArmResult) -> str:
    outcomes = arm.outcomes
    others = [outcome for outcome in (Outcome.FAILED, Outcome.DIVERGED) if outcomes[outcome]]
    remark = f" ({listed(f'{outcomes[outcome]} {outcome.value}' for outcome in others)})" if others else ""
    return f"{outcomes[Outcome.COMPLETED]}/{sum(outcomes.values())}{remark}"


def _data_text(comparison: Comparison) -> str:
    data = comparison.data
    sizes = [
        "all training images" if data.train_images is None else f"{data.train_images:,} training images",
        f"{data.validation_fraction:.3g} of train held out for validation",
    ]
    if comparison.num_test_images:
        sizes.append(f"{comparison.num_test_images:,} test images")
    images = {(arm.model.image_hw, arm.model.in_channels, arm.model.num_classes) for arm in comparison.arms}
    if len(images) == 1:
        ((height, width), channels, classes) = images.pop()
        sizes.append(f"{height} × {width} × {channels} pixels, {classes} classes")
    augmentation = [
        f"crop padding {data.crop_padding}" if data.crop_padding else "",
        "flip" if data.flip else "",
        f"mixup {data.mixup:g}" if data.mixup else "",
        f"cutmix {data.cutmix:g}" if data.cutmix else "",
    ]
    return f"{data.dataset}: {'; '.join(sizes)}; augmentation: {listed(filter(None, augmentation)) or 'none'}"
