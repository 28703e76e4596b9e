"""Do arms that go on from others name the resolved run that they start from, and does a plan have these wherever they run?"""

from __future__ import annotations

import pytest

from vitbench.config import RunConfig, TimmConfig, TrainConfig
from vitbench.data import describe, load
from vitbench.records import Design
from vitbench.studies import BUDGETS, STUDIES, Arm, Overrides, Study, load_study, make_plan
from vitbench.studies.resolution import image_sizes
from vitbench.studies.resolved_study import resolve_study
from vitbench.variants import variant

DIGITS = describe("digits")


def chain_study(**fields):
    arms = [Arm("gap", pool="gap"), Arm("gap, longer", start="gap", epochs=0.5, pool="gap")]
    return Study("?", "", Arm("cls"), arms, name="mine", **fields)


@pytest.mark.parametrize(
    ("name", "image_size", "expected"),
    [
        ("Micro/4", 32, [24, 32, 48, 64]),
        # A grid of 7: 5.25, 7, 10.5 and 14 patches a side, of which Python rounds the half to the even number.
        ("Micro/4", 28, [20, 28, 40, 56]),
        ("Micro/2", 8, [6, 8, 12, 16]),
        ("Micro/4", (32, 16), [(24, 12), (32, 16), (48, 24), (64, 32)]),
        # A grid of one: 0.75, 1, 1.5 and 2 give 1 and 2.
        ("Micro/4", 4, [4, 8]),
    ],
)
def test_sizes_are_whole_patches_at_the_grids_scales(name, image_size, expected):
    assert image_sizes(variant(name, image_size=image_size, num_classes=10)) == expected


def test_every_position_embedding_is_pretrained_once_and_goes_on_at_every_size():
    resolved = resolve_study(load_study("resolution"), BUDGETS["quick"], DIGITS, Overrides())
    assert resolved.baseline == "1-D, 8 px" and len(resolved.arms) == 4 * (1 + 3 + 4) + 2 * 3
    scratch = {name for name, config in resolved.arms.items() if config.pretraining is None}
    assert scratch == {f"{position}, 8 px" for position in ("1-D", "sincos", "RoPE", "relative")}
    for name, config in resolved.arms.items():
        position, size, *tuned = name.split(", ")
        assert config.model.position_grid == (4 if position.endswith(" rescaled") else None)
        assert config.model.image_size == int(size.removesuffix(" px"))
        # 5 epochs of pretraining; a quarter of them; none.
        assert config.train.epochs == (5 if name in scratch else 1.25 if tuned else 0)
        if name not in scratch:
            assert (
                config.pretraining == resolved.arms[f"{position.removesuffix(' rescaled')}, 8 px"] and config.keep_head
            )
        assert resolved.design.compared_with(name) == ", ".join(["1-D", size, *tuned])
        assert resolved.design.factors[name] == {"position": position, "image size": ", ".join([size, *tuned])}
    design = make_plan(load_study("resolution"), BUDGETS["quick"], DIGITS).runs[0].design
    assert design.within == ("image size",) and design.starts["RoPE, 6 px, fine-tuned"] == "RoPE, 8 px"
    assert design.epochs["RoPE, 6 px"] == 0 and design.epochs["RoPE, 8 px"] == 5


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("torch/cifar10", {24: 3, 32: 4, 48: 6, 64: 8}),
        # A grid of 7; 3 pixels of 28 are 2.1 of 20, 4.3 of 40 and 6 of 56.
        ("torch/kmnist", {20: 2, 28: 3, 40: 4, 56: 6}),
        ("torch/fashion_mnist", {20: 0, 28: 0, 40: 0, 56: 0}),
    ],
)
def test_crops_move_by_the_same_share_of_images_of_every_size(dataset, expected):
    asked = Overrides(variant="Micro/4")
    resolved = resolve_study(load_study("resolution"), BUDGETS["standard"], describe(dataset), asked)
    padding = {(config.model.image_size, config.data.crop_padding) for config in resolved.arms.values()}
    assert padding == set(expected.items())
    before = {config.pretraining.data.crop_padding for config in resolved.arms.values() if config.pretraining}
    assert before == {resolved.arms[resolved.baseline].data.crop_padding}


