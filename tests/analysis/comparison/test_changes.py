"""Do tables say in what arms differ, by the records alone, and are arms compared whatever they change?"""

from __future__ import annotations

import json

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.changes import changes_text
from vitbench.analysis.comparison.differing import not_shared
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.tables import captions, page
from vitbench.analysis.tables.cells import arm_rows, raw_rows
from vitbench.config import RunConfig
from vitbench.records import Design


def design(changes=None, base=None, **fields):
    values = {"question": "", "source": "", "baseline": "cls", "learning_rates": (1e-3,)}
    arms = ("cls", *(changes or {"gap": {}}))
    return Design(**{**values, "arms": arms, "changes": changes or {}, "base": base or {}, **fields})


PLAIN = design()
RECIPE = design(
    {"smooth": {"label_smoothing": 0.1}, "mixed": {"mixup": 0.2}, "half": {"batch_size": 64}},
    {"label_smoothing": 0.0, "mixup": 0.0, "batch_size": 128},
)


def recipe_records(plan=RECIPE):
    arms = {
        "cls": {},
        "smooth": {"train": {"label_smoothing": 0.1}},
        "mixed": {"data": {"mixup": 0.2}},
        "half": {"train": {"batch_size": 64}},
    }
    return [make_record(name, seed=seed, design=plan, **of_arm) for name, of_arm in arms.items() for seed in range(3)]


def labels(comparison):
    return [arm.label for arm in comparison.arms]


def test_arms_of_other_recipes_and_data_are_one_comparison():
    (comparison,) = compare(recipe_records())
    assert labels(comparison) == ["cls", "smooth", "mixed", "half"]
    assert all(comparison.difference(arm).n == 3 for arm in comparison.arms[1:])


def test_a_column_says_in_what_each_arm_differs():
    (comparison,) = compare(recipe_records())
    rows = arm_rows(assess(comparison))
    assert [row["differs in"] for row in rows] == ["nothing", "label_smoothing 0.1", "mixup 0.2", "batch_size 64"]
    raw = raw_rows(assess(comparison))
    assert [json.loads(row["differs_in"]) for row in raw][1] == {"label_smoothing": 0.1}
    texts = page.texts_of(assess(comparison))
    assert r"| smooth | label\_smoothing 0.1 |" in texts["md"] and r"smooth & label\_smoothing 0.1 &" in texts["tex"]


def test_older_records_have_no_such_column():
    (comparison,) = compare([make_record("cls", design=PLAIN), make_record("gap", design=PLAIN)])
    assert "differs in" not in arm_rows(assess(comparison))[0]
    assert "differs_in" not in raw_rows(assess(comparison))[0]


def test_older_records_beside_newer_ones_are_told_by_the_newer_design_where_they_are_as_it_says():
    plan = design({"gap": {"pool": "gap"}, "smooth": {"label_smoothing": 0.1}}, {"label_smoothing": 0.0})
    older = [
        make_record("cls", design=PLAIN),
        make_record("gap", model={"pool": "gap"}, design=PLAIN),
        make_record("smooth", model={"pool": "gap"}, design=PLAIN),  # of that name, but another arm
    ]
    newer = make_record("smooth", train={"label_smoothing": 0.1}, design=plan)
    (comparison,) = compare([*older, newer])
    told = {arm.label: row["differs in"] for arm, row in _rows(comparison)}
    assert told["cls"] == "nothing" and told["gap"] == "pool gap"
    assert sorted(text for label, text in told.items() if label.startswith("smooth #")) == ["label_smoothing 0.1", "–"]


def _rows(comparison):
    return zip(comparison.arms, arm_rows(assess(comparison)), strict=True)


def test_a_study_that_grows_by_an_arm_of_another_recipe_keeps_its_comparison():
    before = [make_record("cls", seed=seed, design=PLAIN) for seed in range(3)]
    before += [make_record("gap", model={"pool": "gap"}, seed=seed, design=PLAIN) for seed in range(3)]
    plan = design({"gap": {"pool": "gap"}, "smooth": {"label_smoothing": 0.1}}, {"label_smoothing": 0.0})
    after = [make_record("smooth", train={"label_smoothing": 0.1}, seed=seed, design=plan) for seed in range(3)]
    (comparison,) = compare([*before, *after])
    assert labels(comparison) == ["cls", "gap", "smooth"] and comparison.difference(comparison.arms[2]).n == 3
    assert compare(before)[0].slug == comparison.slug


def test_a_study_that_grows_by_an_arm_of_another_image_size_keeps_its_comparison():
    size = {"data_sha256": "e" * 64}
    before = [make_record("cls", seed=seed, data={"crop_padding": 2}, design=PLAIN) for seed in range(3)]
    plan = design({"12 px": {"image_size": 12, "crop_padding": 3}}, {"crop_padding": 2})
    large = {"model": {"image_size": 12}, "data": {"crop_padding": 3}, "environment": size}
    after = [make_record("12 px", seed=seed, design=plan, **large) for seed in range(3)]
    (comparison,) = compare([*before, *after])
    assert labels(comparison) == ["cls", "12 px"] and comparison.difference(comparison.arms[1]).n == 3
    # Crops of the same share are no change that the arm makes.
    assert [row["differs in"] for _, row in _rows(comparison)] == ["nothing", "image_size 12"]
    assert "crop padding 2 to 3, the same share" in captions.facts(comparison)["Data"]
    assert "Changed by arms" not in captions.facts(comparison)


