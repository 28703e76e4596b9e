"""Is what grows alone told from what does not, and its power law given and drawn only where it holds?"""

from __future__ import annotations

import numpy as np
import pytest

from tests.made_up_records import NANO
from vitbench.analysis.charts.scaling import scaling_figure
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.growth import series_of
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import render
from vitbench.analysis.tables.further import power_laws
from vitbench.analysis.tables.page import markdown
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.records import Design


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
    (row,) = power_laws(comparison).rows
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
    (row,) = power_laws(comparison).rows
    assert row["slope"].startswith("−") and "no power law" not in row["furthest from the law"]
