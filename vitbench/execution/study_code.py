"""Does this process have the user's code that a run was planned with? Else it is loaded, and its hash checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vitbench import user_code
from vitbench.config import ModelConfig, RunConfig, shape_of, user_names
from vitbench.studies import load_study
from vitbench.variants import variant as named_variant


class CodeError(ValueError):
    """Code that a run needs is not here, or is another; its text says so, whole."""


def load_code(config: RunConfig, study_file: Path | None, *, variant: str = "") -> None:
    """Sees to it that `user_code.lookup` knows each name of the run's configuration.

    What this process knows already is what was planned, as names are hashes of it. `variant` is the one that the study's
    arms differ from. Raises CodeError where the file is not there, cannot be imported, or has other code by now.
    """
    if not (missing := _missing(config.user_code)):
        return
    if study_file is None:
        _look_up(missing)
        return
    if not study_file.is_file():
        raise CodeError(
            f"study file {str(study_file)!r} was not found on this machine; put it where it was planned from"
        )
    try:
        user_code.load_file(study_file, "study")
    except ValueError as error:
        if isinstance(error.__cause__, ImportError):
            raise CodeError(f"{error}; it imports what is not installed here: install that, or leave it out") from error
        raise CodeError(str(error)) from error
    if missing := _missing(missing):
        _make_arms(study_file, config.model, variant)  # which name what is not among the file's own names
    if missing := _missing(missing):
        now = ", ".join(sorted(user_code.names_in_files(missing))) or "no such code"
        raise CodeError(
            f"code changed between planning and running: {', '.join(missing)} was planned, and {study_file.name} has {now}; "
            "the same command plans again"
        )


def self_initialised(config: RunConfig) -> tuple[str, ...]:
    """Names of the user's code in a run's model that decides itself what it starts as."""
    names = user_names(config.model)
    whole = getattr(config.model, "module", None)
    return tuple(n for n in names if n == whole or callable(getattr(user_code.lookup(n), "init_weights", None)))


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if not user_code.is_loaded(name)]


def _look_up(names: Iterable[str]) -> None:
    for name in names:
        try:
            user_code.lookup(name)
        except ValueError as error:
            raise CodeError(str(error)) from error


def _make_arms(study_file: Path, model: ModelConfig, variant: str) -> None:
    """Has a study whose arms are a function make them, as the plan did; arms register their code."""
    try:
        load_study(str(study_file)).all_arms(named_variant(variant, **shape_of(model)))
    except ValueError:
        return  # what is missing is said then
