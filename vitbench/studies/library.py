"""Which studies are there? One file each in this package, and a user's own by path."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path

from vitbench.records.schema import STUDY_NAME
from vitbench.studies.study import Study
from vitbench.text import did_you_mean
from vitbench.user_code import load_file, text_of

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
    "recipe",
    "optimizer",
    "robustness",
)
IN_ALL = tuple(name for name in STUDIES if name != "robustness")
"""What `all` stands for. `robustness` trains eight arms that no other study shares, as they are evaluated on more images."""


def load_study(name: str) -> Study:
    """A study by name, or from a Python file that defines `STUDY`.

    Raises ValueError for an unknown name and for a file that cannot be imported or defines no study.
    """
    if name in STUDIES:
        study: Study = importlib.import_module(f"vitbench.studies.{name}").STUDY
        return replace(study, name=name)
    if is_study_file(name):
        return _load_file(Path(name))
    hint = did_you_mean(name, STUDIES, f"there are {', '.join(STUDIES)}, or give the path of a .py file")
    raise ValueError(f"unknown study {name!r}; {hint}")


def is_study_file(name: str) -> bool:
    """Whether a study is named by the path of a user's file."""
    return name.endswith(".py")


def _load_file(path: Path) -> Study:
    if not path.is_file():
        raise ValueError(f"study file {str(path)!r} does not exist; give the path of a Python file that defines STUDY")
    module = load_file(path, "study")
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        instead = "" if study is None else f", but something of type {type(study).__name__}"
        if study is None and _MAIN.search(text_of(path)):
            instead = " when it is imported, as what is under `if __name__ == …` is not run"
        raise ValueError(
            f"study file {str(path)!r} defines no STUDY{instead}; assign one: STUDY = Study(question=…, …)"
        )
    name = study.name or path.stem
    if STUDY_NAME.fullmatch(name) is None or name in STUDIES or name == "train":
        raise ValueError(
            f"study name {name!r} in {str(path)!r} must be at most 100 letters, digits, - and _, and none of "
            f"{', '.join([*STUDIES, 'train'])}; rename the file or give STUDY a name"
        )
    return replace(study, name=name)


_MAIN = re.compile(r"^if __name__ ==.*\n(?:[ \t].*\n|\n)*?[ \t]+STUDY\s*=", re.MULTILINE)
