"""Which arms were recorded as something else than what they are planned as? From made-up records; nothing is trained."""

from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, make_plan
from vitbench.studies.plan import recorded
from vitbench.studies.redefined import redefined

DIGITS = describe("digits")
AS_RECORDED = (Arm("gap", pool="gap"), Arm("smoothing", label_smoothing=0.1), Arm("longer", epochs=2))


def runs_of(*arms, **asked):
    study = Study("?", "", Arm("cls"), arms, name="mine")
    return make_plan(study, BUDGETS["smoke"], DIGITS, Overrides(**asked)).runs


def recorded_as(made_up, runs, **fields):
    return [
        made_up(
            study=run.study,
            arm=run.arm,
            budget=run.budget,
            variant=run.variant,
            config=run.config,
            design=run.design,
            **fields,
        )
        for run in runs
    ]


def facts(runs, records):
    return [(arm.arm, arm.runs, dict(arm.fields)) for arm in redefined(runs, records)]


def test_an_edited_arm_is_told_with_the_fields_that_differ_and_other_arms_stay_done(made_up):
    records = recorded_as(made_up, runs_of(*AS_RECORDED))
    runs = runs_of(Arm("gap", pool="gap"), Arm("smoothing", label_smoothing=0.2, pool="map"), Arm("longer", epochs=3))
    assert facts(runs, records) == [
        ("smoothing", 2, {"pool": ("cls", "map"), "label_smoothing": (0.1, 0.2)}),
        ("longer", 2, {"epochs": (2, 3)}),
    ]
    done = recorded(runs, records)
    assert {run.arm for run in runs if run.run_id in done} == {"cls", "gap"}
    assert {run.arm for run in runs if run.run_id not in done} == {"smoothing", "longer"}


def test_a_list_of_arms_that_grows_or_shrinks_redefines_none_and_keeps_what_is_done(made_up):
    records = recorded_as(made_up, runs_of(*AS_RECORDED))
    for arms in ((*AS_RECORDED, Arm("mixup", mixup=0.2), Arm("larger", image_size=16)), AS_RECORDED[:1]):
        runs = runs_of(*arms)
        assert redefined(runs, records) == []
        assert len(recorded(runs, records)) == 2 * (1 + len(AS_RECORDED[: len(arms)]))


def test_records_that_were_made_before_arms_could_differ_in_recipes_count_as_done(made_up):
    old = recorded_as(made_up, runs_of(Arm("gap", pool="gap")))
    design = old[0].design.model_copy(update={"changes": {}, "base": {}, "learning_rate_scales": {}})
    old = [record.model_copy(update={"design": design}) for record in old]
    runs = runs_of(*AS_RECORDED)
    assert len(recorded(runs, old)) == 4 and redefined(runs, old) == []
    runs = runs_of(Arm("gap", pool="gap", label_smoothing=0.1))
    assert facts(runs, old) == [("gap", 2, {"label_smoothing": (0.0, 0.1)})]


def test_runs_of_other_epochs_images_or_recipes_for_all_arms_are_no_other_definition(made_up):
    records = recorded_as(made_up, runs_of(*AS_RECORDED))
    for asked in (
        {"train": {"epochs": 3}},
        {"train": {"optimizer": "muon"}},
        {"train_images": 100},
        {"variant": "Nano/4"},
        {"learning_rates": (2e-3,)},
        {"match": "flops"},
    ):
        arms = AS_RECORDED[:2] if "match" in asked else AS_RECORDED
        assert redefined(runs_of(*arms, **asked), records) == []


def test_what_failed_is_no_definition_that_was_recorded(made_up):
    records = recorded_as(made_up, runs_of(*AS_RECORDED), outcome="failed", metrics={})
    assert redefined(runs_of(Arm("gap", pool="map")), records) == []


def test_an_arm_whose_start_was_edited_is_told_as_of_another_pretraining(made_up):
    before = runs_of(Arm("first", mixup=0.2), Arm("on", start="first", epochs=0.5))
    after = runs_of(Arm("first", mixup=0.4), Arm("on", start="first", epochs=0.5))
    assert facts(after, recorded_as(made_up, before)) == [
        ("first", 2, {"mixup": (0.2, 0.4)}),
        ("on", 2, {"pretraining": (None, None)}),
    ]
