"""How good a trained model is."""

from vitbench.evaluation.accuracy import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
