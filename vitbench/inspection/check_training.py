"""Can an arm be trained? Finite in fp32 and bf16, with a gradient for every parameter; and in how much memory."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vitbench.config import RunConfig
from vitbench.inspection.check_bench import MOVED, Bench
from vitbench.inspection.check_trace import Trace
from vitbench.inspection.checked_arm import NAMED, CheckedArm, named
from vitbench.inspection.lost_numbers import code_that_loses_numbers
from vitbench.kernels import install
from vitbench.training.loop import seed_dropout, step_seed, training_step
from vitbench.training.losses import LOSSES

PRECISIONS = ("fp32", "bf16")


def check_finite(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """Forward and backward on the first batch, as it is augmented, at both precisions."""
    images, targets = bench.batches(config, 1)[0]
    if not images.isfinite().all():
        arm.error("finite", "the first training batch has values that are not finite; look at data and augmentation")
        return
    for precision in PRECISIONS:
        with arm.guarded(f"finite in {precision}"):
            model = install(bench.model(config)).train()
            if broken := _not_finite(model, config, images, targets, bench, precision):
                arm.finite[precision] = False
                _tell_not_finite(arm, config, bench, precision, broken)
            else:
                arm.finite[precision] = True


def _not_finite(
    model: nn.Module, config: RunConfig, images: Tensor, targets: Tensor, bench: Bench, precision: str
) -> str:
    """`logits`, `the loss` or the gradients of which parameters are not finite; empty where all are."""
    seed_dropout(step_seed(config.seed, 0), images.device)
    with bench.device.autocast(precision):
        logits = model(images)
    loss = LOSSES[config.train.loss](logits.float(), targets, label_smoothing=config.train.label_smoothing)
    if not logits.isfinite().all() or not loss.isfinite():
        what = "the loss is" if logits.isfinite().all() else "logits are"
        return f"{what} not finite{_from(model, images, bench, precision)}"
    loss.backward()
    odd = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    if odd:
        return f"gradients of {named(odd)} are not finite"
    return _not_finite_in_evaluation(model, bench.evaluated(config), bench, precision)


def _not_finite_in_evaluation(model: nn.Module, images: Tensor, bench: Bench, precision: str) -> str:
    with torch.no_grad(), bench.device.autocast(precision):
        logits: Tensor = model.eval()(images)
    if logits.isfinite().all():
        return ""
    return f"logits in evaluation are not finite{_from(model, images, bench, precision)}"


def _from(model: nn.Module, images: Tensor, bench: Bench, precision: str) -> str:
    code = code_that_loses_numbers(model, images, autocast=lambda: bench.device.autocast(precision))
    return f", from {code} on" if code else ""


def check_finite_moved(arm: CheckedArm, config: RunConfig, bench: Bench) -> bool:
    """Whether logits are finite at moved weights, as training may have them: what these show can be checked only there."""
    broken: str | None = None
    with arm.guarded("finite"):
        broken = _not_finite_in_evaluation(bench.model(config, moved=True), bench.evaluated(config), bench, "fp32")
        if broken:
            arm.warn(
                "finite",
                f"once noise of {MOVED} has moved all weights, {broken}; can training bring them there? What moved weights "
                "show was not checked: training mode, input, batch size, position, checkpoint",
            )
    return broken == ""


def _tell_not_finite(arm: CheckedArm, config: RunConfig, bench: Bench, precision: str, broken: str) -> None:
    line = f"in {precision}, {broken}"
    if precision == bench.precision(config) or config.train.precision == "auto":
        arm.error("finite", f"{line}; compute it in float32, or keep it away from 0 and large values")
    else:
        arm.warn("finite", f"{line}; this arm trains in {bench.precision(config)}")


def check_gradients(arm: CheckedArm, trace: Trace) -> None:
    """Every parameter that is trained gets a gradient, in the first steps of training at the latest."""
    with arm.guarded("gradient"):
        steps = trace.first_steps
        if not steps.with_gradient:  # evaluated as it is
            return
        reached = set().union(*steps.with_gradient)
        arm.gradient_later = tuple(n for n in steps.weights if n in reached and n not in steps.with_gradient[0])
        arm.no_gradient = tuple(n for n in steps.weights if n in steps.trained - reached)
        if arm.no_gradient:
            tell = arm.error if trace.config.user_code else arm.warn  # ours may be a baseline's, and known
            tell(
                "gradient",
                f"no gradient for {named(arm.no_gradient)} in {len(steps.losses)} steps: the logits do not depend on it; "
                "use it, or leave it out",
            )
        for name, used in steps.rows.items():
            if name in reached and not used.all():
                rows = [i for i, is_used in enumerate(used.tolist()) if not is_used]
                shown = ", ".join(map(str, rows[:NAMED])) + (", …" if len(rows) > NAMED else "")
                arm.warn(
                    "gradient", f"{name}: {len(rows)} of {len(used)} rows get no gradient ({shown}); are they used?"
                )


def check_memory(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """Peak bytes of one training step, as records have it; where whole batches cost too much here, extended from two sizes."""
    with arm.guarded("memory"):
        images, targets = bench.batches(config, 1)[0]
        peak = _peak(config, bench, images, targets)
        whole, tried = config.train.batch_size, len(images)
        if peak is not None and tried < whole:
            # Of few images, the optimizer's step may take more than they do: then the peak itself hardly grows with them.
            of_images = _peak(config, bench, images, targets, keep_gradients=False) or 0
            of_half = _peak(config, bench, images[: tried // 2], targets[: tried // 2], keep_gradients=False) or 0
            per_image = (of_images - of_half) / (tried - tried // 2)
            peak = max(peak, round(of_images + per_image * (whole - tried)))
            arm.peak_memory_is_estimated = True
        arm.peak_memory_bytes = peak


def _peak(
    config: RunConfig, bench: Bench, images: Tensor, targets: Tensor, *, keep_gradients: bool = True
) -> int | None:
    """Of the second step, the first in which the optimizer has its state; without gradients, of what images take alone."""
    device = bench.device
    device.start_memory()
    model, optimizer, named_parameters = bench.trained(config)
    parameters = [*named_parameters.values()]
    for context in (nullcontext(), device.watch_memory()):
        if not keep_gradients:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(_drop_gradient)
        with context:
            training_step(model, optimizer, images, targets, parameters, config.train, lambda: bench.autocast(config))
    return device.peak_memory_bytes()


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None
