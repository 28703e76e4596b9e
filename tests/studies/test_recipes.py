"""Is a recipe what its authors published, and does it keep the size that a budget or a user chooses?"""

from __future__ import annotations

import pytest

from vitbench.commands import arguments
from vitbench.config import DataConfig, RunConfig
from vitbench.data import describe
from vitbench.data.info import DataInfo
from vitbench.studies import BUDGETS, STUDIES, Arm, Overrides, Study, load_study, make_plan
from vitbench.studies.recipes import RECIPES, recipe_named
from vitbench.studies.resolved_study import resolve_study
from vitbench.variants import variant

IMAGENET = DataInfo(
    dataset="imagenet",
    image_size=(224, 224),
    in_channels=3,
    num_classes=1000,
    train_images=1_281_167,
    test_images=50_000,
    crop_padding=28,
    flip=True,
)
STEPS_OF_AN_EPOCH = 1_281_167 // 1024


def run_of(recipe: str, size: str = "B/16", **train: object) -> RunConfig:
    """A run of it alone, on ImageNet."""
    named, base = RECIPES[recipe], variant(size)
    data = DataConfig(dataset="imagenet", crop_padding=28, flip=True).replace(**named.data_on(IMAGENET))
    return RunConfig(model=base.replace(**named.model_on(base)), data=data, train=named.alone(train))


def test_deits_is_its_table():
    # Touvron et al. 2021, Table 9, column DeiT-B.
    run = run_of("deit")
    train, data = run.train, run.data
    assert (train.epochs, train.batch_size, train.optimizer, train.weight_decay) == (300, 1024, "adamw", 0.05)
    assert train.learning_rate == 0.0005 * 1024 / 512 and train.schedule == "cosine"
    assert train.warmup_fraction * train.epochs == pytest.approx(5) and train.label_smoothing == 0.1
    assert train.clip_norm is None and train.ema_decay is None and train.loss == "cross_entropy"
    assert (run.model.drop_path, run.model.dropout, run.model.pool) == (0.1, 0.0, "cls")
    assert (data.mixup, data.cutmix, data.random_erasing, data.repeated_augmentation) == (0.8, 1.0, 0.25, 3)
    assert data.auto_augment == "rand-m9-mstd0.5-inc1" and data.crop_interpolation == "bicubic"
    # Their code: --min-lr, --eval-crop-ratio and timm's RandomResizedCropAndInterpolation.
    assert train.min_learning_rate == 1e-5 and data.eval_crop == 224 / 256 and data.crop_scale == (0.08, 1)
    assert data.crop_padding == 0 and data.flip and not data.color_jitter


@pytest.mark.parametrize(("batch_size", "rate"), [(512, 5e-4), (256, 2.5e-4), ("1024", 1e-3)])
def test_deits_learning_rate_is_in_proportion_to_the_batch_unless_one_is_set(batch_size, rate):
    assert run_of("deit", batch_size=batch_size).train.learning_rate == pytest.approx(rate)
    assert run_of("deit", batch_size=batch_size, learning_rate=7e-4).train.learning_rate == 7e-4
    assert run_of("deit3", batch_size=batch_size).train.learning_rate == 3e-3  # --unscale-lr


def test_better_vits_is_its_configuration():
    # big_vision, configs/vit_s16_i1k.py.
    run = run_of("better-vit", "S/16")
    train, data = run.train, run.data
    assert (train.epochs, train.batch_size, train.learning_rate, train.clip_norm) == (90, 1024, 1e-3, 1.0)
    assert train.warmup_fraction * 90 * STEPS_OF_AN_EPOCH == pytest.approx(10_000, rel=5e-3)
    assert (train.label_smoothing, train.loss, train.min_learning_rate) == (0, "cross_entropy", 0)
    assert (run.model.pool, run.model.position, run.model.head) == ("gap", "sincos_2d", "linear")
    assert (data.mixup, data.cutmix, data.eval_crop, data.crop_scale) == (0.2, 0, 224 / 256, (0.05, 1))
    assert data.crop_interpolation == "bilinear" and data.repeated_augmentation == 1 and not data.random_erasing


