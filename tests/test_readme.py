"""Is what README and the pages of docs/ say true: their tables those of the records, their links and commands there?"""

from __future__ import annotations

import ast
import re

import pytest

from tests.analysis.comparison.test_lasting import LONG, SHORT, lasting, records
from tests.made_up_profiles import make_contest
from tests.readme import NO_PROFILE, PAGES, README, REFERENCE, ROOT, _lasting, renewed
from vitbench import cli
from vitbench.profiling.profile_store import list_profiles
from vitbench.studies.library import STUDIES

TEXT = README.read_text()
LINKING = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md", ROOT / "benchmarks" / "README.md")
COMMANDS = {command.__name__.rstrip("_") for command in cli.COMMANDS} | {"records"}
POSITION_OF_MY_OWN = """from torch import nn


class MyPosition(nn.Module):
    def __init__(self, config):
        super().__init__()

    def forward(self, tokens, block):
        return tokens


"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_tables_are_those_of_the_reference_results(page):
    text = page.read_text()
    assert renewed(text) == text, "run `nox -s tables`"


def test_it_has_tables_and_findings():
    assert all(f"<!-- {kind}" in TEXT for kind in ("table:", "found:", "across", "profiles"))


def test_its_table_of_speeds_has_every_device_with_ratios_date_and_torch(tmp_path):
    marked = "before\n<!-- profiles -->\nold\n<!-- end of profiles -->\nafter"
    assert NO_PROFILE in renewed(marked, root=tmp_path)
    for device in ("cpu: Example", "cuda: Example"):
        make_contest(tmp_path / REFERENCE, {"vitbench": [1.0] * 3, "timm": [1.5] * 3}, device=device)
    text = renewed(marked, root=tmp_path)
    assert "old" not in text and text.startswith("before") and text.endswith("after")
    pages = "results/reference/profiles"
    assert f"[cpu: Example, 2 threads, torch 2.14.1, measured 2026-11-22]({pages}/cpu-example/README.md)" in text
    assert f"[cuda: Example, torch 2.14.1, measured 2026-11-22]({pages}/cuda-example/README.md)" in text
    assert text.count(r"| 1.50 \[1.50, 1.50\] | 1.50 \[1.50, 1.50\] |") == 2


def test_where_no_arm_has_a_short_and_a_long_ablation_its_block_is_empty_and_else_it_has_a_sentence_and_the_page():
    assert _lasting(" page: tables/lasting.md", []) == ""
    marked = "<!-- lasting page: tables/lasting.md -->\n\nold\n\n<!-- end of lasting -->"
    assert "old" not in renewed(marked)
    pairs = lasting(*records({"a": 0.02, "b": 0.01}, **SHORT), *records({"a": 0.03, "b": 0.0}, **LONG))
    sentence, empty, link = _lasting(" page: tables/lasting.md", pairs).split("\n")
    assert sentence.startswith("- On digits, a long ablation (Mini/2, 20 epochs, 45,000 images; ") and not empty
    assert link == "[What does a short ablation say of a longer one?](tables/lasting.md) has every arm."


@pytest.mark.parametrize("folder", list_profiles(ROOT / REFERENCE), ids=lambda folder: folder.name)
def test_a_device_s_committed_profile_is_small(folder):
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 2**20


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_it_links_to_and_pictures_is_there(page):
    targets = {link.partition("#")[0] for link in re.findall(r"\]\((?!http|#)([^)]+)\)", page.read_text())}
    assert sorted(target for target in targets if not (page.parent / target).exists()) == []


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_headings_that_it_links_to_are_there(page):
    missing = []
    for target, heading in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.*)", (page.parent / target if target else page).read_text(), re.MULTILINE)
        if heading not in {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}:
            missing.append(f"{target}#{heading}")
    assert missing == []


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_nox_sessions_that_it_names_exist(page):
    named = set(re.findall(r"nox -s ([a-z_]+)", page.read_text()))
    noxfile = ast.parse((ROOT / "noxfile.py").read_text())
    defined = {node.name for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert named <= defined


@pytest.mark.parametrize("page", LINKING, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_that_it_names_exist(page):
    assert set(re.findall(r"(?:`|^)vitbench ([a-z]+)", page.read_text(), re.MULTILINE)) <= COMMANDS


def test_its_tables_have_every_study_and_every_command():
    assert sorted(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)) == sorted(STUDIES)
    cells = re.findall(r"^\| (`vitbench .*?`) \| ", TEXT, re.MULTILINE)
    assert set(re.findall(r"`(?:vitbench )?([a-z]+)", " ".join(cells))) >= COMMANDS


def test_the_files_that_the_design_names_are_there():
    text = (ROOT / "docs" / "design.md").read_text()
    names = set(re.findall(r"`(\w+\.py|[\w/]+/(?:\w+\.\w+)?)`", text))
    folders = (ROOT, ROOT / "vitbench", ROOT / "vitbench" / "analysis")
    assert len(names) > 50 and [name for name in names if not any((folder / name).exists() for folder in folders)] == []


def test_its_study_is_a_study(tmp_path):
    from vitbench.studies import load_study
    from vitbench.variants import variant

    (code,) = re.findall(r"```python\n(from vitbench.studies.*?)```", TEXT, re.DOTALL)
    (mine,) = re.findall(r"`(Arm\(\"mine\", .*?\))`", TEXT)
    file = tmp_path / "my_study.py"
    file.write_text(POSITION_OF_MY_OWN + code.replace("    ],\n", f"        {mine},\n    ],\n"))
    arms = load_study(str(file)).all_arms(variant("Micro/2"))
    assert [arm.apply(variant("Micro/2")).num_registers for arm in arms] == [0, 4, 0, 0]
    assert [list(arm.changes) for arm in arms] == [[], ["num_registers"], ["mixup"], ["position"]]


def test_weights_of_other_libraries_are_converted_and_resized_as_it_says(monkeypatch):
    import timm
    import torch

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name: create(name, depth=1))
    page = (ROOT / "docs" / "fine-tuning.md").read_text()
    (code,) = re.findall(r"```python\n(import timm.*?)```", page, re.DOTALL)
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
