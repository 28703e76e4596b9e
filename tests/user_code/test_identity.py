"""Is a user's code named by what it is and reaches, and by nothing else?"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.models.users_parts import TinyModel, squared_relu
from vitbench.user_code import identify, is_user_name, lookup, register, source_of
from vitbench.user_code.loading import load

HELPER = """
    SCALE = 2
    UNUSED = 5

    def scaled(x):
        return x * SCALE

    def other(x):
        return x * UNUSED
"""
STUDY = """
    import math
    import torch
    from torch import nn
    import helper
    from helper import scaled

    ALPHA = 0.3
    BETA = 0.5
    TABLE = {}
    TABLE["a"] = 1

    def rate(x):
        beta = x + 1
        return ALPHA * x + beta

    def unrelated():
        return BETA

    class Base(nn.Module):
        k = 3

        def strength(self):
            return self.k

    class Part(Base):
        def __init__(self, config):
            super().__init__()
            self.table = dict(TABLE)

        def forward(self, x, block):
            return scaled(x) * rate(x) + f"{x:>{block}} a" "b"
"""
Import = Callable[..., ModuleType]


@pytest.fixture
def import_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """A function that writes a study file, and files beside it, and loads it as `vitbench` does."""

    monkeypatch.delitem(sys.modules, "mine", raising=False)  # another test's, which has no file

    def write_and_load(study: str = STUDY, **beside: str) -> ModuleType:
        for name, text in {"my_study": study, "helper": HELPER, **beside}.items():
            path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load(tmp_path / "my_study.py")

    return write_and_load


def changed(old: str, new: str) -> str:
    assert textwrap.dedent(old) in textwrap.dedent(STUDY), old
    return textwrap.dedent(STUDY).replace(textwrap.dedent(old), textwrap.dedent(new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BETA = 0.5", "BETA = 0.6"),
        ("    return BETA", "    return BETA + 1"),
        ("import math\n", "import math, json\n"),
        ("class Part(Base):", 'class Part(Base):\n    """What it is."""\n'),
        ("ALPHA = 0.3", "ALPHA = 0.3  # of the paper"),
        ("ALPHA = 0.3", "ALPHA = (\n    0.3\n)\n"),
        ("return ALPHA * x + beta", "return (\n        ALPHA  # why\n\n        * x + beta)"),
        ('f"{x:>{block}} a" "b"', "f'{x:>{block}} ab'"),
        ("class Part(Base):", "print(ALPHA)\nclass Part(Base):"),
        ("ALPHA = 0.3", 'ALPHA = 0.3\nif __name__ == "__main__":\n    ALPHA = 9'),
    ],
)
def test_what_is_not_reached_and_what_is_only_layout_does_not_count(import_study, old, new):
    name = identify(import_study().Part)
    assert identify(import_study(changed(old, new)).Part) == name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ALPHA = 0.3", "ALPHA = 0.4"),
        ("    beta = x + 1", "    beta = x + 2"),
        ("    k = 3", "    k = 4"),
        ('TABLE["a"] = 1', 'TABLE["a"] = 2'),
        ("class Base(nn.Module):", "TABLE.update(b=1)\nclass Base(nn.Module):"),
        ("class Part(Base):", "Base.k = 5\nclass Part(Base):"),
        ("class Part(Base):", 'setattr(Base, "k", 5)\nclass Part(Base):'),
        ("def rate(x):", "@torch.no_grad()\ndef rate(x):"),
        ("from helper import scaled", "from helper import other as scaled"),
        ("ALPHA = 0.3", "if math.pi > 3:\n    ALPHA = 0.3\nelse:\n    ALPHA = 1\n"),
        ('f"{x:>{block}} a"', 'f"{x:<{block}} a"'),
    ],
)
def test_a_changed_line_that_is_reached_counts(import_study, old, new):
    name = identify(import_study().Part)
    assert identify(import_study(changed(old, new)).Part) != name


TABLE_OF = """
    import torch
    from torch import nn

    TABLE = {{}}

    {table}

    class Part(nn.Module):
        k = 3

        def __init__(self, config):
            super().__init__()
            nn.init.zeros_(config)

        def forward(self, x):
            return TABLE["wide"](x)

    class Sibling(Part):
        k = {number}

    def arms():
        return [Part, Sibling]

    ARMS = arms()
"""
REGISTRY = """
    def registered(function):
        keep(function)
        return function

    def keep(function):
        TABLE[function.__name__] = function

    @registered
    def wide(x):
        return x * {number}
