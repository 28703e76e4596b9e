"""A study file with a part of its user's, for tests that give it to commands and workers."""

from __future__ import annotations

from pathlib import Path

STUDY_TEXT = """
import torch
from torch import nn
from vitbench.studies import Arm, Study

SCALE = 0.5


class Shift(nn.Module):
    # Adds to every token.

    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.width))

    def forward(self, tokens, block):
        return tokens + SCALE * self.weight


STUDY = Study(question="?", source="", baseline=Arm("1-D"), arms=[Arm("shift", position=Shift)])
"""
SMOKE = ("--budget", "smoke", "--device", "cpu", "--precision", "fp32", "--threads", "1", "--train-images", "128")
ONE_RUN = (*SMOKE, "--seeds", "1", "--learning-rate", "1e-3")


def write_study(folder: Path, text: str = STUDY_TEXT, name: str = "mine.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path
