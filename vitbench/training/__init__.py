"""How a model is trained: the one loop, its optimizer and its schedule, and how its state is kept."""

from vitbench.training.checkpoint import Checkpoint
from vitbench.training.loop import Progress, TrainResult, train
from vitbench.training.optimizer import build_optimizer, build_schedule, check_optimizer, freeze

__all__ = [
    "Checkpoint",
    "Progress",
    "TrainResult",
    "build_optimizer",
    "build_schedule",
    "check_optimizer",
    "freeze",
    "train",
]
