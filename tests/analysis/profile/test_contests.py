"""Are ours and peers compared round by round, and is what could not run noted?"""

from __future__ import annotations

import csv
import io

import pytest

from tests.made_up_profiles import (
    DRIFTING,
    make_contest,
    make_heat,
    profile_in,
)
from vitbench.analysis.profile.contests import peers, settings, summary
from vitbench.analysis.profile.profile import contests_of
from vitbench.analysis.writing.table import csv_text


def test_ratios_are_taken_round_by_round(tmp_path):
    make_contest(tmp_path, DRIFTING)
    (contest,) = contests_of(profile_in(tmp_path))
    assert contest.against("timm") == (1.5, (1.5, 1.5))
    middle, (low, high) = contest.against("vit-pytorch")
    assert middle == pytest.approx(1.2) and low == pytest.approx(1.1) and high == pytest.approx(1.2)
    assert contest.against("torchvision")[0] == 4.5  # of 9, 4.5 and 2.25
    assert contest.against("vitbench") is None
    assert contest.best_peer == "vit-pytorch"


def test_the_summary_has_one_row_for_each_contest_with_its_best_peer(tmp_path):
    make_contest(tmp_path, DRIFTING)
    make_contest(tmp_path, {"vitbench": [2.0, 2.0, 2.0], "timm": [1.0, 1.0, 1.0]}, pool="gap")
    table = summary(profile_in(tmp_path))
    assert [list(row.values())[:4] for row in table.rows] == [
        ["S/16, 224 px", pool, "train", "16"] for pool in ("cls", "gap")
    ]
    cls, gap = table.rows[0], table.rows[1]
    assert cls["ours (images/s)"] == "8.00 (bf16 eager)"  # 16 images in 2 s
    assert cls["MFU"] == "12%"  # 8 images/s × 6 GFLOP over 400 GFLOP/s
    assert cls["against the best peer"] == cls["vit-pytorch"] == "1.20 [1.10, 1.20]"
    assert cls["timm"] == "1.50 [1.50, 1.50]"
    assert gap["against the best peer"] == gap["timm"] == "0.50 [0.50, 0.50]" and gap["torchvision"] == "–"


def test_the_csv_has_full_precision_and_units_in_its_names(tmp_path):
    make_contest(tmp_path, {"vitbench": [3.0, 3.0, 3.0], "timm": [4.0, 4.0, 4.0]})
    rows = list(csv.DictReader(io.StringIO(csv_text(peers(profile_in(tmp_path)).raw))))
    assert [row["implementation"] for row in rows] == ["vitbench", "timm"]
    assert float(rows[1]["step_over_ours"]) == 4 / 3 and rows[0]["step_over_ours"] == ""
    assert float(rows[0]["images_per_second"]) == 16 / 3 and rows[0]["torch"] == "2.14.1"


def test_a_setting_that_failed_is_noted_once_with_all_places_and_its_reason(tmp_path):
    failed = [make_heat("timm", [], compiled=True, reason="RuntimeError: no compiler")]
    for mode in ("infer", "train"):
        make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3}, mode=mode, heats=failed)
    notes = [note for note in peers(profile_in(tmp_path)).notes if "no compiler" in note]
    assert notes == [
        "timm did not run (S/16, 224 px, cls, infer, bf16 compiled; S/16, 224 px, cls, train, bf16 compiled): "
        "RuntimeError: no compiler."
    ]


def test_a_peer_of_which_nothing_ran_is_noted_in_the_summary(tmp_path):
    failed = [make_heat("transformers", [], reason="ModuleNotFoundError: No module named 'transformers'")]
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3}, heats=failed)
    assert "S/16, 224 px, cls, train: no setting of transformers ran." in summary(profile_in(tmp_path)).notes


def test_what_was_timed_alone_or_failed_in_the_final_has_no_ratio(tmp_path):
    samples = {"vitbench": [1.0] * 3, "timm": [2.0] * 5, "torchvision": []}
    rows = {"timm": {"in_turn": False}, "torchvision": {"reason": "out of memory at batch 16"}}
    make_contest(tmp_path, samples, rows=rows)
    table = peers(profile_in(tmp_path))
    assert [row["ours is … times as fast [95 %]"] for row in table.rows] == ["–", "–", "–"]
    assert any("timm bf16 eager was timed alone" in note for note in table.notes)
    assert any("torchvision bf16 eager in the final: out of memory at batch 16" in note for note in table.notes)


def test_medians_that_did_not_settle_and_other_work_on_the_machine_are_noted(tmp_path):
    busy = {"warning": "other processes kept 1.5 of 2 cores busy meanwhile"}
    rows = {"timm": {"settled": False, "device_state": busy}}
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3}, rows=rows)
    notes = " ".join(summary(profile_in(tmp_path)).notes)
    assert "wider than 2 %): S/16, 224 px, cls, train (timm)." in notes
    assert "other processes kept 1.5 of 2 cores busy" in notes


def test_qualifying_rounds_are_told_setting_by_setting(tmp_path):
    slow = make_heat("timm", [8.0, 4.0, 2.0], precision="fp32", compiled=True)
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3}, heats=[slow])
    ours, timm = (settings(profile_in(tmp_path)).rows[index] for index in (0, 1))
    assert timm["fp32 compiled"] == "4.00" and timm["bf16 eager"] == "8.00" and timm["bf16 compiled"] == "–"
    assert ours["fp32 compiled"] == "–" and ours["bf16 eager"] == "16.0"


def test_cuda_graphs_are_a_setting_of_their_own_where_they_were_tried(tmp_path):
    graphs = make_heat("timm", [4.0] * 3, compiled=True, cuda_graphs=True)
    make_contest(tmp_path, {"vitbench": [1.0] * 3, "timm": [2.0] * 3}, heats=[graphs])
    ours, timm = (settings(profile_in(tmp_path)).rows[index] for index in (0, 1))
    assert (ours["bf16 graphs"], timm["bf16 graphs"], timm["bf16 compiled"]) == ("–", "4.00", "–")
