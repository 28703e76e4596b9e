"""Is every number that any command takes refused in words where it is none, or out of bounds?"""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import typer

from vitbench.cli import app
from vitbench.config import DataConfig, TrainConfig, ViTConfig

BASE = {
    "plan": ("pooling", "--budget", "smoke"),
    "check": ("pooling", "--budget", "smoke"),
    "run": ("pooling", "--budget", "smoke"),
    "train": ("Nano/2", "--epochs", "1"),
    "flops": ("Nano/2", "--image-size", "8"),
    "throughput": ("Nano/2", "--image-size", "8"),
    "trace": ("Nano/2", "--image-size", "8"),
    "profile": ("Nano/2", "--image-size", "8"),
    "features": ("abcd", "--data", "digits", "--out", "x.npz"),
    "probe": ("abcd", "--data", "digits"),
    "figures": ("abcd",),
    "export": ("abcd", "--to", "timm", "--out", "x"),
    "tables": (),
    "plots": (),
    "report": (),
}
WORK = {
    "check": ("vitbench.execution.check_study._Checks.of",),
    "run": ("vitbench.execution.studies.StudyRuns._execute",),
    "train": ("vitbench.execution.single.execute_watched",),
    "throughput": ("vitbench.profiling.roofline.measure_ceilings",),
    "trace": ("vitbench.profiling.trace.record",),
    "profile": ("vitbench.profiling.profile.measure_parts",),
    "features": ("vitbench.inspection.loaded_model.load_model",),
    "probe": ("vitbench.inspection.loaded_model.load_model",),
    "figures": ("vitbench.inspection.figure_numbers.load_model",),
    "export": ("vitbench.models.weights.find_weights",),
}
"""Where each command begins to compute: a request that comes so far was accepted."""
NAMES = {"results", "data_root", "out", "data", "init", "with_run", "device"}
"""Options that take a name, which a number may be."""
NUMBERS = ("nan", "inf", "-1", "0", "1e300", str(10**30))
MEANT = {("plan", "train_images", str(10**30))}
"""A subset larger than the data is the data."""
FIELDS = {*ViTConfig.model_fields, *TrainConfig.model_fields, *DataConfig.model_fields}
COMMANDS = typer.main.get_command(app).commands


def options(command: str) -> list[Any]:
    """Options that take a value. Fields of configurations, which `tests/test_config.py` walks, are walked in `plan` and of
    the recipe and the data in `train`; what `plan` and `run` share, in `plan`.
    """
    taken = [p for p in COMMANDS[command].params if p.param_type_name == "option" and not p.is_flag]
    elsewhere = {*NAMES, *({"train": ViTConfig.model_fields, "plan": {}}.get(command, FIELDS))} - {"batch_size"}
    if command == "run":
        elsewhere |= {option.name for option in COMMANDS["plan"].params} - {"jobs"}
    return [option for option in taken if option.name not in elsewhere]


CASES = [(command, option.opts[-1], option.name) for command in BASE for option in options(command)]


def begun(*_: object, **__: object) -> NoReturn:
    raise SystemExit(0)


def test_no_command_that_takes_a_number_is_left_out():
    assert {name for name in COMMANDS if options(name)} == set(BASE)


@pytest.mark.parametrize(("command", "option", "name"), CASES, ids=[f"{c} {o}" for c, o, _ in CASES])
def test_a_number_out_of_bounds_is_refused_and_none_ends_in_a_traceback(
    vitbench, tmp_path, monkeypatch, command, option, name
):
    monkeypatch.chdir(tmp_path)
    for place in WORK.get(command, ()):
        monkeypatch.setattr(place, begun)
    before, field = ("weight_decay=", "weight_decay") if name == "tune" else ("", name.split("_")[0])
    for number in NUMBERS:
        said = vitbench(command, *BASE[command], option, before + number)
        what = (command, name, number)
        assert said.status in ((2,) if number != "0" and what not in MEANT else (0, 2)), (what, said)
        assert "Traceback" not in said.err, (what, said)
        if said.status == 2:
            assert said.err.startswith(("vitbench: ", "Usage: ")) and field in said.err, (what, said)
