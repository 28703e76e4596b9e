"""Does the page on users' modules work as it is written?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from vitbench.config import ROLES, ViTConfig
from vitbench.models import build_model
from vitbench.studies.library import load_study
from vitbench.user_code import register
from vitbench.user_code.loading import load

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "your-code.md").read_text(encoding="utf-8")
(RELU,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
(EXAMPLE,) = re.findall(r"\((examples/\w+\.py)\)", PAGE)
BASE = ViTConfig(image_size=16, patch_size=4, width=32, depth=3, num_heads=2, num_classes=10)


def test_the_worked_example_is_a_study_whose_arms_can_be_built():
    study = load_study(str(DOCS / EXAMPLE))
    for arm in (study.baseline, *study.arms):
        model = arm.apply(BASE)
        assert build_model(model)(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert re.fullmatch(r"ConditionalPosition@\w{8}", study.arms[-1].apply(BASE).position)


def test_it_names_arms_and_a_class_that_its_example_has():
    study = load_study(str(DOCS / EXAMPLE))
    named = {*re.findall(r"conditional_position\.py:(\w+)", PAGE)}
    assert named == {study.arms[-1].name, "ConditionalPosition"}
    assert f'Arm("{study.arms[-1].name}", position=ConditionalPosition)' in PAGE
    assert hasattr(load(DOCS / EXAMPLE), "ConditionalPosition")


@pytest.mark.parametrize("position", ["none", "rope_2d", "relative"])
def test_the_attention_on_the_page_takes_every_position(tmp_path, position):
    (tmp_path / "relu.py").write_text(RELU)
    name = register(load(tmp_path / "relu.py").ReLUAttention, "attention")
    site = "stem" if position == "none" else "every_layer"
    model = build_model(BASE.replace(attention=name, position=position, position_site=site, qk_norm=True))
    model(torch.randn(2, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_table_has_every_role():
    assert all(f"| `{role}` |" in PAGE for role in ROLES)
