"""Does every study plan on every kind of data, with equal tuning, and does the plan know what is done and what it costs?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vitbench.analysis.comparison.judge import judge
from vitbench.costs import count
from vitbench.data import DataInfo, describe
from vitbench.records import RecordStore
from vitbench.studies import BUDGETS, STUDIES, Arm, Overrides, Study, load_study, make_plan
from vitbench.studies.budgets import base_patch
from vitbench.studies.estimate import estimate
from vitbench.studies.plan import recorded
from vitbench.variants import variant

DATASETS = ("digits", "shapes", "torch/fashion_mnist", "torch/cifar10")
EVERYWHERE = [
    pytest.param(study, dataset, budget, id=f"{study}, {dataset}, {budget}")
    for study in STUDIES
    for dataset in DATASETS
    for budget in ("smoke", "quick", "standard")
]
TWO_POOLS = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], name="two_pools")


def flat(config) -> dict[str, object]:
    return {f"{part}.{k}": v for part in ("model", "data", "train") for k, v in getattr(config, part)}


@pytest.mark.parametrize(("study", "dataset", "budget"), EVERYWHERE)
def test_arms_differ_from_the_baseline_only_in_the_fields_that_they_name(study, dataset, budget):
    info = describe(dataset)
    runs = make_plan(load_study(study), BUDGETS[budget], info).runs
    shape = {"image_size": info.image_size, "in_channels": info.in_channels, "num_classes": info.num_classes}
    base = variant(BUDGETS[budget].scale_on(dataset).variant_on(info.image_size), **shape)
    on_fractions = bool(load_study(study).fractions)
    arms = {
        arm.name: arm
        for arm in load_study(study).all_arms(base)
        if not on_fractions or arm.fraction * runs[0].design.train_images >= runs[0].config.train.batch_size
        if arm.apply(base).image_hw[0] % info.size_step == 0
    }
    baseline = runs[0].design.baseline
    configs = {run.arm: flat(run.config) for run in reversed(runs)}  # of each arm the first run: one rate, one seed
    assert list(arms) == list(runs[0].design.arms) and set(configs) == set(arms)
    for arm, config in configs.items():
        differ = {field for field in config if config[field] != configs[baseline].get(field)}
        if arms[arm].timm is not None:  # another model, for the same images
            shape = {"model.image_size", "model.in_channels", "model.num_classes"}
            differ = {field for field in differ if not field.startswith("model.") or field in shape} | {"model.timm"}
        changes = arms[arm].changes | arms[baseline].changes | {"timm": ""}
        named = {f"{part}.{field}" for part in ("model", "train", "data") for field in changes}
        if arms[arm].learning_rate_scale != 1:
            named |= {"train.learning_rate"}
        if arms[arm].fraction < 1:
            named |= {"data.train_images", "train.epochs"}
        if arms[arm].epochs != 1:
            named |= {"train.epochs"}
        if "image_size" in arms[arm].changes:  # by how much, test_resolution.py has
            named |= {"data.crop_padding"}
        assert differ <= named, arm
        assert differ or arm == baseline


@pytest.mark.parametrize(("study", "dataset", "budget"), EVERYWHERE)
def test_every_arm_gets_the_same_rates_and_seeds_and_no_run_comes_twice(study, dataset, budget):
    runs = make_plan(load_study(study), BUDGETS[budget], describe(dataset)).runs
    scales = runs[0].design.learning_rate_scales
    tuned = {
        arm: sorted(
            (float(f"{run.config.train.learning_rate / scales.get(arm, 1):.6g}"), run.config.seed)
            for run in runs
            if run.arm == arm
        )
        for arm in runs[0].design.arms
    }
    seeds = range(
        BUDGETS[budget].tuning_seeds or BUDGETS[budget].seeds_on(dataset)
    )  # the others follow once there are results
    expected = sorted((rate, seed) for rate in runs[0].design.learning_rates for seed in seeds)
    assert all(pairs == expected for pairs in tuned.values())
    assert len({run.run_id for run in runs}) == len(runs)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_says_what_it_asks_and_where_the_question_comes_from(study):
    loaded = load_study(study)
    assert loaded.question.endswith("?") and loaded.source and loaded.name == study


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("budget", ["smoke", "quick", "standard"])
def test_arms_of_the_patch_study_divide_the_image(dataset, budget):
    info = describe(dataset)
    runs = make_plan(load_study("patch_size"), BUDGETS[budget], info).runs
    sizes = {run.config.model.patch_size for run in runs}
    assert all(side % size == 0 for side in info.image_size for size in sizes)
    assert len(sizes) >= 2


@pytest.mark.parametrize("dataset", ["digits", "shapes/majority"])
@pytest.mark.parametrize(("stem", "within"), [("ResNet", 0.15), ("conv", 0.15)])
def test_a_stem_of_equal_macs_is_nearly_that_as_torch_counts_them(dataset, stem, within):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from vitbench.models import build_model

    runs = {run.arm: run for run in make_plan(load_study("hybrid"), BUDGETS["quick"], describe(dataset)).runs}
    flops = {}
    of_equal_macs = f"{stem} stem, equal MACs"
    for arm in ("patch stem", of_equal_macs):
        config = runs[arm].config.model
        model = build_model(config, seed=0).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, config.in_channels, *config.image_hw))
        flops[arm] = counter.get_total_flops()
    assert flops[of_equal_macs] == pytest.approx(flops["patch stem"], rel=within)


@pytest.mark.parametrize(
    ("image_size", "max_grid", "patch"),
    [
        ((8, 8), 4, 2),  # 4 × 4
        ((32, 32), 8, 4),
        ((32, 32), 4, 8),
        ((28, 28), 8, 4),  # 7 × 7; at 2 pixels it is 14 × 14
        ((28, 28), 4, 4),  # 7 × 7 still, but 8 does not divide 28
        ((224, 224), 14, 16),
        ((32, 64), 8, 8),  # the longer side decides: 4 × 8
        ((48, 16), 4, 16),  # 3 × 1; at 8 pixels it is 6 × 2
        ((15, 15), 4, 5),  # no power of two but 1: 3 × 3 patches of 5
        ((9, 6), 4, 3),
        ((13, 13), 4, 13),  # a prime: one patch
        ((1, 1), 4, 1),
        ((4, 4), 8, 1),  # already small enough
    ],
)
def test_the_base_patch_is_the_smallest_power_of_two_that_gives_few_enough_patches(image_size, max_grid, patch):
    assert base_patch(image_size, max_grid=max_grid) == patch


def test_seeds_are_outermost_so_that_a_stopped_study_has_whole_seeds():
    runs = make_plan(
        TWO_POOLS, BUDGETS["smoke"], describe("digits"), Overrides(seeds=3, learning_rates=(2e-3, 1e-3))
    ).runs
    order = [(run.config.seed, run.config.train.learning_rate, run.arm) for run in runs]
    assert order == [(seed, rate, arm) for seed in range(3) for rate in (1e-3, 2e-3) for arm in ("cls", "gap")]


def test_what_is_set_by_hand_goes_over_the_budget():
    (run, _) = make_plan(
        TWO_POOLS,
        BUDGETS["smoke"],
        describe("digits"),
        Overrides(
            variant="Micro/4",
            seeds=1,
            train={"epochs": 7, "batch_size": 16},
            train_images=100,
            learning_rates=(0.5, 0.5),
        ),
    ).runs
    config = run.config
    assert (config.model.width, config.model.patch_size, config.model.image_size) == (64, 4, 8)
    assert (config.train.epochs, config.train.batch_size, config.train.learning_rate) == (7, 16, 0.5)
    assert config.data.train_images == run.train_images == 100
    assert run.training_flops == 6 * 7 * 96 * macs_per_image(run)  # six whole batches of 16


def macs_per_image(run) -> int:
    from vitbench.costs import count

    return count(run.config.model).macs


@pytest.mark.parametrize("train_images", [0, -3])
def test_a_subset_of_no_images_is_refused_and_not_taken_for_none_given(train_images):
    with pytest.raises(ValueError, match="train_images"):
        make_plan(TWO_POOLS, BUDGETS["smoke"], describe("digits"), Overrides(train_images=train_images))


def test_a_subset_as_large_as_the_whole_is_the_whole():
    everything = make_plan(TWO_POOLS, BUDGETS["quick"], describe("digits")).runs
    capped = make_plan(TWO_POOLS, BUDGETS["quick"], describe("digits"), Overrides(train_images=10**6)).runs
    assert [run.run_id for run in capped] == [run.run_id for run in everything]
    assert everything[0].train_images == 1198 - 120  # a tenth of digits is for validation


def test_two_arms_that_are_the_same_model_are_refused():
    twins = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("token", pool="cls")], name="twins")
    with pytest.raises(ValueError, match="'cls' and 'token' are the same model"):
        make_plan(twins, BUDGETS["smoke"], describe("digits"))


def record_of(run, made_up, **fields):
    return made_up(study=run.study, arm=run.arm, config=run.config, **fields)


def test_completed_and_diverged_runs_are_done_and_failed_ones_are_tried_again(made_up):
    runs = make_plan(TWO_POOLS, BUDGETS["smoke"], describe("digits"), Overrides(seeds=3)).runs
    outcomes = ("completed", "diverged", "failed")
    records = [record_of(run, made_up, outcome=outcome) for run, outcome in zip(runs, outcomes, strict=False)]
    assert recorded(runs, records) == {runs[0].run_id, runs[1].run_id}
    records.append(record_of(runs[2], made_up, outcome="completed"))
    assert recorded(runs, records) == {run.run_id for run in runs[:3]}
    records.append(record_of(runs[2], made_up, outcome="failed"))
    assert runs[2].run_id in recorded(runs, records)


def test_a_record_of_another_study_or_arm_settles_nothing(made_up):
    run = make_plan(TWO_POOLS, BUDGETS["smoke"], describe("digits")).runs[0]
    assert recorded([run], [made_up(study="another", arm=run.arm, config=run.config)]) == set()
    assert recorded([run], [made_up(study=run.study, arm="another", config=run.config)]) == set()


def test_the_estimate_takes_the_rate_of_this_machine_alone(made_up):
    runs = make_plan(TWO_POOLS, BUDGETS["smoke"], describe("digits"), Overrides(seeds=1)).runs
    here = {"cpu": "Quick CPU", "cpu_cores": 4}
    macs = macs_per_image(runs[0])
    records = [
        record_of(runs[0], made_up, environment=here, cost={"train_images_per_second": 1000.0}),
        record_of(runs[0], made_up, environment=here, cost={"train_images_per_second": 3000.0}),
        record_of(runs[0], made_up, environment=here, outcome="failed"),
        record_of(runs[0], made_up, cost={"train_images_per_second": 10.0}),
        record_of(runs[0], made_up, environment={**here, "cpu_cores": 8}, cost={"train_images_per_second": 10.0}),
    ]
    found = estimate(runs, records, cpu="Quick CPU", cpu_cores=4, workers=2)
    assert found.measured
    assert found.flops_per_second == pytest.approx(2000 * 6 * macs)  # the median of two; 3 × forward, 2 FLOPs a MAC
    assert found.training_flops == sum(6 * macs_per_image(run) * 256 for run in runs)
    assert found.hours == pytest.approx(found.training_flops / found.flops_per_second / 2 / 3600)


def test_the_estimate_takes_the_rate_of_the_models_that_are_most_like_those_planned(made_up):
    """A small model reaches fewer FLOP/s than a large one: each planned run has the rate of its own kind."""
    here = {"cpu": "Quick CPU", "cpu_cores": 4}
    runs = make_plan(TWO_POOLS, BUDGETS["smoke"], describe("digits"), Overrides(seeds=1)).runs
    run = runs[0]
    macs = macs_per_image(run)
    larger = run.config.model.replace(depth=12)
    rotary = run.config.model.replace(position="rope_2d", position_site="every_layer")

    def record(model, images_per_second, *, seed=0, **fields):
        config = run.config.replace(model=model, seed=seed)
        cost = {"train_images_per_second": images_per_second}
        return made_up(study=run.study, arm=run.arm, config=config, environment=here, cost=cost, **fields)

    records = [record(run.config.model, 1000.0), record(larger, 10_000.0), record(rotary, 10.0)]
    found = estimate([run], records, cpu="Quick CPU", cpu_cores=4, workers=1)
    assert found.flops_per_second == pytest.approx(1000 * 6 * macs)
    # Once a run, the latest 20 of them: older ones, of a study whose file is read later, and copies of a run do not count.
    old = [record(run.config.model, 1.0, seed=seed, finished="2026-01-01T00:00:00Z") for seed in range(30)]
    new = [record(run.config.model, 1000.0, seed=seed, finished="2026-02-01T00:00:00Z") for seed in range(100, 120)]
    copies = [old[0].model_copy(update={"finished": "2026-03-01T00:00:00Z", "taken_from": "pooling"})] * 50
    found = estimate([run], [*new, *old, *copies], cpu="Quick CPU", cpu_cores=4, workers=1)
    assert found.flops_per_second == pytest.approx(1000 * 6 * macs)
    only_others = estimate([run], records[1:], cpu="Quick CPU", cpu_cores=4, workers=1)
    assert only_others.flops_per_second == pytest.approx(10_000 * 6 * count(larger).macs)


def test_without_a_record_of_this_machine_the_estimate_says_that_it_assumes(made_up):
    runs = make_plan(TWO_POOLS, BUDGETS["smoke"], describe("digits")).runs
    found = estimate(runs, [made_up(cost={"train_images_per_second": 10.0})], cpu="Quick CPU", cpu_cores=4, workers=1)
    assert not found.measured and found.hours > 0


def test_compiling_is_planned_where_training_takes_long_enough():
    short = make_plan(
        load_study("pooling"), BUDGETS["quick"], describe("digits"), Overrides(seeds=1, train={"compile": "auto"})
    ).runs[0]
    assert 0 < short.training_flops < 2e13 and "pays from 20 TFLOP" in short.eager_on_cpu_because()
    epochs = round(2e13 / short.training_flops * short.config.train.epochs) + 1
    long = make_plan(
        load_study("pooling"),
        BUDGETS["quick"],
        describe("digits"),
        Overrides(seeds=1, train={"compile": "auto", "epochs": epochs}),
    ).runs[0]
    assert long.training_flops >= 2e13 and not long.eager_on_cpu_because()


def test_the_factorial_study_has_every_combination_once_and_says_which_arm_is_which():
    runs = make_plan(load_study("position_pooling"), BUDGETS["smoke"], describe("digits")).runs
    design = runs[0].design
    assert set(design.factors) == set(design.arms) == {run.arm for run in runs}
    cells = {(levels["position"], levels["pool"]) for levels in design.factors.values()}
    assert cells == {
        (position, pool) for position in ("1-D", "none", "1-D, every layer", "RoPE") for pool in ("cls", "gap")
    }
    assert design.factors[design.baseline] == {"position": "1-D", "pool": "cls"}
    named = {"1-D": "learned_1d", "none": "none", "1-D, every layer": "learned_1d", "RoPE": "rope_2d"}
    for run in runs:
        levels = design.factors[run.arm]
        assert (run.config.model.position, run.config.model.pool) == (named[levels["position"]], levels["pool"])


@pytest.mark.parametrize(
    ("factors", "says"),
    [
        ({"cls": {"pool": "cls"}}, "'gap', but not both"),
        ({"cls": {"pool": "cls"}, "gap": {"pool": "gap"}, "map": {"pool": "map"}}, "'map', but not both"),
        ({"cls": {"pool": "cls"}, "gap": {"stem": "patch"}}, "arm 'gap' has levels of \\['stem'\\]"),
    ],
)
def test_factors_that_do_not_fit_the_arms_are_refused(factors, says):
    with pytest.raises(ValueError, match=says):
        Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], name="s", factors=factors)


@pytest.mark.parametrize("budget", ["smoke", "quick"])
def test_a_patch_of_one_pixel_has_stems_that_it_can_have(budget):
    one_pixel = Overrides(variant="Nano/1", seeds=1)
    arms = set(make_plan(load_study("hybrid"), BUDGETS[budget], describe("digits"), one_pixel).runs[0].design.arms)
    assert not any(arm.startswith(("patch_norm", "conv")) for arm in arms) and "patch stem" in arms


REFERENCE = RecordStore(Path(__file__).parents[2] / "results" / "reference")


CIFAR10 = {"image_size": (32, 32), "in_channels": 3, "num_classes": 10, "train_images": 50_000, "test_images": 10_000}
"""What is known of it without its images, which do not ship."""


BEING_SETTLED = {("pooling", "cifar10")}
"""Whose open arms have more looks to come."""


@pytest.mark.parametrize("dataset", ["cifar10", "torch/fashion_mnist"])
@pytest.mark.parametrize("study", ["pooling", "position", "patch_size", "hybrid", "registers", "position_pooling"])
def test_what_is_committed_still_counts_as_done_and_leaves_nothing_to_run(study, dataset):
    """By the commands in results/README.md, grids grown by the step that `standard` allows."""
    records = [one for one in REFERENCE.read(study) if one.config.data.dataset.startswith(dataset)]
    name = records[0].config.data.dataset
    info = describe(name) if "/" in name else DataInfo(dataset=name, crop_padding=4, flip=True, **CIFAR10)
    rates = () if study == "pooling" else (2e-3, 4e-3, 8e-3)
    asked = {"variant": "Micro/4", "train": {"epochs": 4}, "train_images": 20_000, "learning_rates": rates}
    until = {} if study == "position_pooling" else {"until": "settled"}
    made = make_plan(load_study(study), BUDGETS["standard"], info, Overrides(**asked, **until), records, judge=judge)
    committed = {record.identity for record in records}
    if (study, dataset) in BEING_SETTLED:
        assert recorded(made.runs, records) == committed and made.later is not None
    else:
        assert recorded(made.runs, records) == {run.run_id for run in made.runs} == committed and made.later is None
    assert all(len(completed) >= 5 for completed in _seeds(records).values())


@pytest.mark.parametrize(
    ("study", "rates", "seeds", "tuning_seeds"),
    [
        ("scaling", (2e-3, 4e-3, 8e-3), 4, None),
        ("data_size", (1e-3, 2e-3, 4e-3, 8e-3, 16e-3), 3, 1),
        ("resolution", (2e-3, 4e-3, 8e-3), 4, 1),
    ],
)
def test_so_do_the_studies_of_one_data_set(study, rates, seeds, tuning_seeds):
    """These have records of choices on fewer seeds besides."""
    records = REFERENCE.read(study)
    (name,) = {record.config.data.dataset for record in records}
    info = describe(name) if "/" in name else DataInfo(dataset=name, crop_padding=4, flip=True, **CIFAR10)
    asked = Overrides(
        variant="Micro/4",
        train={"epochs": 4},
        train_images=20_000,
        learning_rates=rates,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
    )
    made = make_plan(load_study(study), BUDGETS["standard"], info, asked, records)
    assert made.later is None
    assert recorded(made.runs, records) == {run.run_id for run in made.runs}
    assert set(_seeds(records)) == set(made.runs[0].design.arms)
    assert all(len(completed) == seeds for completed in _seeds(records).values())


def _seeds(records):
    """Arm → seeds that it completed."""
    seeds = {}
    for record in records:
        seeds.setdefault(record.arm, set()).add(record.seed)
    return seeds


class OneTokenMore(nn.Module):
    def __init__(self, config: object) -> None:
        super().__init__()

    def forward(self, tokens: Tensor, block: int) -> Tensor:
        return torch.cat([tokens, tokens[:, :1]], dim=1)


def test_a_users_part_that_cannot_run_is_told_with_its_arm_before_anything_is_trained():
    study = Study(question="?", source="", baseline=Arm("a"), arms=[Arm("b", position=OneTokenMore)], name="two_arms")
    first, *_, last = make_plan(study, BUDGETS["smoke"], describe("digits")).runs
    assert first.training_flops > 0
    with pytest.raises(
        ValueError, match=r"^two_arms: arm 'b': position OneTokenMore@\w{8} gives \[1, \d+, \d+\], expected"
    ):
        _ = last.training_flops


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("variant", ["Micro/7", "Micro/1", "Micro/28"])
def test_on_patches_of_any_size_a_study_plans_or_says_in_a_line_why_not(study, variant):
    runs, refusal = [], ""
    try:
        runs = make_plan(
            load_study(study), BUDGETS["quick"], describe("torch/fashion_mnist"), Overrides(variant=variant)
        ).runs
    except ValueError as error:
        refusal = str(error)
    assert runs or study in refusal
    assert "validation error" not in refusal and "\n" not in refusal


def test_some_arms_alone_come_with_the_baseline_and_what_they_go_on_from():
    def arms(study, *names):
        plan = make_plan(load_study(study), BUDGETS["smoke"], describe("shapes"), Overrides(arms=names))
        assert {*plan.runs[0].design.arms} == {run.arm for run in plan.runs}
        return plan.runs[0].design.arms

    assert arms("pooling", "map") == ("cls", "map")
    assert arms("registers", "8 registers", "1 register") == ("0 registers", "1 register", "8 registers")
    alone = make_plan(load_study("pooling"), BUDGETS["smoke"], describe("digits"), Overrides(arms=("map",))).runs
    whole = make_plan(load_study("pooling"), BUDGETS["smoke"], describe("digits")).runs
    assert {run.run_id for run in alone} < {run.run_id for run in whole}


@pytest.mark.parametrize(
    ("study", "name", "line"),
    [
        ("pooling", "gep", "study 'pooling': arm 'gep' is none of its arms; did you mean gap?"),
        ("pooling", "cls", "arm 'cls' is the baseline"),
        ("data_size", "cls", "its arms are compared with several others"),
    ],
)
def test_arms_that_cannot_be_alone_are_refused(study, name, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        make_plan(load_study(study), BUDGETS["smoke"], describe("digits"), Overrides(arms=(name,)))
