"""What is checked of an option as soon as it is read, and what its text stands for. Raise ValueError, in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar, cast

from typer import CallbackParam

from vitbench.config import distortion_names
from vitbench.files import expanded

Names = TypeVar("Names", str, str | None, list[str] | None)
MOST_SECONDS = 86_400
MOST_HOURS = 8760
MOST_MINUTES = 525_600


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


def check_evaluate(names: str | None) -> str | None:
    evaluated(names)
    return names


def check_seconds(seconds: float) -> float:
    if not 0 < seconds <= MOST_SECONDS:
        raise ValueError(f"seconds {seconds:g} is no time to measure in; give more than 0, and {MOST_SECONDS} at most")
    return seconds


def check_hours(hours: float | None) -> float | None:
    if hours is not None and not 0 < hours <= MOST_HOURS:
        raise ValueError(f"hours {hours:g} is no time to run for; give more than 0, and {MOST_HOURS} at most")
    return hours


def images_at_a_time(text: str | None) -> int | Literal["auto"] | None:
    """What `--micro-batch` stands for: None where it was not given. Raises ValueError for another text."""
    if text is None or text == "auto":
        return cast(Literal["auto"] | None, text)
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text) > 0):
        raise ValueError(f"micro_batch {text!r} is no number of images; give 1 or more, or auto")
    return int(text)


def check_micro_batch(text: str | None) -> str | None:
    images_at_a_time(text)
    return text


def check_checkpoint_minutes(minutes: float) -> float:
    if not 0 < minutes <= MOST_MINUTES:
        raise ValueError(
            f"checkpoint_minutes {minutes:g} is no time between two checkpoints; give more than 0, and {MOST_MINUTES} at most"
        )
    return minutes


def expand(path: Path | None) -> Path | None:
    return None if path is None else expanded(path)


def expanded_name(name: str | None) -> str | None:
    """What may be a path or another name, with the home folder for a `~`."""
    return str(expanded(Path(name))) if name and name.startswith("~") else name


def check_results(path: Path) -> Path:
    folder = expanded(path)
    for place in (folder, *folder.parents):
        if place.exists():
            if not place.is_dir():
                why = "is" if place == folder else f"cannot be written below {str(place)!r}, which is"
                raise ValueError(f"results {str(folder)!r} {why} not a folder; give another --results")
            break
    return folder


def load_code(files: list[str] | None) -> list[str] | None:
    from vitbench.user_code import load_file

    for file in map(Path, files or ()):
        if not file.is_file():
            raise ValueError(f"study {str(file)!r} is not there; give the file that has the code of the model")
        load_file(expanded(file), "study")
    return files
