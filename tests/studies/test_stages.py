"""Do tuning seeds, extensions of the grid and final seeds follow from the records as docs/tuning.md says? Counted by hand.

The records are made up from a known truth: nothing is trained here.
"""

from __future__ import annotations

import math
import random

import pytest

from vitbench.analysis.comparison.load import compare
from vitbench.data import describe
from vitbench.records import Outcome
from vitbench.refusals import one_line
from vitbench.studies import BUDGETS, Arm, Overrides, Study, make_plan

DIGITS = describe("digits")
TWO_POOLS = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")], name="two_pools")
THREE_RATES = (1e-3, 2e-3, 4e-3)


class World:
    """Makes up the record of a run: the validation accuracy falls by 0.1 with each doubling away from the arm's best rate."""

    def __init__(self, made_up, best: dict[str, float], *, outcomes=None, after_the_choice=None):
        self.made_up, self.best = made_up, best
        self.outcomes, self.after_the_choice = outcomes or {}, after_the_choice or {}
        self.records = []

    def plan(self, *, failed=(), study=TWO_POOLS, budget="smoke", **overrides):
        asked = Overrides(**{"learning_rates": THREE_RATES, "seeds": 5, "tuning_seeds": 2, "extend": 1, **overrides})
        return make_plan(study, BUDGETS[budget], DIGITS, asked, self.records, failed=failed)

    def pending(self, made):
        done = {record.run_id for record in self.records if record.outcome is not Outcome.FAILED}
        return [run for run in made.runs if run.run_id not in done]

    def run(self, run, **fields):
        config = run.config
        rate = config.train.learning_rate
        outcome = self.outcomes.get((run.arm, rate), "completed")
        top1 = 0.9 - 0.1 * abs(math.log2(rate / self.best[run.arm]))
        top1 = self.after_the_choice.get((run.arm, rate), top1) if config.seed >= 2 else top1
        self.records.append(
            self.made_up(
                study=run.study,
                arm=run.arm,
                budget=run.budget,
                variant=run.variant,
                config=config,
                design=run.design,
                **{
                    "outcome": outcome,
                    "metrics": {"test_top1": 0.5, "val_top1": top1} if outcome == "completed" else {},
                    **fields,
                },
            )
        )

    def rounds(self, **overrides):
        """Runs what is pending until nothing is; (rounds as the numbers of runs in them, the last plan)."""
        sizes = []
        while pending := self.pending(made := self.plan(**overrides)):
            sizes.append(len(pending))
            for run in pending:
                self.run(run)
        return sizes, made


def cells(runs):
    return sorted((run.config.seed, run.arm, run.config.train.learning_rate) for run in runs)


def test_final_seeds_run_at_each_arm_s_best_rate_and_at_the_baseline_s_alone(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 2e-3})
    sizes, last = world.rounds(extend=0)
    # 2 arms × 3 rates × 2 seeds; then 3 seeds of either at the rate that is best for both.
    assert sizes == [12, 6] and last.later is None
    assert cells(last.runs[12:]) == [(seed, arm, 2e-3) for seed in (2, 3, 4) for arm in ("cls", "gap")]
    world = World(made_up, {"cls": 2e-3, "gap": 4e-3})
    sizes, last = world.rounds(extend=0)
    assert sizes == [12, 9]
    assert cells(last.runs[12:]) == [
        (seed, *cell) for seed in (2, 3, 4) for cell in (("cls", 2e-3), ("gap", 2e-3), ("gap", 4e-3))
    ]


@pytest.mark.parametrize(
    ("gap", "extend", "rounds", "rates"),
    [
        (2e-3, 1, [12, 6], THREE_RATES),
        (4e-3, 0, [12, 9], THREE_RATES),
        (4e-3, 1, [12, 4, 9], (*THREE_RATES, 8e-3)),  # 2 arms × 1 rate × 2 seeds more
        (8e-3, 1, [12, 4, 9], (*THREE_RATES, 8e-3)),  # at the edge again, and so it is flagged
        (8e-3, 2, [12, 4, 4, 9], (*THREE_RATES, 8e-3, 16e-3)),
        (8e-3, 3, [12, 4, 4, 9], (*THREE_RATES, 8e-3, 16e-3)),  # no longer at the edge
        (5e-4, 1, [12, 4, 9], (5e-4, *THREE_RATES)),
    ],
)
def test_the_grid_grows_by_the_ratio_at_its_edge_for_every_arm_alike(made_up, gap, extend, rounds, rates):
    sizes, last = World(made_up, {"cls": 2e-3, "gap": gap}).rounds(extend=extend)
    assert sizes == rounds
    assert last.runs[0].design.learning_rates == pytest.approx(rates, rel=1e-12) == last.runs[-1].design.learning_rates
    tried = {arm: {run.config.train.learning_rate for run in last.runs if run.arm == arm} for arm in ("cls", "gap")}
    assert tried["cls"] == tried["gap"] == set(rates)


