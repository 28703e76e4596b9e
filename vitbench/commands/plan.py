"""`vitbench plan`: the runs that studies need, and what they will take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from vitbench.analysis.comparison.changes import difference_text
from vitbench.commands.arguments import DONE, FAILED, AsJson, Jobs, StudyOptions
from vitbench.commands.options import with_options
from vitbench.commands.terminal_table import print_table
from vitbench.costs import count
from vitbench.records.metrics import metric_named
from vitbench.studies.settings import value_text
from vitbench.text import agreeing, counted, duration

if TYPE_CHECKING:
    from vitbench.execution.forecast import Forecast
    from vitbench.execution.request import Request
    from vitbench.execution.standing import Standing
    from vitbench.studies import PlannedRun
    from vitbench.studies.looks import LookedAt
    from vitbench.studies.redefined import Redefined

MOST_FIELDS = 3
"""In which an arm's definition differs from what was recorded, that are named."""


@with_options
def plan(options: StudyOptions, jobs: Jobs = "auto", as_json: AsJson = False) -> None:
    """The runs that studies need, their FLOPs and estimated hours on this machine, and which are done."""
    request = options.request()
    from vitbench.execution.forecast import Forecast

    forecast = Forecast.of(request, jobs=jobs)
    if as_json:
        print(json.dumps(_facts(request, forecast)))
    else:
        _print_runs(forecast.standing)
        for line in (*request.left_out(), *_sentences(forecast)):
            print(line)
    raise typer.Exit(FAILED if request.faults else DONE)


def _facts(request: Request, forecast: Forecast) -> dict[str, Any]:
    standing, cost = forecast.standing, forecast.cost
    expected = standing.expected
    later = standing.later and {
        "runs_at_most": standing.later.runs,
        "training_flops_at_most": standing.later.training_flops,
        "hours_at_most": cost.hours_of(standing.later.training_flops),
        "runs_expected": expected and expected.runs,
        "hours_expected": expected and cost.hours_of(expected.training_flops),
    }
    return {
        "budget": request.budget.name,
        "metrics": {run.study: run.design.metric for _, run in standing.planned},
        "hours": cost.hours,
        "flops_per_second_per_worker": cost.flops_per_second,
        "rate_is_measured": cost.measured,
        "workers": cost.workers,
        "epochs_are_estimates": standing.epochs_are_estimates,
        "later": later,
        "looks": [_look_facts(*looked_at) for looked_at in standing.looked_at],
        "recorded_elsewhere": forecast.recorded_elsewhere.runs,
        "of_other_images": standing.of_other_images,
        "unknown_images": dict(standing.unknown_images),
        "redefined_arms": [_redefined_facts(arm) for arm in standing.redefined()],
        "runs_to_train": len(forecast.to_train),
        "runs": [_run_facts(run, is_done=run.key in standing.done) for _, run in standing.planned],
    }


def _run_facts(run: PlannedRun, *, is_done: bool) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "study": run.study,
        "arm": run.arm,
        "dataset": run.config.data.dataset,
        "seed": run.config.seed,
        "changes": run.design.changes.get(run.arm, {}),
        "learning_rate": run.config.train.learning_rate,
        "tuned": dict(zip(run.design.tuned, run.setting[1:], strict=True)),
        "epochs": run.config.train.epochs,
        "macs": count(run.config.model).macs,
        "training_flops": run.training_flops,
        "compile": run.config.train.compile,
        "eager_on_cpu_because": _eager_on_cpu(run),
        "done": is_done,
    }


def _look_facts(study: str, dataset: str, looked_at: LookedAt) -> dict[str, Any]:
    arms = {
        arm: {
            "verdict": looked_at.verdicts.get(arm),
            "seeds": seeds,
            "seeds_expected": looked_at.open.get(arm, seeds),
            "is_open": arm in looked_at.open,
        }
        for arm, seeds in looked_at.wanted.items()
    }
    return {"study": study, "dataset": dataset, "look": looked_at.look, "arms": arms}


def _redefined_facts(arm: Redefined) -> dict[str, Any]:
    fields = {name: {"recorded": before, "planned": now} for name, (before, now) in arm.fields.items()}
    return {"study": arm.study, "dataset": arm.dataset, "arm": arm.arm, "recorded_runs": arm.runs, "fields": fields}


def _redefined_sentence(arm: Redefined) -> str:
    """`mine: 6 recorded runs of arm 'CPE' on digits are of another definition of it (pool: cls before, gap now): not done`."""
    shown = [
        name if name == "pretraining" else f"{name}: {value_text(before)} before, {value_text(now)} now"
        for name, (before, now) in [*arm.fields.items()][:MOST_FIELDS]
    ]
    more = ["…"] * (len(arm.fields) > MOST_FIELDS)
    return (
        f"{arm.study}: {counted(arm.runs, 'recorded run')} of arm {arm.arm!r} on {arm.dataset} "
        f"{agreeing(arm.runs, 'is', 'are')} of another definition of it ({'; '.join([*shown, *more])}): "
        f"{agreeing(arm.runs, 'it does', 'they do')} not count as done"
    )


