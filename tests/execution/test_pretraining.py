"""Does `vitbench run` train what others go on from first, hand its weights on, and cope where there are none?"""

from __future__ import annotations

import json

import pytest
import torch

from tests.execution.run_results import records_of, with_other_bits
from tests.made_up_studies import SIZES
from tests.older_records import plain_text
from vitbench.config import RunConfig, run_id
from vitbench.data import load, normalise
from vitbench.execution import local
from vitbench.models.inherit import inherit
from vitbench.models.weights import load_trained, save_trained
from vitbench.records import Outcome, RecordStore, unpack_correct


@pytest.fixture
def request_of(tmp_path):
    (tmp_path / "sizes.py").write_text(SIZES)
    return (
        *(str(tmp_path / "sizes.py"), "--budget", "smoke", "--batch-size", "128", "--precision", "fp32"),
        *("--seeds", "1", "--results", tmp_path, "--device", "cpu", "--threads", "1", "--jobs", "1"),
    )


def weights_of(root, record):
    return root / "checkpoints" / f"{record.run_id}.safetensors"


def forget(root, *arms, weights):
    """As after a checkout in which these have no record yet, and no run its weights."""
    path = RecordStore(root).path("sizes")
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["arm"] not in arms]
    path.write_text("\n".join(lines) + "\n")
    for kept in root.glob("checkpoints/*") if weights else ():
        kept.unlink()


def test_a_chain_runs_in_its_order_and_its_ends_are_as_if_called_by_hand(
    vitbench, tmp_path, request_of, in_this_process
):
    said = vitbench("run", *request_of)
    assert said.status == 0, said.err
    assert "4 of 4 runs to do" in said.out and "2 of them come before others, which go on" in said.out
    records = records_of(tmp_path)
    assert list(records) == ["8 px", "12 px", "12 px, on", "12 px, further"]
    # Those that others go on from keep their weights, and no other.
    kept = {path.stem for path in tmp_path.glob("checkpoints/*")}
    assert kept == {records["8 px"].run_id, records["12 px, on"].run_id}

    as_it_is = records["12 px"]
    assert as_it_is.curve == () and as_it_is.cost.train_seconds == 0 and as_it_is.cost.train_images_per_second is None
    trained = load_trained(weights_of(tmp_path, records["8 px"]))
    assert as_it_is.config.pretraining == trained.config
    model = inherit(trained.model, as_it_is.config.model, seed=0, keep_head=True).eval()
    images = load("digits", image_size=(12, 12))
    pixels, labels = next(
        images.test.batches(range(len(images.test.labels)), len(images.test.labels), torch.device("cpu"))
    )
    with torch.no_grad():
        right = model(normalise(pixels, images.mean, images.std)).argmax(1) == labels
    assert unpack_correct(as_it_is.correct, len(labels)).tolist() == right.tolist()
    assert as_it_is.metrics["test_top1"] == pytest.approx(right.double().mean().item())

    by_hand = vitbench(
        *("train", "--init", records["8 px"].run_id, "--keep-head", "--recipe", "smoke", "--epochs", 0.5),
        *("--batch-size", 128, "--precision", "fp32", "--learning-rate", 1e-3, "--train-images", 256),
        *("--image-size", 12, "--threads", 1, "--device", "cpu", "--results", tmp_path, "--json"),
    )
    assert json.loads(by_hand.out)["weights_sha256"] == records["12 px, on"].weights_sha256
    assert len(records["12 px, on"].curve) == 1 and records["12 px, on"].curve[0].fraction == 0.5
    assert "all 4 runs are recorded" in vitbench("run", *request_of).out


def test_what_was_recorded_without_weights_is_trained_again_for_them(vitbench, tmp_path, request_of, in_this_process):
    vitbench("run", *request_of)
    before = records_of(tmp_path)
    plan = ("plan", *request_of[: request_of.index("--device")])
    assert json.loads(vitbench(*plan, "--json").out)["runs_to_train"] == 0
    forget(tmp_path, "12 px, on", "12 px, further", weights=True)
    assert json.loads(vitbench(*plan, "--json").out)["runs_to_train"] == 3
    assert "1 of them is recorded, but trains again for its weights" in vitbench(*plan).out
    said = vitbench("run", *request_of)
    assert said.status == 0 and "2 of 4 runs to do" in said.out
    after = RecordStore(tmp_path).read("sizes")
    assert [record.arm for record in after] == ["8 px", "12 px", "8 px", "12 px, on", "12 px, further"]
    assert {r.arm: r.weights_sha256 for r in after} == {arm: r.weights_sha256 for arm, r in before.items()}


