"""Does a run get as much of a GPU as its measured memory needs, and all of it where nothing is known?"""

from __future__ import annotations

import json

import pytest

from tests.made_up_records import make_record
from vitbench.execution.cluster.gpu_share import PeakMemory, gpu_share, parse_gpus_per_run

GIB = 2**30


@pytest.mark.parametrize(
    ("peak", "memory", "share"),
    [
        (None, 80 * GIB, 1.0),  # not known
        (10 * GIB, None, 1.0),
        (60 * GIB, 80 * GIB, 1.0),  # 76 GiB: one
        (30 * GIB, 80 * GIB, 0.5),  # 38.5 GiB: two
        (20 * GIB, 80 * GIB, 0.3333),  # 26 GiB: three
        (16 * GIB, 80 * GIB, 0.3333),  # 21 GiB: three, where four would fit without head room
        (2**20, 80 * GIB, 0.125),  # never more than eight
        (200 * GIB, 80 * GIB, 1.0),
    ],
)
def test_the_share_follows_from_the_peak_with_head_room(peak, memory, share):
    assert gpu_share(peak, memory) == share
    assert round(1 / share) * share <= 1  # so many fit, as Ray adds them up


def test_only_runs_of_the_same_model_recipe_precision_and_device_tell_the_peak():
    record = make_record()
    environment = record.environment.model_copy(update={"device": "cuda: Example", "precision": "bf16"})

    def measured(peak, **config):
        cost = record.cost.model_copy(update={"peak_memory_bytes": peak})
        run = record.config.model_copy(update=config)
        return record.model_copy(update={"cost": cost, "environment": environment, "config": run})

    peaks = PeakMemory("cuda: Example")
    peaks.learn([measured(100), measured(300, seed=7), measured(200, seed=8), measured(None, seed=9)])
    assert peaks.of(record.config, "bf16") == 300  # another seed needs as much
    longer = record.config.model_copy(update={"train": record.config.train.model_copy(update={"epochs": 99})})
    assert peaks.of(longer, "bf16") == 300
    larger = record.config.model_copy(update={"train": record.config.train.model_copy(update={"batch_size": 9999})})
    assert peaks.of(larger, "bf16") is None
    assert peaks.of(record.config, "fp32") is None
    elsewhere = PeakMemory("cuda: Another")
    elsewhere.learn([measured(100)])
    assert elsewhere.of(record.config, "bf16") is None


def test_where_no_run_is_recorded_the_profile_of_the_model_tells(tmp_path):
    config = make_record().config
    rows = [
        {"implementation": "vitbench", "mode": "train", "device": "cuda: Example", "precision": "bf16"},
        {"implementation": "timm", "mode": "train", "device": "cuda: Example", "precision": "bf16"},
    ]
    folder = tmp_path / "profiles" / "cuda-example" / "throughput"
    folder.mkdir(parents=True)
    (folder / "damaged.json").write_text("{")
    for peak, row in zip((700, 900), rows, strict=True):
        row |= {"batch_size": config.train.batch_size, "peak_memory_bytes": peak}
    content = {"request": {"model": config.model.model_dump(mode="json")}, "facts": {"rows": rows}}
    (folder / "train.json").write_text(json.dumps(content))
    peaks = PeakMemory("cuda: Example")
    peaks.learn_profiles(tmp_path)
    assert peaks.of(config, "bf16") == 700
    assert peaks.of(config, "fp32") is None


@pytest.mark.parametrize("text", ["0", "2", "-0.5", "nan", "inf", "half", "", "1e-9"])
def test_what_is_no_share_is_refused_with_the_remedy(text):
    with pytest.raises(ValueError, match=r"gpus-per-run .* give 1, 0\.5 or another number to 1, or auto"):
        parse_gpus_per_run(text)
    assert parse_gpus_per_run("auto") is None and parse_gpus_per_run("0.25") == 0.25
