"""Does what runs have the code that was planned, wherever it runs, and is what goes wrong in it one line of a record?"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.execution.processes import IMPATIENT, group, wait_until
from tests.execution.run_results import bits
from tests.users_study import ONE_RUN, SMOKE, STUDY_TEXT, write_study
from vitbench import user_code
from vitbench.config import RunConfig
from vitbench.execution.study_code import CodeError, load_code
from vitbench.records import Outcome, Record, RecordStore
from vitbench.variants import variant

IN_TRAINING = "if self.training and len(tokens) == 64 and tokens.device.type != 'meta':"
"""Of the line that follows: not when the model is counted."""


def failing(line: str) -> str:
    """The study, whose part does this when it trains."""
    return STUDY_TEXT.replace("return tokens +", f"{IN_TRAINING}\n            {line}\n        return tokens +")


def records(results: Path, study: str = "mine") -> dict[str, Record]:
    return {record.arm: record for record in RecordStore(results).read(study)}


@pytest.fixture
def new_process(monkeypatch):
    """As if this process had not loaded any user's code."""

    def forget() -> None:
        for name in ("_REGISTRY", "_SOURCES"):
            monkeypatch.setattr(user_code.registry, name, {})
        for name in ("_BYTES", "_LOADED"):
            monkeypatch.setattr(user_code.loading, name, {})
        monkeypatch.setattr(user_code.loading, "modules", lambda: iter(user_code.loading._LOADED.values()))

    return forget


def config_of(name: str) -> RunConfig:
    return RunConfig(model=variant("Nano/2", image_size=8, in_channels=1, num_classes=10, position=name))


def named(path: Path, text: str = "Shift") -> str:
    return user_code.identify(vars(user_code.loading.load(path))[text])


class TestLoading:
    """A worker that has a configuration and the path of a study file."""

    def test_it_finds_the_class_by_its_name_and_knows_it_from_then_on(self, tmp_path, new_process):
        path = write_study(tmp_path)
        name = named(path)
        new_process()
        load_code(config_of(name), path)
        assert user_code.lookup(name).__name__ == "Shift"
        path.unlink()
        load_code(config_of(name), path)

    def test_a_path_through_a_link_is_the_same_file(self, tmp_path, new_process):
        name = named(write_study(tmp_path / "real"))
        (tmp_path / "link").symlink_to(tmp_path / "real")
        new_process()
        load_code(config_of(name), tmp_path / "link" / "mine.py")

    def test_arms_that_a_function_makes_of_classes_elsewhere_are_found(self, tmp_path, new_process):
        write_study(tmp_path / "users_layers", STUDY_TEXT.partition("STUDY =")[0], "deep.py")
        text = (
            "from vitbench.studies import Arm, Study\n"
            "def arms(base):\n    from users_layers import deep\n    return [Arm('shift', position=deep.Shift)]\n"
            "STUDY = Study(question='?', source='', baseline=Arm('1-D'), arms=arms)\n"
        )
        path = write_study(tmp_path, text)
        user_code.loading.load(path)
        from vitbench.studies import load_study

        base = variant("Nano/2", image_size=8, in_channels=1, num_classes=10)
        name = load_study(str(path)).all_arms(base)[1].changes["position"]
        new_process()
        load_code(config_of(name), path, variant="Nano/2")
        assert user_code.is_loaded(name)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("SCALE = 0.5", "SCALE = 0.25", "code changed between planning and running: Shift@"),
            ("class Shift", "class Shove", "has no such code"),
            ("SCALE = 0.5", "import layers_that_are_not_here", "imports what is not installed here"),
            ("SCALE = 0.5", "SCALE = 1 / 0", "line 6 fails: ZeroDivisionError"),
        ],
    )
    def test_what_is_other_than_planned_is_said_by_name(self, tmp_path, new_process, old, new, said):
        path = write_study(tmp_path)
        name = named(path)
        new_process()
        path.write_text(STUDY_TEXT.replace("position=Shift", "pool='gap'").replace(old, new))
        with pytest.raises(CodeError) as refusal:
            load_code(config_of(name), path)
        assert said in str(refusal.value) and "mine.py" in str(refusal.value) and "\n" not in str(refusal.value)

    def test_a_comment_changes_nothing(self, tmp_path, new_process):
        path = write_study(tmp_path)
        name = named(path)
        new_process()
        path.write_text(STUDY_TEXT.replace("# Adds to every token.", "# Moves them."))
        load_code(config_of(name), path)

    def test_a_file_that_is_not_on_this_machine_is_named(self, tmp_path, new_process):
        path = write_study(tmp_path)
        name = named(path)
        new_process()
        with pytest.raises(CodeError, match=r"gone\.py' was not found on this machine"):
            load_code(config_of(name), tmp_path / "gone.py")
        with pytest.raises(CodeError, match="has not loaded it; give the file"):
            load_code(config_of(name), None)


