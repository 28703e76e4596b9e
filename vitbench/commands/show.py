"""Facts that need no computing: what there is, and what a plan will cost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from vitbench.commands import rates
from vitbench.commands.display import duration
from vitbench.commands.request import Request, Standing, resolve_jobs
from vitbench.costs import count
from vitbench.data import BUILT_IN
from vitbench.execution.current_environment import Here
from vitbench.execution.pretraining import Pretrained
from vitbench.execution.reuse import by_run_id, recorded_here
from vitbench.machine import cpu_cores, cpu_name
from vitbench.studies import BUDGETS, STUDIES, PlannedRun, load_study
from vitbench.studies.estimate import Estimate, estimate
from vitbench.text import counted
from vitbench.variants import variant as named_variant
from vitbench.variants import variant_names


def show_plan(request: Request, *, jobs: str, as_json: bool) -> None:
    """Prints the plan."""
    content = request.content()
    standing = Standing.of(request, content=content)
    pending = [run for _, run in standing.pending()]
    elsewhere = standing.recorded_elsewhere(Here())
    places = by_run_id(standing.pending())
    store = request.store
    taken_over = recorded_here(store, places, Here(), of_these_images=content.agrees)
    to_train = [wanted[0][1] for run_id, wanted in places.items() if run_id not in taken_over]
    again = Pretrained.of(request.results, standing.records, Here()).wave(standing.pending(), standing.planned).again
    to_train += {run.run_id: run for _, run in standing.planned if run.run_id in again}.values()
    workers = resolve_jobs(jobs, device="cpu", pending=len(to_train))
    known = [record for study in store.studies() for record in store.read(study)]
    cost = estimate(to_train, known, cpu=cpu_name(), cpu_cores=cpu_cores(), workers=workers)
    if as_json:
        runs = [
            {
                "run_id": run.run_id,
                "study": run.study,
                "arm": run.arm,
                "dataset": run.config.data.dataset,
                "seed": run.config.seed,
                "learning_rate": run.config.train.learning_rate,
                "tuned": dict(zip(run.tuned_fields[1:], run.setting[1:], strict=True)),
                "epochs": run.config.train.epochs,
                "macs": count(run.config.model).macs,
                "training_flops": run.training_flops,
                "compile": run.config.train.compile,
                "eager_on_cpu_because": _eager_on_cpu(run),
                "done": (run.study, run.run_id) in standing.done,
            }
            for _, run in standing.planned
        ]
        facts = {
            "budget": request.budget,
            "hours": cost.hours,
            "flops_per_second_per_worker": cost.flops_per_second,
            "rate_is_measured": cost.measured,
            "workers": workers,
            "epochs_are_estimates": standing.epochs_are_estimates,
            "later": _later_facts(standing, cost),
            "recorded_elsewhere": elsewhere.runs,
            "of_other_images": standing.of_other_images,
            "unknown_images": dict(standing.unknown_images),
            "runs_to_train": len(to_train),
            "runs": runs,
        }
        print(json.dumps(facts))
        return
    _print_plan(standing)
    for line in request.left_out():
        print(line)
    rate = "measured from records of this machine" if cost.measured else "assumed: no record of this machine yet"
    without = len(pending) - (len(to_train) - len(again))
    shared = f" ({len(to_train)} to train, the others are runs of another study too)" if without else ""
    print(
        f"{len(pending)} of {counted(len(standing.planned), 'run')} to do{shared}, "
        f"{cost.training_flops / 1e12:.3g} TFLOP of training (6 × MACs an image): "
        f"about {duration(cost.hours * 3600)} with {workers} workers at "
        f"{cost.flops_per_second / 1e9:.3g} GFLOP/s each ({rate})"
    )
    if again:
        which = (
            "is recorded, but trains again for its" if len(again) == 1 else "are recorded, but train again for their"
        )
        print(f"{len(again)} of them {which} weights, from which others go on")
    if standing.later is not None:
        later = standing.later
        print(
            f"then at most {later.runs} more, {later.training_flops / 1e12:.3g} TFLOP: about "
            f"{duration(cost.hours_of(later.training_flops) * 3600)} at most; which, the results of these decide "
            "(docs/tuning.md)"
        )
    if standing.epochs_are_estimates:
        print("epochs are estimates by FLOPs: `vitbench run` measures how fast each arm trains, and plans by that")
    for line in standing.about_images():
        print(line)
    if elsewhere.runs:
        print(elsewhere)
    for whole in request.resolved_studies() if request.match == "time" else ():
        if differing := rates.made_elsewhere(request.results, whole):
            print(f"{whole.study.name}: epochs are by rates {differing}; `vitbench run` asks for another --results")
    asked = [run for run in pending if run.config.train.compile == "auto"]
    if asked:
        too_short = sum(bool(_eager_on_cpu(run)) for run in asked)
        print(
            f"compile auto: on CPU, eagerly where native operators compute (bf16: see `vitbench doctor`); elsewhere "
            f"{len(asked) - too_short} of {len(asked)} runs compiled, the others too short for it; on CUDA, all compiled"
        )


def _later_facts(standing: Standing, cost: Estimate) -> dict[str, Any] | None:
    """What the results of pending runs decide: an upper bound. None where everything is known."""
    if standing.later is None:
        return None
    flops = standing.later.training_flops
    return {
        "runs_at_most": standing.later.runs,
        "training_flops_at_most": flops,
        "hours_at_most": cost.hours_of(flops),
    }


def _eager_on_cpu(run: PlannedRun) -> str:
    return run.eager_on_cpu_because() if run.config.train.compile == "auto" else ""


def _print_plan(standing: Standing) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("study", "data", "arm", "variant"):
        table.add_column(heading)
    settings = "settings" if any(run.design.tuned for _, run in standing.planned) else "rates"
    epochs = ["epochs"] if any(run.design.match != "epochs" for _, run in standing.planned) else []
    for heading in ("params", "MMACs", *epochs, f"{settings} × seeds", "done", "TFLOP"):
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for _, run in standing.planned:
        groups.setdefault((run.study, run.config.data.dataset, run.arm), []).append(run)
    for (study, dataset, arm), runs in groups.items():
        counts = count(runs[0].config.model)
        done = sum((study, run.run_id) in standing.done for run in runs)
        table.add_row(
            study,
            dataset,
            arm,
            runs[0].variant,
            f"{counts.params:,}",
            f"{counts.macs / 1e6:.3g}",
            *([f"{runs[0].config.train.epochs:g}"] if epochs else []),
            _trials(runs),
            f"{done}/{len(runs)}",
            f"{sum(run.training_flops for run in runs) / 1e12:.3g}",
        )
    Console(width=None if os.isatty(1) else 160).print(table)


def _trials(runs: Sequence[PlannedRun]) -> str:
    """`4 × 2`: so many settings on so many seeds; `4 × 2 + 6`: and so many runs at chosen settings on other seeds."""
    tuning_seeds = runs[0].design.tuning_seeds
    final = [run for run in runs if tuning_seeds is not None and run.config.seed >= tuning_seeds]
    settings = {run.setting for run in runs}
    seeds = {run.config.seed for run in runs} - {run.config.seed for run in final}
    return f"{len(settings)} × {len(seeds)}" + (f" + {len(final)}" if final else "")


def list_everything(*, as_json: bool) -> None:
    """Prints variants, studies, data sets and budgets."""
    variants: list[dict[str, Any]] = []
    for name in variant_names():
        config = named_variant(name)
        counts = count(config)
        variants.append(
            {"name": name, "image_size": list(config.image_hw), "params": counts.params, "macs": counts.macs}
        )
    studies = [{"name": name, "question": (s := load_study(name)).question, "source": s.source} for name in STUDIES]
    datasets = [{"name": name, "summary": summary} for name, summary in BUILT_IN.items()]
    budgets = [{"name": b.name, "summary": b.summary, "seeds": b.seeds} for b in BUDGETS.values()]
    if as_json:
        print(json.dumps({"variants": variants, "studies": studies, "datasets": datasets, "budgets": budgets}))
        return
    print("Studies")
    for study in studies:
        print(f"  {study['name']:<16} {study['question']}\n  {'':<16} {study['source']}")
    print("\nData sets (any other name goes to timm.data.create_dataset, with --data-root; or a folder)")
    for data in datasets:
        print(f"  {data['name']:<18} {data['summary']}")
    print("\nBudgets")
    for budget in budgets:
        print(f"  {budget['name']:<12} {budget['summary']}")
    print("\nVariants (any size/patch; parameters and GMACs at 1,000 classes; 1 MAC = 2 FLOPs)")
    for row in variants:
        size = "×".join(map(str, row["image_size"]))
        print(f"  {row['name']:<12} {size:>8} px {row['params'] / 1e6:>9.2f} M {row['macs'] / 1e9:>9.3f} GMACs")
