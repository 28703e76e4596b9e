"""Do arms on fractions of the images take as many steps, on what they say, and do models that compare have matched MACs?"""

from __future__ import annotations

import pytest

from vitbench.config import TimmConfig, ViTConfig
from vitbench.costs import count
from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, load_study, make_plan
from vitbench.studies.resolved_study import resolve_study
from vitbench.variants import variant

BUDGET, DIGITS = BUDGETS["quick"], describe("digits")
POOLS = Study("?", "", Arm("cls"), [Arm("gap", pool="gap")], name="mine", fractions=(1.0, 0.3, 0.1))


def test_every_arm_takes_as_many_steps_and_is_recorded_on_its_share():
    # 1,078 of 1,198 digits train; 5 epochs of 16 batches of 64. 0.3 of them are 323, 5 batches; 0.1 are 108, 1 batch.
    resolved = resolve_study(POOLS, BUDGET, DIGITS, Overrides())
    assert list(resolved.arms) == [f"{pool}, {share}" for share in ("100 %", "30 %", "10 %") for pool in ("cls", "gap")]
    for arm, (images, batches) in zip(resolved.arms, [(None, 16)] * 2 + [(323, 5)] * 2 + [(108, 1)] * 2, strict=True):
        config = resolved.arms[arm]
        assert config.data.train_images == images
        assert config.train.num_steps(batches) == 5 * 16
    runs = make_plan(POOLS, BUDGET, DIGITS).runs
    assert {run.train_images for run in runs} == {1078, 323, 108}
    assert {run.training_flops for run in runs if "cls" in run.arm} == {6 * count(runs[0].config.model).macs * 80 * 64}
    design = runs[0].design
    assert design.baseline == "cls, 100 %" and design.fractions["gap, 30 %"] == 0.3
    assert design.factors["gap, 30 %"] == {"model": "gap", "images": "30 %"} and design.train_images == 1078


def test_small_classes_leave_as_many_images_to_plans_as_to_runs():
    # 60 classes of two images: validation takes one of each, and 60 of 120 images train, 7 batches of 8 an epoch.
    few = DIGITS.model_copy(
        update={"train_images": 120, "num_classes": 60, "class_counts": (2,) * 60, "dataset": "few"}
    )
    planned = make_plan(POOLS, BUDGET, few, Overrides(train={"batch_size": 8, "epochs": 4})).runs
    assert {(run.arm.partition(", ")[2], run.train_images) for run in planned} == {("100 %", 60), ("30 %", 18)}
    images = {run.arm: run.training_flops // (6 * count(run.config.model).macs) for run in planned}
    assert set(images.values()) == {4 * 7 * 8}


def test_fractions_of_less_than_a_batch_are_left_out_and_one_alone_is_refused():
    few = Overrides(train={"batch_size": 256})
    assert {run.train_images for run in make_plan(POOLS, BUDGET, DIGITS, few).runs} == {1078, 323}
    with pytest.raises(ValueError, match="batch_size 512 leaves study 'mine' no two fractions of 1078"):
        make_plan(POOLS, BUDGET, DIGITS, Overrides(train={"batch_size": 512}))
    with pytest.raises(ValueError, match="makes steps equal on all fractions"):
        make_plan(POOLS, BUDGET, DIGITS, Overrides(match="flops"))


def all_but_the_base(base: ViTConfig) -> dict[str, TimmConfig]:
    arms = {arm.name: arm.apply(base) for arm in load_study("data_size").all_arms(base) if arm.fraction == 1}
    assert arms.pop("ViT, 100 %") == base
    return arms


@pytest.mark.parametrize("dataset", ["digits", "shapes", "torch/fashion_mnist", "torch/cifar10"])
@pytest.mark.parametrize("budget", ["smoke", "quick", "standard", "paper"])
def test_comparators_have_the_bases_macs_to_a_tenth_or_are_left_out(budget, dataset):
    info = describe(dataset)
    shape = {"image_size": info.image_size, "in_channels": info.in_channels, "num_classes": info.num_classes}
    base = variant(BUDGETS[budget].scale_on(dataset).variant_on(info.image_size), **shape)
    arms = all_but_the_base(base)
    assert "MLP-Mixer, 100 %" in arms and (budget == "paper" or "ResNet, 100 %" in arms)
    for arm, model in arms.items():
        assert 1 / 1.1 <= count(model).macs / count(base).macs <= 1.1, arm


@pytest.mark.parametrize("name", ["Micro/4", "Small32/4", "Ti/16", "S/16", "B/16"])
def test_named_variants_have_all_comparators(name):
    assert list(all_but_the_base(variant(name, num_classes=10))) == [
        *("ResNet (BiT), 100 %", "ResNet, 100 %", "MLP-Mixer, 100 %")
    ]


def test_a_study_may_set_its_own_recipe_and_the_user_another():
    assert {
        run.config.train.optimizer for run in make_plan(load_study("data_size"), BUDGETS["standard"], DIGITS).runs
    } == {"adamw"}
    asked = Overrides(train={"optimizer": "sgd"})
    assert {run.config.train.optimizer for run in make_plan(load_study("data_size"), BUDGET, DIGITS, asked).runs} == {
        "sgd"
    }


def test_both_resnets_have_the_same_blocks():
    for name in ("Micro/4", "Small32/4", "Ti/16", "S/16", "B/16"):
        bit, plain, _ = all_but_the_base(variant(name, num_classes=10)).values()
        assert bit.options["layers"] == plain.options["layers"]


def test_scaling_changes_one_thing_at_a_time():
    base = variant("Micro/4", num_classes=10)
    arms = {arm.name: arm.apply(base) for arm in load_study("scaling").all_arms(base)}
    changed = {
        name: {field for field in type(base).model_fields if getattr(model, field) != getattr(base, field)}
        for name, model in arms.items()
    }
    assert changed == {
        "base": set(),
        **{f"depth {depth}": {"depth"} for depth in (1, 2, 8)},
        **{f"width {width}": {"width", "num_heads"} for width in (32, 128)},
        **{f"patch {patch}": {"patch_size"} for patch in (2, 8)},
        **{f"MLP {ratio}×": {"mlp_ratio"} for ratio in (0.5, 1, 4)},
    }
    assert {model.head_dim for model in arms.values()} == {base.head_dim}


def test_final_seeds_run_at_the_rate_of_the_same_model_on_as_many_images():
    resolved = resolve_study(POOLS, BUDGET, DIGITS, Overrides())
    assert {arm: resolved.design.compared_with(arm) for arm in resolved.arms} == {
        f"{pool}, {share}": f"cls, {share}" for share in ("100 %", "30 %", "10 %") for pool in ("cls", "gap")
    }


def test_a_model_that_cannot_be_as_large_as_the_base_is_left_out_and_that_is_said():
    study = load_study("data_size")
    small = resolve_study(study, BUDGETS["smoke"], DIGITS, Overrides())
    assert not any(arm.startswith("ResNet (BiT)") for arm in small.arms)
    assert list(small.remarks) == ["ResNet (BiT) is left out, as no width brings its MACs within a tenth of the base's"]
    larger = resolve_study(study, BUDGETS["standard"], describe("digits"), Overrides())
    models = {arm.rpartition(", ")[0] for arm in larger.arms}
    assert models == {"ViT", "ResNet (BiT)", "ResNet", "MLP-Mixer"} and not larger.remarks
