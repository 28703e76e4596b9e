"""Does a study keep to the operators that its records were computed with, whatever is measured later? Nothing is timed."""

from __future__ import annotations

import dataclasses
import json

import pytest

from vitbench.device import open_device
from vitbench.execution import operators
from vitbench.execution.current_environment import CurrentEnvironment
from vitbench.execution.run import execute
from vitbench.kernels import choice, native
from vitbench.kernels.choice import TORCH_IS_FASTER, Measured
from vitbench.records import RecordStore, describe_environment
from vitbench.variants import variant

needs_native = pytest.mark.skipif(native.state()[0] is None, reason=f"no native operators: {native.state()[1]}")

CPU = open_device("cpu")
HERE = describe_environment(CPU.name, precision="bf16", threads=1).model_dump()
WIDTH = 32
"""Of Nano."""


@pytest.fixture(autouse=True)
def measurement(monkeypatch, tmp_path):
    """What would be measured, to be set; as in a process that has chosen nothing yet."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(native.SWITCH, "auto")
    monkeypatch.setattr(choice, "_settled", {})
    answer = {"operators": "native"}
    monkeypatch.setattr(choice, "measure", lambda width, threads: Measured(answer["operators"], 1.0, 9))
    return answer


@pytest.fixture
def recorded(made_up):
    """A record of Nano in bf16 on this machine, by torch's operators or native ones."""

    def record(kernels: str, **environment):
        started = environment.pop("started", "2026-11-01T00:00:00.000+00:00")
        return made_up(environment={**HERE, "kernels": kernels, **environment}, started=started)

    return record


def config_of(record, **train):
    return record.config.replace(train=record.config.train.replace(precision="bf16", **train))


@needs_native
@pytest.mark.parametrize("measured", ["native", "torch"])
@pytest.mark.parametrize(("kernels", "expected"), [("native", "native"), (TORCH_IS_FASTER, "torch")])
def test_records_decide_and_not_what_is_measured(measurement, recorded, measured, kernels, expected):
    measurement["operators"] = measured
    record = recorded(kernels)
    settled = operators.settle([record], [config_of(record)], device=CPU, threads=1)
    assert settled[WIDTH][HERE["machine"]] == (expected, operators.AS_RECORDED)
    assert choice.describe_use("cpu", precision="bf16", compiled=False, width=WIDTH) == kernels


@needs_native
@pytest.mark.parametrize(
    "other",
    [
        {"machine": "89abcdef"},
        {"torch": "1.0"},
        {"kernels": "torch"},
        {"kernels": "torch: VITBENCH_KERNELS=torch"},
    ],
    ids=str,
)
def test_records_of_another_machine_or_torch_or_without_a_choice_decide_nothing_here(measurement, recorded, other):
    measurement["operators"] = "torch"
    record = recorded(**{"kernels": "native", **other})
    settled = operators.settle([record], [config_of(record)], device=CPU, threads=1)
    why, on = settled[WIDTH][HERE["machine"]]
    assert why == "torch" and on.startswith("measured: ")
    if "machine" in other:
        assert settled[WIDTH]["89abcdef"] == ("native", operators.AS_RECORDED)


def test_the_earliest_record_counts_however_they_are_ordered(recorded):
    late = recorded(TORCH_IS_FASTER, started="2026-11-03T00:00:00.000+00:00")
    early = recorded("native", started="2026-11-02T00:00:00.000+00:00", threads=4)
    assert operators.recorded_operators([late, early]) == {WIDTH: {HERE["machine"]: "native"}}


@needs_native
def test_each_width_is_chosen_by_itself_and_their_records_stand_in_one_comparison(measurement, recorded):
    record = recorded("native")
    wide = config_of(record).replace(model=variant("Micro/2", image_size=8, in_channels=1, num_classes=10))
    measurement["operators"] = "torch"
    settled = operators.settle([record], [config_of(record), wide], device=CPU, threads=1)
    assert [settled[width][HERE["machine"]][0] for width in (32, 64)] == ["native", "torch"]
    of_both = [recorded(kernels).environment for kernels in ("native", TORCH_IS_FASTER)]
    assert of_both[0].comparison_key == of_both[1].comparison_key
    assert of_both[0].determines_bits != of_both[1].determines_bits


