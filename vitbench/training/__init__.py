"""How a model is trained: the one loop, its optimizer and its schedule, and how its state is kept."""

from vitbench.training.checkpoint import Checkpoint
from vitbench.training.loop import Progress, TrainResult, train
from vitbench.training.optimizer import check_optimizer, freeze

__all__ = ["Checkpoint", "Progress", "TrainResult", "check_optimizer", "freeze", "train"]
