"""Is what README says true: its tables those of the records, its links and commands there?"""

from __future__ import annotations

import ast
import re

import pytest

from tests.readme import README, ROOT, renewed

TEXT = README.read_text()


def test_its_tables_are_those_of_the_reference_results():
    assert "<!-- table:" in TEXT
    assert renewed(TEXT) == TEXT, "run `nox -s tables`"


@pytest.mark.parametrize(
    "target", sorted({link.partition("#")[0] for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXT)})
)
def test_what_it_links_to_is_there(target):
    assert (ROOT / target).exists()


def test_the_nox_sessions_that_it_names_exist():
    named = set(re.findall(r"nox -s ([a-z_]+)", TEXT))
    noxfile = ast.parse((ROOT / "noxfile.py").read_text())
    defined = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert named
    assert named <= defined


def test_its_study_is_a_study(tmp_path):
    from vitbench.studies import load_study
    from vitbench.variants import variant

    (code,) = re.findall(r"```python\n(from vitbench.studies.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "my_study.py"
    file.write_text(code)
    arms = load_study(str(file)).all_arms(variant("Micro/2"))
    assert [arm.apply(variant("Micro/2")).num_registers for arm in arms] == [0, 1, 4]


def test_its_weights_from_elsewhere_are_converted_and_resized_as_it_says(monkeypatch):
    import timm
    import torch

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name: create(name, depth=1))
    (code,) = re.findall(r"```python\n(import timm.*?)```", TEXT, re.DOTALL)
    names = {}
    exec(code, names)
    assert names["larger"](torch.zeros(1, 3, 384, 384)).shape == (1, 1000)


def test_its_model_is_built_as_it_says():
    import torch

    (code,) = re.findall(r"```python\n(from vitbench.config.*?)```", TEXT, re.DOTALL)
    names = {"images": torch.zeros(2, 3, 32, 32)}
    exec(code, names)
    assert names["logits"].shape == (2, 10)
    assert names["model"].features(names["images"]).shape == (2, 192)
