"""What does a comparison look like? Verdicts, accuracy with every seed, the learning-rate grid, accuracy against cost, curves.

Each kind of figure answers one question; the same arm has the same colour and marker in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from vitbench.analysis.charts.accuracy import accuracy_figure
from vitbench.analysis.charts.cost import cost_figure
from vitbench.analysis.charts.curves import curves_figure
from vitbench.analysis.charts.forest import forest_figure
from vitbench.analysis.charts.lasting import lasting_figure
from vitbench.analysis.charts.learning_rate import learning_rate_figure
from vitbench.analysis.charts.resolution import resolution_figure
from vitbench.analysis.charts.robustness import robustness_figure
from vitbench.analysis.charts.scaling import scaling_figure
from vitbench.analysis.comparison.across import study_by_study
from vitbench.analysis.comparison.assessment import Assessment, assess
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.lasting import PICTURE, joined, of_each_study, with_others_to_hold_against
from vitbench.analysis.comparison.load import load_comparisons
from vitbench.analysis.profile.roofline import write_rooflines
from vitbench.analysis.transfer.chart import transfer_figure
from vitbench.analysis.transfer.tables import load_rows
from vitbench.analysis.writing.drawing import rendered
from vitbench.analysis.writing.files import remove_stale, write_each
from vitbench.analysis.writing.rendering import render_each
from vitbench.records import Faults, RecordStore
from vitbench.records.transfer import TransferStore


class Kind(NamedTuple):
    """`of_few_arms`: it gives every arm a row, a colour or a panel, and shows one baseline; not for arms that are compared at
    each image size or share of the images apart.
    """

    heading: str
    draw: Callable[[Comparison], Figure | None]
    of_few_arms: bool = False


KINDS = {
    "forest": Kind("Differences and verdicts", forest_figure),
    "accuracy": Kind("Accuracy", accuracy_figure, of_few_arms=True),
    "learning-rate": Kind("Accuracy against learning rate", learning_rate_figure),
    "cost": Kind("Accuracy against cost", cost_figure, of_few_arms=True),
    "curves": Kind("Learning curves", curves_figure, of_few_arms=True),
    "scaling": Kind("Error against what grows", scaling_figure),
    "resolution": Kind("Accuracy against image size", resolution_figure),
    "robustness": Kind("Accuracy on distorted test images", robustness_figure, of_few_arms=True),
}
FORMATS = ("svg", "png")


def write_plots(
    store_root: str | Path, *, metric: str | None = None, faults: Faults | None = None, workers: int = 1
) -> list[Path]:
    """Writes `plots/<study>/<slug>-<kind>.{svg,png}` for every comparison and kind in KINDS, `plots/transfer.{svg,png}` where
    frozen features were measured, `plots/lasting.{svg,png}` where arms were judged by a short and a long ablation, and every
    device's roofline.

    Returns the paths. A kind that has nothing to show for a comparison is left out. `faults` (else stderr) are told of what
    is damaged; it is left out too. `workers`: processes that save figures, as of `render_each`. Raises ValueError where
    there are no records of any kind, nor profiles.
    """
    faults = Faults() if faults is None else faults
    store = RecordStore(store_root, faults)
    directory = Path(store_root) / "plots"
    rooflines = write_rooflines(store_root, faults)
    pictures: dict[str, bytes] = {}
    with faults.leaving_out(TransferStore(store_root).directory):
        rows = load_rows(store_root, faults)
        pictures = rendered(lambda: transfer_figure(rows), FORMATS)
    written = write_each(directory / "transfer", pictures)
    needed = not (rooflines or written)
    comparisons = load_comparisons(store_root, metric=metric, needed=needed, faults=faults)
    written += write_each(directory / PICTURE, _lasting_pictures(comparisons, store, faults))
    figures = (((comparison, kind), figure_of(comparison, kind)) for comparison in comparisons for kind in KINDS)
    for (comparison, kind), files in render_each(figures, FORMATS, workers=workers):
        pictures = {}
        with faults.leaving_out(store.path(comparison.study)):
            pictures = files()
        written += write_each(directory / comparison.study / f"{comparison.slug}-{kind}", pictures)
    remove_stale(directory, written=written, suffixes=(".svg", ".png"), unread=faults.unread)
    return [*written, *rooflines]


def _lasting_pictures(comparisons: Sequence[Comparison], store: RecordStore, faults: Faults) -> dict[str, bytes]:
    """Of short and long ablations, over all studies."""
    assessments: list[Assessment] = []
    for comparison in with_others_to_hold_against(comparisons):
        with faults.leaving_out(store.path(comparison.study)):
            assessments.append(assess(comparison))
    lastings = joined(study_by_study(of_each_study, assessments, store, faults))
    return rendered(lambda: lasting_figure(lastings), FORMATS)


def render(comparison: Comparison, kind: str, *, formats: Sequence[str] = ("svg",)) -> dict[str, bytes]:
    """One figure in each of `formats`; empty where this kind has nothing to show. Equal records give equal bytes."""
    return rendered(figure_of(comparison, kind), formats)


def figure_of(comparison: Comparison, kind: str) -> Callable[[], Figure | None]:
    """Draws one figure; None where this kind has nothing to show."""
    if comparison.design.held_factors and KINDS[kind].of_few_arms:
        return lambda: None
    return partial(KINDS[kind].draw, comparison)