def test_a_study_that_grows_by_an_arm_that_trains_longer_keeps_its_comparison():
    before = [make_record("cls", seed=seed, design=PLAIN) for seed in range(3)]
    plan = design({"long": {"epochs": 40}}, {"epochs": 20}, epochs={"cls": 20, "long": 40})
    after = [make_record("long", train={"epochs": 40}, seed=seed, design=plan) for seed in range(3)]
    (comparison,) = compare([*before, *after])
    assert labels(comparison) == ["cls", "long"] and comparison.epochs == 20
    assert [row["epochs"] for _, row in _rows(comparison)] == ["20", "40"]
    tflop = [arm.training_flops for arm in comparison.arms]
    assert tflop == [None, None]  # these designs do not say how many images an epoch has


def test_one_name_with_two_definitions_is_two_arms_that_are_told_apart():
    weak = design({"smooth": {"label_smoothing": 0.1}}, {"label_smoothing": 0.0})
    strong = design({"smooth": {"label_smoothing": 0.2}}, {"label_smoothing": 0.0})
    records = [
        make_record("cls", design=weak),
        make_record("smooth", train={"label_smoothing": 0.1}, design=weak),
        make_record("smooth", train={"label_smoothing": 0.2}, design=strong),
    ]
    (comparison,) = compare(records)
    assert len({*labels(comparison)}) == 3
    assert [row["differs in"] for _, row in _rows(comparison)][1:] == ["label_smoothing 0.1", "label_smoothing 0.2"]
    assert any("label_smoothing 0.1" in note and "label_smoothing 0.2" in note for note in assess(comparison).notes)


def test_another_base_recipe_is_another_comparison():
    other = design(
        {"smooth": {"label_smoothing": 0.1}}, {"label_smoothing": 0.05}
    )  # the base itself has another label smoothing
    records = [
        *recipe_records(),
        make_record("cls", train={"label_smoothing": 0.05}, design=other),
        make_record("smooth", train={"label_smoothing": 0.1}, design=other),
    ]
    assert sorted(len(comparison.arms) for comparison in compare(records)) == [2, 4]


def test_what_all_arms_share_stands_above_the_table_and_nothing_that_one_changes():
    (comparison,) = compare(recipe_records())
    facts = captions.facts(comparison)
    assert "batches of" not in facts["Recipe"] and "smoothing" not in facts["Recipe"]
    assert "weight decay 0.05" in facts["Recipe"] and "mixup" not in facts["Data"]
    assert not_shared(comparison) == {"batch_size": "128", "label_smoothing": "0", "mixup": "0"}
    assert facts["Changed by arms"] == "batch_size (else 128), label_smoothing (else 0), mixup (else 0)"


def test_a_field_that_every_arm_changes_has_no_value_above_the_table():
    plan = design(
        {"cls": {"optimizer": "sgd"}, "lion": {"optimizer": "lion"}}, {"optimizer": "adamw"}, arms=("cls", "lion")
    )
    records = [
        make_record(arm, train={"optimizer": name}, design=plan) for arm, name in (("cls", "sgd"), ("lion", "lion"))
    ]
    (comparison,) = compare(records)
    assert captions.facts(comparison)["Changed by arms"] == "optimizer"
    assert "adamw" not in page.markdown(assess(comparison))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "nothing"),
        ({"flip": True, "clip_norm": None}, "flip on, clip_norm none"),
        ({"weight_decay": 1e-5, "stem_layers": [3, 4, 9]}, "weight_decay 1e-5, stem_layers (3, 4, 9)"),
        ({"position": "ConditionalPosition@1a2b3c4d"}, "position ConditionalPosition@1a2b3c4d"),
    ],
)
def test_changes_are_written_as_a_study_file_names_them(changes, text):
    assert changes_text(changes) == text


SCALED = design(
    {"sgd": {"optimizer": "sgd"}},
    {"optimizer": "adamw"},
    learning_rates=(1e-3, 2e-3, 4e-3),
    learning_rate_scales={"sgd": 50.0},
)


def scaled_records(best=1):
    """SGD's rates are 50 times the grid's; arms are best at the middle and at the `best` of them."""
    records = []
    for index, rate in enumerate(SCALED.learning_rates):
        for seed in range(3):
            records.append(
                make_record("cls", learning_rate=rate, seed=seed, test=0.9 - 0.1 * (index != 1), design=SCALED)
            )
            test = 0.8 - 0.1 * (index != best) + 0.01 * seed
            train = {"optimizer": "sgd"}
            records.append(
                make_record("sgd", learning_rate=50 * rate, seed=seed, test=test, train=train, design=SCALED)
            )
    return records