def test_pixels_of_crops_are_not_tuned_where_images_differ_in_size():
    asked = Overrides(variant="Micro/4", tune={"crop_padding": (2.0, 4.0)})
    info = describe("torch/cifar10")
    with pytest.raises(ValueError, match="arms of study 'resolution' have images of several sizes; leave it out"):
        resolve_study(load_study("resolution"), BUDGETS["standard"], info, asked)
    resolve_study(load_study("pooling"), BUDGETS["standard"], info, asked)


def test_a_run_has_the_seed_and_setting_of_its_pretraining_and_an_identity_that_follows_it():
    runs = make_plan(
        chain_study(), BUDGETS["quick"], DIGITS, Overrides(learning_rates=(1e-3, 2e-3), tuning_seeds=3)
    ).runs
    first = {(run.setting, run.config.seed): run.config for run in runs if run.arm == "gap"}
    after = {(run.setting, run.config.seed): run.config for run in runs if run.arm == "gap, longer"}
    assert len(first) == 2 * 3 and first.keys() == after.keys()
    for place, config in after.items():
        assert config.pretraining == first[place] and config.pretraining.run_id == first[place].run_id
    assert len({config.run_id for config in after.values()}) == len(after)
    other = first[(1e-3,), 0].replace(data=first[(1e-3,), 0].data.replace(flip=True))
    assert after[(1e-3,), 0].replace(pretraining=other).run_id != after[(1e-3,), 0].run_id


def test_training_flops_are_of_the_run_alone():
    runs = {run.arm: run for run in make_plan(load_study("resolution"), BUDGETS["smoke"], DIGITS).runs}
    assert runs["1-D, 6 px"].training_flops == 0
    # 256 images: 4 batches of 64, a quarter of them is one; 16 patches and a class token, or 9.
    assert runs["1-D, 8 px, fine-tuned"].training_flops * 4 == runs["1-D, 8 px"].training_flops
    assert runs["1-D, 6 px, fine-tuned"].training_flops < runs["1-D, 8 px, fine-tuned"].training_flops


def test_final_seeds_of_an_arm_have_its_pretraining_at_its_own_setting(monkeypatch):
    from vitbench.studies.history import History

    chosen = {"cls": (1e-3,), "gap": (1e-3,), "gap, longer": (2e-3,)}
    monkeypatch.setattr(History, "has_tried", lambda *_: True)
    monkeypatch.setattr(History, "best", lambda _, arm, __, *, with_tried: chosen[arm])
    asked = Overrides(learning_rates=(1e-3, 2e-3), tuning_seeds=1, seeds=2)
    runs = make_plan(chain_study(), BUDGETS["quick"], DIGITS, asked).runs
    final = [(run.arm, run.setting[0]) for run in runs if run.config.seed == 1]
    assert len(final) == len(set(final))
    assert set(final) == {(arm, rate) for arm in ("gap", "gap, longer") for rate in (1e-3, 2e-3)} | {("cls", 1e-3)}
    for rate in (1e-3, 2e-3):
        assert final.index(("gap", rate)) < final.index(("gap, longer", rate))


def test_later_runs_are_at_least_those_that_come(monkeypatch):
    from vitbench.studies.history import History

    asked = Overrides(learning_rates=(1e-3, 2e-3), tuning_seeds=1, seeds=3, extend=0)
    before = make_plan(chain_study(), BUDGETS["quick"], DIGITS, asked)
    monkeypatch.setattr(History, "has_tried", lambda *_: True)
    for rates in [(1e-3, 2e-3, 1e-3), (2e-3, 1e-3, 1e-3), (1e-3, 1e-3, 2e-3)]:
        chosen = {arm: (rate,) for arm, rate in zip(("cls", "gap", "gap, longer"), rates, strict=True)}
        monkeypatch.setattr(History, "best", lambda _, arm, __, *, with_tried, chosen=chosen: chosen[arm])
        after = make_plan(chain_study(), BUDGETS["quick"], DIGITS, asked).runs[len(before.runs) :]
        assert len(after) <= before.later.runs
        assert sum(run.training_flops for run in after) <= before.later.training_flops


