"""Is a user's own study taken from its file, and is a file that is none refused in a line that says where it is wrong?"""

from __future__ import annotations

import pytest

from vitbench.data import describe
from vitbench.studies import BUDGETS, load_study, make_plan

GOOD = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="Do registers help?",
    source="Darcet et al. 2024",
    baseline=Arm("none"),
    arms=[Arm("4 registers", num_registers=4)],
)
"""


@pytest.fixture
def study_file(tmp_path):
    def write(text: str, name: str = "tokens.py") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def refusal(name: str) -> str:
    with pytest.raises(ValueError) as error:
        load_study(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_that_defines_a_study_is_one_named_like_the_file(study_file):
    study = load_study(study_file(GOOD))
    assert (study.name, study.question) == ("tokens", "Do registers help?")
    runs = make_plan(study, BUDGETS["smoke"], describe("digits")).runs
    assert {(run.study, run.arm, run.config.model.num_registers) for run in runs} == {
        ("tokens", "none", 0),
        ("tokens", "4 registers", 4),
    }


def test_a_study_may_give_itself_a_name(study_file):
    path = study_file(GOOD.replace("STUDY = Study(", 'STUDY = Study(\n    name="memory-tokens",'))
    assert load_study(path).name == "memory-tokens"


def test_an_unknown_name_is_answered_with_the_nearest():
    assert "did you mean pooling?" in refusal("poling")
    assert "hybrid" in refusal("zzz") and ".py" in refusal("zzz")


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    path = str(tmp_path / "missing.py")
    assert path in refusal(path) and "does not exist" in refusal(path)
    (tmp_path / "folder.py").mkdir()
    assert "does not exist" in refusal(str(tmp_path / "folder.py"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("x = 1\ny = (2\nz = 3 4\n", "line [23] .*SyntaxError", id="syntax"),
        pytest.param("import vitbench\nimport no_such_module\n", "line 2 .*no_such_module", id="import"),
        pytest.param("\n\n1 / 0\n", "line 3 .*ZeroDivisionError", id="raises"),
        pytest.param(GOOD.replace("Arm(", "Amr("), "line 7 .*NameError.*Amr", id="name"),
        pytest.param("x = 1\n", "defines no STUDY", id="no STUDY"),
        pytest.param("STUDY = 'pooling'\n", "defines no STUDY", id="STUDY of another kind"),
        pytest.param("raise SystemExit(3)\n", "SystemExit", id="exits"),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_with_its_name_and_line(study_file, text, says):
    path = study_file(text)
    with pytest.raises(ValueError, match=says) as error:
        load_study(path)
    assert path in str(error.value)


@pytest.mark.parametrize("name", ["pooling.py", "train.py", "my study.py", ".py", "..py"])
def test_a_name_that_cannot_be_a_record_file_of_its_own_is_refused(study_file, name):
    assert "rename" in refusal(study_file(GOOD, name))


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ('Arm("odd", num_heads=5)', "arm 'odd': num_heads 5 does not divide width 32"),
        ('Arm("odd", position="relative")', "arm 'odd': position_site 'stem' has no meaning"),
        ('Arm("odd", patch_size=3)', "arm 'odd': patch_size 3 does not divide image_size 8"),
        ('Arm("odd", pooling="gap")', "arm 'odd': no model, recipe or data has a field 'pooling'"),
        ('Arm("odd", pool="average")', "arm 'odd': pool 'average'"),
        ('Arm("none", pool="gap")', "two arms named 'none'"),
    ],
)
def test_an_arm_without_a_meaning_is_refused_by_name(study_file, arm, says):
    path = study_file(GOOD.replace('Arm("4 registers", num_registers=4)', arm))
    with pytest.raises(ValueError) as error:
        make_plan(load_study(path), BUDGETS["smoke"], describe("digits"))
    assert says in str(error.value) and "\n" not in str(error.value)
