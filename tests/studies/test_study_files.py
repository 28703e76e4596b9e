"""Is every field of a user's study checked, and what his code does said in one line, with the file and line to mend?"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from vitbench.config import ViTConfig
from vitbench.studies import Arm, Study, load_study

BASE = ViTConfig(image_size=8, in_channels=1, patch_size=2, width=32, depth=3, num_heads=1, num_classes=10)

FIELDS: dict[str, str] = {
    "question": '"Do registers help?"',
    "source": '"Darcet et al. 2024"',
    "baseline": 'Arm("none")',
    "arms": '[Arm("4 registers", num_registers=4)]',
}


def text_of(**fields: str) -> str:
    """A study file; the field that is given first stands in line 3."""
    given = fields | {name: value for name, value in FIELDS.items() if name not in fields}
    return "\n".join(
        [
            "from vitbench.studies import Arm, Study",
            "STUDY = Study(",
            *(f"    {k}={v}," for k, v in given.items()),
            ")\n",
        ]
    )


@pytest.fixture
def refusal(vitbench, tmp_path):
    """`refusal(TEXT)`: the line with which `vitbench plan` refuses a file of this text."""

    def plan(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        request = (tmp_path / "mine.py", "--budget", "smoke", "--results", tmp_path, "--json")
        said = vitbench("plan", *request)
        assert said.status == 2 and said.err.count("\n") == 1 and not said.out, said
        assert said.err.startswith("vitbench: ")
        return said.err.strip()

    return plan


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("train", '{"learning_rate": 0.01}', "train 'learning_rate' is tuned by every study; leave it out"),
        ("train", '{"label_smothing": 0.1}', "train: TrainConfig has no field 'label_smothing'; did you mean label_smooth"),
        ("train", '{"label_smoothing": 2}', "train: label_smoothing 2: Input should be less than 1"),
        ("train", '{"batch_size": "many"}', "train: batch_size 'many': "),
        ("train", "[1]", "train [1]: Input should be a valid dictionary"),
        ("tuning", '"Grid"', "tuning 'Grid': Input should be 'grid' or 'short'"),
        ("tuning", "None", "tuning None: "),
        ("tune", '["weight_decay"]', "tune ['weight_decay']: Input should be a valid dictionary"),
        ("tune", '{"wieght_decay": (0.1,)}', "tune 'wieght_decay': no configuration has such a field; did you mean"),
        ("tune", '{"weight_decay": "0.1"}', "tune.weight_decay '0.1': "),
        ("tune", '{"weight_decay": ("0.1",)}', "tune.weight_decay '0.1': Input should be a valid number"),
        ("tune", '{"weight_decay": 0.1}', "tune.weight_decay 0.1: "),
        ("tune", '{"weight_decay": ()}', "tune 'weight_decay' has no values"),
        ("fractions", "(0,)", "fractions 0: Input should be greater than 0"),
        ("fractions", "(2, 1)", "fractions 2: Input should be less than or equal to 1"),
        ("fractions", "0.5", "fractions 0.5: Input should be a valid tuple"),
        ("fractions", "(0.1, 1)", "fractions (0.1, 1.0) are not the largest first"),
        ("fractions", '("1",)', "fractions '1': Input should be a valid number"),
        ("within", '"pool"', "within 'pool': "),
        ("within", "(1,)", "within 1: Input should be a valid string"),
        ("factors", '{"none": "pool"}', "factors.none 'pool': "),
        ("left_out", '"nothing"', "left_out 'nothing': Input should be callable"),
        ("question", "3", "question 3: Input should be a valid string"),
        ("question", r'"two\nlines"', r"question 'two\nlines': write it on one line"),
        ("source", "None", "source None: Input should be a valid string"),
        ("name", '"a/b"', "name 'a/b': use at most 100 letters, digits, - and _"),
        ("baseline", '"none"', "baseline 'none': give an Arm, or a function"),
        ("baseline", "None", "baseline None: give an Arm"),
        ("baseline", '[Arm("none")]', "give an Arm, or a function"),
        ("arms", '{"gap": Arm("gap", pool="gap")}', "give a list of Arms, or a function"),
        ("arms", 'Arm("gap", pool="gap")', "give a list of Arms, or a function"),
        ("arms", '"gap"', "arms 'gap': give a list of Arms, or a function"),
        ("arms", '["gap", "map"]', "'gap' is no Arm; give Arm(NAME, field=value)"),
        ("arms", "[None]", "None is no Arm"),
        ("arms", "None", "arms None: give a list of Arms"),
        ("arms", "3", "arms 3: give a list of Arms"),
        ("arms", '[Arm("none", pool="gap")]', "has two arms named 'none'; rename one"),
        ("arms", '[Arm("")]', "arm '': name '': give a name of 1 to 100 printable characters"),
        ("arms", r'[Arm("a\nb")]', r"name 'a\nb': give a name of 1 to 100 printable characters, on one line"),
        ("arms", r'[Arm("\x1b[2J")]', r"name '\x1b[2J': give a name"),
        ("arms", '[Arm(" gap")]', "without spaces at its ends"),
        ("arms", '[Arm("g" * 101)]', "give a name of 1 to 100"),
        ("arms", "[Arm(3)]", "arm 3: name 3: Input should be a valid string"),
        ("arms", "[Arm()]", "TypeError: Arm.__init__() missing 1 required positional argument: 'name'"),
        ("arms", '[Arm("a", fraction=0)]', "arm 'a': fraction 0: Input should be greater than 0"),
        ("arms", '[Arm("a", fraction=2)]', "arm 'a': fraction 2: Input should be less than or equal to 1"),
        ("arms", '[Arm("a", fraction="1")]', "arm 'a': fraction '1': Input should be a valid number"),
        ("arms", '[Arm("a", fraction=float("nan"))]', "arm 'a': fraction nan: "),
        ("arms", '[Arm("a", start="none", epochs=float("inf"))]', "arm 'a': epochs inf: "),
        ("arms", '[Arm("a", start="none", epochs=-1)]', "arm 'a': epochs -1 is how many times"),
        ("arms", '[Arm("a", start=1)]', "arm 'a': start 1: Input should be a valid string"),
        ("arms", '[Arm("a", levels=["cls"])]', "arm 'a': levels ['cls']: "),
        ("arms", '[Arm("a", levels={"pool": 1})]', "arm 'a': levels.pool 1: "),
        ("arms", '[Arm("a", timm=18)]', "arm 'a': timm 18: Input should be a valid string"),
        ("arms", '[Arm("a", options={"layers": [1]})]', "options {'layers': [1]} are for a model of timm or a module"),
        ("arms", '[Arm("a", poool="gap")]', "arm 'a': no model, recipe or data has a field 'poool'; did you mean pool?"),
        ("arms", '[Arm("a", franction=1)]', "no model, recipe or data has a field 'franction'; did you mean fraction?"),
        ("arms", '[Arm("a", label_smothing=0.1)]', "field 'label_smothing'; did you mean label_smoothing?"),
        ("arms", '[Arm("a", crop_paddings=1)]', "field 'crop_paddings'; did you mean crop_padding?"),
        ("arms", '[Arm("a", batch_size="64")]', "arm 'a': batch_size '64': give a number"),
        ("arms", '[Arm("a", optimizer=1)]', "arm 'a': optimizer 1: give text"),
        ("arms", '[Arm("a", flip=1)]', "arm 'a': flip 1: give True or False"),
        ("arms", '[Arm("a", learning_rate=1)]', "arm 'a': learning_rate is tuned for every arm; give learning_rate_scale=10"),
        ("arms", '[Arm("a", dataset="digits")]', "arm 'a': dataset is the same for all arms"),
        ("arms", '[Arm("a", train_images=100)]', "arm 'a': train_images is given as a share: fraction=0.5"),
        ("arms", '[Arm("a", validation_fraction=0.2)]', "arm 'a': validation_fraction is the same for all arms"),
        ("arms", '[Arm("a", learning_rate_scale=0)]', "arm 'a': learning_rate_scale 0: Input should be greater than 0"),
        ("arms", '[Arm("a", learning_rate_scale="10")]', "learning_rate_scale '10': Input should be a valid number"),
        ("arms", '[Arm("a", start="none", epochs=0, learning_rate_scale=2)]', "scale has no meaning at epochs 0"),
        ("arms", '[Arm("a", num_classes=3)]', "arm 'a': num_classes is decided by the data; leave it out"),
        ("arms", '[Arm("a", timm="resnet18", pool="gap")]', "arm 'a': pool is for ViTs, and timm's models take options"),
        ("arms", '[Arm("a", depth=True)]', "arm 'a': depth True: give a number"),
        ("arms", '[Arm("a", depth="2")]', "arm 'a': depth '2': give a number"),
        ("arms", '[Arm("a", patch_size="4")]', "arm 'a': patch_size '4': give a number"),
        ("arms", '[Arm("a", patch_size=("4", 4))]', "arm 'a': patch_size ('4', 4): give a number"),
        ("arms", '[Arm("a", qk_norm="yes")]', "arm 'a': qk_norm 'yes': give True or False"),
        ("arms", '[Arm("a", qk_norm=1)]', "arm 'a': qk_norm 1: give True or False"),
        ("arms", '[Arm("a", pool=b"gap")]', "arm 'a': pool b'gap': give a name or a class of yours"),
        ("arms", '[Arm("a", timm="resnet18", image_size="32")]', "arm 'a': image_size '32': give a number"),
        ("question", 'b"q"', "question b'q': Input should be a valid string"),
        ("train", '{"batch_size": True}', "train: batch_size True: give a number"),
        ("data", '{"dataset": "digits"}', "data 'dataset' is what a study is asked on; leave it out, and give --data"),
        ("data", '{"train_images": 10}', "data 'train_images' is the budget's; leave it out"),
        ("data", '{"validation_fraction": 0.2}', "data 'validation_fraction' is the same for all studies"),
        ("data", '{"flip": 1}', "data: flip 1: give True or False"),
        ("data", '{"fliip": True}', "data: DataConfig has no field 'fliip'; did you mean flip?"),
        ("data", '{"mixup": -1}', "data: mixup -1: Input should be greater than or equal to 0"),
        ("train", '{"epochs": "3"}', "train: epochs '3': give a number"),
        ("train", '{"optimizer": b"sgd"}', "train: optimizer b'sgd': give text"),
        ("tune", '{"weight_decay": [0.1, 0.1]}', "tune 'weight_decay' has a value twice in (0.1, 0.1)"),
        ("arms", "[]", "arms are none, so that nothing is compared"),
        ("factors", '{"none": {}, "4 registers": {}}', "arm 'none' has no level of any factor"),
        ("factors", '{"none": {"n": "0"}, "4 registers": {}}', "arm '4 registers' has"),
        ("qestion", "1", "Study has no field 'qestion'; did you mean question?"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused_with_file_line_field_value_and_remedy(refusal, tmp_path, field, value, says):
    line = refusal(text_of(**{field: value}))
    assert line.startswith(f"vitbench: study file '{tmp_path / 'mine.py'}' line ") and says in line


def test_an_optimizer_that_timm_does_not_know_is_refused_when_it_is_planned(refusal):
    assert "optimizer 'sgdx' is not one of timm's; try " in refusal(text_of(train='{"optimizer": "sgdx"}'))


def test_numbers_of_either_kind_and_none_are_taken():
    arm = Arm(
        "a", mlp_ratio=2, depth=2.0, stem="resnet", patch_size=4, stem_layers=[1], layer_scale=None, image_size=(32, 16)
    )
    assert arm.apply(BASE).depth == 2


def test_what_is_missing_is_named(refusal):
    text = text_of().replace('    arms=[Arm("4 registers", num_registers=4)],\n', "")
    assert "line 2: arms is missing; give one" in refusal(text)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("baseline", "lambda base: 1 / 0", "baseline of mine.py line 3 fails: ZeroDivisionError: division by zero"),
        ("baseline", "lambda base: None", "baseline of mine.py: give an Arm, or a function"),
        (
            "baseline",
            "lambda: None",
            "baseline of mine.py fails: TypeError: <lambda>() takes 0 positional arguments but 1 was given",
        ),
        ("arms", "lambda base: [base.no_such_field]", "arms of mine.py line 3 fails: AttributeError: "),
        ("arms", 'lambda base: int("many")', "arms of mine.py line 3 fails: ValueError: invalid literal"),
        ("arms", 'lambda base: [Arm("a", fraction=2)]', "arms of mine.py line 3: arm 'a': fraction 2: "),
        ("arms", "lambda base: Arm('gap', pool='gap')", "arms of mine.py: give a list of Arms"),
        ("arms", "lambda base: ['gap']", "arms of mine.py: 'gap' is no Arm"),
        ("arms", "lambda base: (1 / 0 for _ in range(2))", "arms of mine.py line 3 fails: ZeroDivisionError"),
        ("arms", "lambda base: next(iter(()))", "arms of mine.py line 3 fails: StopIteration"),
        ("arms", "lambda base: exit(3)", "arms of mine.py line 3 fails: SystemExit: 3"),
        ("arms", "lambda base: [Arm('none', pool='gap')]", "has two arms named 'none'"),
        ("left_out", "lambda base: 'nothing'", "left_out of mine.py: give a list of sentences"),
        ("left_out", "lambda base: {}['x']", "left_out of mine.py line 3 fails: KeyError: 'x'"),
    ],
)
def test_a_function_that_fails_is_said_with_its_line(refusal, field, value, says):
    line = refusal(text_of(**{field: value}))
    assert line.startswith("vitbench: study 'mine'") and says in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("STUDY = {'question': '?'}", "defines no STUDY, but something of type dict; assign one"),
        (
            "x = 1\nif __name__ == '__main__':\n    STUDY = 1\n",
            "what is under `if __name__ == …` is not run; assign one",
        ),
        ("x = 1\nraise SystemExit", "line 2 fails: SystemExit"),
        ("import sys\nsys.exit('no')", "line 2 fails: SystemExit: no"),
        ("def f():\n    return f()\nf()", "line 2 fails: RecursionError"),
        ("raise ValueError('two\\nlines')", "line 1 fails: ValueError: two lines"),
        ("class Own(BaseException): ...\nraise Own('x')", "line 2 fails: Own: x"),
        ("STUDY = (", "line 1 fails: SyntaxError: '(' was never closed"),
        ("import my_broken_layers", "(my_broken_layers.py line 2) fails: ZeroDivisionError"),
        ("import my_torn_layers", "(my_torn_layers.py line 1) fails: SyntaxError"),
    ],
)
def test_a_file_that_fails_is_said_with_the_line_to_mend(refusal, tmp_path, text, says):
    (tmp_path / "my_broken_layers.py").write_text("x = 1\n1 / 0\n")
    (tmp_path / "my_torn_layers.py").write_text("x = (\n")
    assert says in refusal(text)


def test_what_a_file_prints_does_not_spoil_the_one_document_on_stdout(vitbench, tmp_path):
    text = "print('imported')\n" + text_of(arms="lambda base: print('called') or [Arm('gap', pool='gap')]")
    (tmp_path / "mine.py").write_text(text)
    said = vitbench("plan", tmp_path / "mine.py", "--budget", "smoke", "--results", tmp_path, "--json")
    assert {run["arm"] for run in json.loads(said.out)["runs"]} == {"none", "gap"}
    assert "imported" in said.err and "called" in said.err


class TestSiblings:
    """Modules beside a study file."""

    TEXT: ClassVar[str] = "from {sibling} import arms\n" + text_of(arms="arms").replace("arms=arms", "arms=arms()")

    def test_they_can_be_imported_later_too_and_hide_no_module_of_ours(self, tmp_path, monkeypatch):
        (tmp_path / "my_arms.py").write_text(
            "from vitbench.studies import Arm\ndef arms():\n    import my_late_arms\n    return my_late_arms.ARMS\n"
        )
        (tmp_path / "my_late_arms.py").write_text("from vitbench.studies import Arm\nARMS = [Arm('gap', pool='gap')]\n")
        (tmp_path / "cmd.py").write_text("1 / 0\n")  # a module of Python's has that name
        monkeypatch.delitem(sys.modules, "cmd", raising=False)
        (tmp_path / "mine.py").write_text(self.TEXT.format(sibling="my_arms"))
        study = load_study(str(tmp_path / "mine.py"))
        assert [arm.name for arm in study.all_arms(BASE)] == ["none", "gap"]
        assert Path(importlib.import_module("cmd").__file__ or "").parent != tmp_path and str(tmp_path) not in sys.path

    def test_two_of_one_name_are_not_taken_for_each_other(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        for folder, pool in (("a", "gap"), ("b", "map")):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "my_pools.py").write_text(
                f"from vitbench.studies import Arm\ndef arms():\n    return [Arm('{pool}', pool='{pool}')]\n"
            )
            (tmp_path / folder / "mine.py").write_text(self.TEXT.format(sibling="my_pools"))
        assert load_study(str(tmp_path / "a" / "mine.py")).all_arms(BASE)[1].name == "gap"
        with pytest.raises(
            ValueError, match=r"its sibling my_pools.py has the name of .*which another study imports; rename"
        ):
            load_study(str(tmp_path / "b" / "mine.py"))

    def test_a_class_of_a_study_file_is_found_under_its_module(self, tmp_path):
        (tmp_path / "mine.py").write_text("class Layer: ...\n" + text_of())
        load_study(str(tmp_path / "mine.py"))
        file = str((tmp_path / "mine.py").resolve())
        (layer,) = (module.Layer for module in [*sys.modules.values()] if getattr(module, "__file__", None) == file)
        assert getattr(sys.modules[layer.__module__], layer.__qualname__) is layer


def test_lists_that_a_study_was_made_of_may_change_afterwards():
    arms = [Arm("gap", pool="gap")]
    study = Study("?", "", Arm("cls"), arms)
    arms.append(Arm("cls"))
    assert [arm.name for arm in study.all_arms(BASE)] == ["cls", "gap"]


def test_an_arm_is_shown_as_it_is_written():
    assert repr(Arm("gap", fraction=0.5, pool="gap")) == "Arm('gap', fraction=0.5, pool='gap')"
