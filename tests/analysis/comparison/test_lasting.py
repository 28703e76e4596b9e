"""Are short ablations paired with the longer ones that they can be held against, and what both say counted right?"""

from __future__ import annotations

import pytest
from scipy import stats

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.lasting import lasting_of
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.statistics.verdicts import Verdict

WOBBLE = (0.001, -0.001, 0.0005, -0.0005, 0.0)
WIDE = tuple(20 * value for value in WOBBLE)
SHORT = {"train": {"epochs": 4}, "train_images": 20_000}
LONG = {"train": {"epochs": 20}, "train_images": 45_000, "budget": "custom", "variant": "Mini/2", "macs": 9_360_000}
"""Three times the MACs an image, five times the epochs, 2.25 times the images of the short one."""


def records(arms, *, wobble=WOBBLE, train_images=None, macs=3_120_000, study="pool", start=0.6, **fields):
    """Five seeds of cls at 60 %, and of each arm that much above it, give or take the wobble.

    The macs of made-up models are counted anew, so a longer one gets a wider model.
    """
    plan = DESIGN.model_copy(update={"baseline": "cls", "arms": ("cls", *arms), "train_images": train_images})
    if macs > 3_120_000:
        fields["model"] = {"width": 128, "depth": 6, "num_heads": 4}
    plan = plan.model_copy(update=fields.pop("design", {}))
    return [
        make_record(
            arm,
            seed=seed,
            test=start + more + (wobbles if arm != "cls" else 0.0),
            study=study,
            design=plan,
            **{**fields, "model": {**fields.get("model", {}), "num_registers": index}},
        )
        for seed, wobbles in enumerate(wobble)
        for index, (arm, more) in enumerate({"cls": 0.0, **arms}.items())
    ]


def lasting(*records):
    return lasting_of(map(assess, compare(records)))


def test_an_arm_stands_at_its_short_and_its_long_verdict():
    (pair,) = lasting(*records({"gap": 0.02, "map": 0.02}, **SHORT), *records({"gap": -0.01, "map": 0.03}, **LONG))
    assert [(arm.across.arm, arm.together) for arm in pair.arms] == [("gap", "opposed"), ("map", "alike")]
    assert (pair.short.epochs, pair.short.train_images, pair.short.variant) == (4, 20_000, "Micro/2")
    assert (pair.long.epochs, pair.long.train_images, pair.long.variant) == (20, 45_000, "Mini/2")
    assert pair.arms[0].differences == pytest.approx((0.02, -0.01))


@pytest.mark.parametrize(
    "longer",
    [
        {"train": {"epochs": 8}},
        {"train_images": 40_000, "data": {"train_images": 40_000}},
        {"model": {"width": 128}, "variant": "Mini/2"},
    ],
    ids=["epochs", "images", "size"],
)
def test_either_of_epochs_images_and_size_makes_it_longer(longer):
    short = {"train": {"epochs": 4}, "train_images": 20_000, "data": {"train_images": 20_000}}
    (pair,) = lasting(*records({"gap": 0.02}, **short | longer), *records({"gap": 0.03}, **short))
    assert [round(100 * value) for value in pair.arms[0].differences] == [3, 2]


def test_training_flops_are_six_macs_for_each_image_seen():
    """20 epochs of 45,000 images to 4 of 20,000 of the same model: 11.25 times, but for batches that are not full."""
    (pair,) = lasting(
        *records({"gap": 0.02}, **SHORT), *records({"gap": 0.02}, **LONG | {"macs": 0, "variant": "Micro/2"})
    )
    assert pair.arms[0].times_the_flops == pytest.approx(11.25, rel=0.01)


def test_budget_grid_seeds_and_how_they_are_added_may_differ():
    changed = {"learning_rates": (1e-3, 2e-3), "tuning_seeds": 1, "looks": (5, 8), "seeds": None}
    long = records({"gap": 0.02}, **LONG, design=changed)
    again = records({"gap": 0.02}, **LONG, design=changed, learning_rate=2e-3)
    assert len(lasting(*records({"gap": 0.02}, **SHORT), *long, *again)) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"train": {"epochs": 20, "label_smoothing": 0.1}},
        {"data": {"mixup": 0.2}},
        {"data": {"validation_fraction": 0.3}},
        {"data": {"dataset": "shapes"}},
        {"environment": {"precision": "bf16"}},
        {"environment": {"data_sha256": "e" * 64}},
        {"harness_version": 2},
        {"study": "other"},
        {"design": {"baseline": "gap"}},
        {"design": {"match": "flops"}},
        {"design": {"metric": "loss"}},
        {"train_images": None},
    ],
    ids=str,
)
def test_what_differs_in_more_than_size_and_length_is_no_pair(other):
    short, long = compare(records({"gap": 0.02}, **SHORT)), compare(records({"gap": 0.02}, **LONG | other))
    assert lasting_of(map(assess, [*short, *long])) == []


