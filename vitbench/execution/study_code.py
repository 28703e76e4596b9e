"""Does this process have the user's code that a run was planned with? Else it is loaded, and its hash checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType

from vitbench import user_code, user_files
from vitbench.config import ModelConfig, RunConfig
from vitbench.studies import load_study
from vitbench.user_file import load_file
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
        module = load_file(study_file, "study")
    except ValueError as error:
        if isinstance(error.__cause__, ImportError):
            raise CodeError(f"{error}; it imports what is not installed here: install that, or leave it out") from error
        raise CodeError(str(error)) from error
    if missing := _missing(missing):
        _register_from([module, *user_files.modules_in(study_file.resolve().parent)], missing)
    if missing := _missing(missing):
        _make_arms(study_file, config.model, variant)  # which name what is not among the file's own names
    if missing := _missing(missing):
        now = ", ".join(sorted(_names_now(module, missing))) or "no such code"
        raise CodeError(
            f"code changed between planning and running: {', '.join(missing)} was planned, and {study_file.name} has {now}; "
            "the same command plans again"
        )


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if not user_code.is_loaded(name)]


def _look_up(names: Iterable[str]) -> None:
    for name in names:
        try:
            user_code.lookup(name)
        except ValueError as error:
            raise CodeError(str(error)) from error


def _register_from(modules: Iterable[ModuleType], names: Collection[str]) -> None:
    """Registers what these modules have under the names, where it has their hashes."""
    for code, name in _candidates(modules, names):
        if name in names:
            user_code.register(code, "")


def _candidates(modules: Iterable[ModuleType], names: Collection[str]) -> Iterator[tuple[object, str]]:
    """(class or function, its name by source) of what has one of the names, whatever its hash."""
    bare = {name.partition("@")[0] for name in names}
    for module in modules:
        for name in bare & vars(module).keys():
            try:
                yield vars(module)[name], user_code.identify(vars(module)[name])
            except ValueError:
                continue


def _make_arms(study_file: Path, model: ModelConfig, variant: str) -> None:
    """Has a study whose arms are a function make them, as the plan did; arms register their code."""
    try:
        shape = {name: getattr(model, name) for name in ("image_size", "in_channels", "num_classes")}
        load_study(str(study_file)).all_arms(named_variant(variant, **shape))
    except ValueError:
        return  # what is missing is said then


def _names_now(module: ModuleType, names: Collection[str]) -> set[str]:
    modules = [module, *user_files.modules_in(Path(module.__file__ or "").parent)]
    return {name for _, name in _candidates(modules, names)}
