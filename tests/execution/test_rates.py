"""Is how fast arms train found once, kept, and the same for every later plan? Nothing is timed here."""

from __future__ import annotations

import json

import pytest

from vitbench.data import describe
from vitbench.device import open_device
from vitbench.execution import rates
from vitbench.records import describe_environment
from vitbench.studies import BUDGETS, Arm, Overrides, Study
from vitbench.studies.resolved_study import resolve_study

TWO_POOLS = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], name="two_pools")
THREE_POOLS = Study(
    question="?",
    source="",
    baseline=Arm("cls"),
    arms=[Arm("gap", pool="gap"), Arm("map", pool="map")],
    name="two_pools",
)


def whole(study=TWO_POOLS, **train):
    asked = Overrides(seeds=1, learning_rates=(1e-3,), match="time", train={"precision": "fp32", **train})
    return resolve_study(study, BUDGETS["smoke"], describe("digits"), asked)


@pytest.fixture
def clock(monkeypatch):
    """Stands for the clock: images/s by arm, to be set; keeps which arms were measured together."""
    speeds, measured = {"cls": 100.0, "gap": 150.0, "map": 50.0}, []

    def measure(whole, arms, *, device, threads):
        measured.append(list(arms))
        return {arm: speeds[arm] for arm in arms}

    monkeypatch.setattr(rates, "_measure", measure)
    return speeds, measured


def settle(results, of, records=()):
    rates.settle(results, of, records, device=open_device("cpu"), threads=1)


def test_what_was_measured_is_kept_and_not_measured_again(tmp_path, clock):
    speeds, measured = clock
    assert rates.kept(tmp_path, whole()) is None
    settle(tmp_path, whole())
    speeds["gap"] = 1.0
    settle(tmp_path, whole())
    assert measured == [["cls", "gap"]] and rates.kept(tmp_path, whole()) == {"cls": 100.0, "gap": 150.0}
    # Speeds do not depend on how long a run is.
    assert rates.kept(tmp_path, whole(epochs=3)) == {"cls": 100.0, "gap": 150.0}
    assert rates.kept(tmp_path, whole(batch_size=32)) is None


def test_an_arm_that_came_later_is_scaled_by_the_baseline_beside_it(tmp_path, clock):
    speeds, measured = clock
    settle(tmp_path, whole())
    speeds |= {"cls": 200.0, "gap": 1.0, "map": 100.0}  # the machine is twice as fast that day
    assert rates.kept(tmp_path, whole(THREE_POOLS)) is None
    settle(tmp_path, whole(THREE_POOLS))
    assert measured[1] == ["cls", "map"]
    assert rates.kept(tmp_path, whole(THREE_POOLS)) == {"cls": 100.0, "gap": 150.0, "map": 50.0}
    assert len(list((tmp_path / "rates").iterdir())) == 1


def test_an_arm_of_another_batch_is_measured_again_and_one_kept_without_a_recipe_had_the_baselines(tmp_path, clock):
    study = Study(
        question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap", batch_size=32)], name="two_pools"
    )
    settle(tmp_path, whole())
    assert rates.kept(tmp_path, whole(study)) is None
    (path,) = (tmp_path / "rates").iterdir()
    content = json.loads(path.read_text())
    for of_arm in content["arms"].values():
        del of_arm["train"]  # as earlier versions kept it
    path.write_text(json.dumps(content))
    assert rates.kept(tmp_path, whole()) == {"cls": 100.0, "gap": 150.0}
    assert rates.kept(tmp_path, whole(study)) is None