def test_what_is_edited_within_the_second_runs_as_it_is_named(tmp_path):
    (tmp_path / "users_scale.py").write_text("SCALE = 0.5\n")
    path = write_study(tmp_path, STUDY_TEXT.replace("SCALE = 0.5", "from users_scale import SCALE"))
    times = path.stat()
    first = user_code.loading.load(path)
    names = [user_code.identify(first.Shift)]
    (tmp_path / "users_scale.py").write_text("SCALE = 0.7\n")  # as long, and to all appearances as old
    os.utime(tmp_path / "users_scale.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert user_code.identify(first.Shift) == names[0]  # which still runs
    second = user_code.loading.load(path)
    names.append(user_code.identify(second.Shift))
    assert (first.SCALE, second.SCALE) == (0.5, 0.7) and names[0] != names[1]
    assert user_code.loading.load(path) is second


def test_an_arm_that_fails_is_recorded_with_its_line_and_the_others_go_on(vitbench, tmp_path, in_this_process):
    path = write_study(tmp_path, failing("raise KeyError('mine')"))
    said = vitbench("run", path, *ONE_RUN, "--jobs", "1", "--results", tmp_path / "results")
    assert said.status == 1 and "Traceback" not in said.err
    found = records(tmp_path / "results")
    assert found["1-D"].outcome is Outcome.COMPLETED
    assert found["shift"].outcome is Outcome.FAILED
    assert "position Shift@" in found["shift"].reason and "KeyError: 'mine' (mine.py:18)" in found["shift"].reason
    assert vitbench("tables", "--results", tmp_path / "results").status == 0


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "import sys; sys.exit('mine')"])
def test_code_that_wants_to_end_the_process_fails_its_run_alone(vitbench, tmp_path, in_this_process, how):
    said = vitbench(
        "run", write_study(tmp_path, failing(how)), *ONE_RUN, "--jobs", "1", "--results", tmp_path / "results"
    )
    found = records(tmp_path / "results")
    assert said.status == 1 and (found["1-D"].outcome, found["shift"].outcome) == ("completed", "failed")
    assert "position Shift@" in found["shift"].reason and "SystemExit" in found["shift"].reason


LOST = {
    "forward": ("SCALE * self.weight", "SCALE * torch.log(-self.weight)", r"position Shift@\w{8} \(position\)"),
    "bias": (
        "forward(self, tokens, block):\n        return tokens + SCALE * self.weight",
        "attention_bias(self, q, block):\n        return (-q @ q.transpose(-2, -1)).square().neg().sqrt()",
        r"position Shift@\w{8}\.attention_bias \(position\)",
    ),
    "rotate": (
        "forward(self, tokens, block):\n        return tokens + SCALE * self.weight",
        "rotate(self, x, block):\n        return x / (x - x)",
        r"position Shift@\w{8}\.rotate \(position\)",
    ),
    "function": (
        "STUDY = Study",
        "def lost(x):\n    return x.log()\n\n\nSTUDY = Study",
        r"activation lost@\w{8}",
    ),
    "pre_logits": (
        "STUDY = Study",
        "class Before(nn.Linear):\n    def __init__(self, config):\n        "
        "super().__init__(config.width, config.num_classes)\n\n    "
        "def pre_logits(self, pooled):\n        return pooled / 0\n\n\nSTUDY = Study",
        r"head Before@\w{8}\.pre_logits \(head\)",
    ),
    "in training": (
        "SCALE * self.weight",
        "(float('inf') if self.training else self.weight)",
        r"position Shift@\w{8} \(position\)",
    ),
    "in bf16": (
        "SCALE * self.weight",
        "(tokens @ tokens.mT).mean() / ((tokens @ tokens.mT).dtype != torch.bfloat16)",
        r"position Shift@\w{8} \(position\)",
    ),
}
ARMS = {"function": "activation=lost", "pre_logits": "head=Before"}


@pytest.mark.parametrize("where", LOST)
def test_values_that_are_not_finite_are_traced_to_the_part_that_makes_them(vitbench, tmp_path, in_this_process, where):
    old, new, code = LOST[where]
    text = STUDY_TEXT.replace(old, new).replace("position=Shift", ARMS.get(where, "position=Shift"))
    precision = ("--precision", "bf16" if where == "in bf16" else "fp32")
    path, results = write_study(tmp_path, text), tmp_path / "results"
    vitbench("run", path, *ONE_RUN, *precision, "--jobs", "1", "--results", results)
    shift = records(results)["shift"]
    assert shift.outcome is Outcome.DIVERGED, shift.reason
    assert re.search(f"; {code} puts out values that are not finite, before training", shift.reason), shift.reason


