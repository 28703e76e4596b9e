"""Are arms of several image sizes one comparison, each beside the baseline's position embedding at its own size?"""

from __future__ import annotations

import pytest

from tests.made_up_records import MODEL, make_record
from vitbench.analysis.charts.resolution import lines_of, resolution_figure
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import KINDS, render
from vitbench.analysis.tables.further import fine_tuning
from vitbench.analysis.tables.page import markdown
from vitbench.config import DataConfig, RunConfig, TrainConfig
from vitbench.costs import count
from vitbench.data import describe
from vitbench.records import Design, Record
from vitbench.studies import BUDGETS, Arm, Overrides, Study
from vitbench.studies.resolved_study import resolve_study

POSITIONS = {"1-D": {}, "sincos": {"position": "sincos_2d"}}
TOP1 = {"1-D": {8: 0.9, 12: 0.5, "12 on": 0.8, "8 on": 0.91}, "sincos": {8: 0.88, 12: 0.7, "12 on": 0.85, "8 on": 0.89}}
LEVELS = {8: "8 px", 12: "12 px", "8 on": "8 px, fine-tuned", "12 on": "12 px, fine-tuned"}
EPOCHS = {8: 20, 12: 0, "8 on": 5, "12 on": 5}


def design():
    names = {(position, place): f"{position}, {level}" for position in POSITIONS for place, level in LEVELS.items()}
    return Design(
        question="?",
        source="",
        baseline="1-D, 8 px",
        arms=tuple(names.values()),
        learning_rates=(1e-3,),
        epochs={name: EPOCHS[place] for (_, place), name in names.items()},
        factors={
            name: {"position": position, "image size": LEVELS[place]} for (position, place), name in names.items()
        },
        within=("image size",),
        starts={name: f"{position}, 8 px" for (position, place), name in names.items() if place != 8},
        train_images=1024,
    )


def made(
    position: str, place: int | str, seed: int, *, data_sha256: str = "", crops: tuple[int, int] = (0, 0)
) -> Record:
    """`crops`: padding of the pretraining and of this run."""
    size = int(str(place).removesuffix(" on"))
    record = make_record(
        f"{position}, {LEVELS[place]}",
        seed=seed,
        test=TOP1[position][place] + 0.001 * seed * (1 if position == "1-D" else 2),
        model={"image_size": size, **POSITIONS[position]},
        design=design(),
        # Images of another size are other bytes.
        environment={"data_sha256": data_sha256 or f"{size:x}" * 64},
    )
    train, data = TrainConfig(epochs=EPOCHS[place]), DataConfig(crop_padding=crops[1])
    if place == 8:
        config = record.config.replace(train=train, data=data)
    else:
        model, before = MODEL.replace(**POSITIONS[position]), DataConfig(crop_padding=crops[0])
        first = RunConfig(model=model, data=before, train=TrainConfig(epochs=20), seed=seed)
        config = RunConfig(
            model=record.config.model, data=data, train=train, seed=seed, pretraining=first, keep_head=True
        )
    return record.model_copy(update={"config": config, "run_id": config.run_id})


def records():
    return [made(position, place, seed) for seed in range(3) for position in POSITIONS for place in LEVELS]


def test_each_is_compared_at_its_own_size():
    (comparison,) = compare(records())
    assert len(comparison.arms) == 8 and comparison.reference_text == "1-D at the same image size"
    against = {arm.name: comparison.compared_with(arm) for arm in comparison.arms}
    assert {name: other and other.name for name, other in against.items()} == {
        **{f"1-D, {level}": None for level in LEVELS.values()},
        **{f"sincos, {level}": f"1-D, {level}" for level in LEVELS.values()},
    }
    # By hand: 0.7 + 0.002 s − (0.5 + 0.001 s) over seeds 0, 1, 2.
    arm = next(arm for arm in comparison.arms if arm.name == "sincos, 12 px")
    assert comparison.difference(arm).mean == pytest.approx(0.201)
    text = markdown(assess(comparison))
    assert "Some arms start from another arm's trained weights" in text


