"""Are paths and names taken as the user means them, or refused where they may mean two things?"""

from __future__ import annotations

import json

import pytest

ON_CPU = ("--device", "cpu", "--threads", "1")


@pytest.mark.parametrize("option", ["--results=~/mine", "--results=~/mine/"])
def test_a_home_that_the_shell_left_is_the_users(vitbench, tmp_path, monkeypatch, option):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    said = vitbench("train", "Nano/4", "--epochs", "1", "--train-images", "64", "--batch-size", "32", option, *ON_CPU)
    assert said.status == 0 and (tmp_path / "home" / "mine" / "records" / "train.jsonl").is_file()
    assert not (tmp_path / "~").exists()


def test_records_are_merged_below_a_home_that_the_shell_left(vitbench, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    records = tmp_path / "home" / "from" / "records"
    records.mkdir(parents=True)
    (tmp_path / "home" / "into").mkdir()
    (records / "pooling.jsonl").write_text("{}\n")
    said = vitbench("records", "merge", "~/into", "~/from")
    assert said.status == 1 and str(records / "pooling.jsonl") in said.out
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_results_at_or_below_a_file_are_refused(vitbench, tmp_path, below):
    (tmp_path / "file").write_text("")
    said = vitbench("plan", "pooling", "--budget", "smoke", "--results", tmp_path / "file" / below)
    assert said.status == 2 and said.err.endswith("is not a folder; give another --results\n")


def test_the_home_of_nobody_is_refused_in_a_line(vitbench):
    said = vitbench("tables", "--results=~no-such-account/x")
    assert said.status == 2 and said.err.count("\n") == 1 and "no-such-account" in said.err


def test_the_folder_is_taken_where_its_path_is_given(vitbench, tmp_path, folder_of_images):
    folder = folder_of_images(tmp_path / "digits")
    request = ("plan", "pooling", "--budget", "smoke", "--batch-size", "8", "--results", tmp_path, "--json")
    runs = json.loads(vitbench(*request, "--data", folder, "--data-root", tmp_path).out)["runs"]
    assert {run["dataset"].partition("@")[0] for run in runs} == {"digits"} and "@" in runs[0]["dataset"]