def test_both_sides_grow_where_arms_are_best_at_either(made_up):
    sizes, last = World(made_up, {"cls": 1e-3, "gap": 4e-3}).rounds()
    assert sizes == [12, 8, 9]
    assert last.runs[0].design.learning_rates == pytest.approx((5e-4, *THREE_RATES, 8e-3), rel=1e-12)


def test_the_bound_on_what_follows_holds_and_is_what_one_counts(made_up):
    world = World(made_up, {"cls": 1e-3, "gap": 8e-3})
    first = world.plan()
    # Two more rates × 2 seeds × 2 arms; 3 final seeds, at one rate of the baseline and two of the other arm.
    assert (len(first.runs), first.later.runs) == (12, 2 * 2 * 2 + 3 * 3)
    assert first.later.training_flops >= 17 * min(run.training_flops for run in first.runs)
    sizes, _ = world.rounds()
    assert sum(sizes[1:]) <= first.later.runs


def test_a_diverged_rate_beyond_the_best_one_is_an_answer_and_ends_the_extension(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 2e-3}, outcomes={("gap", 4e-3): "diverged", ("gap", 1e-3): "diverged"})
    sizes, last = world.rounds()
    assert sizes == [12, 6] and last.runs[0].design.learning_rates == THREE_RATES


def test_final_seeds_never_move_the_choice(made_up):
    # On the final seeds gap is far better at the baseline's rate, which would make that its best.
    world = World(made_up, {"cls": 1e-3, "gap": 2e-3}, after_the_choice={("gap", 1e-3): 1.0, ("gap", 2e-3): 0.0})
    sizes, _ = world.rounds(learning_rates=(1e-3, 2e-3), extend=0)
    assert sizes == [8, 9]
    assert world.pending(world.plan(learning_rates=(1e-3, 2e-3), extend=0)) == []
    more = world.plan(learning_rates=(1e-3, 2e-3), extend=0, seeds=6)
    assert cells(world.pending(more)) == [(5, "cls", 1e-3), (5, "gap", 1e-3), (5, "gap", 2e-3)]


def test_an_extension_that_was_interrupted_is_finished_for_every_arm(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 4e-3})
    for run in world.pending(world.plan()):
        world.run(run)
    extension = world.pending(world.plan())
    assert {run.config.train.learning_rate for run in extension} == {8e-3} and len(extension) == 4
    for run in extension:
        if run.arm == "gap":  # 8e-3 turns out no better, and gap's choice is within what is known
            world.run(run)
    assert cells(world.pending(world.plan())) == [(0, "cls", 8e-3), (1, "cls", 8e-3)]


def test_a_failed_run_is_waited_for_until_it_is_given_up(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 2e-3}, outcomes={("gap", 4e-3): "failed"})
    first = world.plan()
    for run in first.runs:
        world.run(run)
    waiting = world.plan()
    assert cells(world.pending(waiting)) == [(0, "gap", 4e-3), (1, "gap", 4e-3)] and waiting.later is not None
    failed = {run.run_id for run in world.pending(waiting)}
    onward = world.plan(failed=failed)
    finals = [run for run in world.pending(onward) if run.run_id not in failed]
    assert cells(finals) == [(seed, arm, 2e-3) for seed in (2, 3, 4) for arm in ("cls", "gap")]


def test_an_arm_of_which_nothing_completed_has_no_final_runs(made_up):
    world = World(
        made_up, {"cls": 2e-3, "gap": 2e-3}, outcomes=dict.fromkeys((("gap", rate) for rate in THREE_RATES), "diverged")
    )
    sizes, last = world.rounds()
    assert sizes == [12, 3] and {run.arm for run in last.runs[12:]} == {"cls"}


