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


def test_the_home_of_nobody_is_refused_in_a_line(vitbench):
    said = vitbench("tables", "--results=~no-such-account/x")
    assert said.status == 2 and said.err.count("\n") == 1 and "no-such-account" in said.err


@pytest.mark.parametrize(
    "command", [("plan", "pooling"), ("run", "pooling"), ("train", "Nano/4")], ids=lambda command: command[0]
)
def test_a_folder_with_the_name_of_a_built_in_set_is_not_passed_over(vitbench, tmp_path, folder_of_images, command):
    folder = folder_of_images(tmp_path / "digits")
    said = vitbench(*command, "--data", "digits", "--data-root", tmp_path, "--results", tmp_path)
    assert said.status == 2 and said.err.count("\n") == 1
    assert f"dataset 'digits' is built in, but {str(folder)!r} is a folder too" in said.err


def test_the_folder_is_taken_where_its_path_is_given(vitbench, tmp_path, folder_of_images):
    folder = folder_of_images(tmp_path / "digits")
    request = ("plan", "pooling", "--budget", "smoke", "--batch-size", "8", "--results", tmp_path, "--json")
    runs = json.loads(vitbench(*request, "--data", folder, "--data-root", tmp_path).out)["runs"]
    assert {run["dataset"].partition("@")[0] for run in runs} == {"digits"} and "@" in runs[0]["dataset"]


def test_a_mistyped_data_root_is_named(vitbench, tmp_path):
    said = vitbench("doctor", "--data-root", tmp_path / "dta")
    assert said.status == 2 and said.err.count("\n") == 1
    assert f"data_root {str(tmp_path / 'dta')!r} is not a folder" in said.err