def _eager_on_cpu(run: PlannedRun) -> str:
    return run.eager_on_cpu_because() if run.config.train.compile == "auto" else ""


def _sentences(forecast: Forecast) -> Iterator[str]:
    standing, cost, again = forecast.standing, forecast.cost, forecast.again
    pending, num_to_train = standing.pending(), len(forecast.to_train)
    rate = "measured from records of this machine" if cost.measured else "assumed: no record of this machine yet"
    has_shared = len(pending) != num_to_train - again
    shared = f" ({num_to_train} to train, the others are runs of another study too)" if has_shared else ""
    yield (
        f"{len(pending)} of {counted(len(standing.planned), 'run')} to do{shared}, "
        f"{cost.training_flops / 1e12:.3g} TFLOP of training (6 × MACs an image): "
        f"about {duration(cost.hours * 3600)} with {counted(cost.workers, 'worker')} at "
        f"{cost.flops_per_second / 1e9:.3g} GFLOP/s each ({rate})"
    )
    if again:
        which = agreeing(again, "is recorded, but trains again for its", "are recorded, but train again for their")
        yield f"{again} of them {which} weights, from which others go on"
    if later := standing.later:
        yield (
            f"then at most {later.runs} more, {later.training_flops / 1e12:.3g} TFLOP: about "
            f"{duration(cost.hours_of(later.training_flops) * 3600)} at most; which, the results of these decide "
            "(docs/tuning.md)"
        )
    if later and (expected := standing.expected):
        yield (
            f"of these, {expected.runs} are expected, if seeds go on to show what they have shown: about "
            f"{duration(cost.hours_of(expected.training_flops) * 3600)}"
        )
    for study, dataset, looked_at in standing.looked_at:
        yield looked_at.sentence(study, dataset)
    if standing.epochs_are_estimates:
        yield "epochs are estimates by FLOPs: `vitbench run` measures how fast each arm trains, and plans by that"
    yield from map(_redefined_sentence, standing.redefined())
    for metric, studies in _judged_by(standing).items():
        yield f"{', '.join(studies)}: arms will be judged by {metric}; the other metrics are secondary"
    yield from standing.about_metrics()
    yield from standing.about_images()
    yield from forecast.recorded_elsewhere.lines
    for study, differing in forecast.rates_made_elsewhere:
        yield f"{study}: epochs are by rates {differing}; `vitbench run` asks for another --results"
    if asked := [run for _, run in pending if run.config.train.compile == "auto"]:
        too_short = sum(bool(_eager_on_cpu(run)) for run in asked)
        yield (
            f"compile auto: on CPU, eagerly where native operators compute (bf16: see `vitbench doctor`); elsewhere "
            f"{len(asked) - too_short} of {len(asked)} runs compiled, the others too short for it; on CUDA, all compiled"
        )


def _judged_by(standing: Standing) -> dict[str, list[str]]:
    """Studies by what their arms are judged by, where that is not top-1."""
    studies: dict[str, list[str]] = {}
    for study, name in {run.study: run.design.metric for _, run in standing.planned}.items():
        if not (metric := metric_named(name)).is_top1:
            studies.setdefault(metric.words, []).append(study)
    return studies


def _print_runs(standing: Standing) -> None:
    runs = [run for _, run in standing.planned]
    settings = "settings" if any(run.design.tuned for run in runs) else "rates"
    with_epochs = any(run.design.epochs_differ for run in runs)
    with_changes = any(run.design.base or run.design.learning_rate_scales for run in runs)
    groups: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.study, run.config.data.dataset, run.arm), []).append(run)
    rows = []
    for (study, dataset, arm), group in groups.items():
        counts = count(group[0].config.model)
        rows.append(
            {
                "study": study,
                "data": dataset,
                "arm": arm,
                "variant": group[0].variant,
                **({"differs in": difference_text(group[0].design, arm)} if with_changes else {}),
                "params": f"{counts.params:,}",
                "MMACs": f"{counts.macs / 1e6:.3g}",
                **({"epochs": f"{group[0].config.train.epochs:g}"} if with_epochs else {}),
                f"{settings} × seeds": _trials(group),
                "done": f"{sum(run.key in standing.done for run in group)}/{len(group)}",
                "TFLOP": f"{sum(run.training_flops for run in group) / 1e12:.3g}",
            }
        )
    print_table(rows, texts=("study", "data", "arm", "variant", "differs in"))


def _trials(runs: Sequence[PlannedRun]) -> str:
    """`4 × 2`: so many settings on so many seeds; `4 × 2 + 6`: and so many runs at chosen settings on other seeds."""
    tuning_seeds = runs[0].design.tuning_seeds
    final = [run.config.seed for run in runs if tuning_seeds is not None and run.config.seed >= tuning_seeds]
    seeds = {run.config.seed for run in runs}.difference(final)
    return f"{len({run.setting for run in runs})} × {len(seeds)}" + (f" + {len(final)}" if final else "")