def test_records_of_this_device_that_have_every_arm_save_the_measurement(tmp_path, clock, made_up):
    of, here = whole(), describe_environment(open_device("cpu").name, precision="fp32", threads=1).model_dump()

    def record(arm, speed, seed=0, **environment):
        config = of.arms[arm].replace(seed=seed)
        cost = {"train_images_per_second": speed}
        return made_up(study="two_pools", arm=arm, config=config, cost=cost, environment={**here, **environment})

    partly = [record("cls", 10.0), record("gap", 1.0, workers=2), record("gap", 1.0, device="cpu: Another")]
    partly += [record("gap", 1.0, machine="another"), record("gap", 1.0, torch="1.0"), record("gap", 1.0, timm="1.0")]
    settle(tmp_path / "partly", of, partly)
    assert clock[1] == [["cls", "gap"]]  # one load has the one arm, another the other
    settle(tmp_path / "all", of, [*partly, record("gap", 20.0), record("gap", 40.0, seed=1)])
    assert len(clock[1]) == 1 and rates.kept(tmp_path / "all", of) == {"cls": 10.0, "gap": 30.0}
    (path,) = (tmp_path / "all" / "rates").iterdir()
    assert json.loads(path.read_text())["source"] == "records"


@pytest.mark.parametrize("part", ["machine", "torch", "timm", "kernels"])
def test_records_of_another_environment_save_no_measurement(tmp_path, clock, made_up, part):
    of = whole()
    here = describe_environment(open_device("cpu").name, precision="fp32", threads=1).model_dump()
    there = {**here, part: "native" if part == "kernels" else "another"}
    speeds = {"cls": 1.0, "gap": 2.0}
    records = [
        made_up(
            study="two_pools",
            arm=arm,
            config=of.arms[arm],
            cost={"train_images_per_second": speed},
            environment=there,
        )
        for arm, speed in speeds.items()
    ]
    settle(tmp_path, of, records)
    assert clock[1] == [["cls", "gap"]] and rates.kept(tmp_path, of) != speeds


def test_rates_of_another_device_are_refused_and_not_used(tmp_path, clock):
    settle(tmp_path, whole())
    (path,) = (tmp_path / "rates").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "device": "cuda: Elsewhere"}))
    with pytest.raises(
        ValueError, match=r"are of cuda: Elsewhere with .*, and this is cpu: .*; give another --results"
    ):
        settle(tmp_path, whole())


def test_rates_of_another_torch_are_refused_and_a_plan_can_tell(tmp_path, clock):
    assert rates.made_elsewhere(tmp_path, whole()) == ""
    settle(tmp_path, whole())
    assert rates.made_elsewhere(tmp_path, whole()) == ""
    (path,) = (tmp_path / "rates").iterdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "torch": "1.0"}))
    assert "with torch 1.0, and this is cpu: " in rates.made_elsewhere(tmp_path, whole())
    with pytest.raises(ValueError, match=r"with torch 1\.0, and this is cpu: .*; give another --results"):
        settle(tmp_path, whole())


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": {"model": 3}}'])
def test_a_file_that_cannot_be_read_is_named(tmp_path, clock, content):
    (tmp_path / "rates").mkdir()
    (tmp_path / "rates" / "two_pools-smoke-0.json").write_text(content)
    with pytest.raises(ValueError, match=r"two_pools-smoke-0.json' cannot be read .*; remove the file"):
        rates.kept(tmp_path, whole())


def test_each_arm_is_measured_on_its_own_model(monkeypatch):
    pytest.importorskip("torch")
    from vitbench.profiling import candidates

    measured, candidate_of = {}, candidates.candidate_of

    def noted(config, name, **settings):
        measured[name] = config.pool
        return candidate_of(config, name, **settings)

    monkeypatch.setattr(candidates, "candidate_of", noted)
    found = rates._measure(whole(), ["cls", "gap"], device=open_device("cpu"), threads=1)
    assert measured == {"cls": "cls", "gap": "gap"}
    assert set(found) == {"cls", "gap"} and all(speed > 0 for speed in found.values())


def test_an_arm_that_cannot_be_timed_ends_the_command_with_its_name(monkeypatch):
    from vitbench.profiling import throughput

    def fail(candidate, device):
        raise MemoryError("no memory")

    monkeypatch.setattr(throughput, "prepare", fail)
    with pytest.raises(ValueError, match=r"arm 'cls' cannot be timed .no memory.; use --match flops"):
        rates._measure(whole(), ["cls", "gap"], device=open_device("cpu"), threads=1)
