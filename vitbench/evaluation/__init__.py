"""How good is a trained model, and how good are its features?"""

from vitbench.evaluation.accuracy import Evaluation, evaluate, joined

__all__ = ["Evaluation", "evaluate", "joined"]
