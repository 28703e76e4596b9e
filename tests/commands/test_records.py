"""Does every command say what is wrong with the records, leave it out, go on with the rest and end with 1?"""

from __future__ import annotations

import json
import os

import pytest

from vitbench.records import Faults, RecordStore

OTHER = {"metrics": {"test_top1": 2 / 3, "val_top1": 0.1}, "correct": ""}
SMOKE = ("pooling", "--budget", "smoke", "--data", "digits")


def one_damaged_line(root, made_up) -> RecordStore:
    store = RecordStore(root)
    for seed in range(3):
        store.append(made_up(seed=seed))
    path = store.path("pooling")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"val_top1":0.1', '"val_top1":0.3'), lines[2]]) + "\n")
    return store


@pytest.mark.parametrize("command", [("tables",), ("plots",), ("report",), ("plan", *SMOKE), ("records", "check")])
def test_a_damaged_line_is_said_once_and_the_command_does_its_work(vitbench, tmp_path, made_up, command):
    one_damaged_line(tmp_path, made_up)
    said = vitbench(*command, "--results", tmp_path)
    assert said.status == 1 and said.out
    text = said.out if command[0] == "records" else said.err
    assert text.count("pooling.jsonl line 2: its digest is not that of its bytes") == 1
    assert "Traceback" not in said.err


def test_tables_and_report_say_what_they_are_made_without(vitbench, tmp_path, made_up):
    store = one_damaged_line(tmp_path, made_up)
    store.append(made_up(seed=2, **OTHER))
    for command in ("tables", "report"):
        vitbench(command, "--results", tmp_path)
    (table,) = (tmp_path / "tables" / "pooling").glob("*.md")
    for page in (table, tmp_path / "tables" / "README.md", tmp_path / "report.html"):
        text = page.read_text().replace("\\", "")
        assert "records/pooling.jsonl line 2: its digest is not that of its bytes." in text
        assert "records/pooling.jsonl line 4: run" in text and "is in line 3 with other metrics" in text
        assert str(tmp_path) not in text


def test_plan_counts_the_run_of_a_damaged_line_as_not_recorded(vitbench, tmp_path):
    run = ("run", *SMOKE, "--seeds", "1", "--jobs", "1", "--learning-rate", "1e-3", "--results", tmp_path)
    assert vitbench(*run).status == 0
    path = RecordStore(tmp_path).path("pooling")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seed":0', b'"seed":1', 1))
    plan = json.loads(vitbench("plan", *run[1:-4], "--learning-rate", "1e-3", "--results", tmp_path, "--json").out)
    assert [entry["done"] for entry in plan["runs"]].count(False) == 1
    said = vitbench(*run)
    assert said.status == 1 and "pooling.jsonl line 1" in said.err and "1 run recorded" in said.out
    assert path.read_bytes().count(b"\n") == content.count(b"\n") + 1
    assert vitbench("records", "repair", "--results", tmp_path).status == 0
    said = vitbench(*run)
    assert said.status == 0 and not said.err


def test_no_studys_damage_keeps_others_from_their_tables(vitbench, tmp_path, made_up):
    store = RecordStore(tmp_path)
    good, unknown = made_up(seed=0), made_up(study="foreign", arm="theirs")
    store.append(good)
    fields = unknown.to_dict()
    fields["config"]["model"] = {"timm": "a_model_of_nobody", "image_size": 8, "in_channels": 1, "num_classes": 10}
    fields["config"]["model"]["options"] = {}
    from vitbench.config import run_id

    fields["run_id"] = run_id(fields["config"])
    fields["design"]["train_images"] = 100
    fields["design"]["match"] = "flops"
    store.path("foreign").write_text(json.dumps(fields) + "\n")
    store.path("later").write_text(json.dumps({**good.to_dict(), "study": "later", "schema": 7}) + "\n")
    store.path("garbage").write_bytes(os.urandom(1000))
    odd = made_up(study="odd")
    odd = odd.model_copy(
        update={"design": odd.design.model_copy(update={"match": "nothing known", "epochs": {"cls": 1.0}})}
    )
    store.append(odd)
    store.path("folder").mkdir()
    os.mkfifo(store.path("pipe"))
    (tmp_path / "transfer").mkdir()
    (tmp_path / "transfer" / "x.jsonl").write_text("{}\n")
    for command in ("tables", "plots", "report"):
        said = vitbench(command, "--results", tmp_path)
        assert said.status == 1 and "Traceback" not in said.err
        for name in ("later", "garbage", "odd", "folder", "pipe", "x"):
            assert f"{name}.jsonl" in said.err, (command, name)
        assert "foreign.jsonl" not in said.err  # nothing is wrong with it: its model ran elsewhere
    for study in ("pooling", "foreign"):
        assert list((tmp_path / "tables" / study).glob("*.md")) and list((tmp_path / "plots" / study).glob("*.svg"))
        assert study in (tmp_path / "report.html").read_text()


def test_a_store_of_damage_alone_has_a_page_that_says_so(vitbench, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "mine.jsonl").write_text("{}\n")
    said = vitbench("report", "--results", tmp_path)
    assert said.status == 1 and "records/mine.jsonl line 1" in (tmp_path / "report.html").read_text()
    assert vitbench("tables", "--results", tmp_path).status == 1


@pytest.mark.parametrize("command", ["tables", "plots", "report", "plan", "records check"])
def test_the_folder_of_records_is_refused_as_results(vitbench, tmp_path, made_up, command):
    RecordStore(tmp_path / "mine").append(made_up())
    said = vitbench(*command.split(), "--results", tmp_path / "mine" / "records")
    assert said.status == 2 and said.err.count("\n") == 1
    assert "is the folder of the records themselves; give" in said.err


def test_check_repair_and_merge_from_the_command_line(vitbench, tmp_path, made_up):
    store = one_damaged_line(tmp_path / "a", made_up)
    said = vitbench("records", "check", "--results", store.root, "--json")
    facts = json.loads(said.out)
    assert said.status == 1 and facts["files"] == 1 and facts["records"] == 2
    assert [(fault["line"], fault["kind"]) for fault in facts["faults"]] == [(2, "damage")]

    said = vitbench("records", "repair", "--results", store.root)
    assert said.status == 0 and "1 line of" in said.out and "pooling.damaged" in said.out
    assert vitbench("records", "check", "--results", store.root).status == 0

    other = RecordStore(tmp_path / "b", Faults())
    other.append(made_up(seed=1))
    other.append(made_up(seed=2, **OTHER))
    said = vitbench("records", "merge", store.root, other.root)
    assert said.status == 1 and "1 record added to" in said.out and "line 2: run" in said.out
    assert [record.seed for record in store.read("pooling")] == [0, 2, 1]
    assert vitbench("records", "merge", store.root, tmp_path / "nothing").status == 2
    said = vitbench("records", "merge", tmp_path / "mistyped", other.root)
    assert said.status == 2 and "mistyped" in said.err and not (tmp_path / "mistyped").exists()


def test_many_faults_of_one_file_are_not_all_said(vitbench, tmp_path, made_up):
    store = RecordStore(tmp_path)
    store.append(made_up())
    with store.path("pooling").open("a") as file:
        file.write("{}\n" * 500)
    said = vitbench("tables", "--results", tmp_path)
    assert said.err.count("\n") == 11 and "vitbench records check" in said.err.splitlines()[-1]
    assert vitbench("records", "check", "--results", tmp_path).out.count("\n") == 501
