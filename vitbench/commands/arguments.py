"""Arguments and options that several commands have: their names, what they take, and what `--help` says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

from typer import Argument, CallbackParam, Option

from vitbench.config import DISTORTIONS, MOST_SEEDS, Precision, distortion_names
from vitbench.files import expanded

if TYPE_CHECKING:
    from vitbench.device import Device
    from vitbench.execution.request import Request
    from vitbench.records import Record
    from vitbench.studies.looks import LookedAt
    from vitbench.studies.resolved_study import ResolvedStudy
    from vitbench.studies.target import Target

Names = TypeVar("Names", str, str | None, list[str] | None)


BudgetName = StrEnum("BudgetName", ["smoke", "quick", "standard", "paper"])
RECIPES = ("deit", "better-vit", "deit3")
"""Names of `studies.recipes.RECIPES`, which need not be imported to be known."""
ExecutorName = StrEnum("ExecutorName", ["local", "ray"])


def one_of(*choices: str) -> Callable[[CallbackParam, Names], Names]:
    """A callback of an option that takes one of these names, or several: it raises ValueError for another."""

    def check(option: CallbackParam, value: Names) -> Names:
        for name in [value] if isinstance(value, str) else value or []:
            if name not in choices:
                raise ValueError(f"{option.name} {name!r} is not known; use {', '.join(choices)}")
        return value

    return check


def at_least_one(option: CallbackParam, value: int | None) -> int | None:
    """A callback of an option that counts something."""
    if value is not None and value < 1:
        raise ValueError(f"{option.name} {value} is too few; give 1 or more")
    return value


def evaluated(names: str | None) -> tuple[str, ...] | None:
    """What `--evaluate` stands for: None where it was not given, empty for `none`."""
    return None if names is None else () if names == "none" else distortion_names(names)


def _checked_evaluate(names: str | None) -> str | None:
    evaluated(names)
    return names


def _seconds(seconds: float) -> float:
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"seconds {seconds:g} is no time to measure in; give more than 0, and {MOST_SECONDS} at most")
    return seconds


def _hours(hours: float | None) -> float | None:
    if hours is not None and not 0 < hours <= MOST_HOURS:
        raise ValueError(f"hours {hours:g} is no time to run for; give more than 0, and {MOST_HOURS} at most")
    return hours


def _path(path: Path | None) -> Path | None:
    return None if path is None else expanded(path)


def expanded_name(name: str | None) -> str | None:
    """What may be a path or another name, with the home folder for a `~`."""
    return str(expanded(Path(name))) if name and name.startswith("~") else name


def _results(path: Path) -> Path:
    folder = expanded(path)
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                why = "is" if place == folder else f"cannot be written below {str(place)!r}, which is"
                raise ValueError(f"results {str(folder)!r} {why} not a folder; give another --results")
            break
    return folder


def _load_code(files: list[str] | None) -> list[str] | None:
    from vitbench.user_code import load_file

    for file in map(Path, files or ()):
        if not file.is_file():
            raise ValueError(f"study {str(file)!r} is not there; give the file that has the code of the model")
        load_file(expanded(file), "study")
    return files


MOST_THREADS = 1024
"""More than any machine has cores, and fewer than a system lets a process have."""
MOST_SECONDS = 86_400
MOST_HOURS = 8760
MODES, PRECISIONS, COMPILES = ("infer", "train"), get_args(Precision), ("off", "on")
LOCAL_RESULTS = Path("results/local")
"""The default of `--results`."""

DONE, FAILED, WRONG = 0, 1, 2
"""Exit statuses: of a request that was wrong, the user has to mend something."""

_VARIANT = Argument(help="Micro/2, Ti/16, … (see `vitbench list`), timm:NAME, or an arm: pooling:gap, my_study.py:ARM.")
Variant = Annotated[str, _VARIANT]
OptionalVariant = Annotated[str | None, _VARIANT]
Variants = Annotated[list[str], _VARIANT]
StudyFiles = Annotated[
    list[str] | None,
    Option(
        "--study", callback=_load_code, help="FILE.py with the code of a user's part of the model; may be given again."
    ),
]
Results = Annotated[Path, Option(callback=_results, help="Folder with records/, tables/ and plots/.")]
DataRoot = Annotated[Path | None, Option(callback=_path, help="Folder in which the data set lies.")]
RecipeOption = Annotated[
    str | None,
    Option(callback=one_of(*RECIPES), help=f"{', '.join(RECIPES)}: train as this paper does, at the budget's size."),
]
RecipeOrBudget = Annotated[
    str | None,
    Option(callback=one_of(*RECIPES, *BudgetName), help="Train as this paper or budget does, but for what is given."),
]
TraceOut = Annotated[Path, Option(callback=_path, help="Folder; each trace gets one of its own within.")]
Out = Annotated[Path, Option(callback=_path, help="FILE.npz or FILE.parquet.")]
Evaluate = Annotated[
    str | None,
    Option(
        callback=_checked_evaluate,
        help=f"Test on distorted images too: some of {','.join(DISTORTIONS)}, with commas between them; or none.",
    ),
]
Download = Annotated[bool, Option("--download", help="Let the data set's library download what is missing.")]
AsJson = Annotated[bool, Option("--json", help="Print one JSON document and nothing else.")]
DeviceName = Annotated[str, Option(help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, Option(min=1, max=MOST_THREADS, help="Threads a worker computes with on CPU.")]
KeepWeights = Annotated[bool, Option(help="Keep trained weights in checkpoints/, as RUN_ID.safetensors.")]
Jobs = Annotated[str, Option(help="Worker processes: a number, or auto (one per CPU core or GPU).")]
Seconds = Annotated[float, Option(callback=_seconds, help="Time to measure each row in, at most.")]
Hours = Annotated[
    float | None, Option(callback=_hours, help="Begin no further run after so many hours; the next call goes on.")
]
Mode = Annotated[str, Option(callback=one_of(*MODES), help="infer (forward) or train (3 × forward).")]
Modes = Annotated[list[str] | None, Option(callback=one_of(*MODES), help="infer or train; both by default.")]
_ARMS = "an arm's, where its study sets one"
PrecisionName = Annotated[
    str | None, Option(callback=one_of(*PRECISIONS), help=f"auto, fp32 or bf16; default: {_ARMS}, else auto.")
]
PrecisionNames = Annotated[
    list[str] | None,
    Option(callback=one_of(*PRECISIONS), help=f"auto, fp32 or bf16, may be given again; default: {_ARMS}, else auto."),
]
CompileName = Annotated[
    str | None, Option(callback=one_of(*COMPILES), help=f"torch.compile: off or on; default: {_ARMS}, else off.")
]
CompileNames = Annotated[
    list[str] | None,
    Option(
        callback=one_of(*COMPILES), help=f"torch.compile: off or on, may be given again; default: {_ARMS}, else off."
    ),
]
MEASURED_SETTINGS = {"batch_size": 64, "precision": "auto", "compile": "off"}
"""What a timed step has of a recipe: an arm's, where its study sets it, else these."""


