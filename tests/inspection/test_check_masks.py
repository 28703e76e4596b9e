"""Does an arm whose part draws in training still drop what the baseline drops?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.inspection import bad_parts as parts
from tests.inspection.checked import checked_arms, write_arms
from vitbench.config import ViTConfig
from vitbench.models import build_model
from vitbench.user_code import register

DROPS = "drop_path=0.2, pool='gap'"
ARMS = {
    "draws": f"{DROPS}, mlp=parts.DrawsInTraining",
    "draws at the end": "drop_path=0.2, pool=parts.DrawsAtTheEnd",
    "draws nothing": f"{DROPS}, mlp=parts.ReZero",
    "draws, and nothing drops": "pool='gap', mlp=parts.DrawsInTraining",
    "ours": f"{DROPS}, mlp_ratio=3.0",
    "whole": "module=parts.WholeModel",
}
NOTE = (
    "note: it draws at other places than the baseline, so that from blocks.1.drop_path on, dropout and drop path do not"
)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    return checked_arms(tmp_path_factory.mktemp("masks"), ARMS, baseline=DROPS)


@pytest.mark.parametrize("arm", ["base", *ARMS])
def test_the_module_is_told_from_which_on_it_drops_something_else(checked, arm):
    assert checked[arm].other_masks_from == ("blocks.1.drop_path" if arm == "draws" else "")


def test_the_table_has_it_as_a_note(vitbench, tmp_path):
    path = write_arms(tmp_path, {"draws": ARMS["draws"]}, baseline=DROPS)
    printed = vitbench("check", path, "--budget", "smoke", "--data", "digits")
    assert printed.status == 0 and f"draws: {NOTE}" in printed.out and f"base: {NOTE}" not in printed.out


def left_out(model) -> dict[str, list[bool]]:
    """By block, which images each drop path leaves out in one pass in training."""
    masks: dict[str, list[bool]] = {}

    def note(name: str, output: Tensor) -> None:
        masks[name] = masks.get(name, []) + output.flatten(1).eq(0).all(dim=1).tolist()

    for name, module in model.named_modules():
        if name.endswith("drop_path"):
            module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    torch.manual_seed(0)
    model.train()(torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    return masks


@pytest.mark.parametrize(
    ("roles", "equal"), [({"mlp": parts.DrawsInTraining}, False), ({"pool": parts.DrawsAtTheEnd}, True)]
)
def test_masks_are_others_after_draws_of_a_part(roles, equal):
    base = ViTConfig(
        image_size=16, patch_size=4, width=32, depth=3, num_heads=2, num_classes=10, drop_path=0.5, pool="gap"
    )
    config = base.replace(**{role: register(code, role) for role, code in roles.items()})
    assert (left_out(build_model(config)) == left_out(build_model(base))) is equal