def test_what_went_on_is_set_against_the_weights_as_they_were_at_that_size():
    (comparison,) = compare(records())
    found = {
        row["arm"]: (row["against"], row["gained (points, 95 % for each arm by itself)"])
        for row in fine_tuning(comparison).rows
    }
    # Equal at every seed, as both have the same luck: no interval.
    assert found == {
        "1-D, 8 px, fine-tuned": ("1-D, 8 px", "+1.00 (n=3)"),
        "1-D, 12 px, fine-tuned": ("1-D, 12 px", "+30.00 (n=3)"),
        "sincos, 8 px, fine-tuned": ("sincos, 8 px", "+1.00 (n=3)"),
        "sincos, 12 px, fine-tuned": ("sincos, 12 px", "+15.00 (n=3)"),
    }
    assert "Gain from fine-tuning" in markdown(assess(comparison))


def test_what_training_cost_has_the_pretraining_in_it():
    (comparison,) = compare(records())
    arms = {arm.name: arm for arm in comparison.arms}
    first = 6 * count(MODEL).macs * 20 * 1024
    assert arms["1-D, 8 px"].training_flops == arms["1-D, 12 px"].training_flops == first
    after = 6 * count(MODEL.replace(image_size=12)).macs * 5 * 1024
    assert arms["1-D, 12 px, fine-tuned"].training_flops == first + after


def test_another_decoding_of_the_images_is_a_comparison_of_its_own():
    other = [made("sincos", 12, seed, data_sha256="e" * 64) for seed in range(3)]
    found = compare([*other, *records()])
    assert sorted(len(one.records) for one in found) == [3, 24]
    assert len({one.slug for one in found}) == 2
    # The last of a size counts as that of the others; what came before is set apart.
    found = compare([*records(), *other])
    assert sorted(len(one.records) for one in found) == [12, 12 + 3]


def test_crops_of_the_same_share_stand_together_and_others_apart():
    def at(place, own):
        return [made(position, place, seed, crops=(1, own)) for seed in range(3) for position in POSITIONS]

    # 1 pixel of 8 is 1.5 of 12, to the nearest resolved pixel 2.
    (comparison,) = compare([*at(8, 1), *at(12, 2), *at("12 on", 2)])
    assert len(comparison.arms) == 6
    text = markdown(assess(comparison))
    assert "crop padding 1 to 2, the same share of images of every size" in text
    assert "8 × 8 to 12 × 12 × 1 pixels, 10 classes" in text
    found = compare([*at(8, 1), *at(12, 1), *at("12 on", 2)])
    assert sorted(len(one.arms) for one in found) == [2, 4] and len({one.slug for one in found}) == 2
    assert any("crop_padding 1 to 2" in one.title for one in found)
    assert {one.data.crop_padding for one in compare([*at(8, 1), *at(12, 2)])} == {1}


@pytest.mark.parametrize("padding", [0, 1])
def test_what_goes_on_from_nothing_stands_with_its_own_image_size_alone(padding):
    larger = {"model": {"image_size": 12}, "environment": {"data_sha256": "c" * 64}, "data": {"crop_padding": padding}}
    scratch = [make_record("12 px from scratch", seed=seed, design=design(), **larger) for seed in range(3)]
    found = compare([*records(), *scratch])
    assert sorted(len(one.arms) for one in found) == [1, 8]


def test_the_same_name_from_another_pretraining_is_another_arm():
    longer = made("sincos", "12 on", 0)
    first = longer.config.pretraining.replace(train=TrainConfig(epochs=40))
    config = longer.config.replace(pretraining=first)
    (comparison,) = compare([*records(), longer.model_copy(update={"config": config, "run_id": config.run_id})])
    assert sum(arm.name == "sincos, 12 px, fine-tuned" for arm in comparison.arms) == 2
    assert any("was run as 2 arms, kept apart" in note and "init" in note for note in assess(comparison).notes)


