"""Which studies there are: one file each in this package, and a user's own by path."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from vitbench.records.schema import STUDY_NAME
from vitbench.studies.base import Study

STUDIES = (
    "pooling",
    "position",
    "patch_size",
    "hybrid",
    "registers",
    "position_pooling",
    "data_size",
    "scaling",
    "resolution",
)


def load_study(name: str) -> Study:
    """A study by name, or from a Python file that defines `STUDY`.

    Raises ValueError for an unknown name and for a file that cannot be imported or defines no study.
    """
    if name in STUDIES:
        study: Study = importlib.import_module(f"vitbench.studies.{name}").STUDY
        return replace(study, name=name)
    if name.endswith(".py"):
        return _load_file(Path(name))
    close = get_close_matches(name, STUDIES, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(STUDIES)}, or give the path of a .py file"
    raise ValueError(f"unknown study {name!r}; {hint}")


def _load_file(path: Path) -> Study:
    if not path.is_file():
        raise ValueError(f"study file {str(path)!r} does not exist; give the path of a Python file that defines STUDY")
    spec = importlib.util.spec_from_file_location(f"vitbench_study_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file raises, it is the file that must be mended
        line = _line_in(error, str(spec.origin))
        raise ValueError(f"study file {str(path)!r}{line} fails to import: {type(error).__name__}: {error}") from error
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(f"study file {str(path)!r} defines no STUDY; assign one: STUDY = Study(question=…, …)")
    name = study.name or path.stem
    if STUDY_NAME.fullmatch(name) is None or name in STUDIES or name == "train":
        raise ValueError(
            f"study name {name!r} in {str(path)!r} must be at most 100 letters, digits, - and _, and none of "
            f"{', '.join([*STUDIES, 'train'])}; rename the file or give STUDY a name"
        )
    return replace(study, name=name)


def _line_in(error: BaseException, file: str) -> str:
    """` line N`, where the error arose in that file."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f" line {error.lineno}"
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" line {lines[-1]}" if lines else ""
