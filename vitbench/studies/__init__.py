"""The studies, the budgets, and the plan that follows from both. Imports no torch."""

from vitbench.studies.arm import Arm
from vitbench.studies.budgets import BUDGETS, Budget
from vitbench.studies.library import IN_ALL, STUDIES, load_study
from vitbench.studies.overrides import Overrides
from vitbench.studies.plan import Plan, PlannedRun, make_plan
from vitbench.studies.study import Study

__all__ = [
    "BUDGETS",
    "IN_ALL",
    "STUDIES",
    "Arm",
    "Budget",
    "Overrides",
    "Plan",
    "PlannedRun",
    "Study",
    "load_study",
    "make_plan",
]
