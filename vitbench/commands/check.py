"""`vitbench check`: what is wrong with the arms of a study, told before a night is spent on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitbench.analysis.comparison.changes import difference_text
from vitbench.commands.arguments import DONE, FAILED, AsJson, DeviceOptions, StudyOptions
from vitbench.commands.options import with_options
from vitbench.commands.terminal_table import print_table
from vitbench.text import agreeing, counted

if TYPE_CHECKING:
    from vitbench.execution.check_study import CheckedStudy
    from vitbench.inspection.checked_arm import CheckedArm, Problem
    from vitbench.records import Design

TEXTS = ("arm", "differs in", "seen in", "position", "found")
NOTES = """\
MMACs: of one image, forward; + where operators have no count. Step: peak memory of one training step at the arm's batch; ≈
where it is extended from smaller batches. Shared: tensors that start with the baseline's values, of all of the arm. Seen in:
what each difference from the baseline changes first. Position: whether logits change when an image's patches are shuffled;
of a model other than a ViT, its quarters."""


@with_options
def check(
    options: StudyOptions,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of weights, batches and augmentation.")] = 0,
    device: DeviceOptions = DeviceOptions(),
    as_json: AsJson = False,
) -> None:
    """Build every arm of a study and tell, without training, what differs, what is shared, what is dead or broken."""
    if len(options.studies or []) != 1 or options.studies == ["all"]:
        raise ValueError("check takes one study; give its name, or the path of a study file")
    request = options.request()
    from vitbench.execution.check_study import check_studies

    opened = device.open_device()
    checked = []
    for study in check_studies(request, device=opened, seed=seed):
        checked.append(study)
        if not as_json:
            _print(study)
    if as_json:
        print(json.dumps(_facts(checked)))
    raise typer.Exit(FAILED if any(a.errors for study in checked for a in study.arms) else DONE)


def _facts(checked: list[CheckedStudy]) -> dict[str, Any]:
    resolved = checked[0].resolved
    return {
        "study": resolved.study.name,
        "budget": resolved.budget,
        "arms": [{"variant": study.resolved.variant, **arm.as_json()} for study in checked for arm in study.arms],
    }


def _print(study: CheckedStudy) -> None:
    resolved = study.resolved
    print(f"{resolved.study.name} on {study.dataset}, {resolved.variant}; baseline {resolved.baseline}")
    print_table([_row(arm, resolved.design) for arm in study.arms], texts=TEXTS)
    for arm in study.arms:
        for kind, problems in (("error", arm.errors), ("warning", arm.warnings)):
            for problem in problems:
                print(_line(arm, kind, problem))
        if arm.gradient_later:
            print(f"{arm.arm}: note: {_start_masked(arm)}")
        if arm.training_differs_by:
            print(f"{arm.arm}: note: {_training_differs(arm)}")
        if arm.other_masks_from:
            print(f"{arm.arm}: note: {_other_masks(arm)}")
    print(NOTES)


def _row(arm: CheckedArm, design: Design) -> dict[str, str]:
    start = arm.start
    own = 0 if start is None else sum(map(len, (start.equal, start.other_values, start.only_here)))
    position = {True: "yes", False: "no", None: ""}[arm.position_matters]
    peak = arm.peak_memory_bytes
    about = "≈ " if arm.peak_memory_is_estimated else ""
    return {
        "arm": arm.arm,
        "differs in": difference_text(design, arm.arm),
        "params": "" if arm.params is None else f"{arm.params:,}",
        "MMACs": "" if arm.macs is None else f"{arm.macs / 1e6:.3g}" + ("+" if arm.macs_incomplete else ""),
        "step": "" if peak is None else f"{about}{_size(peak)}",
        "shared": "" if start is None else f"{len(start.equal)}/{own}",
        "seen in": ", ".join(dict.fromkeys(effect or "nothing" for effect in arm.effects.values())),
        "position": position,
        "found": _found(arm),
    }


def _size(amount: int) -> str:
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB")):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{amount / 2**10:.3g} KiB"


def _found(arm: CheckedArm) -> str:
    counts = [(len(arm.errors), "error"), (len(arm.warnings), "warning")]
    return ", ".join(counted(number, kind) for number, kind in counts if number) or "ok"


def _line(arm: CheckedArm, kind: str, problem: Problem) -> str:
    return f"{arm.arm}: {kind}: {problem.check}: {problem.text}"


def _start_masked(arm: CheckedArm) -> str:
    first, number = arm.gradient_later[0], len(arm.gradient_later)
    return (
        f"{counted(number, 'parameter tensor')} (as {first}) {agreeing(number, 'gets', 'get')} a gradient from the second "
        "step on, not in the first"
    )


def _training_differs(arm: CheckedArm) -> str:
    first, number = arm.training_differs_by[0], len(arm.training_differs_by)
    norms = "; BatchNorm makes an image's logits depend on its batch" if arm.batch_norms else ""
    return f"training differs from evaluation by {counted(number, 'module')} (as {first}){norms}"


def _other_masks(arm: CheckedArm) -> str:
    return (
        f"it draws at other places than the baseline, so that from {arm.other_masks_from} on, dropout and drop path do not "
        "leave out what they do there: between two runs of one seed, that differs too"
    )