def test_one_setting_leaves_nothing_to_choose_and_is_run_on_every_seed_at_once(made_up):
    made = World(made_up, {}).plan(learning_rates=(1e-3,))
    assert (len(made.runs), made.later) == (2 * 5, None) and made.runs[0].design.tuning_seeds is None


def test_all_seeds_to_tune_on_is_one_stage_and_not_marked_as_two(made_up):
    made = World(made_up, {}).plan(tuning_seeds=5, extend=0)
    assert (len(made.runs), made.later, made.runs[0].design.tuning_seeds) == (2 * 3 * 5, None, None)


@pytest.mark.parametrize(
    ("budget", "tuning_seeds", "extend"), [("smoke", 2, 0), ("quick", 3, 0), ("standard", 2, 1), ("paper", 1, 1)]
)
def test_budgets_tune_on_the_seeds_that_they_say(budget, tuning_seeds, extend):
    asked = Overrides(learning_rates=THREE_RATES, variant="Nano/2")
    made = make_plan(TWO_POOLS, BUDGETS[budget], DIGITS, asked)
    assert {run.config.seed for run in made.runs} == set(range(tuning_seeds))
    assert (made.later is not None) == (budget in ("standard", "paper")) and BUDGETS[budget].extend == extend


def test_fewer_seeds_than_a_budget_tunes_on_are_all_tuned_on():
    made = make_plan(TWO_POOLS, BUDGETS["standard"], DIGITS, Overrides(seeds=1, learning_rates=THREE_RATES))
    assert {run.config.seed for run in made.runs} == {0}


def test_every_combination_of_tuned_fields_is_a_trial_for_every_arm():
    asked = Overrides(learning_rates=(1e-3, 2e-3), seeds=1, tune={"weight_decay": (0.2, 0.01), "drop_path": (0, 0.1)})
    made = make_plan(TWO_POOLS, BUDGETS["smoke"], DIGITS, asked)
    trials = {arm: [run.setting for run in made.runs if run.arm == arm] for arm in ("cls", "gap")}
    expected = [(rate, wd, path) for rate in (1e-3, 2e-3) for wd in (0.01, 0.2) for path in (0.0, 0.1)]
    assert trials["cls"] == trials["gap"] == expected
    run = made.runs[-1]
    assert (run.config.train.weight_decay, run.config.model.drop_path) == (0.2, 0.1)
    assert run.design.tuned == {"weight_decay": (0.01, 0.2), "drop_path": (0.0, 0.1)}
    assert run.setting_text == "lr 0.002, weight_decay 0.2, drop_path 0.1"
    assert len({run.run_id for run in made.runs}) == 16


def test_a_tuned_field_is_extended_like_the_rate_but_not_across_zero_or_out_of_its_range(made_up):
    class Steep(World):
        def run(self, run, **fields):
            super().run(run, **fields)
            last = self.records[-1]
            wd, path = last.config.train.weight_decay, last.config.model.drop_path
            top1 = 0.5 + 0.1 * wd - 0.01 * path
            self.records[-1] = last.model_copy(update={"metrics": {"test_top1": 0.5, "val_top1": top1}})

    world = Steep(made_up, {"cls": 1e-3, "gap": 1e-3})
    sizes, last = world.rounds(
        learning_rates=(1e-3,), tune={"weight_decay": (0.1, 0.3), "drop_path": (0.0, 0.5)}, tuning_seeds=1, seeds=2
    )
    # 2 arms × 4; weight decay grows to 0.9: 2 arms × 2; drop_path is best at 0, beyond which there is no ratio.
    assert sizes == [8, 4, 2]
    assert last.runs[0].design.tuned == {"weight_decay": (0.1, 0.3, 0.9), "drop_path": (0.0, 0.5)}


def test_a_study_may_say_what_it_tunes_and_the_command_line_goes_over_it():
    study = Study(
        question="?",
        source="",
        baseline=Arm("cls"),
        arms=[Arm("gap", pool="gap")],
        name="s",
        tune={"weight_decay": (0.1, 0.3)},
    )
    one_rate = {"learning_rates": (1e-3,), "seeds": 1}
    made = make_plan(study, BUDGETS["smoke"], DIGITS, Overrides(**one_rate))
    assert made.runs[0].design.tuned == {"weight_decay": (0.1, 0.3)}
    over = make_plan(study, BUDGETS["smoke"], DIGITS, Overrides(**one_rate, tune={"weight_decay": (0.5,)}))
    assert over.runs[0].design.tuned == {"weight_decay": (0.5,)}