@dataclass(frozen=True)
class DeviceOptions:
    """What is measured on, and with how many threads."""

    device: DeviceName = "auto"
    threads: Threads = None

    def open_device(self) -> Device:
        import torch

        from vitbench.device import open_device

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return open_device(self.device)


@dataclass(frozen=True)
class ModelOptions:
    """For which images the models are that VARIANTs stand for, and what arms of studies differ from."""

    data: Annotated[
        str | None, Option(help="Data set whose images the model is for; default, of an arm: the quick budget's first.")
    ] = None
    data_root: DataRoot = None
    base: Annotated[
        str | None, Option(help="Of an arm: the variant that it differs from; default: the quick budget's.")
    ] = None

    def target(self, variant: str, fields: Mapping[str, Any]) -> Target:
        """What a VARIANT stands for, its model with fields on top. Raises ValueError for what stands for nothing."""
        from vitbench.data import describe
        from vitbench.studies import BUDGETS
        from vitbench.studies.target import arm_name, target_of

        budget = BUDGETS[BudgetName.quick]
        dataset = self.data or (budget.datasets[0] if arm_name(variant) else None)
        info = None if dataset is None else describe(dataset, root=self.data_root)
        return target_of(variant, info, budget, base=self.base, fields=fields)


def _judge(resolved: ResolvedStudy, records: Sequence[Record]) -> LookedAt:
    from vitbench.analysis.comparison.judge import judge

    return judge(resolved, records)