def test_a_record_says_which_code_initialises_itself_and_its_source_is_beside_it(vitbench, tmp_path, in_this_process):
    text = STUDY_TEXT.replace(
        "    def forward", "    def init_weights(self):\n        self.weight.data.fill_(2)\n\n    def forward"
    )
    results = tmp_path / "results"
    path = write_study(tmp_path, text)
    assert vitbench("run", path, *ONE_RUN, "--jobs", "1", "--results", results).status == 0
    found = records(results)
    (name,) = found["shift"].config.user_code
    assert found["shift"].self_initialised == (name,) and found["1-D"].self_initialised == ()
    source = (results / "sources" / f"{name}.py").read_text()
    assert "SCALE = 0.5" in source and "# Adds to every token." in source and "STUDY" not in source
    assert vitbench("records", "check", "--results", results).status == 0
    facts = json.loads(
        vitbench("plan", path, *ONE_RUN[:2], *ONE_RUN[4:6], *ONE_RUN[8:], "--results", results, "--json").out
    )
    assert all(run["done"] for run in facts["runs"])


def test_a_run_of_two_studies_with_the_same_part_is_trained_once(vitbench, tmp_path, in_this_process):
    results = tmp_path / "results"
    for name in ("mine", "theirs"):
        path = write_study(tmp_path / name, name=f"{name}.py")
        assert vitbench("run", path, *ONE_RUN, "--jobs", "1", "--results", results).status == 0
    assert records(results)["shift"].run_id == records(results, "theirs")["shift"].run_id
    assert records(results, "theirs")["shift"].taken_from == "mine"


def test_worker_processes_run_it_after_the_study_was_asked_for_from_elsewhere(process, tmp_path):
    write_study(tmp_path)
    relative = os.path.relpath(tmp_path / "mine.py")
    child = process("run", relative, *ONE_RUN, "--jobs", "2", "--results", tmp_path / "results")
    assert child.wait(200) == 0, (tmp_path / "stderr").read_text()
    assert {arm: record.outcome for arm, record in records(tmp_path / "results").items()} == {
        "1-D": "completed",
        "shift": "completed",
    }


def test_a_file_that_fails_in_workers_alone_fails_its_runs_by_name(process, tmp_path):
    text = (
        "import multiprocessing\nif multiprocessing.parent_process():\n    raise OSError('not in workers')\n"
        + STUDY_TEXT
    )
    path = write_study(tmp_path, text)
    child = process("run", path, *ONE_RUN, "--jobs", "1", "--results", tmp_path / "results")
    assert child.wait(200) == 1
    found = records(tmp_path / "results")
    assert found["1-D"].outcome is Outcome.COMPLETED  # which needs no code of the file's
    assert found["shift"].reason.endswith("mine.py' line 3 fails: OSError: not in workers")
    assert found["shift"].cost.params > 0 and "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["worker", "parent"])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(process, tmp_path, whom):
    script = tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    path = write_study(tmp_path)
    request = ("run", path, *SMOKE, "--seeds", "1", "--learning-rate", "1e-3", "--epochs", "60", "--jobs", "1")
    whole = process(*request, "--results", tmp_path / "whole", script=script)
    assert whole.wait(280) == 0
    results = tmp_path / "results"
    child = process(*request, "--results", results, script=script)
    shift = records(tmp_path / "whole")["shift"]
    wait_until(lambda: (results / "checkpoints" / f"{shift.run_id}.pt").exists())
    for pid in [child.pid] if whom == "parent" else group(child.pid):
        os.kill(pid, signal.SIGKILL)
    child.wait(100)
    wait_until(lambda: not group(child.pid))
    again = process(*request, "--results", results, script=script)
    assert again.wait(280) == 0
    last = [record for record in RecordStore(results).read("mine") if record.is_done and record.arm == "shift"][-1]
    assert bits(last) == bits(shift) and last.cost.resumed


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (vitbench[ray])")
def test_ray_tasks_get_it_from_the_study_file(process, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = write_study(tmp_path)
    child = process("run", path, *ONE_RUN, "--executor", "ray", "--jobs", "2", "--results", tmp_path / "ray")
    assert child.wait(280) == 0, (tmp_path / "stderr").read_text()
    local = process("run", path, *ONE_RUN, "--jobs", "1", "--results", tmp_path / "local")
    assert local.wait(200) == 0
    by_ray, by_local = records(tmp_path / "ray"), records(tmp_path / "local")
    assert {arm: bits(record) for arm, record in by_ray.items()} == {arm: bits(r) for arm, r in by_local.items()}