def test_runs_made_before_a_field_was_tuned_are_not_made_again(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 2e-3})
    world.rounds(tuning_seeds=5, extend=0)
    tuned = world.plan(tuning_seeds=5, extend=0, tune={"weight_decay": (0.05, 0.2)})
    assert len(tuned.runs) == 60
    assert {run.config.train.weight_decay for run in world.pending(tuned)} == {0.2}


def test_a_plan_in_stages_says_the_same_from_the_same_records_in_any_order(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 4e-3})
    world.rounds()
    in_order = [run.run_id for run in world.plan().runs]
    random.Random(0).shuffle(world.records)
    shuffled = world.plan()
    assert [run.run_id for run in shuffled.runs] == in_order and shuffled.later is None


ELSEWHERE = {"machine": "elsewhere"}


def test_plan_and_tables_choose_the_same_from_records_of_two_environments_and_a_failed_run(made_up):
    here = {  # val_top1 of gap by rate and seed; the run that failed takes seed 1 from all rates
        (1e-3, 0): 0.3, (2e-3, 0): 0.5, (4e-3, 0): 0.6,
        (1e-3, 1): 0.3, (2e-3, 1): 1.0,
    }  # fmt: skip
    there = {(1e-3, 0): 1.0, (2e-3, 0): 0.1, (4e-3, 0): 0.1}
    world = World(made_up, {"cls": 2e-3, "gap": 2e-3})
    failed = set()
    for run in world.plan(extend=0).runs:
        cell = run.config.train.learning_rate, run.config.seed
        if run.arm == "cls":
            world.run(run)
        elif cell in here:
            world.run(run, metrics={"test_top1": 0.5, "val_top1": here[cell]})
        else:
            failed.add(run.run_id)
            world.run(run, outcome="failed", metrics={})
        if run.arm == "gap" and cell in there:
            metrics = {"test_top1": 0.5, "val_top1": there[cell]}
            world.run(run, metrics=metrics, environment=ELSEWHERE)
    many = {"extend": 0, "seeds": 20, "failed": failed}
    for run in world.plan(**many).runs[12:]:  # many more runs than here, but of final seeds
        world.run(run, environment=ELSEWHERE)
    planned = {(run.arm, run.setting) for run in world.plan(**many).runs if run.config.seed >= 2}
    (table,) = (one for one in compare(world.records) if one.environment.machine != "elsewhere")
    chosen = {arm.name: arm.setting for arm in table.arms}
    assert chosen == {"cls": (2e-3,), "gap": (4e-3,)}
    assert planned == {("cls", chosen["cls"]), ("gap", chosen["gap"]), ("gap", chosen["cls"])}


def test_final_seeds_of_another_environment_alone_choose_nothing_there(made_up):
    world = World(made_up, {"cls": 2e-3, "gap": 4e-3}, after_the_choice={("gap", 2e-3): 1.0})
    for run in world.plan(extend=0).runs:
        world.run(run)
    for run in world.pending(world.plan(extend=0)):
        world.run(run, environment=ELSEWHERE)
    tables = {one.environment.machine: one for one in compare(world.records)}
    there = tables.pop("elsewhere")
    assert all(arm.setting is None and arm.outcomes[Outcome.COMPLETED] for arm in there.arms)
    (table,) = tables.values()
    assert {arm.name: arm.setting for arm in table.arms} == {"cls": (2e-3,), "gap": (4e-3,)}
    assert world.pending(world.plan(extend=0)) == []


def test_arms_that_no_environment_has_together_are_chosen_each_where_it_was_tuned(made_up):
    # As where one arm's width suits native operators and the other's does not.
    world = World(made_up, {"cls": 1e-3, "gap": 4e-3})
    for run in world.plan(extend=0).runs:
        world.run(run, environment={"kernels": "native"} if run.arm == "gap" else {})
    finals = {(run.arm, run.setting) for run in world.pending(world.plan(extend=0))}
    assert finals == {("cls", (1e-3,)), ("gap", (1e-3,)), ("gap", (4e-3,))}


