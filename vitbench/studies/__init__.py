"""The studies, the budgets, and the plan that follows from both. Imports no torch."""

from vitbench.studies.arm import Arm
from vitbench.studies.budgets import BUDGETS, Budget
from vitbench.studies.library import STUDIES, load_study
from vitbench.studies.plan import Plan, PlannedRun, plan, plan_in_stages
from vitbench.studies.resolved_study import Overrides
from vitbench.studies.study import Study

__all__ = [
    "BUDGETS",
    "STUDIES",
    "Arm",
    "Budget",
    "Overrides",
    "Plan",
    "PlannedRun",
    "Study",
    "load_study",
    "plan",
    "plan_in_stages",
]
