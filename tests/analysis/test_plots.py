"""Do the plots show what the records hold, in files that are small and the same every time?"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from PIL import Image

from tests.made_up_records import make_record
from vitbench.analysis import plots
from vitbench.analysis.charts.cost import LINE, pareto_front, spaced
from vitbench.analysis.charts.shared import looks_of
from vitbench.analysis.charts.verdict_looks import VERDICT_LOOKS
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import KINDS, render, write_plots
from vitbench.analysis.statistics.verdicts import Verdict
from vitbench.analysis.writing import drawing
from vitbench.records import Design, Outcome

ARMS = [
    "1-D at the stem",
    "none",
    "2-D at the stem",
    "relative, every layer",
    "relative, every layer, shared",
    "1-D, every layer",
    "1-D, every layer, shared",
    "2-D, every layer",
    "2-D, every layer, shared",
]


def many_records(*, num_arms=9, num_seeds=3, rates=(3e-4, 1e-3, 3e-3), **fields):
    return [
        make_record(
            arm,
            seed=seed,
            learning_rate=rate,
            test=0.8 + 0.01 * index + 0.003 * seed,
            curve=[0.1 + 0.03 * epoch + 0.002 * seed for epoch in range(20)],
            cost={"macs": 3_000_000 + 10_000 * index, "train_seconds": 10.0 + index},
            **fields,
        )
        for index, arm in enumerate(ARMS[:num_arms])
        for rate in rates
        for seed in range(num_seeds)
    ]


ALWAYS = [kind for kind in KINDS if kind not in ("scaling", "resolution", "robustness")]
"""What any comparison of two arms on a grid has; `test_power_laws` and `test_resolution` have arms that grow,
`test_robustness` has distorted images."""


def test_every_kind_is_written_as_svg_and_png_small_enough_for_a_readme(store_with):
    root = store_with(*many_records())
    paths = write_plots(root)
    expected = {f"plots/pool/quick-digits-{kind}.{suffix}" for kind in ALWAYS for suffix in ("svg", "png")}
    assert {path.relative_to(root).as_posix() for path in paths} == expected
    assert all(path.stat().st_size < 150_000 for path in paths)
    for path in paths:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as image:
                assert image.width == drawing.WIDTH * drawing.PNG_DOTS_PER_INCH


def test_equal_records_give_equal_bytes():
    (comparison,) = compare(many_records(num_arms=2))
    for kind in KINDS:
        assert render(comparison, kind, formats=("svg", "png")) == render(comparison, kind, formats=("svg", "png"))


def test_a_grid_of_one_rate_has_no_learning_rate_plot():
    (comparison,) = compare(many_records(num_arms=2, rates=(1e-3,)))
    assert render(comparison, "learning-rate") == {}
    assert render(comparison, "accuracy") != {}


@pytest.mark.parametrize("kind", ["accuracy", "learning-rate", "curves"])
def test_one_arm_with_one_seed_can_be_drawn(kind):
    (comparison,) = compare(many_records(num_arms=1, num_seeds=1))
    assert render(comparison, kind)["svg"].startswith(b"<?xml")


def test_one_arm_alone_has_no_cost_to_compare():
    (comparison,) = compare(many_records(num_arms=1))
    assert render(comparison, "cost") == {}


@pytest.mark.parametrize("kind", ALWAYS)
def test_arm_names_with_dollar_signs_are_drawn_as_they_are(kind):
    names = ("$_{", "$x$")
    (comparison,) = compare(
        [make_record(name, learning_rate=rate, curve=[0.1] * 3) for name in names for rate in (1e-3, 1e-2)]
    )
    assert render(comparison, kind) != {}


def test_a_comparison_without_any_completed_run_has_no_plots():
    (comparison,) = compare([make_record(outcome=Outcome.DIVERGED)])
    assert all(render(comparison, kind) == {} for kind in KINDS)


def test_every_seed_is_a_point_and_the_mean_stands_at_the_mean():
    (comparison,) = compare([make_record(seed=seed, test=test) for seed, test in enumerate((0.80, 0.90, 0.85))])
    (axes,) = plots.accuracy_figure(comparison).axes
    shown = sorted(x for x, _ in axes.collections[0].get_offsets())
    assert shown == pytest.approx([80, 85, 90])
    assert axes.containers[0].lines[0].get_xdata() == pytest.approx([85])


@pytest.mark.parametrize(("test", "where"), [(0.15, "dotted: "), (0.9, "")])
def test_one_over_the_number_of_classes_is_not_called_chance_which_unequal_classes_shift(test, where):
    (comparison,) = compare(
        [
            make_record(learning_rate=rate, test=test, curve=[test] * 3, model={"num_classes": 4})
            for rate in (1e-3, 1e-2)
        ]
    )
    label = plots.accuracy_figure(comparison).axes[0].get_xlabel()
    assert f"{where}1 / number of classes" in label and "25 %" in label
    for kind in ("accuracy", "learning-rate", "curves"):
        figure = KINDS[kind].draw(comparison)
        words = [text.get_text() for text in figure.texts] + [axes.get_xlabel() for axes in figure.axes]
        assert "1 / number of classes" in " ".join(" ".join(words).split())
        assert "chance" not in " ".join(words)


def test_of_unequal_classes_the_line_is_at_the_share_of_the_most_frequent():
    said, unsaid = {"largest_class": 0.9}, {}
    (comparison,) = compare(
        [
            make_record(learning_rate=rate, test=0.91, model={"num_classes": 4}, environment=environment)
            for rate, environment in ((1e-3, unsaid), (1e-2, said))
        ]
    )
    (axes,) = plots.accuracy_figure(comparison).axes
    assert "dotted: share of the most frequent class, 90 %" in " ".join(axes.get_xlabel().split())
    (line,) = (line for line in axes.lines if line.get_linestyle() == ":")
    assert line.get_xdata() == pytest.approx([90, 90])


def test_the_learning_rate_axis_is_logarithmic_and_a_diverged_seed_is_marked():
    records = [make_record(learning_rate=rate, seed=seed) for rate in (1e-4, 1e-3) for seed in (0, 1)]
    (whole,) = compare(records)
    (diverged,) = compare([*records, make_record(learning_rate=1e-2, outcome=Outcome.DIVERGED)])
    (axes,) = plots.learning_rate_figure(whole).axes
    (marked,) = plots.learning_rate_figure(diverged).axes
    assert axes.get_xscale() == "log"
    assert len(marked.collections) == len(axes.collections) + 1
    assert marked.collections[-1].get_offsets()[0][0] == 1e-2


def test_a_curve_is_the_mean_over_seeds_within_a_band():
    curves = ([0.2, 0.4, 0.5], [0.4, 0.8, 0.9])
    (comparison,) = compare([make_record(seed=seed, curve=curve) for seed, curve in enumerate(curves)])
    (axes,) = plots.curves_figure(comparison).axes
    assert axes.lines[0].get_ydata() == pytest.approx([30, 60, 70])
    assert len(axes.collections) == 1


def test_two_points_are_no_curve():
    (comparison,) = compare([make_record(curve=[0.2, 0.4])])
    assert render(comparison, "curves") == {}


def test_an_arm_looks_the_same_in_every_plot_and_unlike_the_others():
    (comparison,) = compare(many_records(num_seeds=1, rates=(1e-3,)))
    looks = looks_of(comparison)
    assert len(set(looks.values())) == len(ARMS)


def test_seconds_are_not_compared_where_runs_shared_the_machine_differently():
    alike = many_records(num_arms=2, rates=(1e-3,))
    (one,) = compare(alike)
    assert len(plots.cost_figure(one).axes) == 2
    loads = [
        {"environment": record.environment.model_copy(update={"workers": 1 + (record.arm == "none")})}
        for record in alike
    ]
    (other,) = compare([record.model_copy(update=load) for record, load in zip(alike, loads, strict=True)])
    assert [axes.get_xlabel() for axes in plots.cost_figure(other).axes] == ["million MACs per image, forward"]


def test_seconds_are_not_compared_where_arms_were_trained_on_different_days():
    alike = many_records(num_arms=2, rates=(1e-3,))
    days = [{"started": f"2026-11-0{1 + (record.arm == 'none')}T00:00:00Z"} for record in alike]
    (other,) = compare([record.model_copy(update=day) for record, day in zip(alike, days, strict=True)])
    assert len(plots.cost_figure(other).axes) == 1
    assert any(
        note
        == "Images/s were measured on different days (of 1-D at the stem on 2026-11-01; of none on 2026-11-02): do not "
        "compare these, nor training seconds."
        for note in assess(other).notes
    )
    assert not any("different days" in note for note in assess(compare(alike)[0]).notes)


@pytest.mark.parametrize(("rates", "says"), [((1e-3,), "at one learning rate"), ((1e-3, 3e-3), "each arm's chosen")])
def test_rates_are_said_to_be_chosen_where_they_were(rates, says):
    (one,) = compare(many_records(num_arms=2, rates=rates))
    said = " ".join(" ".join(text.get_text() for text in plots.accuracy_figure(one).texts).split())
    assert says in said


@pytest.mark.parametrize("largest", [1_000_000, 1_500_000, 3_000_000_000], ids=["all equal", "linear", "logarithmic"])
def test_every_arm_stands_exactly_at_its_macs_its_seconds_and_its_mean(largest):
    macs = [1_000_000] * 20 + [largest]
    arms = [
        make_record(
            f"arm {i}",
            test=0.5 + 0.01 * (i % 7),
            model={"depth": 1 + i},
            cost={"macs": value, "train_seconds": 30 + i % 3},
        )
        for i, value in enumerate(macs)
    ]
    (comparison,) = compare(arms)
    scale = 1e9 if largest >= 1e9 else 1e6
    costs = [value / scale for value in macs], [30 + i % 3 for i in range(21)]
    for axes, expected in zip(plots.cost_figure(comparison).axes, costs, strict=True):
        drawn = [container.lines[0].get_xydata()[0].tolist() for container in axes.containers]
        assert drawn == [[cost, pytest.approx(50 + i % 7)] for i, cost in enumerate(expected)]
        left, right = axes.get_xlim()
        assert left < min(expected) and max(expected) < right


def test_arms_that_hide_each_other_are_named_beside_their_points_which_the_names_point_at():
    arms = [make_record(f"arm {i}", test=0.9, model={"depth": 1 + i}, cost={"macs": 1_000_000}) for i in range(9)]
    (comparison,) = compare(arms)
    axes = plots.cost_figure(comparison).axes[0]
    assert {text.get_text(): text.xy for text in axes.texts} == {f"arm {i}": (1.0, 90.0) for i in range(9)}
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert min(b - a for a, b in pairwise(heights)) > LINE - 1e-9 and heights[0] > 0 and heights[-1] < 1


def test_names_are_spread_around_their_heights_by_hand():
    heights = {"a": 10.0, "b": 30.0, "c": 10.0, "d": 10.0, "e": 20.0}
    assert spaced(heights, step=1.0) == pytest.approx({"a": 9.0, "c": 10.0, "d": 11.0, "e": 20.0, "b": 30.0})
    # Two groups of two that would overlap: together the four are as near to their heights as they can be.
    near = spaced({"a": 10.0, "b": 10.0, "c": 10.5, "d": 10.5}, step=1.0)
    assert near == pytest.approx({"a": 8.75, "b": 9.75, "c": 10.75, "d": 11.75})


def test_no_two_names_stand_nearer_than_a_step_and_their_order_is_kept():
    heights = {str(i): value for i, value in enumerate((5.0, 5.0, 5.4, 5.9, 6.0, 6.0, 6.0, 9.0, 9.1))}
    places = spaced(heights, step=0.5)
    ordered = [places[label] for label in sorted(heights, key=heights.__getitem__)]
    assert min(b - a for a, b in pairwise(ordered)) > 0.5 - 1e-9
    assert sum(places.values()) == pytest.approx(sum(heights.values()))


def luminance(color: str) -> float:
    """WCAG 2.1, 'relative luminance'."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(color: str, page: str) -> float:
    """WCAG 2.1, 'contrast ratio'."""
    darker, lighter = sorted(map(luminance, (color, page)))
    return (lighter + 0.05) / (darker + 0.05)