@dataclass(frozen=True)
class StudyOptions:
    """What `plan` and `run` take alike: which studies, on which data, at which budget, and what differs from it."""

    studies: Annotated[list[str] | None, Argument(help="Names of studies, paths of study files; default: all.")] = None
    budget: Annotated[BudgetName, Option(help="How much to spend.")] = BudgetName.quick
    data: Annotated[
        list[str] | None, Option(help="Data set: a name, a folder, FILE.npz or FILE.py[:NAME]; may be given again.")
    ] = None
    data_root: DataRoot = None
    arm: Annotated[
        list[str] | None, Option(help="This arm alone, beside the baseline; may be given again; default: all.")
    ] = None
    seeds: Annotated[int | None, Option(min=1, max=MOST_SEEDS, help="Seeds per arm; default: the budget's.")] = None
    until: Annotated[
        str | None,
        Option(help="settled: add seeds until every arm is settled, looking after 5, 8, 12, …; or other looks."),
    ] = None
    max_seeds: Annotated[
        int | None, Option(min=1, max=MOST_SEEDS, help="Of --until settled: the last look; default: 40.")
    ] = None
    variant: Annotated[str | None, Option(help="Base variant, as Mini/4; default: the budget's.")] = None
    recipe: RecipeOption = None
    epochs: Annotated[float | None, Option(help="2.5 is two and a half; default: the budget's.")] = None
    batch_size: Annotated[int | None, Option(help="Images; default: the budget's.")] = None
    train_images: Annotated[int | None, Option(help="Train on a subset of this size; default: the budget's.")] = None
    learning_rate: Annotated[list[float] | None, Option(help="Grid for every arm; may be given again.")] = None
    tune: Annotated[
        list[str] | None,
        Option(help="FIELD=VALUE,VALUE: tune it with the learning rate, in every combination; may be given again."),
    ] = None
    tune_seeds: Annotated[
        int | None,
        Option(
            min=1, max=MOST_SEEDS, help="Choose settings on so many seeds; the others run at chosen settings alone."
        ),
    ] = None
    extend: Annotated[
        int | None,
        Option(
            min=0, max=100, help="Steps that the grid may grow by where an arm is best at its edge; 0 only flags it."
        ),
    ] = None
    match: Annotated[str, Option(help="Equal for all arms: epochs, flops or time (of training).")] = "epochs"
    evaluate: Evaluate = None
    metric: Annotated[
        str | None,
        Option(help="By which arms are judged: top1, top5, balanced, loss, brier, ece; default: the study's, top1."),
    ] = None
    precision: Annotated[str | None, Option(help="auto, fp32 or bf16; default: the budget's.")] = None
    compile: Annotated[str | None, Option(help="torch.compile: off, auto or on; default: the budget's.")] = None
    again: Annotated[bool, Option("--again", help="Also run what was recorded on another machine or torch.")] = False
    results: Results = LOCAL_RESULTS
    download: Download = False

    def request(self) -> Request:
        from vitbench.execution.request import Request
        from vitbench.studies import BUDGETS, Overrides
        from vitbench.studies.looks import parse_until
        from vitbench.studies.tunable import parse_tune

        fields = ("epochs", "batch_size", "precision", "compile")
        overrides = Overrides(
            variant=self.variant,
            recipe=self.recipe,
            arms=tuple(self.arm or ()),
            seeds=self.seeds,
            until=parse_until(self.until) if self.until else None,
            max_seeds=self.max_seeds,
            train={name: value for name in fields if (value := getattr(self, name)) is not None},
            train_images=self.train_images,
            learning_rates=tuple(self.learning_rate or ()),
            tuning_seeds=self.tune_seeds,
            extend=self.extend,
            tune=parse_tune(self.tune or ()),
            match=self.match,
            evaluate=evaluated(self.evaluate),
            metric=self.metric,
        )
        return Request(
            studies=self.studies or ["all"],
            budget=BUDGETS[self.budget],
            overrides=overrides,
            datasets=self.data or [],
            data_root=self.data_root,
            download=self.download,
            results=self.results,
            again=self.again,
            judge=_judge,
        )
