"""Is every mistake in a user's part or model one line that names study, arm and part, whichever command meets it first?"""

from __future__ import annotations

import pytest

from tests.users_study import write_study

TEXT = """
import torch
from torch import nn
from vitbench.studies import Arm, Study


class Part(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.width))

    def forward(self, x, *others):
        return x + self.weight


class Model(nn.Module):
    def __init__(self, image_size, in_channels, num_classes):
        super().__init__()
        self.layer = nn.Linear(in_channels * image_size**2, num_classes)

    def forward(self, images):
        return self.layer(images.flatten(1))


BODY

STUDY = Study(question="?", source="", baseline=Arm("base"), arms=[Arm("odd", ARM)])
"""
FORWARD = "class Odd(Part):\n    def forward(self, {}):\n        return {}"
WHOLE = "class Odd(Model):\n    def forward(self, images):\n        return {}"
IN_FILE = "study file 'mine.py' line "
WRONG = {
    "constructor without arguments": (
        "class Odd(Part):\n    def __init__(self):\n        super().__init__()",
        "position=Odd",
        "arm 'odd': position Odd(): too many positional arguments; it must take one argument: the ViTConfig",
    ),
    "forward of too few arguments": (FORWARD.format("x", "x"), "position=Odd", "takes 2 positional arguments but 3"),
    "forward of too many arguments": (FORWARD.format("x, y", "x"), "mlp=Odd", "missing 1 required positional"),
    "shapes that do not fit": (
        FORWARD.format("x, block", "x @ torch.zeros(7, 7)"),
        "position=Odd",
        "fails with an input [1, 17, 32]: RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        "(17x32 and 7x7) (mine.py:27)",
    ),
    "another width": (
        FORWARD.format("x", "x[..., :5]"),
        "attention=Odd",
        "gives [1, 17, 5], expected [1, 17, 32], of an input [1, 17, 32]",
    ),
    "a token less": (FORWARD.format("x", "x[:, 1:]"), "norm=Odd", "gives [1, 16, 32], expected [1, 17, 32]"),
    "stem that gives images": ("", "stem=Part", "arm 'odd': stem Part@"),
    "pool that gives tokens": ("", "pool=Part", "gives [1, 16, 32], expected [1, 32]"),
    "head that gives features": ("", "head=Part", "gives [1, 32], expected [1, 10]"),
    "activation that sums": ("def odd(x):\n    return x.sum()", "activation=odd", "gives [], expected [1, 17, 64]"),
    "nothing": (FORWARD.format("x", "None"), "mlp=Odd", "gives a NoneType, not a tensor [1, 17, 32]"),
    "another dtype": (FORWARD.format("x", "x.double()"), "mlp=Odd", "gives torch.float64 of an input torch.float32"),
    "constructor that ends the process": (
        "class Odd(Part):\n    def __init__(self, config):\n        raise SystemExit(0)",
        "position=Odd",
        "cannot be built: SystemExit: 0 (mine.py:27)",
    ),
    "constructor that forgets super": (
        "class Odd(Part):\n    def __init__(self, config):\n        self.x = 1",
        "position=Odd",
        "does not call super().__init__()",
    ),
    "model with another width": (WHOLE.format("images.flatten(1)"), "module=Odd", "gives [1, 64], expected [1, 10]"),
    "model that gives a tuple": (WHOLE.format("(images,)"), "module=Odd", "gives a tuple, not a tensor [1, 10]"),
    "model without an option": ("", "module=Model, options={'depth': 2}", "unexpected keyword argument 'depth'"),
    "lambda": ("", "activation=lambda x: x", "is a lambda, whose source cannot be told; define it with def"),
    "class made within a function": (
        "def make():\n    class Odd(Part):\n        pass\n    return Odd",
        "position=make()",
        "is made within a function",
    ),
    "class made by exec": ("exec('class Odd(Part): pass')", "position=Odd", "is not in its source"),
    "object in place of the class": ("", "position=nn.Identity()", "give the class itself, without calling it"),
    "number in place of the class": ("", "position=3", "position 3: give a name or a class of yours"),
    "unknown name": ("", "attention='relu'", "Input should be 'softmax', or give a class of yours"),
    "unknown optimizer": ("", "optimizer='adamm'", "mine: arm 'odd': optimizer 'adamm' is not one of timm's"),
    "package that is not there": ("import not_there", "position=Part", "No module named 'not_there'"),
}


@pytest.mark.parametrize("command", ["plan", "run"])
@pytest.mark.parametrize(("body", "arm", "said"), WRONG.values(), ids=WRONG)
def test_it_is_refused_in_one_line_before_anything_is_trained(
    vitbench, tmp_path, monkeypatch, command, body, arm, said
):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, TEXT.replace("BODY", body).replace("ARM", arm))
    answer = vitbench(command, "mine.py", "--budget", "smoke", "--results", "results")
    assert (answer.status, answer.out) == (2, "") and answer.err.count("\n") == 1
    assert said in answer.err and answer.err.startswith(("vitbench: mine: arm 'odd': ", f"vitbench: {IN_FILE}"))
    assert not (tmp_path / "results").exists()