def test_whose_operators_computed_may_differ_as_it_follows_from_the_size():
    native = {"environment": {"kernels": "native"}}
    assert len(lasting(*records({"gap": 0.02}, **SHORT, **native), *records({"gap": 0.02}, **LONG))) == 1


def test_equal_training_flops_are_no_pair():
    assert lasting(*records({"gap": 0.02}, **SHORT), *records({"gap": 0.03}, **SHORT, budget="standard")) == []


def test_all_shorter_ones_are_held_against_the_longest_that_has_the_arm():
    middle = {"train": {"epochs": 8}, "train_images": 20_000}
    made = [*records({"gap": 0.01, "map": 0.01}, **SHORT), *records({"gap": 0.02, "map": 0.02}, **middle)]
    pairs = lasting(*made, *records({"gap": 0.03}, **LONG))
    judged = {(pair.short.epochs, pair.long.epochs): [arm.across.arm for arm in pair.arms] for pair in pairs}
    assert judged == {(4, 20): ["gap"], (8, 20): ["gap"], (4, 8): ["map"]}


def test_arms_at_the_ceiling_or_without_enough_seeds_are_left_out_and_the_first_are_named():
    short = records({"gap": 0.4, "map": 0.02}, **SHORT, wobble=(0.0,) * 5)
    at_ceiling = records({"gap": 0.0}, **LONG, wobble=(0.0,) * 5, start=1.0)
    assert lasting(*short, *at_ceiling) == []  # nothing is left
    long = records({"gap": 0.4, "map": 0.02}, **LONG, wobble=(0.0,) * 5)
    few = [record for record in long if record.arm != "map" or record.seed < 2]
    assert [arm.across.arm for pair in lasting(*short, *few) for arm in pair.arms] == ["gap"]
    long = records({"gap": 0.3, "map": 0.02}, **LONG, wobble=(0.0,) * 5)
    map_at_ceiling = [
        record.model_copy(update={"metrics": {"test_top1": 1.0, "val_top1": 1.0}}) if record.arm != "gap" else record
        for record in long
    ]
    (pair,) = lasting(*short, *map_at_ceiling)
    assert [arm.across.arm for arm in pair.arms] == ["gap"]
    assert dict(pair.saying_nothing) == {("pool", "map"): Verdict.AT_CEILING}


def test_studies_are_counted_together_and_runs_that_two_of_them_have_once():
    one = [*records({"gap": 0.02}, **SHORT), *records({"gap": 0.03}, **LONG)]
    same = [record.model_copy(update={"study": "other", "taken_from": "pool"}) for record in one]
    third = [*records({"x": 0.02}, **SHORT, study="third"), *records({"x": -0.03}, **LONG, study="third")]
    (pair,) = lasting_of(assess(each) for made in (one, same, third) for each in compare(made))
    assert [(arm.across.study, arm.across.arm) for arm in pair.arms] == [
        ("other", "gap"),
        ("pool", "gap"),
        ("third", "x"),
    ]
    assert len(pair.distinct_arms) == 2 and pair.together.total() == 2
    assert (pair.together["alike"], pair.together["opposed"]) == (1, 1)


def test_signs_and_order_over_all_studies_are_those_of_scipy():
    short = dict(zip("abcdefgh", (0.004, -0.039, 0.015, 0.002, 0.052, -0.006, 0.009, 0.001), strict=True))
    long = dict(zip("abcdefgh", (0.009, -0.021, 0.011, 0.008, 0.002, -0.004, 0.013, -0.002), strict=True))
    (pair,) = lasting(*records(short, **SHORT), *records(long, **LONG))
    assert (pair.same_sign.same, pair.same_sign.total) == (7, 8)
    exact = stats.binomtest(7, 8).proportion_ci(0.95, method="exact")
    assert pair.same_sign.interval == pytest.approx((exact.low, exact.high))
    assert pair.order.tau == pytest.approx(stats.kendalltau([*short.values()], [*long.values()]).statistic)


def test_two_arms_have_signs_but_no_order():
    (pair,) = lasting(*records({"gap": 0.02, "map": 0.01}, **SHORT), *records({"gap": 0.02, "map": 0.01}, **LONG))
    assert pair.order is None and pair.same_sign.total == 2


def test_of_a_place_that_was_measured_twice_the_last_counts():
    earlier = records({"gap": 0.01}, **LONG)
    later = records({"gap": -0.01}, **LONG | {"budget": "standard"})
    later = [record.model_copy(update={"finished": "2026-11-02T00:00:00Z"}) for record in later]
    (pair,) = lasting(*records({"gap": 0.02}, **SHORT), *later, *earlier)
    assert pair.arms[0].differences[1] == pytest.approx(-0.01)