@pytest.mark.parametrize(
    ("arms", "fields", "says"),
    [
        ([Arm("on", start="off")], {}, "arm 'on' starts from 'off', which is no arm before it"),
        ([Arm("on", start="on")], {}, "arm 'on' starts from 'on', which is no arm before it"),
        ([Arm("gap", pool="gap")], {"within": ("size",)}, "compares within 'size', but has no factors"),
        ([Arm("on", start="cls")], {"fractions": (0.5, 1.0)}, "arm 'on' has a start, which fractions do not go with"),
        ([Arm("gap", pool="gap")], {"within": ("size",), "factors": {"cls": {"a": "1"}, "gap": {"a": "2"}}}, "'size'"),
        (
            [Arm("gap", levels={"a": "2", "b": "2"}, pool="gap")],
            {"within": ("b",), "factors": {"cls": {"a": "1", "b": "1"}}},
            "has no arm with levels {'a': '1', 'b': '2'}",
        ),
    ],
)
def test_chains_and_factors_that_do_not_fit_are_refused(arms, fields, says):
    with pytest.raises(ValueError, match=says):
        make_plan(Study("?", "", Arm("cls"), arms, name="mine", **fields), BUDGETS["quick"], DIGITS)


@pytest.mark.parametrize("match", ["flops", "time"])
def test_what_says_itself_for_how_long_it_trains_is_not_matched(match):
    with pytest.raises(ValueError, match=f"match '{match}': study 'mine' says itself for how long"):
        make_plan(chain_study(), BUDGETS["quick"], DIGITS, Overrides(match=match))


RUN = RunConfig(model=variant("Nano/2", image_size=8, in_channels=1, num_classes=10))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"train": TrainConfig(epochs=0)}, "epochs 0 evaluates what was drawn from the seed"),
        ({"train": TrainConfig(epochs=0), "pretraining": RUN}, "with their head"),
        ({"keep_head": True}, "keep_head has no meaning without weights to start from"),
        ({"init": "run:a@b", "pretraining": RUN}, "init 'run:a@b' has no meaning beside pretraining"),
        (
            {"keep_head": True, "pretraining": RUN.replace(model=RUN.model.replace(num_classes=3))},
            "num_classes 10 is not that of the pretraining, 3",
        ),
        (
            {"pretraining": RUN.replace(model=RUN.model.replace(pool="gap"))},
            "pool 'cls' is not that of the pretraining",
        ),
        ({"pretraining": RUN.replace(model=TimmConfig(timm="resnet18"))}, "pretraining is for ViTs"),
    ],
)
def test_a_run_without_a_meaningful_start_is_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        RUN.replace(**fields)


def test_designs_of_old_records_hold_no_factor_and_have_no_starts():
    old = Design(question="", source="", baseline="cls", arms=("cls",), learning_rates=(1e-3,))
    assert old.within == () and old.starts == {}


def test_images_of_every_study_of_every_budgets_own_data_can_be_had():
    """Of what is called without arguments, and of the built-in set that is below the ceiling, too."""
    sizes = {
        (name, config.model.image_hw)
        for budget in (BUDGETS["smoke"], BUDGETS["quick"], BUDGETS["standard"])
        for name in (*budget.datasets, "shapes/majority")
        for study in STUDIES
        for config in resolve_study(load_study(study), budget, describe(name), Overrides()).arms.values()
    }
    assert len(sizes) > 4
    for name, size in sizes:
        assert load(name, image_size=size).train.labels.size


def test_arms_of_sizes_that_data_do_not_come_in_are_left_out_and_said(vitbench, tmp_path):
    resolved = resolve_study(load_study("resolution"), BUDGETS["quick"], describe("shapes"), Overrides())
    assert {config.model.image_hw for config in resolved.arms.values()} == {(32, 32), (64, 64)}
    assert {name.split(", ")[1] for name in resolved.left_out} == {"24 px", "48 px"}
    assert {*resolved.design.factors} == {*resolved.arms} and len(resolved.arms) == 18 and len(resolved.left_out) == 20
    said = vitbench("plan", "resolution", "--data", "shapes", "--results", tmp_path)
    assert "resolution: 20 arms are left out, as images of shapes come at multiples of 32 pixels alone" in said.out