"""
CALLED = """
    def fill():
        TABLE["wide"] = lambda x: x * {number}

    fill()
"""
TOLD = """
    class Tells:
        def __init_subclass__(cls):
            TABLE["wide"] = cls

    class Nearer(Tells):
        pass

    class Told(Nearer):
        k = {number}
"""
COMPREHENSION = """
    x = {number}

    def times(y):
        return [x for x in (y,)] + [x]

    TABLE["wide"] = times
"""


@pytest.mark.parametrize("table", [REGISTRY, CALLED, TOLD, COMPREHENSION])
def test_what_a_call_puts_into_a_reached_table_counts_and_an_arm_beside_it_does_not(import_study, table):
    def name_of(number: int, *, of_sibling: int = 4) -> str:
        return identify(import_study(TABLE_OF.format(table=table.format(number=number), number=of_sibling)).Part)

    assert name_of(2) != name_of(3)
    assert name_of(2) == name_of(2, of_sibling=5)


def test_a_value_counts_where_a_comprehension_has_a_variable_of_its_name(import_study):
    study = """
        ALPHA = 0.3

        def part(rows):
            return [ALPHA for ALPHA in rows], [(last := row) for row in rows], last, ALPHA
    """
    name = identify(import_study(study).part)
    assert identify(import_study(study.replace("0.3", "0.4")).part) != name
    assert identify(import_study(f"{study}\n        last = 1\n").part) == name


def test_files_beside_it_count_as_far_as_they_are_reached(import_study):
    name = identify(import_study().Part)
    assert identify(import_study(helper=HELPER.replace("UNUSED = 5", "UNUSED = 6")).Part) == name
    assert identify(import_study(helper=HELPER.replace("SCALE = 2", "SCALE = 3")).Part) != name


@pytest.mark.parametrize(
    "study",
    [
        "import helper\nclass Part:\n    k = helper.scaled(1)",
        "import helper as h\nclass Part:\n    def f(self):\n        return h.scaled(1)",
        "from helper import *\nclass Part:\n    k = scaled(1)",
        "class Part:\n    def f(self):\n        from helper import scaled\n        return scaled(1)",
        "try:\n    from helper import scaled\nexcept ImportError:\n    pass\nclass Part:\n    k = scaled(1)",
        "import mine.helper\nclass Part:\n    k = mine.helper.scaled(1)",
        "from mine import helper\nclass Part:\n    k = helper.scaled(1)",
        "from mine.relative import Part",
        "import helper\nhelper.SCALE = 7\nclass Part:\n    k = helper.scaled(1)",
    ],
)
def test_every_way_to_import_a_file_beside_it_is_followed(import_study, study):
    files = {"mine__relative": "from .helper import scaled\nclass Part:\n    k = scaled(1)", "mine__helper": HELPER}

    def identity(helper: str) -> str:
        return identify(import_study(study, **{**files, "helper": helper, "mine__helper": helper}).Part)

    name = identity(HELPER)
    assert identity(HELPER.replace("UNUSED = 5", "UNUSED = 6")) == name
    assert identity(HELPER.replace("x * SCALE", "x + SCALE")) != name


def test_two_classes_of_one_outer_class_have_two_names(import_study):
    module = import_study("class Outer:\n    class A:\n        pass\n    class B:\n        pass")
    assert {identify(module.Outer.A)[0], identify(module.Outer.B)[0]} == {"A", "B"}
    assert identify(module.Outer.A)[1:] != identify(module.Outer.B)[1:]


def test_the_name_is_the_same_in_another_process_and_place(import_study, tmp_path):
    name = identify(import_study().Part)
    code = "import my_study; from vitbench.user_code import identify; print(identify(my_study.Part))"
    for folder in (tmp_path, tmp_path / "elsewhere"):
        folder.mkdir(exist_ok=True)
        for file in ("my_study.py", "helper.py"):
            (folder / file).write_text((tmp_path / file).read_text())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), "PYTHONHASHSEED": "7"}
        output = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert output.stdout.strip() == name


def test_the_name_does_not_change_with_versions_of_this_package_or_of_python():
    # Written down once: a change here would make every record of users' code pending.
    tree = (
        '(FunctionDef name="squared_relu" args=(arguments args=[(arg arg="x" annotation=(Name id="Tensor"))]) '
        'body=[(Return value=(Call func=(Attribute value=(Call func=(Attribute value=(Name id="x") attr="relu")) '
        'attr="square")))] returns=(Name id="Tensor"))'
    )
    text = f"squared_relu\nimport torch:Tensor as Tensor\n{tree}"
    assert identify(squared_relu) == f"squared_relu@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def test_the_source_is_what_is_reached_in_the_order_of_the_file_with_comments(import_study):
    study = import_study(changed("ALPHA = 0.3", "ALPHA = 0.3  # of the paper"))
    text = source_of(register(study.Part, "code"))
    assert text.startswith("# my_study.py\n") and "# helper.py" in text
    places = [
        text.index(piece)
        for piece in ("from helper import scaled", "ALPHA = 0.3  # of the paper", "class Base", "class Part")
    ]
    assert places == sorted(places)
    assert "unrelated" not in text and "UNUSED" not in text


def test_a_registered_name_is_looked_up_and_an_edited_one_says_so(import_study):
    name = register(import_study().Part, "code")
    assert is_user_name(name) and name.startswith("Part@") and lookup(name).__name__ == "Part"
    with pytest.raises(ValueError, match=r"'Part@00000000' is not what the study file has now, .* edited"):
        lookup("Part@00000000")
    with pytest.raises(ValueError, match=r"has not loaded it; give the file that has it"):
        lookup("Nobody@00000000")


def test_a_path_of_an_installed_package_is_imported():
    name = register("tests.models.users_parts:TinyModel", "module")
    assert name == identify(TinyModel) and lookup(name) is TinyModel


class Instance:
    def __call__(self, x: Any) -> Any:
        return x


def _made_within() -> type:
    class Part:
        pass

    return Part


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (lambda x: x, "is a lambda"),
        (partial(TinyModel, channels=3), "write a class .* instead of partial"),
        (_made_within(), "made within a function"),
        (Instance(), "not a class or a function"),
        (3, "not a class or a function"),
        (len, "not written in Python"),
        ([].append, "not written in Python"),
        (pytest, "not a class or a function"),
    ],
)
def test_what_has_no_source_of_its_own_is_refused_with_a_remedy(code, reason):
    with pytest.raises(ValueError, match=reason) as refusal:
        identify(code)
    assert "\n" not in str(refusal.value)


def test_code_that_was_typed_or_executed_is_refused():
    namespace: dict[str, Any] = {"__name__": "typed"}
    exec("class Part:\n    pass", namespace)
    with pytest.raises(ValueError, match=r"has no source file .* typed or made by exec"):
        identify(namespace["Part"])
    namespace["Part"].__module__ = "__main__"
    with pytest.raises(ValueError, match="script or notebook that runs"):
        identify(namespace["Part"])


def test_what_is_torchs_is_refused_at_once():
    import torch

    for code in (torch.nn.SiLU, torch.nn.functional.silu):
        with pytest.raises(ValueError, match="is torch's own; wrap it"):
            identify(code)


def test_a_name_that_the_file_gives_to_something_else_at_last_is_refused(import_study):
    module = import_study("class Part:\n    pass\nFirst = Part\nclass Part:\n    k = 1")
    with pytest.raises(ValueError, match="gives that name to something else further down; give each class"):
        identify(module.First)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_colon", "is not package.module:Name"),
        ("no_such_package_here:X", "cannot be imported"),
        ("json:Nothing", "json has no Nothing"),
    ],
)
def test_a_path_without_code_is_refused(path, reason):
    with pytest.raises(ValueError, match=reason):
        register(path, "module")


ROLE_CASES = """
    from torch import nn
    class NoModule:
        def __init__(self, config): ...
    class NoConfig(nn.Module):
        def __init__(self): ...
    class TwoArguments(nn.Module):
        def __init__(self, config, width): ...
    def function(x): ...
    def two(x, y): ...
    class Sizes(nn.Module):
        def __init__(self, size): ...
"""


@pytest.mark.parametrize(
    ("name", "role", "reason"),
    [
        ("NoModule", "stem", "not derived from torch.nn.Module"),
        ("NoConfig", "mlp", "must take one argument: the ViTConfig"),
        ("TwoArguments", "pool", "missing a required argument: 'width'"),
        ("function", "norm", "is a function; give a class"),
        ("two", "activation", "must take one argument: a tensor"),
        ("Sizes", "module", "image_size, in_channels, num_classes, by these names"),
    ],
)
def test_what_cannot_have_its_role_is_refused_with_its_signature(import_study, name, role, reason):
    with pytest.raises(ValueError, match=reason):
        register(getattr(import_study(ROLE_CASES), name), role)
