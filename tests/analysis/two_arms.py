"""Two arms whose table is computed by hand."""

from __future__ import annotations

from tests.made_up_records import make_record
from vitbench.records import Record


def two_arms() -> list[Record]:
    """Hand-computed: cls 90, 92 → 91.00 ± 1.41; gap 91, 95 → 93.00 ± 2.83; differences 1, 3 → 2.00 ± 12.706 × 1."""
    accuracies = {"cls": (0.90, 0.92), "gap": (0.91, 0.95)}
    macs = {"cls": 3_000_000, "gap": 3_300_000}
    return [
        make_record(arm, seed=seed, test=test, cost={"macs": macs[arm], "train_images_per_second": 1000.0 + 100 * seed})
        for arm, tests in accuracies.items()
        for seed, test in enumerate(tests)
    ]