def test_a_step_of_better_vits_at_the_peak_shrinks_weights_by_its_wd():
    # big_vision adds wd · weights after the learning rate, so that a step at the peak takes 1e-4 of a weight.
    torch = pytest.importorskip("torch")
    from vitbench.training.optimizer import build_optimizer

    model = torch.nn.Sequential(torch.nn.Linear(3, 2)).double()
    (layer,) = model
    before = layer.weight.detach().clone()
    optimizer = build_optimizer(model, RECIPES["better-vit"].train)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before * (1 - 1e-4), rtol=1e-10, atol=0)
    assert all(group["betas"] == (0.9, 0.999) for group in optimizer.param_groups)


@pytest.mark.parametrize(("size", "drop_path"), [("S/16", 0.05), ("B/16", 0.2), ("L/16", 0.45), ("H/14", 0.6)])
def test_deit_3s_is_its_commands(size, drop_path):
    # README_revenge.md, 'Training on ImageNet-1k'.
    run = run_of("deit3", size)
    train, data = run.train, run.data
    assert run.model.drop_path == drop_path and run.model.layer_scale == 1e-4
    assert (train.epochs, train.batch_size, train.optimizer, train.weight_decay) == (800, 8 * 256, "lamb", 0.05)
    assert (train.learning_rate, train.loss, train.label_smoothing) == (3e-3, "binary_cross_entropy", 0)
    assert train.warmup_fraction * train.epochs == pytest.approx(5)
    assert (data.mixup, data.cutmix, data.random_erasing, data.repeated_augmentation) == (0.8, 1.0, 0, 3)
    assert (data.auto_augment, data.color_jitter, data.eval_crop) == ("3a", 0.3, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_where_it_is_from_and_what_is_not_there(name):
    recipe = RECIPES[name]
    assert recipe.name == name and recipe.summary and "et al." in recipe.source and recipe.not_here


def test_images_are_mirrored_only_where_that_leaves_them_what_they_are():
    for recipe in RECIPES.values():
        assert not recipe.data_on(describe("digits"))["flip"] and recipe.data_on(describe("torch/cifar10"))["flip"]


def test_shapes_are_evaluated_whole_as_they_cannot_be_resized():
    for recipe in RECIPES.values():
        assert recipe.data_on(describe("shapes/quadrant"))["eval_crop"] == 1
    assert RECIPES["deit"].data_on(describe("digits"))["eval_crop"] == 0.875
    study = Study(question="?", source="?", baseline=Arm("a"), arms=[Arm("b", eval_crop=0.9)])
    with pytest.raises(ValueError, match=r"arm 'b': eval_crop 0\.9 would blur the cells of shapes"):
        make_plan(study, BUDGETS["quick"], describe("shapes"), Overrides())


def test_a_name_that_stands_for_none_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="recipe 'better_vit' is not known; did you mean better-vit"):
        recipe_named("better_vit")
    assert tuple(RECIPES) == arguments.RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_study_with_a_recipe_keeps_the_size_of_its_budget(recipe):
    budget, info, study = BUDGETS["standard"], describe("torch/cifar10"), load_study("pooling")
    plain = resolve_study(study, budget, info, Overrides())
    resolved = resolve_study(study, budget, info, Overrides(recipe=recipe))
    of_recipe, of_budget = resolved.arms["cls"], plain.arms["cls"]
    for field in ("epochs", "batch_size", "precision", "compile"):
        assert getattr(of_recipe.train, field) == getattr(of_budget.train, field)
    assert (resolved.variant, resolved.seeds, resolved.train_images) == (plain.variant, plain.seeds, plain.train_images)
    assert of_recipe.train.weight_decay == RECIPES[recipe].train.weight_decay
    assert of_recipe.data.auto_augment == RECIPES[recipe].data["auto_augment"]
    assert of_recipe.model.pool == "cls"  # what an arm says goes before what the recipe says
    scale = {"deit3": 3}.get(recipe, 1)
    assert resolved.design.learning_rates == pytest.approx([rate * scale for rate in plain.design.learning_rates])


