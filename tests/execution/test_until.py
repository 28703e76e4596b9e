"""Does a study that adds seeds until it is settled stop where its rule says, wherever it was interrupted?

Its runs are made up: an arm's accuracy at a seed is the test's, so that what must come out can be worked out by hand.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from vitbench.analysis.statistics.sequential import repeated_interval
from vitbench.execution.run import execute
from vitbench.records import Outcome, RecordStore, pack_correct

IMAGES = 360  # test images of digits
LOOKS = (3, 5, 8)
STUDY = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="?", source="", baseline=Arm("cls"), until=(3, 5, 8),
    arms=[Arm("gap", pool="gap"), Arm("map", pool="map"), Arm("mean", pool="mean_all")],
)
"""
EFFECTS = {"cls": 0.0, "gap": 0.1, "map": -0.02, "mean": 0.002}


def accuracy(arm: str, seed: int) -> float:
    """Whole test images, as accuracies are."""
    noise = np.random.RandomState([seed, len(arm), ord(arm[0])]).normal(0, 0.008)
    return min(IMAGES, round(IMAGES * (0.7 + EFFECTS[arm] + noise))) / IMAGES


@pytest.fixture
def made_up(monkeypatch):
    """Every run is recorded as a real one was, with the accuracies above; `limit` of them, and then Ctrl-C."""
    from vitbench.execution import local

    template, limit = [], {"left": None, "diverging": (), "failing": ()}

    def record_of(job):
        if not template:
            template.append(execute(job))
        run = job.run
        top1 = accuracy(run.arm, run.config.seed)
        right = np.random.RandomState(run.config.seed).permutation(IMAGES) < round(top1 * IMAGES)
        outcome, reason = Outcome.COMPLETED, ""
        for kind, named in ((Outcome.DIVERGED, "diverging"), (Outcome.FAILED, "failing")):
            if (run.arm, run.config.seed) in limit[named]:
                outcome, reason = kind, "made up"
        metrics = {**template[0].metrics, "test_top1": top1, "val_top1": top1}
        return template[0].model_copy(
            update={
                **{
                    name: getattr(run, name)
                    for name in ("run_id", "study", "arm", "budget", "variant", "design", "config")
                },
                "seed": run.config.seed,
                "outcome": outcome,
                "reason": reason,
                "correct": pack_correct(right),
                "metrics": metrics if outcome is Outcome.COMPLETED else {},
            }
        )

    def run_jobs(queue, *, on_record, **_):
        for job in queue:
            if limit["left"] == 0:
                raise KeyboardInterrupt
            if limit["left"] is not None:
                limit["left"] -= 1
            on_record(job, record_of(job))
            queue.done(job)

    monkeypatch.setattr(local, "run_jobs", run_jobs)
    return limit


@pytest.fixture
def run(vitbench, tmp_path):
    (tmp_path / "pools.py").write_text(STUDY)

    def call(results="results", command="run", *more):
        return vitbench(command, tmp_path / "pools.py", "--budget", "smoke", "--results", tmp_path / results, *more)

    return call


def seeds(results) -> dict[str, int]:
    records = RecordStore(results).read("pools")
    return {arm: len({r.seed for r in records if r.arm == arm}) for arm in EFFECTS}


def expected_seeds(differences_of) -> dict[str, int]:
    """By intervals that cover at all looks: Holm's correction by hand, from look to look."""
    left, found, shown = ["gap", "map", "mean"], {}, 0
    for look in LOOKS:
        intervals = {}
        again = True
        while again:
            again = False
            for arm in list(left):
                low, high = repeated_interval(differences_of(arm, look), looks=LOOKS, alpha=0.05 / (3 - shown))
                intervals[arm] = low, high
                if low > 0 or high < 0:
                    left.remove(arm)
                    found[arm], shown, again = look, shown + 1, True
                    break
    return {**{arm: found.get(arm, LOOKS[-1]) for arm in ("gap", "map", "mean")}}


def test_arms_stop_at_the_look_at_which_their_interval_decides(run, made_up, tmp_path):
    result = run()
    assert result.status == 0

    def differences(arm, look):
        return [accuracy(arm, seed) - accuracy("cls", seed) for seed in range(look)]

    by_hand = expected_seeds(differences)
    assert sorted(by_hand.values()) != [LOOKS[-1]] * 3, "the example must have arms that stop early"
    assert seeds(tmp_path / "results") == {"cls": max(by_hand.values()), **by_hand}
    assert "pools on digits after 3 seeds. " in result.out
    assert "Open at the last look: mean" in result.out


def tables(run, results):
    assert run(results, "plan").status == 0
    return json.loads(run(results, "plan", "--json").out)


@pytest.mark.parametrize("interruptions", [(1, 2), (9, 3), (12, 5), (14, 1), (13, 6)])
def test_interrupted_twice_it_comes_to_the_same_seeds_and_verdicts(run, made_up, tmp_path, interruptions):
    run("whole")
    for number in interruptions:
        made_up["left"] = number
        assert run("parts").status in (0, 130)
    made_up["left"] = None
    assert run("parts").status == 0
    whole, parts = (RecordStore(tmp_path / name).read("pools") for name in ("whole", "parts"))
    assert {r.run_id for r in whole} == {r.run_id for r in parts}
    assert tables(run, "whole")["looks"] == tables(run, "parts")["looks"]


def test_what_was_run_beyond_a_look_changes_no_verdict(run, made_up, tmp_path):
    run("rule")
    run("more", "run", "--seeds", "8")
    looks = tables(run, "rule")["looks"]
    run("more")  # nothing is left to run: the records of a fixed number are there
    assert tables(run, "more")["looks"] == looks
    assert set(seeds(tmp_path / "more").values()) == {8}


def test_an_arm_that_fails_keeps_no_other_waiting_and_is_tried_again(run, made_up, tmp_path):
    made_up["failing"] = {("map", 1)}
    assert run().status == 1
    assert seeds(tmp_path / "results")["mean"] == LOOKS[-1]
    made_up["failing"] = ()
    assert run().status == 0
    run("whole")
    assert tables(run, "results")["looks"] == tables(run, "whole")["looks"]


def test_an_arm_whose_every_run_diverges_gets_no_more_seeds(run, made_up, tmp_path):
    made_up["diverging"] = {("map", seed) for seed in range(8)}
    assert run().status == 0
    assert seeds(tmp_path / "results")["map"] == LOOKS[0]


def test_a_baseline_at_the_ceiling_is_told_after_its_first_seed(run, made_up, monkeypatch):
    monkeypatch.setitem(EFFECTS, "cls", 0.3)
    made_up["left"] = 1
    result = run()
    told = result.out + result.err
    assert "the baseline, cls, gets " in told and "no arm can be better by more than the margin" in told
    made_up["left"] = None
    assert (run().out + result.err).count("no arm can be better") == 1


def test_after_the_hours_no_run_is_begun_and_the_next_call_goes_on(run, made_up, tmp_path):
    result = run("results", "run", "--hours", "1e-9")
    assert result.status == 0
    assert "the hours are over with 12 runs left; the next call goes on" in result.out
    run()
    run("whole")
    assert tables(run, "results")["looks"] == tables(run, "whole")["looks"]


@pytest.mark.parametrize(
    ("hours", "line"), [("0", "hours 0 is no time to run for"), ("-1", "hours -1 is no time to run for")]
)
def test_hours_that_are_none_are_refused(run, hours, line):
    result = run("results", "run", "--hours", hours)
    assert result.status == 2
    assert line in result.err
