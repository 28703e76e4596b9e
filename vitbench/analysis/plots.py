"""What does a comparison look like? Verdicts, accuracy with every seed, the learning-rate grid, accuracy against cost, curves.

Each kind of figure answers one question; the same arm has the same colour and marker in all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from vitbench.analysis.charts.accuracy import accuracy_figure
from vitbench.analysis.charts.cost import cost_figure
from vitbench.analysis.charts.curves import curves_figure
from vitbench.analysis.charts.forest import forest_figure
from vitbench.analysis.charts.learning_rate import learning_rate_figure
from vitbench.analysis.charts.resolution import resolution_figure
from vitbench.analysis.charts.robustness import robustness_figure
from vitbench.analysis.charts.scaling import scaling_figure
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.load import load_comparisons
from vitbench.analysis.profile.roofline import write_rooflines
from vitbench.analysis.transfer.chart import transfer_figure
from vitbench.analysis.transfer.tables import load_rows
from vitbench.analysis.writing.drawing import rendered
from vitbench.analysis.writing.files import remove_stale, write_each
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


def write_plots(store_root: str | Path, *, metric: str | None = None, faults: Faults | None = None) -> list[Path]:
    """Writes `plots/<study>/<slug>-<kind>.{svg,png}` for every comparison and kind in KINDS, `plots/transfer.{svg,png}` where
    frozen features were measured, and every device's roofline.

    Returns the paths. A kind that has nothing to show for a comparison is left out. `faults` (else stderr) are told of what
    is damaged; it is left out too. Raises ValueError where there are no records of any kind, nor profiles.
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
    for comparison in load_comparisons(store_root, metric=metric, needed=needed, faults=faults):
        for kind in KINDS:
            pictures = {}
            with faults.leaving_out(store.path(comparison.study)):
                pictures = render(comparison, kind, formats=FORMATS)
            written += write_each(directory / comparison.study / f"{comparison.slug}-{kind}", pictures)
    remove_stale(directory, written=written, suffixes=(".svg", ".png"), unread=faults.unread)
    return [*written, *rooflines]


def render(comparison: Comparison, kind: str, *, formats: Sequence[str] = ("svg",)) -> dict[str, bytes]:
    """One figure in each of `formats`; empty where this kind has nothing to show. Equal records give equal bytes."""
    if comparison.design.held_factors and KINDS[kind].of_few_arms:
        return {}
    return rendered(lambda: KINDS[kind].draw(comparison), formats)
