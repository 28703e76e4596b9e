"""Is every fault of a user's part named, by the check that is for it? And does a good part raise nothing?"""

from __future__ import annotations

import re

import pytest

from tests.inspection.checked import checked_arms
from tests.models import users_parts
from vitbench.inspection import check_bench

BAD = {
    "ignores its input": ("mlp=parts.IgnoringMLP", "input", r"mlp IgnoringMLP \(blocks.0.mlp\) ignores its input"),
    "unused token": ("position=parts.UnusedToken", "gradient", r"no gradient for position.token in \d steps"),
    "no position": ("position=parts.NoPosition", "position", r"position NoPosition@\w{8} does not matter"),
    "position without effect": (
        "stem='conv', position=parts.DoesNothing",
        "position",
        r"position DoesNothing@\w{8} does nothing: logits are those of position none",
    ),
    "draws in evaluation": ("mlp=parts.DrawsInEvaluation", "generators", r"evaluation draws from torch's generator"),
    "draws from numpy": ("mlp=parts.DrawsFromNumpy", "generators", r"training draws from numpy's generator"),
    "draws from Python": ("mlp=parts.DrawsFromPython", "generators", r"training draws from Python's generator"),
    "seeds torch": ("mlp=parts.SeedsTorch", "generators", r"seeds torch's generator itself"),
    "draws from nowhere": ("mlp=parts.DrawsFromNowhere", "determinism", r"two builds from one seed differ in .*noise"),
    "one batch size": (
        "pool=parts.OneBatchSize",
        "batch size",
        r"works with 64 images, and not with 1: pool OneBatchSize",
    ),
    "even batches": (
        "mlp=parts.EvenBatches",
        "batch size",
        r"works with 64 images, and not with 3: mlp EvenBatches@\w{8} .* images come in pairs",
    ),
    "neighbours": ("pool=parts.SeesNeighbours", "batch size", r"depend on the other images of its batch"),
    "lost in bf16": ("mlp=parts.LostInBF16", "finite", r"in bf16, logits are not finite, from mlp LostInBF16@\w{8}"),
    "other width": (
        "pool=parts.OtherWidth",
        "forward",
        r"pool OtherWidth@\w{8} gives \[64, (\d+)\], expected \[64, \d+\]",
    ),
    "wrong shapes": (
        "mlp=parts.WrongShapes",
        "forward",
        r"mlp WrongShapes@\w{8} fails .*RuntimeError.* \(bad_parts.py:\d+\)",
    ),
    "dead field": ("mlp=parts.FixedRatioMLP, mlp_ratio=3.0", "difference", r"mlp_ratio 3.0 has no effect"),
    "loses numbers": ("mlp=parts.LostMLP", "finite", r"in fp32, logits are not finite, from mlp LostMLP@\w{8} \("),
    "loses numbers, bias": (
        "position=parts.LostBias",
        "finite",
        r"in bf16, logits are not finite, from position LostBias@\w{8}\.attention_bias \(position\) on",
    ),
    "loses numbers, function": ("activation=parts.lost", "finite", r"from activation lost@\w{8} on"),
    "loses numbers, whole": ("module=parts.LostModel", "finite", r"not finite, from module \S*LostModel@\w{8} on"),
    "loses numbers in training": (
        "mlp=parts.LostInTraining",
        "finite",
        r"logits are not finite, from mlp LostInTraining@",
    ),
    "loses numbers in evaluation": (
        "mlp=parts.LostInEvaluation",
        "finite",
        r"in fp32, logits in evaluation are not finite, from mlp LostInEvaluation@",
    ),
    "counts": ("mlp=parts.Counts", "determinism", r"two evaluations of the same images differ; .*keep no state"),
    "state": ("pool=parts.KeepsItsState", "checkpoint", r"kept outside of parameters and buffers"),
    "wrong logits": ("module=parts.WrongLogits", "forward", r"gives \[64, 9\], expected \[64, 10\]"),
}
GOOD = {
    "ReZero": "mlp=parts.ReZero",
    "BatchNorm": "norm=parts.BatchNorm",
    "whole": "module=parts.WholeModel",
    **{f"{role} {code.__name__}": f"{role}=users_parts.{code.__name__}" for role, code in users_parts.PARTS},
}
TOLD_TWICE = ("ignores its input", "state")
"""What ignores its input leaves layers without gradient; state that moves in training moves training passes too."""
WARNED = {
    "lost once weights have moved": (
        "mlp=parts.LostOnceMoved",
        "finite",
        r"once noise of 0.05 has moved all weights, logits in evaluation are not finite, from mlp LostOnceMoved@",
    ),
    "unused row": ("position=parts.UnusedRow", "gradient", r"position.table: 1 of \d+ rows get no gradient"),
    "twice in training": (
        "mlp=parts.TwiceInTraining",
        "training mode",
        r"training computes otherwise than evaluation, .*: look at TwiceInTraining \(blocks.0.mlp\)",
    ),
    "neighbours in training": (
        "pool=parts.SeesNeighboursInTraining",
        "batch size",
        r"in training, an image's logits depend on the other images of its batch",
    ),
    "unread option": (
        "module=parts.WholeModel, options={'unread': 3}",
        "difference",
        r"option unread 3 changes nothing",
    ),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What is told of every arm of one study, by name."""
    fields = {**{name: fields for name, (fields, _, _) in {**BAD, **WARNED}.items()}, **GOOD}
    pooled = {name: f if "pool=" in f or "module=" in f else f"pool='gap', {f}" for name, f in fields.items()}
    return checked_arms(tmp_path_factory.mktemp("check"), pooled, baseline="pool='gap'")


@pytest.mark.parametrize("fault", BAD)
def test_each_fault_is_an_error_of_its_check(checked, fault):
    _, check, text = BAD[fault]
    errors = [(problem.check, problem.text) for problem in checked[fault].errors]
    assert any(name == check and re.search(text, line) for name, line in errors), errors


@pytest.mark.parametrize("fault", [fault for fault in BAD if fault not in TOLD_TWICE])
def test_a_fault_has_no_errors_of_other_checks(checked, fault):
    assert {problem.check for problem in checked[fault].errors} == {BAD[fault][1]}
    if BAD[fault][1] != "finite":  # which is told for each precision
        assert len(checked[fault].errors) == 1


@pytest.mark.parametrize("fault", [fault for fault in BAD if fault.startswith("loses numbers")])
def test_what_cannot_be_compared_where_numbers_are_lost_is_not_known(checked, fault):
    arm = checked[fault]
    assert arm.finite == {"fp32": False, "bf16": False} and arm.params and arm.macs
    assert (arm.position_matters, arm.effects, arm.warnings, arm.training_differs_by) == (None, {}, [], ())
    assert arm.deterministic is (True if fault.endswith("in training") else None)


@pytest.mark.parametrize("fault", WARNED)
def test_what_may_be_meant_is_a_warning(checked, fault):
    _, check, text = WARNED[fault]
    assert checked[fault].errors == []
    warnings = [(problem.check, problem.text) for problem in checked[fault].warnings]
    assert any(name == check and re.search(text, line) for name, line in warnings), warnings


@pytest.mark.parametrize("arm", ["base", *GOOD])
def test_good_parts_raise_nothing(checked, arm):
    assert (checked[arm].errors, checked[arm].warnings) == ([], [])


def test_memory_that_is_extended_from_smaller_batches_is_about_that_of_whole_ones(tmp_path, monkeypatch):
    """The step of a whole batch, all of it tried, is the truth. A wide model's few images take less than its optimizer."""
    arms = {"batch of 128": "batch_size=128", "wide": "width=256, num_heads=4, patch_size=4, mlp_ratio=4.0"}
    whole = checked_arms(tmp_path / "whole", arms)
    monkeypatch.setattr(check_bench, "MOST_FLOPS", 5e7)
    parts = checked_arms(tmp_path / "parts", arms)
    for name, arm in parts.items():
        assert (whole[name].peak_memory_is_estimated, arm.peak_memory_is_estimated) == (False, True)
        assert arm.checked_images < arm.batch_size / 3 and whole[name].checked_images == arm.batch_size
        assert arm.peak_memory_bytes == pytest.approx(whole[name].peak_memory_bytes, rel=0.1)
