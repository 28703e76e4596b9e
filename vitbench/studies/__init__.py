"""The studies, the budgets, and the plan that follows from both. Imports no torch."""

from vitbench.studies.base import Arm, Study
from vitbench.studies.budgets import BUDGETS, Budget
from vitbench.studies.library import STUDIES, load_study
from vitbench.studies.plan import Overrides, PlannedRun, plan

__all__ = ["BUDGETS", "STUDIES", "Arm", "Budget", "Overrides", "PlannedRun", "Study", "load_study", "plan"]