def test_every_colour_of_marks_and_lines_is_seen_on_a_white_and_on_a_dark_page():
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WebAIM's checker
    colors = {*drawing.PALETTE, drawing.GREY, *(look.color for look in VERDICT_LOOKS.values())}
    for page in ("#ffffff", "#121212", "#16181c"):  # the last is the report's
        assert {color: contrast(color, page) for color in colors if contrast(color, page) < 3} == {}
    assert contrast(drawing.INK, "#ffffff") >= 7


def test_marks_of_a_comparison_and_its_verdicts_have_no_other_colour_than_these():
    (comparison,) = compare(many_records())
    known = {*drawing.PALETTE, drawing.GREY, *(look.color for look in VERDICT_LOOKS.values())}
    known |= {drawing.INK, drawing.PALE, drawing.STYLE["grid.color"], "#ffffff", "#000000"}
    for kind in ALWAYS:
        svg = render(comparison, kind)["svg"].decode()
        assert {*re.findall("#[0-9a-f]{6}", svg)} <= known, kind


def test_each_verdict_has_a_look_of_its_own_in_colour_or_in_shape():
    assert set(VERDICT_LOOKS) == set(Verdict)
    assert len({look.marker for look in VERDICT_LOOKS.values()}) == len(Verdict)
    settled = [VERDICT_LOOKS[verdict] for verdict in Verdict if verdict.is_settled]
    assert len({look.color for look in settled}) == len(settled) == 3


