"""How a model is trained: the one loop, its optimizer and its schedule."""

from vitbench.training.loop import Progress, TrainResult, train
from vitbench.training.optimizer import build_optimizer, build_schedule, check_optimizer

__all__ = ["Progress", "TrainResult", "build_optimizer", "build_schedule", "check_optimizer", "train"]