def test_nothing_is_chosen_for_fp32_or_what_is_to_be_compiled(measurement, recorded, monkeypatch):
    monkeypatch.setattr(choice, "measure", lambda *_: pytest.fail("measured"))
    config = config_of(recorded("native"))
    for train in ({"precision": "fp32"}, {"compile": "on"}):
        other = config.replace(train=config.train.replace(**train))
        assert operators.settle([], [other], device=CPU, threads=1) == {}


@needs_native
def test_what_another_choice_computed_is_not_taken_for_a_repetition(measurement, recorded):
    records = [recorded(kernels) for kernels in ("native", TORCH_IS_FASTER)]
    records = [r.model_copy(update={"config": config_of(r)}) for r in records]
    current = CurrentEnvironment(CPU, threads=1)
    assert [current.differs(record) for record in records] == [(), ()]
    assert [current.would_repeat(record) for record in records] == [True, False]
    operators.settle(records[1:], [records[1].config], device=CPU, threads=1)
    assert [current.would_repeat(record) for record in records] == [False, True]


@needs_native
@pytest.mark.parametrize("chosen", ["native", "torch"])
def test_a_run_computes_as_its_job_says_and_records_why(make_job, measurement, chosen):
    measurement["operators"] = "native" if chosen == "torch" else "torch"
    job = dataclasses.replace(make_job(train={"precision": "bf16"}), precision="bf16")
    machine = describe_environment("cpu: " + HERE["cpu"], precision="", threads=1).machine
    job = dataclasses.replace(job, operators={machine: (chosen, operators.AS_RECORDED)})
    environment = execute(job).environment
    assert environment.operators == chosen and environment.kernels_note == operators.AS_RECORDED
    assert bool(environment.kernel_library) is (chosen == "native") and not environment.compiled


RUN = ("pooling", "--budget", "smoke", "--data", "digits", "--epochs", 1, "--train-images", 128)


@needs_native
def test_a_study_goes_on_with_its_operators_after_the_cache_was_lost(vitbench, tmp_path, measurement, in_this_process):
    options = (*RUN, "--precision", "bf16", "--learning-rate", "1e-3", "--jobs", 1, "--results", tmp_path)
    measurement["operators"] = "torch"
    assert vitbench("run", *options, "--seeds", 1).status == 0
    (tmp_path / "cache" / "kernel_choices.json").unlink()
    measurement["operators"] = "native"
    choice._settled.clear()
    assert vitbench("run", *options, "--seeds", 2).status == 0
    records = RecordStore(tmp_path).read("pooling")
    assert {record.seed for record in records} == {0, 1}
    assert {record.environment.kernels for record in records} == {TORCH_IS_FASTER}
    assert len({record.environment.comparison_key for record in records}) == 1


@pytest.mark.parametrize("command", ["run", "train"])
def test_operators_that_are_not_known_are_refused_in_a_line_and_nothing_is_recorded(
    vitbench, tmp_path, monkeypatch, command
):
    monkeypatch.setenv(native.SWITCH, "fast")
    if command == "run":
        said = vitbench("run", *RUN, "--results", tmp_path)
    else:
        said = vitbench("train", "Nano/2", "--data", "digits", "--epochs", 1, "--results", tmp_path)
    assert said.status == 2 and said.err.count("\n") == 1
    assert "VITBENCH_KERNELS 'fast' is not known; set it to native, torch or auto" in said.err
    assert not RecordStore(tmp_path).studies()


def test_older_records_have_no_note_and_are_compared_as_before(made_up):
    record = made_up(environment={"kernels": "native"})
    fields = json.loads(record.to_json())
    for name in ("kernels_note", "kernel_library"):
        del fields["environment"][name]
    older = type(record).model_validate(fields)
    assert older == record and older.environment.comparison_key == record.environment.comparison_key
    assert (older.environment.operators, older.environment.kernel_library) == ("native", "")