def test_an_arm_with_learning_rates_of_its_own_is_compared_at_the_same_step_of_the_grid():
    (comparison,) = compare(scaled_records(best=2))
    sgd = comparison.arms[1]
    assert sgd.settings == ((0.05,), (0.1,), (0.2,)) and sgd.learning_rate == 0.2
    assert comparison.baseline_setting(sgd) == (0.1,)
    assert comparison.at_baseline_setting(sgd).mean == pytest.approx(0.71)
    assert sgd.edges == {"learning_rate": "highest"}
    notes = assess(comparison).notes
    assert not any("run at other learning rates" in note or "not yet run" in note for note in notes)


def test_at_the_same_step_of_the_grid_the_difference_at_the_baselines_rate_is_the_same():
    (comparison,) = compare(scaled_records())
    finding = assess(comparison).findings.arms["sgd"]
    assert finding.at_baseline_setting is None  # it is the arm's own setting
    row = arm_rows(assess(comparison))[1]
    assert row["differs in"] == "optimizer sgd, learning rates × 50"


def test_the_step_of_the_grid_is_said_to_be_what_is_equal():
    (comparison,) = compare(scaled_records())
    said = " ".join(captions.conventions(assess(comparison)))
    assert "Learning rates of sgd (× 50) are those of the grid times that factor" in said
    assert captions.facts(comparison)["Changed by arms"] == "optimizer (else adamw)"


def test_the_cost_of_training_stands_where_batches_or_epochs_differ():
    plan = RECIPE.model_copy(update={"train_images": 1000})
    (comparison,) = compare(recipe_records(plan))
    cells = {arm.label: row["training (TFLOP)"] for arm, row in _rows(comparison)}
    assert cells["cls"] == cells["smooth"] != cells["half"]
    # 15 whole batches of 64 in place of 7 of 128
    flops = {arm.label: arm.training_flops for arm in comparison.arms}
    assert flops["half"] / flops["cls"] == pytest.approx(15 * 64 / (7 * 128))


def test_arms_of_other_epochs_are_not_said_to_have_equal_ones():
    plan = design({"long": {"epochs": 40}}, {"epochs": 20}, epochs={"cls": 20, "long": 40}, train_images=1000)
    (comparison,) = compare([make_record("cls", design=plan), make_record("long", train={"epochs": 40}, design=plan)])
    assert captions.facts(comparison)["Budget"] == "quick, 20 epochs of the baseline"
    assert "equal epochs" not in page.markdown(assess(comparison))
    assert comparison.arms[1].training_flops == 2 * comparison.arms[0].training_flops


def test_arms_of_other_precision_are_compared_and_both_are_named():
    plan = design({"bf16": {"precision": "bf16"}}, {"precision": "fp32"})
    fp32, bf16 = ({"train": {"precision": value}, "environment": {"precision": value}} for value in ("fp32", "bf16"))
    records = [make_record("cls", seed=s, design=plan, **fp32) for s in range(3)]
    (comparison,) = compare([*records, *(make_record("bf16", seed=s, design=plan, **bf16) for s in range(3))])
    assert comparison.difference(comparison.arms[1]).n == 3
    assert "bf16 and fp32" in captions.facts(comparison)["Environment"]


def test_an_arm_that_starts_from_another_recipe_is_compared_with_the_base():
    """The start keeps its recipe; what goes on has its own."""
    changes = {"smooth": {"label_smoothing": 0.1}, "on": {"mixup": 0.2, "epochs": 10}}
    base = {"label_smoothing": 0.0, "mixup": 0.0, "epochs": 20}
    epochs = {"cls": 20, "smooth": 20, "on": 10}
    plan = design(changes, base, starts={"on": "smooth"}, epochs=epochs)
    smooth = {"label_smoothing": 0.1}
    records = []
    for seed in range(3):
        start = make_record("smooth", seed=seed, train=smooth, design=plan)
        on = make_record("on", seed=seed, data={"mixup": 0.2}, train={"epochs": 10}, design=plan)
        config = RunConfig.model_validate(
            on.config.model_dump() | {"pretraining": start.config.model_dump(), "keep_head": True}
        )
        on = on.model_copy(update={"config": config, "run_id": config.run_id})
        records += [make_record("cls", seed=seed, design=plan), start, on]
    (comparison,) = compare(records)
    assert labels(comparison) == ["cls", "smooth", "on"] and comparison.difference(comparison.arms[2]).n == 3
    assert arm_rows(assess(comparison))[2]["differs in"] == "mixup 0.2, epochs 10, starts from smooth"


def test_one_rate_of_the_grid_is_no_choice_though_arms_have_multiples_of_it():
    plan = SCALED.model_copy(update={"learning_rates": (1e-3,)})
    sgd = make_record("sgd", learning_rate=0.05, train={"optimizer": "sgd"}, design=plan)
    (comparison,) = compare([make_record("cls", design=plan), sgd])
    assert not comparison.has_choice and comparison.arms[1].is_fixed