def test_options_go_before_the_recipe():
    overrides = Overrides(recipe="deit3", learning_rates=(1e-3,), train={"epochs": 2, "batch_size": 64})
    resolved = resolve_study(load_study("pooling"), BUDGETS["quick"], describe("digits"), overrides)
    assert resolved.design.learning_rates == (1e-3,)
    assert {(run.train.epochs, run.train.batch_size) for run in resolved.arms.values()} == {(2, 64)}


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_can_be_had_with_every_recipe(study, recipe):
    for dataset in ("digits", "torch/cifar10"):
        assert make_plan(load_study(study), BUDGETS["quick"], describe(dataset), Overrides(recipe=recipe)).runs


def test_an_arm_that_the_recipe_makes_equal_to_another_is_left_out_and_said(vitbench, tmp_path):
    said = vitbench("plan", "recipe", "--recipe", "deit", "--data", "torch/cifar10", "--results", tmp_path)
    assert said.status == 0
    assert "arm 'cutmix' is left out: with recipe deit it is 'recipe'" in said.out
    assert "recipe  torch/cifar10  mixup" in said.out and "recipe  torch/cifar10  cutmix" not in said.out


def grid_of(study: Study, **asked: object) -> tuple[float, ...]:
    """Learning rates of its baseline under DeiT III's recipe."""
    overrides = Overrides(recipe="deit3", **asked)
    return resolve_study(study, BUDGETS["quick"], describe("torch/cifar10"), overrides).design.learning_rates


def test_lambs_learning_rates_are_not_another_optimizers():
    """`quick` has a grid of 1, 2 and 4 e-3; LAMB gets it times 3."""
    plain, times_3 = (1e-3, 2e-3, 4e-3), (3e-3, 6e-3, 1.2e-2)
    assert grid_of(load_study("position_pooling")) in (times_3, times_3[1:2])
    assert grid_of(load_study("optimizer")) == plain  # its baseline is AdamW
    assert grid_of(load_study("optimizer"), learning_rates=(5e-3,)) == (5e-3,)
    study = Study(question="?", source="?", baseline=Arm("a"), arms=[Arm("b", pool="gap")], tuning="grid")
    assert grid_of(study) == times_3
    assert grid_of(study, train={"optimizer": "adamw"}) == plain


def test_what_a_study_sets_in_place_of_the_recipes_is_said():
    info, budget = describe("torch/cifar10"), BUDGETS["quick"]
    deit = resolve_study(load_study("recipe"), budget, info, Overrides(recipe="deit"))
    assert deit.design.base["clip_norm"] == 1.0
    said = [remark for remark in deit.remarks if "recipe deit's" in remark]
    assert said == ["the study's own warmup_fraction 0.1, clip_norm 1 take the place of recipe deit's: 0.0166667, none"]
    for study in ("pooling", "recipe"):
        asked = Overrides(recipe="deit", train={"clip_norm": 2.0, "warmup_fraction": 0.2})
        resolved = resolve_study(load_study(study), budget, info, asked)
        assert not any("recipe deit's" in remark for remark in resolved.remarks)


@pytest.mark.parametrize("command", [("plan", "pooling"), ("run", "pooling"), ("train", "Micro/2")])
def test_an_unknown_recipe_is_a_wrong_request(vitbench, command, tmp_path):
    said = vitbench(*command, "--recipe", "deit2", "--results", tmp_path)
    assert said.status == 2 and "recipe 'deit2' is not known; use deit, better-vit, deit3" in said.err


def test_list_names_the_recipes(vitbench):
    said = vitbench("list").out
    assert all(f"  {name} " in said and recipe.not_here in said for name, recipe in RECIPES.items())