def test_a_pretraining_that_has_other_bits_with_other_threads_is_trained_again_once(
    vitbench, tmp_path, request_of, in_this_process
):
    vitbench("run", *request_of)
    forget(tmp_path, "12 px", "12 px, on", "12 px, further", weights=True)
    store = RecordStore(tmp_path)
    (first,) = store.read("sizes")
    first = with_other_bits(first, threads=first.environment.threads + 1)
    store.path("sizes").unlink()
    store.append(first)
    said = vitbench("run", *request_of)
    assert said.status == 0 and "could not be kept" not in said.out and "left out" not in said.err
    after = store.read("sizes")
    assert [record.arm for record in after] == ["8 px", "8 px", "12 px", "12 px, on", "12 px, further"]
    assert {record.outcome for record in after} == {Outcome.COMPLETED} and after[0] == first
    said = vitbench("run", *request_of)
    assert said.status == 0 and store.read("sizes") == after


def test_a_chain_whose_weights_are_gone_is_trained_again_from_its_beginning(
    vitbench, tmp_path, request_of, in_this_process
):
    vitbench("run", *request_of)
    before = records_of(tmp_path)
    forget(tmp_path, "12 px, further", weights=True)
    said = vitbench("run", *request_of)
    assert said.status == 0 and "2 of these are recorded without their weights" in said.out
    after = RecordStore(tmp_path).read("sizes")
    assert [record.arm for record in after[3:]] == ["8 px", "12 px, on", "12 px, further"]
    assert records_of(tmp_path)["12 px, further"].weights_sha256 == before["12 px, further"].weights_sha256


def test_weights_of_another_machine_or_of_other_content_are_not_gone_on_from(
    vitbench, tmp_path, request_of, in_this_process
):
    vitbench("run", *request_of)
    before = records_of(tmp_path)
    path = RecordStore(tmp_path).path("sizes")
    path.write_text(plain_text(path).replace(before["8 px"].environment.machine, "abcdef01"))
    # Under its name lie weights that are whole and of this configuration, but not those that were recorded.
    kept = weights_of(tmp_path, before["8 px"])
    other = load_trained(kept)
    with torch.no_grad():
        other.model.head.classifier.bias += 100 * torch.arange(10)
    save_trained(kept, other.model, other.config, mean=other.mean, std=other.std)
    assert vitbench("run", *request_of, "--again").status == 0
    after = records_of(tmp_path)
    assert {arm: r.weights_sha256 for arm, r in after.items()} == {arm: r.weights_sha256 for arm, r in before.items()}
    assert after["12 px"].correct == before["12 px"].correct

    # The same where the file cannot be read: what is left is trained again, and the rest goes on.
    forget(tmp_path, "12 px, on", weights=False)
    weights_of(tmp_path, after["8 px"]).write_bytes(b"torn")
    assert vitbench("run", *request_of).status == 0
    assert records_of(tmp_path)["12 px, on"].weights_sha256 == before["12 px, on"].weights_sha256


def test_weights_that_a_record_of_an_older_schema_names_are_not_looked_for_under_todays(
    vitbench, tmp_path, request_of, in_this_process
):
    (tmp_path / "zpools.py").write_text(
        'from vitbench.studies import Arm, Study\nSTUDY = Study("?", "", Arm("cls"), [Arm("gap", pool="gap")])\n'
    )
    vitbench("run", str(tmp_path / "zpools.py"), *request_of[1:], "--keep-weights")
    path = RecordStore(tmp_path).path("zpools")
    older = [json.loads(line) for line in plain_text(path).splitlines()]
    for record in older:
        del record["config"]["pretraining"]
        before, record["run_id"] = record["run_id"], run_id(record["config"])
        kept = tmp_path / "checkpoints" / f"{before}.safetensors"
        kept.rename(kept.with_stem(record["run_id"]))
    path.write_text("".join(json.dumps(record) + "\n" for record in older))
    assert vitbench("run", *request_of).status == 0
    assert len(RecordStore(tmp_path).read("sizes")) == 4


