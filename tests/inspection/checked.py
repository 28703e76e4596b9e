"""Arms of a study file, checked in this process, for the tests of `vitbench check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.users_study import write_study
from vitbench.inspection.checked_arm import CheckedArm

STUDY_TEXT = """
from tests.inspection import bad_parts as parts
from tests.models import users_parts
from vitbench.studies import Arm, Study

STUDY = Study(question="?", source="", baseline=Arm("base"{baseline}), arms=[
{arms}
])
"""


def checked_arms(
    folder: Path, arms: Mapping[str, str], *, baseline: str = "", data: str = "digits"
) -> dict[str, CheckedArm]:
    """What is told of each arm, by name, at the smoke budget. `arms`: their fields, as they are written, by name."""
    from vitbench.commands.arguments import BudgetName, StudyOptions
    from vitbench.device import open_device
    from vitbench.execution.check_study import check_studies

    file = write_arms(folder, arms, baseline=baseline)
    request = StudyOptions(studies=[str(file)], budget=BudgetName.smoke, data=[data]).request()
    (study,) = check_studies(request, device=open_device("cpu"))
    return {arm.arm: arm for arm in study.arms}


def write_arms(folder: Path, arms: Mapping[str, str], *, baseline: str = "") -> Path:
    lines = "\n".join(f"    Arm({name!r}, {fields})," for name, fields in arms.items())
    text = STUDY_TEXT.replace("{baseline}", baseline and f", {baseline}").replace("{arms}", lines)
    return write_study(folder, text)