def test_the_picture_has_a_line_as_it_is_and_one_fine_tuned_for_each_embedding():
    (comparison,) = compare(records())
    lines = {(line.name, line.fine_tuned): (line.pixels, line.arms) for line in lines_of(comparison)}
    assert {key: pixels for key, (pixels, _) in lines.items()} == {
        key: [8, 12] for key in [(position, tuned) for position in POSITIONS for tuned in (False, True)]
    }
    panels = resolution_figure(comparison).axes
    assert [axes.get_title() for axes in panels] == ["the weights as they are", "fine-tuned at that size"]
    # Means over three seeds, by hand: seeds add 0, 0.1 and 0.2 points to 1-D, twice that to sincos.
    expected = {False: [[90.1, 50.1], [88.2, 70.2]], True: [[91.1, 80.1], [89.2, 85.2]]}
    for axes, tuned in zip(panels, expected, strict=True):
        drawn = [container.lines[0] for container in axes.containers]
        assert [line.get_ydata() for line in drawn] == [pytest.approx(means) for means in expected[tuned]]
        assert all(list(line.get_xdata()) == [8, 12] for line in drawn)
        looks = [{name: getattr(line, f"get_{name}")() for name in ("color", "marker", "linestyle")} for line in drawn]
        assert all(looks[0][name] != looks[1][name] for name in looks[0])
        # Every seed is a point of its own, at its size and its accuracy.
        seeds = sorted(tuple(point) for collection in axes.collections for point in collection.get_offsets().tolist())
        assert len([point for point in seeds if point != (0, 0)]) == 12
    assert set(render(comparison, "resolution", formats=("svg", "png"))) == {"svg", "png"}
    # What is compared at each size apart has no kind of plot in which one baseline stands for all.
    assert {kind for kind in KINDS if render(comparison, kind)} == {"forest", "resolution"}


def test_the_same_weights_placed_otherwise_are_a_line_of_their_own():
    placed = "sincos rescaled, 12 px"
    of = design()
    of = of.model_copy(
        update={
            "arms": (*of.arms, placed),
            "starts": {**of.starts, placed: "sincos, 8 px"},
            "factors": {**of.factors, placed: {"position": "sincos rescaled", "image size": "12 px"}},
            "epochs": {**of.epochs, placed: 0},
        }
    )
    found = [record.model_copy(update={"design": of}) for record in records()]
    for record in [record for record in found if record.arm == "sincos, 12 px"]:
        model = record.config.model.replace(position_grid=4)
        config = record.config.replace(model=model)
        found.append(record.model_copy(update={"arm": placed, "config": config, "run_id": config.run_id}))
    (comparison,) = compare(found)
    lines = {line.name: [arm.name for arm in line.arms] for line in lines_of(comparison) if not line.fine_tuned}
    assert lines["sincos"] == ["sincos, 8 px", "sincos, 12 px"] and lines["sincos rescaled"] == ["sincos, 8 px", placed]


def test_what_is_evaluated_as_it_is_has_the_setting_of_what_it_comes_from_in_tables_and_plans():
    def at(rate, record, val):
        config = record.config
        train = config.train.replace(learning_rate=rate)
        first = config.pretraining and config.pretraining.replace(
            train=config.pretraining.train.replace(learning_rate=rate)
        )
        config = config.replace(train=train, pretraining=first)
        metrics = {**record.metrics, "val_top1": val}
        design = record.design.model_copy(update={"learning_rates": (1e-3, 3e-3)})
        changes = {"config": config, "run_id": config.run_id, "learning_rate": rate, "metrics": metrics}
        return record.model_copy(update={**changes, "design": design})

    # Trained at 8 pixels, the smaller rate is best; at 12 pixels, the larger one, as it is and fine-tuned.
    best = {8: 1e-3, 12: 3e-3, "12 on": 3e-3, "8 on": 1e-3}
    tried = [
        at(rate, made("1-D", place, seed), 0.9 if rate == best[place] else 0.5)
        for seed in range(3)
        for place in LEVELS
        for rate in (1e-3, 3e-3)
    ]
    (comparison,) = compare(tried)
    chosen = {arm.name: arm.learning_rate for arm in comparison.arms}
    assert chosen["1-D, 12 px"] == chosen["1-D, 8 px"] == 1e-3 and chosen["1-D, 12 px, fine-tuned"] == 3e-3

    study = Study(
        "?", "", Arm("first"), [Arm("as it is", start="first", epochs=0), Arm("on", start="first")], name="mine"
    )
    resolved = resolve_study(study, BUDGETS["quick"], describe("digits"), Overrides())
    assert {arm: resolved.design.chosen_with(arm) for arm in resolved.arms} == {
        "first": "first",
        "as it is": "first",
        "on": "on",
    }


def test_arms_that_start_from_the_seed_have_no_such_picture():
    plain = [made(position, 8, seed) for seed in range(3) for position in POSITIONS]
    (comparison,) = compare(plain)
    assert resolution_figure(comparison) is None
