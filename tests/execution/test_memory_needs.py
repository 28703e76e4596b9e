"""Does `plan` tell what memory its runs take, near what such runs took, and what `--micro-batch auto` would do?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitbench.costs.memory import COUNTED, estimated_memory
from vitbench.execution import memory_needs as module
from vitbench.execution.memory_needs import memory_needs
from vitbench.records import RecordStore

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


@pytest.fixture
def runs(make_job):
    def of(*changes):
        return [make_job(arm=f"arm {n}", **change).run for n, change in enumerate(changes)]

    return of


@pytest.fixture
def free(monkeypatch):
    def set_free(amount):
        monkeypatch.setattr(module, "available_bytes", lambda: amount)

    return set_free


def test_the_estimate_is_within_a_factor_of_two_of_what_every_model_of_the_reference_took():
    """Most ran in bf16, whose half of the bytes the estimate of `auto` does not count on."""
    ratios = []
    for study in ("pooling", "position", "data_size", "registers", "patch_size"):
        seen = set()
        for record in RecordStore(REFERENCE).read(study):
            peak, config = record.cost.peak_memory_bytes, record.config
            if peak and (config.model, config.train.batch_size) not in seen:
                seen.add((config.model, config.train.batch_size))
                as_run = config.train.model_copy(update={"precision": record.environment.precision})
                memory = estimated_memory(config.model_copy(update={"train": as_run}))
                ratios.append(memory.peak_of(config.train.batch_size) / peak)
    ratios.sort()
    assert len(ratios) > 15 and ratios[0] > 0.5 and ratios[-1] < 2
    assert ratios[len(ratios) // 2] == pytest.approx(1, rel=0.2)


def test_each_arm_is_told_by_its_largest_and_whole_batches_that_fit_are_left_whole(runs, free):
    free(64 * 2**30)
    needs = memory_needs(runs({}, {"name": "Micro/2"}), workers=2, device=None)
    assert [need.arm for need in needs.arms] == ["arm 0", "arm 1"]
    assert needs.arms[0].needed_bytes < needs.arms[1].needed_bytes
    assert needs.room_bytes == COUNTED * 32 * 2**30
    (line,) = needs.sentences()
    assert line.startswith("memory: tests on digits takes up to ") and "(arm 1, batches of 64; estimated)" in line
    assert line.endswith("and a run may take 24 GiB here, beside 1 other: whole batches fit")


def test_where_a_batch_does_not_fit_the_line_says_what_auto_would_take(runs, free):
    (run,) = runs({})
    memory = estimated_memory(run.config)
    free(round(memory.needed(64, 20) / COUNTED) + 1)
    needs = memory_needs([run], workers=1, device=None)
    assert needs.arms[0].micro_batch == 16
    (line,) = needs.sentences()
    assert line.endswith("here: --micro-batch auto computes 16 images at a time (arm 0)")


def test_a_conv_stem_keeps_its_batch_whole_and_what_cannot_fit_is_said(runs, free):
    free(1000)
    stem = {"patch_size": 4, "stem": "conv", "stem_width": 8}
    whole, refused = memory_needs(runs({"model": stem}, {}), workers=1, device=None).arms
    assert (whole.micro_batch, whole.problem) == (None, "")
    assert refused.problem.startswith("micro_batch auto: one image at a time takes")


def test_what_the_system_does_not_tell_is_left_out(runs, free):
    free(None)
    assert memory_needs(runs({}), workers=1, device=None) is None


def test_on_a_device_it_is_the_measurement_of_auto(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    (run,) = runs({})
    (need,) = memory_needs([run], workers=1, device="cpu").arms
    assert need.is_measured and need.micro_batch is None
    (kept,) = json.loads((tmp_path / "micro_batches.json").read_text()).values()
    assert kept["micro_batch"] is None and kept["memory"]["fixed"] > 0
    assert need.needed_bytes == pytest.approx(estimated_memory(run.config).needed(64), rel=1)
