"""Does `vitbench run` go on from trials to extensions to final seeds by itself, past runs that fail, and then stop?"""

from __future__ import annotations

import json

from tests.made_up_studies import TWO_POOLS
from tests.older_records import plain_text
from vitbench.analysis.comparison.load import load_comparisons
from vitbench.config import run_id
from vitbench.records import RecordStore

STUDY = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="Does a study go on?",
    source="",
    baseline=Arm("cls"),
    arms=[Arm("beyond memory", width=6144, mlp_ratio=1e6), Arm("gap", pool="gap")],
)
"""


def test_stages_follow_each_other_past_an_arm_that_fails(vitbench, tmp_path, in_this_process):
    (tmp_path / "mine.py").write_text(STUDY)
    request = (
        *(str(tmp_path / "mine.py"), "--budget", "smoke", "--batch-size", "32", "--precision", "fp32"),
        *("--seeds", "2", "--tune-seeds", "1", "--extend", "1", "--results", tmp_path),
        # The larger rate diverges: the smaller is best, and is the edge.
        *("--learning-rate", "1e-3", "--learning-rate", "1e6"),
    )
    said = vitbench("run", *request, "--device", "cpu", "--threads", "1", "--jobs", "1")
    assert said.status == 1 and "then at most" in said.out
    records = RecordStore(tmp_path).read("mine")
    trials = {(record.arm, record.learning_rate) for record in records if record.seed == 0}
    assert trials == {(arm, rate) for arm in ("cls", "beyond memory", "gap") for rate in (1e-12, 1e-3, 1e6)}
    failed = [record for record in records if record.arm == "beyond memory"]
    assert len(failed) == 3 and all(record.outcome == "failed" for record in failed)  # once each, and on no other seed
    (comparison,) = load_comparisons(tmp_path)
    cls, _, gap = comparison.arms
    final = {(record.arm, record.learning_rate) for record in records if record.seed == 1}
    assert final == {("cls", cls.learning_rate), ("gap", cls.learning_rate), ("gap", gap.learning_rate)}
    assert len(records) == 9 + len(final) and comparison.difference(gap).n == 2

    # The next call tries those that failed again, and only then knows what follows.
    facts = json.loads(vitbench("plan", *request, "--json").out)
    assert {run["arm"] for run in facts["runs"] if not run["done"]} == {"beyond memory"} and facts["later"]


def test_runs_of_another_machine_count_until_they_are_asked_for_again(vitbench, tmp_path, in_this_process):
    (tmp_path / "mine.py").write_text(TWO_POOLS)
    request = (
        *(str(tmp_path / "mine.py"), "--budget", "smoke", "--batch-size", "128", "--precision", "fp32"),
        *("--learning-rate", "1e-3", "--results", tmp_path),
    )
    here = ("--device", "cpu", "--threads", "1", "--jobs", "1")
    assert vitbench("run", *request, "--seeds", "1", *here).status == 0
    path = RecordStore(tmp_path).path("mine")
    machine = RecordStore(tmp_path).read("mine")[0].environment.machine
    path.write_text(plain_text(path).replace(machine, "abcdef01"))

    finished = vitbench("run", *request, "--seeds", "1", *here)
    assert "all 2 runs are recorded" in finished.out and "another environment" not in finished.out
    says = "2 of the recorded runs come from another environment (machine)"
    assert says in vitbench("plan", *request, "--seeds", "2").out
    more = vitbench("run", *request, "--seeds", "2", *here)
    assert "2 of 4 runs to do" in more.out and says in more.out and "--again" in more.out

    planned = json.loads(vitbench("plan", *request, "--seeds", "2", "--again", "--json").out)["runs"]
    assert {run["seed"] for run in planned if not run["done"]} == {0}
    again = vitbench("run", *request, "--seeds", "2", "--again", *here)
    assert "2 of 4 runs to do" in again.out and "another environment" not in again.out
    assert "all 4 runs are recorded" in vitbench("run", *request, "--seeds", "2", "--again", *here).out
    tables = {one.environment.machine: one for one in load_comparisons(tmp_path)}
    assert {name: one.seeds for name, one in tables.items()} == {"abcdef01": (0,), machine: (0, 1)}


def test_a_run_that_several_studies_need_is_trained_once(vitbench, tmp_path, monkeypatch, in_this_process):
    from vitbench.execution import local

    trained = []
    in_process = local.run_jobs

    def counted(queue, *, on_record, **options):
        def on_trained(job, record):
            trained.append(job.run)
            return on_record(job, record)

        in_process(queue, on_record=on_trained, **options)

    monkeypatch.setattr(local, "run_jobs", counted)
    (tmp_path / "pools.py").write_text(TWO_POOLS)
    (tmp_path / "widths.py").write_text(TWO_POOLS.replace('Arm("gap", pool="gap")', 'Arm("wide", mlp_ratio=4)'))
    (tmp_path / "heads.py").write_text(TWO_POOLS.replace('Arm("cls")', 'Arm("plain")').replace('"gap"', '"one"', 1))
    pools, widths, heads = (str(tmp_path / f"{name}.py") for name in ("pools", "widths", "heads"))
    request = (
        *("--budget", "smoke", "--batch-size", "128", "--precision", "fp32", "--seeds", "1"),
        *("--learning-rate", "1e-3", "--results", tmp_path),
    )
    here = ("--device", "cpu", "--threads", "1", "--jobs", "1")
    planned = json.loads(vitbench("plan", pools, widths, *request, "--json").out)
    assert len(planned["runs"]) == 4 and planned["runs_to_train"] == 3

    assert (
        "1 of them is a run of another study too, and is trained once"
        in vitbench("run", pools, widths, *request, *here).out
    )
    assert len(trained) == 3
    assert "2 of 2 runs to do (0 to train" in vitbench("plan", heads, *request).out
    said = vitbench("run", heads, *request, *here).out
    assert "2 of them are taken over from the records of another study" in said and "trained once" not in said
    assert len(trained) == 3
    # Both arms of `heads` are runs of `pools`: there under other names, and nothing but the place is another.
    store = RecordStore(tmp_path)
    taken = store.read("heads")
    assert [(record.arm, record.taken_from) for record in taken] == [("plain", "pools"), ("one", "pools")]
    place = {"study", "arm", "design", "taken_from"}
    by_id = {record.run_id: record for record in store.read("pools")}
    for record in taken:
        assert record.design.arms == ("plain", "one")
        assert record.model_dump(exclude=place) == by_id[record.run_id].model_dump(exclude=place)
    assert "all 2 runs are recorded" in vitbench("run", heads, *request, *here).out

    # A record from before the configuration had some field is written with that field, and its run_id with it.
    path = store.path("pools")
    now = plain_text(path)
    older = [json.loads(line) for line in now.splitlines()]
    for record in older:
        del record["config"]["pretraining"]
        record["run_id"] = run_id(record["config"])
    path.write_text("".join(json.dumps(record) + "\n" for record in older))
    store.path("heads").unlink()
    vitbench("run", heads, *request, *here)
    assert [record.taken_from for record in store.read("heads")] == ["pools", "pools"] and len(trained) == 3
    path.write_text(now)

    # What another machine recorded is not taken over; `widths` still has what `pools` trained here.
    machine = taken[0].environment.machine
    path.write_text(plain_text(path).replace(machine, "abcdef01"))
    store.path("heads").unlink()
    vitbench("run", heads, *request, *here)
    assert len(trained) == 4 and [record.taken_from for record in store.read("heads")] == ["pools", ""]
    # Nor what was trained on other data of that name, or with more threads, which takes sums in another order.
    for part, other in (('"data_sha256":"', '"data_sha256":"0'), ('"threads":1', '"threads":3')):
        before = {path: plain_text(path) for path in store.directory.glob("*.jsonl")}
        for path, text in before.items():
            path.write_text(text.replace(part, other))
        store.path("heads").unlink()
        ran = len(trained)
        vitbench("run", heads, *request, *here)
        assert len(trained) == ran + 2, part
        for path, text in before.items():
            path.write_text(text)


def test_weights_are_kept_of_what_is_trained_and_what_has_none_is_counted(vitbench, tmp_path, in_this_process):
    (tmp_path / "pools.py").write_text(TWO_POOLS)
    (tmp_path / "heads.py").write_text(TWO_POOLS.replace('Arm("cls")', 'Arm("plain")'))
    request = (
        *("--budget", "smoke", "--batch-size", "128", "--precision", "fp32", "--seeds", "1", "--learning-rate", "1e-3"),
        *("--results", tmp_path, "--device", "cpu", "--threads", "1", "--jobs", "1"),
    )
    vitbench("run", str(tmp_path / "pools.py"), *request)
    assert not list(tmp_path.glob("checkpoints/*"))
    said = vitbench("run", str(tmp_path / "pools.py"), *request, "--keep-weights")
    assert "2 of the recorded runs were recorded without --keep-weights" in said.out
    # Another study's runs are trained again for their weights, not taken over without.
    said = vitbench("run", str(tmp_path / "heads.py"), *request, "--keep-weights")
    assert "without --keep-weights" not in said.out and "trained once" not in said.out
    records = {record.run_id: record for record in RecordStore(tmp_path).read("heads")}
    assert {path.stem for path in tmp_path.glob("checkpoints/*")} == set(records)
    twins = {record.run_id: record.weights_sha256 for record in RecordStore(tmp_path).read("pools")}
    assert {run_id: record.weights_sha256 for run_id, record in records.items()} == twins
