"""Arms that take a class or function of the user's where a name would stand."""

import re

import pytest
import torch
from torch import nn

from vitbench import user_code
from vitbench.config import ModuleConfig, ViTConfig
from vitbench.data import describe
from vitbench.studies import BUDGETS, Arm, Overrides, Study, make_plan
from vitbench.studies.estimate import estimate

BASE = ViTConfig(image_size=8, patch_size=2, in_channels=1, num_classes=10, width=32, depth=2, num_heads=2)


class Shift(nn.Module):
    """A position of one value for each channel."""

    def __init__(self, config):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(config.width))

    def forward(self, tokens, block):
        return tokens + self.shift if block == 0 else tokens


class Tiny(nn.Module):
    """A whole model."""

    def __init__(self, image_size, in_channels, num_classes, *, width=4):
        super().__init__()
        self.head = nn.Linear(in_channels, num_classes)

    def forward(self, images):
        return self.head(images.mean((2, 3)))


class OneValue(nn.Module):
    """A whole model without a single counted operation."""

    def __init__(self, image_size, in_channels, num_classes):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_classes))

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] + self.logits


class Shortens(Shift):
    """Loses a token."""

    def forward(self, tokens, block):
        return tokens[:, 1:]


class NoModule:
    """Not one of torch's."""

    def __init__(self, config):
        pass


class TwoArguments(nn.Module):
    """Its constructor takes more than the configuration."""

    def __init__(self, config, other):
        super().__init__()


def sums(x):
    """Elementwise, as an activation has to be."""
    return x + x


def test_a_class_stands_where_a_name_would_and_is_known_by_its_source():
    arm = Arm("mine", position=Shift, activation=sums)
    name = user_code.identify(Shift)
    assert re.fullmatch(r"Shift@[0-9a-f]{8}", name)
    assert arm.changes == {"position": name, "activation": user_code.identify(sums)}
    assert user_code.lookup(name) is Shift
    assert repr(arm) == f"Arm('mine', position='{name}', activation='{user_code.identify(sums)}')"
    assert arm.apply(BASE).position == name
    assert Arm("mine", position=name) == Arm("mine", position=Shift)


def test_a_path_to_an_installed_class_stands_for_it_too():
    assert Arm("mine", position=f"{__name__}:Shift") == Arm("mine", position=Shift)
    assert Arm("mine", module=f"{__name__}:Tiny") == Arm("mine", module=Tiny)


def test_a_whole_model_has_the_shape_of_the_data_and_options_of_its_own():
    arm = Arm("mine", module=Tiny, options={"width": 8}, label_smoothing=0.1)
    expected = ModuleConfig(
        module=user_code.identify(Tiny), image_size=8, in_channels=1, num_classes=10, options={"width": 8}
    )
    assert arm.apply(BASE) == expected
    assert Arm("larger", module=Tiny, image_size=16).apply(BASE).image_hw == (16, 16)


def test_designs_and_runs_name_the_code_by_its_source():
    study = Study("?", "", Arm("as it is"), [Arm("mine", position=Shift), Arm("tiny", module=Tiny)], name="mine")
    runs = make_plan(study, BUDGETS["smoke"], describe("digits"), Overrides(seeds=1)).runs
    assert runs[0].design.changes == {
        "mine": {"position": user_code.identify(Shift)},
        "tiny": {"module": user_code.identify(Tiny), "options": {}},
    }
    assert user_code.identify(Shift) in runs[1].config.canonical_json()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"position": lambda config: config}, "a lambda, whose source cannot be told"),
        ({"position": NoModule}, "position NoModule: the class is not derived from torch.nn.Module; derive it"),
        ({"position": TwoArguments}, "it must take one argument: the ViTConfig"),
        ({"pool": sums}, "pool sums is a function; give a class"),
        ({"pool": nn.Identity}, "is torch's own; wrap it in a class or function of the study file"),
        ({"position": nn.Identity()}, "is not a class or a function; give the class itself, without calling it"),
        ({"width": Shift}, "width <class .*Shift'>: code can stand for stem, position, attention"),
        ({"optimizer": torch.optim.SGD}, "optimizer <class .*: code can stand for stem, position"),
        ({"auto_augment": sums}, "auto_augment <function sums>: code can stand for"),
        ({"module": "no.such.package:Name"}, "no.such.package cannot be imported"),
        ({"module": f"{__name__}:Nothing"}, "has no Nothing; mend the path"),
        ({"module": "Tiny"}, "module 'Tiny': give the class or function itself, or package.module:Name"),
        ({"module": Tiny, "timm": "resnet18"}, "are two models; leave one out"),
        ({"module": Tiny, "depth": 2}, "depth is for ViTs, and a module takes options"),
        ({"module": "timm.models:vit_base_patch16_224"}, r'is timm\'s, .*: Arm\("x", timm="vit_base_patch16_224"\)$'),
        ({"module": "timm.models:VisionTransformer"}, r'is timm\'s, .*: Arm\("x", timm="NAME"\)$'),
        ({"module": "timm:create_model"}, r'is timm\'s, .*: Arm\("x", timm="NAME"\)$'),
        ({"module": "torchvision.models:resnet18"}, "call it in a function of the study file that takes image_size, "),
        ({"module": 3}, "module 3: "),
        ({"options": {"width": 4}}, "are for a model of timm or a module; give timm or module"),
        ({"module": Tiny, "options": {"width": {1, 2}}}, "an option's value is no JSON"),
        ({"module": Tiny, "options": {"num_classes": 3}}, "option 'num_classes' is told to every module"),
    ],
)
def test_code_that_cannot_have_that_role_is_refused_in_one_line_that_names_the_arm(fields, says):
    with pytest.raises(ValueError, match=f"arm 'odd': .*{says}") as refusal:
        Arm("odd", **fields).apply(BASE)
    assert "\n" not in str(refusal.value)


def plan_of(arm, **asked):
    study = Study("?", "", Arm("as it is"), [arm], name="mine")
    return make_plan(study, BUDGETS["smoke"], describe("digits"), Overrides(seeds=1, **asked)).runs


def test_code_that_cannot_be_counted_is_refused_by_arm_and_part():
    says = r"arm 'odd': position Shortens@[0-9a-f]{8} gives \[1, 16, 32\], expected \[1, 17, 32\]"
    with pytest.raises(ValueError, match=f"mine: {says}"):
        _ = plan_of(Arm("odd", position=Shortens))[1].training_flops
    with pytest.raises(ValueError, match=says):
        plan_of(Arm("odd", position=Shortens), match="flops")


def test_a_model_without_a_counted_operation_is_planned_but_not_matched(made_up):
    runs = plan_of(Arm("one value", module=OneValue))
    assert runs[1].training_flops == 0
    record = made_up()
    cost = estimate(runs[1:], [record], cpu=record.environment.cpu, cpu_cores=record.environment.cpu_cores, workers=1)
    assert cost.hours == 0
    with pytest.raises(
        ValueError, match="arm 'one value' has no operation whose FLOPs are counted; use --match epochs"
    ):
        plan_of(Arm("one value", module=OneValue), match="flops")
