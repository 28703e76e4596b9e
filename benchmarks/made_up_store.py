"""What would a results folder of so many records hold? Made up, through the real plan and schema, without training.

`one_study`: 40 arms on five data sets, ten learning rates, as many seeds as the number of records allows. `many_comparisons`:
five arms, two learning rates and ten seeds on each of so many numbers of training images, which are not compared.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tests.made_up_records import make_record
from vitbench.data.info import KNOWN
from vitbench.machine import cpu_name
from vitbench.records import Design, Record, describe_environment
from vitbench.records.lines import with_digest
from vitbench.records.metrics import METRICS
from vitbench.studies import BUDGETS, Overrides, PlannedRun, load_study, make_plan

STUDY = "many"
DATASETS = ("torch/cifar10", "torch/cifar100", "torch/mnist", "torch/fashion_mnist", "torch/kmnist")
RATES = tuple(float(f"{1e-4 * 1.6**i:.3g}") for i in range(10))
ARMS, EPOCHS, TEST_IMAGES = 40, 20, 10_000
OF_A_COMPARISON = 100
"""Records of each of the `many_comparisons`."""
STUDY_FILE = f"""
from vitbench.studies import Arm, Study

STUDY = Study(
    question="How many register tokens does a small model want?",
    source="made up",
    baseline=Arm("none"),
    arms=[Arm(f"{{n}} registers", num_registers=n) for n in range(1, {ARMS})],
    train={{"epochs": {EPOCHS}}},
)
"""


def make_store(root: Path, shape: str, records: int) -> None:
    """Writes `records/many.jsonl` of so many lines, and the study's file `many.py`, into the folder `root`."""
    (root / "records").mkdir(parents=True, exist_ok=True)
    (root / f"{STUDY}.py").write_text(STUDY_FILE)
    with (root / "records" / f"{STUDY}.jsonl").open("wb") as file:
        SHAPES[shape](root, records, file)


def plan_options(records: int) -> list[str]:
    """Of `vitbench plan` of `one_study`, under which its runs are recorded."""
    seeds = str(-(-records // (len(DATASETS) * ARMS * len(RATES))))
    rates = [option for rate in RATES for option in ("--learning-rate", str(rate))]
    data = [option for dataset in DATASETS for option in ("--data", dataset)]
    return ["--budget", "quick", "--seeds", seeds, "--tune-seeds", seeds, *rates, *data]


def _one_study(root: Path, records: int, file: BinaryIO) -> None:
    seeds = -(-records // (len(DATASETS) * ARMS * len(RATES)))
    study = load_study(str(root / f"{STUDY}.py"))
    overrides = Overrides(learning_rates=RATES, seeds=1, tuning_seeds=1)
    runs = [run for name in DATASETS for run in make_plan(study, BUDGETS["quick"], KNOWN[name], overrides).runs]
    templates = [
        _Template(index, run, run.design.model_copy(update={"seeds": seeds})) for index, run in enumerate(runs)
    ]
    lines = (template.line(seed) for seed in range(seeds) for template in templates)
    file.writelines(islice(lines, records))


def _many_comparisons(_: Path, records: int, file: BinaryIO) -> None:
    rates, seeds, arms = RATES[4:6], 10, 5
    names = tuple(f"{n} registers" for n in range(arms))
    design = Design(question="?", source="made up", baseline=names[0], arms=names, learning_rates=rates, seeds=seeds)

    def lines() -> Iterator[bytes]:
        for comparison in range(records // OF_A_COMPARISON):
            data = {"dataset": "torch/cifar10", "train_images": 10_000 + comparison}
            for index, (arm, rate) in enumerate((arm, rate) for arm in range(arms) for rate in rates):
                record = make_record(
                    names[arm], study=STUDY, learning_rate=rate, model={"num_registers": arm}, data=data, design=design
                )
                template = _Template(index, record, design)
                yield from (template.line(seed) for seed in range(seeds))

    file.writelines(lines())


SHAPES: dict[str, Callable[[Path, int, BinaryIO], None]] = {
    "one_study": _one_study,
    "many_comparisons": _many_comparisons,
}


class _Template:
    """Lines of one arm at one setting, which differ in their seed and in what was measured."""

    _MARK = 987_654_321

    def __init__(self, index: int, run: PlannedRun | Record, design: Design) -> None:
        config = run.config.model_copy(update={"seed": self._MARK})
        self._index = index
        self._canonical = config.canonical_json()
        record = make_record(run.arm, study=STUDY, budget=run.budget, variant=run.variant, design=design)
        environment = describe_environment(
            f"cpu: {cpu_name()}",
            precision="fp32",
            threads=1,
            data_sha256=hashlib.sha256(config.data.dataset.encode()).hexdigest(),
        )
        update = {"config": config, "learning_rate": config.train.learning_rate, "environment": environment}
        values = record.model_copy(update=update).to_dict()
        values |= {"run_id": "RUN_ID", "seed": self._MARK, "metrics": "METRICS", "curve": "CURVE", "correct": "CORRECT"}
        values["weights_sha256"] = "WEIGHTS"
        self._text = json.dumps(values, separators=(",", ":"))

    def line(self, seed: int) -> bytes:
        mark = str(self._MARK)
        run_id = hashlib.sha256(self._canonical.replace(mark, str(seed)).encode()).hexdigest()
        generator = np.random.default_rng([self._index, seed])
        level = 0.6 + 0.2 * (self._index * 0.618 % 1) + 0.01 * generator.standard_normal()
        correct = generator.random(TEST_IMAGES, np.float32) < level
        top1 = float(correct.mean())
        text = self._text.replace(mark, str(seed)).replace("RUN_ID", run_id[:16]).replace("WEIGHTS", run_id)
        text = text.replace('"METRICS"', json.dumps(_metrics(top1, generator.random(8)), separators=(",", ":")))
        text = text.replace('"CURVE"', _curve(top1, generator.random(EPOCHS)))
        text = text.replace("CORRECT", base64.b64encode(np.packbits(correct).tobytes()).decode())
        return with_digest(text.encode()) + b"\n"


def _metrics(top1: float, noise: np.ndarray) -> dict[str, float]:
    below = dict(zip((metric.key for metric in METRICS.values()), (float(each) / 2 for each in noise), strict=False))
    return {
        **below,
        "test_top1": top1,
        "val_top1": round(top1 + float(noise[-1]) / 100, 4),
        "val_loss": float(noise[0]),
    }


def _curve(top1: float, noise: np.ndarray) -> str:
    points = (
        f'{{"epoch":{i},"train_loss":{2 / i + float(each)!r},"val_loss":{1 / i + float(each)!r},'
        f'"val_top1":{round(top1 * i / EPOCHS, 4)!r},"fraction":1.0}}'
        for i, each in enumerate(noise, start=1)
    )
    return f"[{','.join(points)}]"
