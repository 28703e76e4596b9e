"""What do tables and pages say of a comparison? Its findings and its notes, computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.findings import Findings, findings_of
from vitbench.analysis.comparison.notes import notes_about
from vitbench.analysis.comparison.robustness import Robustness, robustness_of


@dataclass(frozen=True)
class Assessment:
    """A comparison with its findings and notes: what tables, pages and sentences are made of."""

    comparison: Comparison
    findings: Findings
    """Verdicts, what they rest on, and whether the literature agrees."""
    notes: tuple[str, ...]
    """Plain sentences; whoever prints them escapes them."""
    robustness: tuple[Robustness, ...]
    """On distorted test images, by distortion; empty where no run was evaluated on any."""


def assess(comparison: Comparison, further_notes: Iterable[str] = ()) -> Assessment:
    """The findings of a comparison, and all notes about it with the further ones last."""
    return Assessment(
        comparison, findings_of(comparison), (*notes_about(comparison), *further_notes), robustness_of(comparison)
    )
