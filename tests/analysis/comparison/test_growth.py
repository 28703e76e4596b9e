"""Are power laws found where errors follow one, with intervals that hold, and is what grows alone told from what does not?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tests.made_up_records import NANO
from vitbench.analysis.charts.scaling import scaling_figure
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.growth import fit_power_law, series_of
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import render
from vitbench.analysis.tables.page import markdown
from vitbench.analysis.tables.verdicts import power_laws
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.records import Design

SIZES = (1e9, 4e9, 3e10, 1e11)


def test_a_power_law_without_noise_is_found():
    errors = {seed: [(size / 2e8) ** -0.3 for size in SIZES] for seed in range(3)}
    law = fit_power_law(SIZES, errors)
    assert law.exponent == pytest.approx(0.3) and law.intercept == pytest.approx(0.3 * math.log(2e8))
    assert law.low == pytest.approx(0.3) and law.high == pytest.approx(0.3) and law.worst == pytest.approx(1)
    assert law.error(1e10) == pytest.approx((1e10 / 2e8) ** -0.3)


def test_each_seeds_line_is_that_of_scipy_and_the_interval_that_of_a_t_test():
    random = np.random.default_rng(0)
    errors = {
        seed: [0.5 * (size / 1e9) ** -0.2 * math.exp(random.normal(0, 0.05)) for size in SIZES] for seed in range(5)
    }
    slopes = [-stats.linregress(np.log(SIZES), np.log(errors[seed])).slope for seed in range(5)]
    interval = stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    law = fit_power_law(SIZES, errors)
    assert law.exponent == pytest.approx(np.mean(slopes))
    assert (law.low, law.high) == pytest.approx(tuple(interval))


def test_intervals_hold_in_simulated_studies():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        noise = random.normal(0, 0.05, size=(3, len(SIZES)))
        errors = {
            seed: [0.5 * (s / 1e9) ** -0.2 * math.exp(e) for s, e in zip(SIZES, noise[seed], strict=True)]
            for seed in range(3)
        }
        law = fit_power_law(SIZES, errors)
        held += law.low <= 0.2 <= law.high
    # 95 % of 2,000, within 4 standard deviations of a binomial's share.
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 2000) < held / 2000 < 0.95 + 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_what_bends_is_said_to_be_no_power_law():
    law = fit_power_law((1, 2, 4, 8), dict.fromkeys(range(3), (0.5, 0.25, 0.25, 0.25)))
    line = np.polyfit(np.log([1, 2, 4, 8]), np.log([0.5, 0.25, 0.25, 0.25]), 1)
    residuals = np.log([0.5, 0.25, 0.25, 0.25]) - np.polyval(line, np.log([1, 2, 4, 8]))
    assert law.worst == pytest.approx(math.exp(np.abs(residuals).max()))


def made(
    made_up, name: str, top1: float, seed: int, *, design: Design, train_images: int | None = 256, epochs=1, **model
):
    config = RunConfig(
        model=NANO.replace(**model),
        data=DataConfig(train_images=train_images),
        train=TrainConfig(epochs=epochs, batch_size=64),
        seed=seed,
    )
    metrics = {"test_top1": top1, "val_top1": top1}
    return made_up(study="mine", arm=name, config=config, design=design, metrics=metrics, correct="")


def test_what_grows_alone_is_a_series_over_flops_and_what_changes_with_something_else_is_none(made_up):
    changes = {
        "base": {},
        "depth 6": {"depth": 6},
        "depth 12": {"depth": 12},
        "wide": {"width": 64, "num_heads": 2},
        "both": {"depth": 6, "mlp_ratio": 4.0},
        "gap": {"pool": "gap"},
    }
    design = Design(
        question="?", source="", baseline="base", arms=tuple(changes), learning_rates=(1e-3,), train_images=256
    )
    records = [
        made(made_up, name, 0.5 + 0.02 * i + 0.01 * seed, seed, design=design, **fields)
        for seed in range(3)
        for i, (name, fields) in enumerate(changes.items())
    ]
    (comparison,) = compare(records)
    depth, width = series_of(comparison)
    assert [arm.name for arm in depth.arms] == ["base", "depth 6", "depth 12"] and depth.unit == "training FLOPs"
    assert depth.sizes == tuple(arm.training_flops for arm in depth.arms) and depth.law is not None
    assert [arm.name for arm in width.arms] == ["base", "wide"] and width.law is None
    assert "| depth |" in markdown(assess(comparison))
    figure = scaling_figure(comparison)
    (label,) = (text.get_text() for text in figure.axes[0].get_legend().get_texts())
    assert label.startswith("depth: ")  # two sizes have no law


def test_a_law_is_drawn_only_where_the_error_falls_as_far_as_seeds_tell():
    falling = fit_power_law([1, 2, 4], {0: (0.5, 0.4, 0.31), 1: (0.5, 0.39, 0.3), 2: (0.5, 0.41, 0.32)})
    rising = fit_power_law([1, 2, 4], {0: (0.3, 0.4, 0.51), 1: (0.3, 0.39, 0.5), 2: (0.3, 0.41, 0.52)})
    unsure = fit_power_law([1, 2, 4], {0: (0.5, 0.4, 0.3), 1: (0.3, 0.4, 0.5), 2: (0.4, 0.4, 0.39)})
    assert (falling.falls, rising.falls, unsure.falls) == (True, False, False)


def test_on_fractions_each_model_is_a_series_over_its_images(made_up):
    arms = {f"{model}, {share}": (pool, images) for share, images in (("100 %", None), ("50 %", 512), ("25 %", 256))
            for model, pool in (("cls", "cls"), ("gap", "gap"))}  # fmt: skip
    design = Design(
        question="?",
        source="",
        baseline="cls, 100 %",
        arms=tuple(arms),
        learning_rates=(1e-3,),
        train_images=1024,
        fractions={name: 1.0 if images is None else images / 1024 for name, (_, images) in arms.items()},
        factors={name: dict(zip(("model", "images"), name.split(", "), strict=True)) for name in arms},
        epochs={name: 1024 / (images or 1024) for name, (_, images) in arms.items()},
    )
    records = [
        made(made_up, name, 0.9 - 64 / (images or 1024) - 0.001 * seed, seed, design=design, train_images=images,
             epochs=1024 / (images or 1024), pool=pool)
        for seed in range(3)
        for name, (pool, images) in arms.items()
    ]  # fmt: skip
    (comparison,) = compare(records)
    assert len(comparison.arms) == 6
    cls, gap = series_of(comparison)
    assert (cls.name, gap.name, cls.unit, cls.sizes) == ("cls", "gap", "training images", (256, 512, 1024))
    text = markdown(assess(comparison))
    assert "equal training steps" in text and "| 512 |" in text
    assert set(render(comparison, "scaling", formats=("svg", "png"))) == {"svg", "png"}
    # Each is compared with the baseline's model on as many images, by hand: gap and cls are the same at every seed here.
    assert {arm.name: (other := comparison.compared_with(arm)) and other.name for arm in comparison.arms} == {
        **{f"cls, {share}": None for share in ("100 %", "50 %", "25 %")},
        **{f"gap, {share}": f"cls, {share}" for share in ("100 %", "50 %", "25 %")},
    }
    assert set(assess(comparison).findings.arms) == {f"gap, {share}" for share in ("100 %", "50 %", "25 %")}
    for arm in comparison.arms:
        difference = comparison.difference(arm)
        assert (difference is None) == arm.name.startswith("cls") and (difference is None or difference.mean == 0)
    assert "Differences are from cls on as many images" in text
    # As many steps on every fraction, and so as many FLOPs.
    assert len({arm.training_flops for arm in comparison.arms if arm.name.startswith("cls")}) == 1


@pytest.mark.parametrize("slope", [-5e-4, 0.0, 1e-3])
def test_what_hardly_changes_the_error_has_a_flat_law(slope):
    law = fit_power_law(SIZES, {seed: [0.2 * (size / 1e9) ** slope for size in SIZES] for seed in range(3)})
    assert law.exponent == pytest.approx(-slope, abs=1e-9) and law.error(1e9) == pytest.approx(0.2)


def bending(made_up, *errors_of_the_last: float):
    """Depths of 1, 2, 4 and 8 blocks; errors of 40 and 20 % at the first two, then those given."""
    errors = (0.4, 0.2, *errors_of_the_last)
    design = Design(question="?", source="", baseline="base", arms=(), learning_rates=(1e-3,), train_images=256)
    names = {1: "base", 2: "depth 2", 4: "depth 4", 8: "depth 8"}
    records = [
        made(made_up, names[depth], 1 - error * (1 + 0.001 * seed), seed, design=design, depth=depth)
        for seed in range(3)
        for depth, error in zip((1, 2, 4, 8), errors, strict=False)
    ]  # fmt: skip
    (comparison,) = compare(records)
    (series,) = series_of(comparison)
    return comparison, series


def test_a_fit_that_misses_its_points_by_more_than_5_percent_is_drawn_as_no_law_and_has_no_slope(made_up):
    comparison, series = bending(made_up, 0.2, 0.2)
    line = np.polyfit(np.log(series.sizes), np.log([0.4, 0.2, 0.2, 0.2]), 1)
    off = np.exp(np.abs(np.log([0.4, 0.2, 0.2, 0.2]) - np.polyval(line, np.log(series.sizes))).max()) - 1
    assert off > 0.05 and series.law.falls and not series.law.holds and not series.law.is_drawn
    (axes,) = scaling_figure(comparison).axes
    (label,) = (text.get_text() for text in axes.get_legend().get_texts())
    assert label == f"depth: no power law, off by {100 * off:.2g} %"
    (drawn,) = axes.get_lines()  # the points, and no law
    assert list(drawn.get_ydata()) == pytest.approx([100 * e * 1.001 for e in (0.4, 0.2, 0.2, 0.2)], rel=1e-5)
    (row,) = power_laws(comparison)
    assert (row["slope"], row["error × at twice the size"]) == ("–", "–")
    assert row["furthest from the law"] == f"{100 * off:.2g} %: no power law"
    assert "the errors follow no power law, and no slope is given" in markdown(assess(comparison))


def test_a_fit_that_passes_by_its_points_is_drawn_through_all_of_its_length(made_up):
    comparison, series = bending(made_up, 0.1, 0.05)
    assert series.law.holds and series.law.is_drawn
    (axes,) = scaling_figure(comparison).axes
    points, law = axes.get_lines()
    assert (
        list(points.get_xdata()) == pytest.approx([size / 1e12 for size in series.sizes])
        and points.get_linestyle() == "None"
    )
    assert law.get_xdata()[0] < min(points.get_xdata()) and law.get_xdata()[-1] > max(points.get_xdata())
    assert law.get_ydata()[0] / law.get_ydata()[-1] > 8
    (row,) = power_laws(comparison)
    assert row["slope"].startswith("−") and "no power law" not in row["furthest from the law"]
