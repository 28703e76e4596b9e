"""Do charts show arms of other recipes: at learning rates of their own, and at what their training costs?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.charts.cost import cost_figure
from vitbench.analysis.charts.learning_rate import learning_rate_figure
from vitbench.analysis.comparison.load import compare
from vitbench.records import Design

RATES = (1e-3, 2e-3, 4e-3)


def comparison_of(changes, base, *, macs=(3_000_000, 3_000_000), **fields):
    """Of the base and one arm, at every rate of the grid; the arm is best at the middle one."""
    ((name, changed),) = changes.items()
    values = {"question": "", "source": "", "baseline": "cls", "arms": ("cls", name), "learning_rates": RATES}
    plan = Design(**{**values, "changes": changes, "base": base, "train_images": 1000, **fields})
    records = []
    for index, rate in enumerate(RATES):
        for seed in range(2):
            for arm, recipe, cost in (("cls", {}, macs[0]), (name, changed, macs[1])):
                at = {"seed": seed, "learning_rate": plan.to_arm(arm, (rate,))[0]}
                test = 0.5 + 0.1 * (index == 1) + 0.01 * seed
                records.append(make_record(arm, **at, test=test, train=recipe, design=plan, cost={"macs": cost}))
    (comparison,) = compare(records)
    return comparison


def test_an_arm_with_rates_of_its_own_has_an_axis_of_its_own_and_the_baseline_on_it():
    scaled = {"changes": {"SGD": {"optimizer": "sgd"}}, "base": {"optimizer": "adamw"}}
    figure = learning_rate_figure(comparison_of(**scaled, learning_rate_scales={"SGD": 50.0}))
    baseline, sgd = (axes for axes in figure.axes if axes.get_visible())
    assert baseline.get_xticks() == pytest.approx(RATES)
    assert sgd.get_xticks() == pytest.approx([0.05, 0.1, 0.2])
    dashed = [line for line in sgd.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in dashed] == [pytest.approx([0.05, 0.1, 0.2])]


def test_arms_of_equal_models_stand_at_the_flops_of_their_training():
    long = {"changes": {"long": {"epochs": 40}}, "base": {"epochs": 20}, "epochs": {"cls": 20, "long": 40}}
    assert cost_figure(comparison_of(**long)).axes[0].get_xlabel().startswith("training TFLOP per run")
    # Other models are held against each other by what an image takes.
    assert "MACs per image" in cost_figure(comparison_of(**long, macs=(3_000_000, 4_000_000))).axes[0].get_xlabel()