def test_a_pretraining_that_diverged_is_what_became_of_all_that_go_on_from_it(
    vitbench, tmp_path, request_of, in_this_process
):
    said = vitbench("run", *request_of, "--learning-rate", "1e6")
    assert said.status == 0
    records = records_of(tmp_path)
    assert {record.outcome for record in records.values()} == {Outcome.DIVERGED} and len(records) == 4
    assert records["12 px"].reason.startswith(f"its pretraining, run {records['8 px'].run_id}, diverged: ")
    assert not list(tmp_path.glob("checkpoints/*"))
    assert "all 4 runs are recorded" in vitbench("run", *request_of, "--learning-rate", "1e6").out


def test_a_pretraining_that_failed_or_left_no_weights_fails_what_goes_on_and_is_tried_again(
    vitbench, tmp_path, request_of, in_this_process, monkeypatch
):
    from vitbench.execution import initial_model
    from vitbench.execution import run as execution

    def full(*_, **__):
        raise ValueError("weights cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr(execution, "save_trained", full)
        said = vitbench("run", *request_of)
    records = records_of(tmp_path)
    assert said.status == 1 and len(RecordStore(tmp_path).read("sizes")) == 4
    assert records["8 px"].outcome is Outcome.COMPLETED
    for arm in ("12 px", "12 px, on", "12 px, further"):
        assert records[arm].outcome is Outcome.FAILED
    assert "but its weights could not be kept" in records["12 px"].reason and "could not be kept" in said.out

    with monkeypatch.context() as patch:
        patch.setattr(initial_model, "build_model", full)
        path = RecordStore(tmp_path).path("sizes")
        path.unlink()
        assert vitbench("run", *request_of).status == 1
    assert [record.outcome for record in RecordStore(tmp_path).read("sizes")] == [Outcome.FAILED] * 4

    assert vitbench("run", *request_of).status == 0
    assert {record.outcome for record in records_of(tmp_path).values()} == {Outcome.COMPLETED}


def test_weights_of_another_run_under_its_name_are_not_taken(vitbench, tmp_path, request_of, in_this_process):
    in_process, swapped = local.run_jobs, []

    def swap_before(queue, **options):
        for job in queue._waiting.values():
            if job.init is not None and not swapped:
                name = vitbench("train", "Nano/4", "--epochs", 1, "--results", tmp_path, "--json")
                other = weights_of(tmp_path, RecordStore(tmp_path).read("train")[0])
                swapped.append(json.loads(name.out)["run_id"])
                weights_of(tmp_path, records_of(tmp_path)["8 px"]).write_bytes(other.read_bytes())
        in_process(queue, **options)

    local.run_jobs = swap_before
    try:
        assert vitbench("run", *request_of).status == 1
    finally:
        local.run_jobs = in_process
    record = records_of(tmp_path)["12 px"]
    assert record.outcome is Outcome.FAILED
    assert f"is of {swapped[0]}" in record.reason and records_of(tmp_path)["8 px"].run_id in record.reason


def test_a_pretraining_that_another_study_trained_is_trained_once(vitbench, tmp_path, request_of, in_this_process):
    (tmp_path / "pools.py").write_text(
        'from vitbench.studies import Arm, Study\nSTUDY = Study("?", "", Arm("cls"), [Arm("gap", pool="gap")])\n'
    )
    others = (str(tmp_path / "pools.py"), *request_of[1:])
    vitbench("run", *others, "--keep-weights")
    vitbench("run", *request_of)
    assert records_of(tmp_path)["8 px"].taken_from == "pools"
    # Without its weights it is trained again: a record alone gives nothing to go on from.
    for path in (*tmp_path.glob("checkpoints/*"), RecordStore(tmp_path).path("sizes")):
        path.unlink()
    vitbench("run", *request_of)
    assert records_of(tmp_path)["8 px"].taken_from == ""


def test_identities_follow_the_whole_chain(vitbench, tmp_path, request_of):
    runs = json.loads(vitbench("plan", *request_of[:-6], "--json").out)["runs"]
    other = json.loads(vitbench("plan", *request_of[:-6], "--epochs", "2", "--json").out)["runs"]
    assert len({run["run_id"] for run in [*runs, *other]}) == 8
    assert RunConfig().replace(pretraining=RunConfig(seed=1)).run_id != RunConfig().run_id
