"""How fast is the whole harness beside timm's own train.py, on the same model, data, batch and augmentation?

    python benchmarks/train_py.py --train-py ~/pytorch-image-models/train.py --folder ~/data/cifar10

`--folder` has train/ and test/ with a folder of images per class, or train.tar and test.tar, which are unpacked for
train.py. The 192 × 6 model at 32 pixels and patches of 4, batch 128. Rounds of all in turn. Of train.py counts what it
prints, training with its data alone; it has two loader workers. The harness runs `--jobs auto`; it counts twice: in
training with its data alone, and as training images over the time of whole runs, evaluation and record included,
which weigh the less the more epochs there are. The rate of matrix products is measured in every round: no
implementation trains faster than that rate over the FLOPs of an image.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from vitbench.commands.display import Terminal

from vitbench.costs.macs import training_flops_per_image
from vitbench.data import describe
from vitbench.device import open_device
from vitbench.execution import Job
from vitbench.execution.local import run_jobs
from vitbench.execution.preparation import DataReader, JobMaker
from vitbench.kernels import native
from vitbench.machine import cpu_cores
from vitbench.profiling.roofline import measure_ceilings
from vitbench.records import Outcome, Record
from vitbench.studies import BUDGETS, Overrides, load_study, make_plan
from vitbench.variants import variant

BF16 = ("--amp", "--amp-dtype", "bfloat16")
SETTINGS = {"fp32": (), "bf16": BF16, "bf16, compiled": (*BF16, "--torchcompile", "inductor")}
TRAINING, WHOLE = "vitbench, training", "vitbench, whole runs"
MODEL = (
    *("--model", "vit_tiny_patch16_224", "--model-kwargs", "img_size=32", "patch_size=4", "embed_dim=192", "depth=6"),
    *("num_heads=3", "--num-classes", "10", "--input-size", "3", "32", "32", "--batch-size", "128", "--opt", "adamw"),
    *(
        "--clip-grad",
        "1.0",
        "--workers",
        "2",
        "--device",
        "cpu",
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
        "--lr",
        "1e-3",
    ),
    # Crops and flips, as ours; nothing that only train.py would pay for.
    *("--train-crop-mode", "rkrc", "--color-jitter", "0", "--interpolation", "bilinear", "--log-interval", "5"),
)


@contextmanager
def as_folders(folder: Path) -> Iterator[Path]:
    """The data with train/ and test/ as folders."""
    if (folder / "train").is_dir():
        yield folder
        return
    with tempfile.TemporaryDirectory() as unpacked:
        for split in ("train", "test"):
            with tarfile.open(folder / f"{split}.tar") as tar:
                tar.extractall(Path(unpacked) / split, filter="data")
        yield Path(unpacked)


def rate_of_train_py(train_py: Path, folder: Path, *, setting: str, seconds: float) -> float:
    """Images/s in the median line that train.py prints within `seconds` after its first; it is ended then."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, str(train_py), "--data-dir", str(folder), "--val-split", "test", "--output", output]
        process = subprocess.Popen(
            [*command, *MODEL, *SETTINGS[setting]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        rates, start, lines = [], None, []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if match := re.search(r"Train: .*Time: [\d.]+s,\s*([\d.]+)/s", line):
                start = start or datetime.now()
                rates.append(float(match[1]))
                if (datetime.now() - start).total_seconds() > seconds:
                    break
        process.terminate()
        process.wait()
    if not rates:
        raise RuntimeError("train.py printed no rate:\n" + "".join(lines[-20:]))
    return median(rates[1:] or rates)


def rates_of_harness(folder: Path, *, images: int) -> tuple[float, float]:
    """Images/s of as many runs at once as there are cores: (in training alone, over whole runs)."""
    workers = cpu_cores()
    overrides = Overrides(
        variant="Small32/4",
        seeds=workers,
        tuning_seeds=workers,
        train_images=images,
        train={"epochs": 1, "batch_size": 128},
    )
    study = load_study("position")
    runs = [
        run
        for run in make_plan(study, BUDGETS["standard"], describe(str(folder)), overrides).runs
        if run.arm == study.baseline.name
    ]
    runs = [run for run in runs if run.config.train.learning_rate == runs[0].config.train.learning_rate][:workers]
    maker = JobMaker(device=open_device("cpu"), data_root=None, threads=1, workers=workers)
    DataReader(Terminal()).read([(str(folder), run) for run in runs])
    training: list[float] = []
    whole: list[float] = []

    def on_record(_: Job, record: Record) -> None:
        assert record.outcome is Outcome.COMPLETED, record.reason
        started, finished = map(datetime.fromisoformat, (record.started, record.finished))
        assert record.cost.train_images_per_second is not None
        training.append(record.cost.train_images_per_second)
        whole.append(images // 128 * 128 / (finished - started).total_seconds())

    jobs = [maker.job(str(folder), run) for run in runs]
    run_jobs(jobs, workers=workers, devices=["cpu"], on_record=on_record, on_report=lambda *_: None)
    return sum(training), sum(whole)


def main(
    train_py: Annotated[Path, typer.Option(exists=True, dir_okay=False)],
    folder: Annotated[Path, typer.Option(exists=True, file_okay=False)],
    rounds: int = 2,
    seconds: float = 40.0,
    images: int = 40_000,
) -> None:
    """Prints one JSON document."""
    names = [*(f"train.py {setting}" for setting in SETTINGS), TRAINING, WHOLE]
    rates: dict[str, list[float]] = {name: [] for name in names}
    device, products = open_device("cpu"), []
    with as_folders(folder) as folders:
        for _ in range(rounds):
            for setting in SETTINGS:
                rate = rate_of_train_py(train_py, folders, setting=setting, seconds=seconds)
                rates[f"train.py {setting}"].append(rate)
            for name, rate in zip((TRAINING, WHOLE), rates_of_harness(folder, images=images), strict=True):
                rates[name].append(rate)
            products.append(measure_ceilings(device).flops_per_second["bf16"])
    best = max(names[:-2], key=lambda name: median(rates[name]))
    model = variant("Small32/4", image_size=32, num_classes=10)
    facts = {
        "kernels": native.describe(),
        "images_per_second": rates,
        "bf16_product_flops_per_second": products,
        "images_per_second_at_that_rate": [rate / training_flops_per_image(model) for rate in products],
        **{
            f"{ours} over {best}": [a / b for a, b in zip(rates[ours], rates[best], strict=True)]
            for ours in (TRAINING, WHOLE)
        },
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    typer.run(main)
