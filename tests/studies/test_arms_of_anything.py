"""Arms that differ in the recipe, the data or the grid of learning rates: what runs they come to, and what designs say."""

import json

import pytest

from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, make_plan
from vitbench.studies.choice import base_of, environment_key
from vitbench.studies.resolved_study import resolve_study

DIGITS = describe("digits")
QUICK = BUDGETS["quick"]


def study_of(*arms, **fields):
    return Study("?", "", Arm("as it is"), arms, name="mine", **fields)


def resolved(*arms, asked=None, budget=QUICK, **fields):
    return resolve_study(study_of(*arms, **fields), budget, DIGITS, asked or Overrides())


def test_an_arm_differs_from_the_baseline_in_the_fields_that_it_names_and_nothing_else():
    runs = resolved(
        Arm("smoothing", label_smoothing=0.1),
        Arm("mixup", mixup=0.2),
        Arm("half the batch", batch_size=32, pool="gap"),
        Arm("twice as long", epochs=2),
    ).arms
    base = runs["as it is"]
    assert runs["smoothing"] == base.replace(train=base.train.replace(label_smoothing=0.1))
    assert runs["mixup"] == base.replace(data=base.data.replace(mixup=0.2))
    half = runs["half the batch"]
    assert (half.train, half.model) == (base.train.replace(batch_size=32), base.model.replace(pool="gap"))
    assert runs["twice as long"] == base.replace(train=base.train.replace(epochs=2 * base.train.epochs))


def test_the_design_says_in_which_fields_each_arm_differs_from_the_base_and_what_the_base_has():
    design = resolved(
        Arm("smoothing", label_smoothing=0.1),
        Arm("gap, as the base else", pool="gap", batch_size=64),
        Arm("larger", image_size=16, patch_size=4, crop_scale=(0.5, 1.0)),
        Arm("twice as long", epochs=2),
        Arm("other", timm="resnet18", options={"layers": [1, 1]}, flip=True),
    ).design
    assert design.changes == {
        "smoothing": {"label_smoothing": 0.1},
        "gap, as the base else": {"pool": "gap"},
        "larger": {"image_size": 16, "patch_size": 4, "crop_scale": [0.5, 1.0]},
        "twice as long": {"epochs": 10},
        "other": {"timm": "resnet18", "options": {"layers": [1, 1]}, "flip": True},
    }
    assert design.base == {"label_smoothing": 0.0, "crop_scale": None, "epochs": 5, "flip": False}
    assert design.epochs_differ and not design.epochs_are_planned
    assert type(design).model_validate(json.loads(design.to_json())) == design


def test_a_study_of_models_alone_is_of_the_kind_that_it_was_before_arms_could_differ_in_more():
    before = resolved(Arm("gap", pool="gap")).design
    after = resolved(Arm("gap", pool="gap"), Arm("longer", epochs=2), Arm("smoothing", label_smoothing=0.1)).design
    assert before.kind == after.kind


def test_arms_of_one_study_have_one_base_whatever_they_change(record_of):
    study = resolved(
        Arm("smoothing", label_smoothing=0.1, crop_scale=(0.5, 1.0)), Arm("longer", epochs=2), Arm("gap", pool="gap")
    )
    bases = {base_of(record_of(study, arm)) for arm in study.arms}
    assert bases == {(study.arms["as it is"].train, study.arms["as it is"].data)}
    older = study.design.model_copy(update={"changes": {}, "base": {}})
    record = record_of(study, "longer").model_copy(update={"design": older})
    assert base_of(record) == (record.config.train, record.config.data)


def test_arms_have_one_base_where_a_field_of_it_is_a_pair_which_designs_have_as_a_list(record_of):
    pair = {"crop_scale": (0.5, 1.0)}
    study = resolved(Arm("no crop", crop_scale=None), Arm("narrow", crop_scale=(0.2, 0.4)), data=pair)
    assert study.design.base["crop_scale"] == [0.5, 1.0]
    bases = {base_of(record_of(study, arm)) for arm in study.arms}
    assert bases == {(study.arms["as it is"].train, study.arms["as it is"].data)}


@pytest.fixture
def record_of():
    from tests.made_up_records import make_record

    def make(study, arm, **environment):
        made = make_record(arm=arm)
        return made.model_copy(
            update={
                "config": study.arms[arm],
                "design": study.design,
                "environment": made.environment.model_copy(update=environment),
            }
        )

    return make


def test_records_of_other_image_sizes_or_precisions_may_be_compared_where_arms_differ_in_these(record_of):
    for study, other in (
        (resolved(Arm("larger", image_size=16)), {"data_sha256": "b" * 64}),
        (resolved(Arm("bf16", precision="bf16")), {"precision": "bf16", "kernels": "native"}),
        (resolved(Arm("compiled", compile="on")), {"compiled": True}),
    ):
        arm = [*study.arms][1]
        keys = {environment_key(r, r.design) for r in (record_of(study, "as it is"), record_of(study, arm, **other))}
        assert len(keys) == 1
        plain = resolved(Arm("gap", pool="gap"))
        keys = {environment_key(r, r.design) for r in (record_of(plain, "as it is"), record_of(plain, "gap", **other))}
        assert len(keys) == 2