def test_the_bound_prices_the_grid_with_all_of_its_steps(made_up):
    first = World(made_up, {}).plan(learning_rates=(1e-3,), tune={"depth": (2, 4)}, seeds=3, tuning_seeds=1, extend=1)
    # Depth may grow to 1 and 8. A block of width 32 and 64 hidden units on 17 tokens (cls), or 16:
    block = {t: t * 32 * 96 + 2 * t * t * 32 + t * 32 * 32 + 2 * t * 32 * 64 for t in (17, 16)}
    rest = 16 * 4 * 32 + 32 * 10  # 16 patches of 4 pixels; 10 classes
    of_depth_8 = {t: 6 * 256 * (8 * macs + rest) for t, macs in block.items()}
    # Two more depths on one seed; two final seeds, of the baseline at one setting and of the other arm at two.
    assert first.later.runs == (2 + 2) + (2 + 4)
    assert first.later.training_flops == 4 * of_depth_8[17] + 6 * of_depth_8[16]


def test_a_batch_does_not_grow_beyond_the_images(made_up):
    class Large(World):
        def run(self, run, **fields):
            top1 = run.config.train.batch_size / 1000
            super().run(run, metrics={"test_top1": 0.5, "val_top1": top1}, **fields)

    world = Large(made_up, {"cls": 1e-3, "gap": 1e-3})
    sizes, last = world.rounds(
        learning_rates=(1e-3,), tune={"batch_size": (64, 128)}, seeds=2, tuning_seeds=1, extend=3
    )
    # 2 arms × 2; then 256, of 256 images; 512 is not tried.
    assert sizes == [4, 2, 2] and last.runs[0].design.tuned == {"batch_size": (64, 128, 256)}


def test_where_time_is_matched_what_leaves_it_alone_can_be_tuned(made_up):
    made = World(made_up, {}).plan(match="time", tune={"weight_decay": (0.1, 0.3), "drop_path": (0.0, 0.1)})
    assert made.runs[0].design.tuned == {"weight_decay": (0.1, 0.3), "drop_path": (0.0, 0.1)}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"tune": {"wieght_decay": (0.1,)}},
            "tune 'wieght_decay': no configuration has such a field; did you mean weight_decay?",
        ),
        ({"tune": {"pool": (0.1,)}}, "tune 'pool': the arms of study 'two_pools' differ in it"),
        ({"tune": {"stem": (0.1,)}}, "tune 'stem': its values are no numbers"),
        ({"tune": {"qk_norm": (0, 1)}}, "tune 'qk_norm': its values are no numbers"),
        ({"tune": {"patch_size": (2, 4)}}, "tune 'patch_size': its values are no numbers"),
        ({"tune": {"learning_rate": (0.1,)}}, "--learning-rate"),
        ({"tune": {"epochs": (1, 2)}}, "--epochs"),
        ({"tune": {"validation_fraction": (0.1, 0.2)}}, "chosen on that split"),
        ({"tune": {"weight_decay": ()}}, "tune 'weight_decay' has no values"),
        ({"tune": {"weight_decay": (float("nan"),)}}, "tune 'weight_decay': nan is not a number"),
        ({"tune": {"weight_decay": (-1.0,)}}, "weight_decay -1"),
        ({"tune": {"drop_path": (1.5,)}}, "drop_path 1.5"),
        ({"tune": {"num_registers": (0.5,)}}, "num_registers 0.5"),
        ({"tuning_seeds": 6}, "tune_seeds 6 is not among the 1 to 5 seeds"),
        ({"match": "steps"}, "match 'steps' is not known; use epochs, flops, time"),
        ({"tune": {"batch_size": (64, 4096)}}, "batch_size 4096 is more than the 256 training images; make it smaller"),
        ({"match": "time", "tune": {"batch_size": (32, 64)}}, "tune 'batch_size' changes the time that an image takes"),
        # As many MACs, in other shapes: no count would tell.
        ({"match": "time", "tune": {"num_heads": (1, 2)}}, "tune 'num_heads' changes the time that an image takes"),
        ({"match": "flops", "tune": {"num_registers": (0, 4)}}, "tune 'num_registers' changes the FLOPs of an image"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused_in_a_line_with_field_value_and_remedy(made_up, asked, says):
    with pytest.raises(ValueError) as error:
        World(made_up, {}).plan(**asked)
    assert says in one_line(error.value)