def folder_of(dataset: str, **fields):
    return make_record(data={"dataset": dataset}, **fields)


def test_a_folder_s_hash_is_in_no_title_but_where_two_folders_have_one_name():
    (alone,) = compare([folder_of("cifar10@c637c7f8")])
    assert alone.title == "Pool on CIFAR-10: quick budget, Micro/2" and "c637c7f8" in alone.slug
    assert alone.data.dataset == "cifar10@c637c7f8"
    titles = [one.title for one in compare([folder_of("cifar10@c637c7f8"), folder_of("cifar10@00000000")])]
    assert len(set(titles)) == 2 and any("cifar10@c637c7f8" in title for title in titles)


def test_where_nothing_can_be_drawn_no_plot_is_written_and_nothing_breaks(store_with):
    assert write_plots(store_with(make_record(outcome=Outcome.DIVERGED))) == []


def test_the_pareto_front_is_the_one_drawn_by_hand():
    points = [(1, 50), (2, 60), (2, 55), (3, 60), (4, 59), (5, 70), (1, 50)]
    assert pareto_front(points) == [(1, 50), (2, 60), (5, 70)]
    assert pareto_front([(3, 1), (2, 2), (1, 3)]) == [(1, 3)]
    assert pareto_front([]) == []


def test_plots_of_comparisons_that_are_gone_are_removed_and_what_is_not_ours_stays(store_with):
    root = store_with(*many_records(num_arms=1, num_seeds=1))
    written = write_plots(root)
    foreign = written[0].with_name("mine.svg")
    foreign.write_text("<svg/>", encoding="utf-8")
    (root / "records" / "pool.jsonl").unlink()
    store_with(make_record(study="stem"))
    write_plots(root)
    assert foreign.exists()
    assert not any(path.exists() for path in written)


def test_an_empty_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no records under"):
        write_plots(tmp_path)


def test_the_learning_rate_figure_shows_the_slice_through_the_chosen_setting_on_the_seeds_of_the_choice():
    design = Design(
        question="",
        source="",
        baseline="cls",
        arms=("cls",),
        learning_rates=(1e-4, 1e-3),
        tuned={"weight_decay": (0.05, 0.2)},
        tuning_seeds=1,
    )
    accuracies = {(1e-4, 0.05): 0.5, (1e-3, 0.05): 0.6, (1e-4, 0.2): 0.7, (1e-3, 0.2): 0.8}
    records = [
        make_record(learning_rate=rate, test=value, train={"weight_decay": wd}, design=design)
        for (rate, wd), value in accuracies.items()
    ]
    final = make_record(seed=1, learning_rate=1e-3, test=0.1, train={"weight_decay": 0.2}, design=design)
    (comparison,) = compare([*records, final])
    (axes,) = plots.learning_rate_figure(comparison).axes
    assert sorted(top1 for _, top1 in axes.collections[0].get_offsets()) == pytest.approx([70, 80])
    assert all(render(comparison, kind) != {} for kind in ("accuracy", "learning-rate"))