def test_crops_are_resampled_to_an_arms_image_size_unless_the_arm_gives_them_itself():
    info = DIGITS.model_copy(update={"crop_padding": 1})
    arms = Arm("larger", image_size=16), Arm("set", image_size=16, crop_padding=1), Arm("no crop", crop_padding=0)
    study = resolve_study(study_of(*arms), QUICK, info, Overrides())
    assert [run.data.crop_padding for run in study.arms.values()] == [1, 2, 1, 0]
    assert study.design.changes["larger"] == {"image_size": 16, "crop_padding": 2}


def test_a_fraction_has_as_many_steps_by_the_batches_of_the_arm_itself():
    runs = resolved(Arm("half", fraction=0.5, batch_size=32), Arm("half the passes", fraction=0.5, epochs=0.5)).arms
    images = resolved(Arm("gap", pool="gap")).train_images
    half, passes = runs["half"], runs["half the passes"]
    steps = half.train.num_steps(half.data.train_images // 32)
    assert (half.data.train_images, steps) == (round(images / 2), 5 * (images // 32))
    assert passes.train.num_steps(passes.data.train_images // 64) == round(2.5 * (images // 64))


def test_fractions_leave_out_those_of_less_than_the_arms_own_batch():
    study = Study("?", "", Arm("small"), [Arm("large", batch_size=256)], name="mine", fractions=(1.0, 0.1))
    arms = [*resolve_study(study, QUICK, DIGITS, Overrides()).arms]
    assert arms == ["small, 100 %", "large, 100 %", "small, 10 %"]


def test_what_goes_on_from_an_arm_has_its_own_recipe_after_the_recipe_of_that_arm():
    study = resolved(
        Arm("smoothing", label_smoothing=0.1, learning_rate_scale=10),
        Arm("then mixup", start="smoothing", epochs=0.5, mixup=0.2, learning_rate_scale=0.1),
        Arm("evaluated", start="smoothing", epochs=0, image_size=16),
    )
    run = study.config("then mixup", (2e-3,), 1)
    assert (run.train.label_smoothing, run.data.mixup, run.train.learning_rate) == (0.0, 0.2, 2e-4)
    assert run.pretraining == study.config("smoothing", (2e-3,), 1)
    assert run.pretraining.train.learning_rate == 2e-2 and run.pretraining.data.mixup == 0
    evaluated = study.config("evaluated", (2e-3,), 1)
    assert evaluated.train.learning_rate == evaluated.pretraining.train.learning_rate == 2e-2


def test_costs_are_by_the_arms_own_epochs_and_batches():
    plan = make_plan(study_of(Arm("longer", epochs=2), Arm("large", batch_size=512)), QUICK, DIGITS, Overrides(seeds=1))
    flops = {run.arm: run.training_flops for run in plan.runs}
    images = plan.runs[0].train_images
    assert flops["longer"] == 2 * flops["as it is"]
    assert flops["large"] * (images // 64 * 64) == flops["as it is"] * (images // 512 * 512)


def test_a_batch_of_one_arm_that_is_larger_than_the_images_is_refused():
    with pytest.raises(ValueError, match="arm 'large': batch_size 512 is more than the 200 training images"):
        make_plan(study_of(Arm("large", batch_size=512)), QUICK, DIGITS, Overrides(train_images=200))


def test_arms_are_the_same_only_where_model_recipe_and_data_are():
    resolved(Arm("gap", pool="gap"), Arm("gap, smoothing", pool="gap", label_smoothing=0.1))
    with pytest.raises(ValueError, match="arms 'as it is' and 'plain' are the same model, recipe and data on Micro/2"):
        resolved(Arm("plain", label_smoothing=0.0))
    resolved(Arm("smaller rates", learning_rate_scale=0.1))


def test_an_arm_that_sets_what_the_budget_has_already_is_told_so_and_what_to_do():
    with pytest.raises(
        ValueError, match=r"where label_smoothing is 0\.0 already; change that for all arms by Study\(train="
    ):
        resolved(Arm("no smoothing", label_smoothing=0.0))


def test_a_value_without_meaning_for_the_recipe_or_run_names_its_arm():
    for arm, says in (
        (Arm("odd", batch_size=63, mixup=0.2), "arm 'odd': batch_size 63 is odd, but mixup and cutmix pair images"),
        (Arm("odd", min_learning_rate=0.1), "arm 'odd': min_learning_rate 0.1 is more than learning_rate"),
        (Arm("odd", crop_padding=100), "arm 'odd': crop_padding 100 is more than image_size"),
        (Arm("odd", layer_decay=0.5, timm="resnet18"), "arm 'odd': layer_decay 0.5 is for the blocks of a ViT"),
    ):
        with pytest.raises(ValueError, match=says) as refusal:
            resolved(arm)
        assert str(refusal.value).count("arm 'odd'") == 1


def test_a_field_that_arms_differ_in_is_not_tuned_whatever_it_is_of():
    for field in ("weight_decay", "mixup"):
        with pytest.raises(ValueError, match=f"tune '{field}': the arms of study 'mine' differ in it"):
            resolved(Arm("other", **{field: 0.3}), asked=Overrides(tune={field: (0.1, 0.2)}))


def test_a_study_changes_recipe_and_data_of_all_its_arms_which_may_go_over_it():
    arms = Arm("none", mixup=0.0), Arm("plain SGD", optimizer="momentum", momentum=0.0)
    study = resolved(*arms, data={"mixup": 0.2}, train={"optimizer": "sgd", "momentum": 0.9})
    assert [run.data.mixup for run in study.arms.values()] == [0.2, 0.0, 0.2]
    assert [run.train.momentum for run in study.arms.values()] == [0.9, 0.9, 0.0]
    assert study.design.changes["none"] == {"mixup": 0.0} and study.design.base["mixup"] == 0.2
    for fields, field in (
        ({"train": {"momentum": 0.9}}, "momentum"),
        ({"data": {"auto_augment": "rand-m9", "color_jitter": 0.4}}, "color_jitter"),
    ):
        with pytest.raises(ValueError, match=f"study 'mine': .*{field}"):
            resolved(Arm("gap", pool="gap"), **fields)


def test_what_is_asked_for_yields_to_the_arms_that_set_it_themselves_and_a_remark_says_so():
    study = resolved(Arm("large", batch_size=256), asked=Overrides(train={"batch_size": 128}))
    assert [run.train.batch_size for run in study.arms.values()] == [128, 256]
    assert study.remarks == ["batch_size 128 does not hold for 'large', as the study gives batch_size there"]
    assert resolved(Arm("gap", pool="gap"), asked=Overrides(train={"batch_size": 128})).remarks == []


def test_training_time_is_not_made_equal_where_an_arm_changes_what_is_not_timed():
    with pytest.raises(ValueError, match="match 'time': arm 'other' changes optimizer, whose time is not measured"):
        resolved(Arm("other", optimizer="sgd"), asked=Overrides(match="time"))
    resolved(Arm("other", optimizer="sgd"), asked=Overrides(match="flops"))


@pytest.mark.parametrize("match", ["flops", "time"])
def test_recipes_and_data_can_be_matched_but_not_what_says_itself_for_how_long_it_trains(match):
    asked = Overrides(match=match)
    arms = Arm("gap", pool="gap"), Arm("large", batch_size=256), Arm("mixup", mixup=0.2)
    study = resolved(*arms, asked=asked)
    assert study.arms["large"].train.epochs == study.arms["mixup"].train.epochs == 5
    assert "epochs" not in study.design.changes["large"]
    for arm in (Arm("longer", epochs=2), Arm("half", fraction=0.5)):
        with pytest.raises(ValueError, match=f"match '{match}': study 'mine' says itself for how long"):
            resolved(arm, asked=asked)


def test_runs_that_were_planned_before_arms_could_differ_in_recipes_have_the_same_identity():
    run = resolved(Arm("gap", pool="gap"), Arm("smoothing", label_smoothing=0.1)).config("gap", (2e-3,), 0)
    data = DataConfig(dataset="digits")
    train = TrainConfig(epochs=5, batch_size=64, learning_rate=2e-3)
    assert run.run_id == RunConfig(model=run.model, data=data, train=train).run_id


@pytest.mark.parametrize("field", ["auto_augment", "color_jitter"])
def test_colours_of_images_of_more_than_8_bits_are_refused_while_planning(field):
    deep = DIGITS.model_copy(update={"dtype": "uint16"})
    values = {"auto_augment": "rand-m9", "color_jitter": 0.4}
    study = study_of(Arm("colours", **{field: values[field]}), Arm("crops", crop_scale=(0.5, 1), crop_padding=0))
    with pytest.raises(
        ValueError, match=f"arm 'colours': {field} is for images of 8 bits, and those of digits are uint16"
    ):
        resolve_study(study, QUICK, deep, Overrides())
    assert resolve_study(study, QUICK, DIGITS, Overrides())
    assert resolve_study(study_of(study.arms[1]), QUICK, deep, Overrides())


def test_arms_that_the_recipes_muon_does_not_train_are_named():
    muon = {"train": {"optimizer": "muon"}}
    said = resolved(Arm("ResNet", timm="resnet18"), Arm("gap", pool="gap"), **muon).remarks
    assert said == [
        "AdamW alone trains 'ResNet', as Muon takes the linear layers of our ViT's blocks; --optimizer adamw trains all arms "
        "alike"
    ]
    assert resolved(Arm("ResNet", timm="resnet18", optimizer="adamw"), **muon).remarks == []
    assert resolved(Arm("gap", pool="gap"), **muon).remarks == []
