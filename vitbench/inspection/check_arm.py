"""Is an arm fit for a night of training? All checks of one arm, in the order in which their failures explain each other."""

from __future__ import annotations

import time

from torch import nn

from vitbench.config import RunConfig
from vitbench.costs.macs import count, uncounted_operators
from vitbench.generators import seeded
from vitbench.inspection.check_bench import Bench
from vitbench.inspection.check_effects import Traces, check_effects
from vitbench.inspection.check_masks import check_masks
from vitbench.inspection.check_model import (
    check_batch_sizes,
    check_build,
    check_forward,
    check_input_is_read,
    check_position,
    check_state,
    check_training_mode,
    shared_start,
)
from vitbench.inspection.check_training import check_finite, check_finite_moved, check_gradients, check_memory
from vitbench.inspection.checked_arm import CheckedArm


def check_arm(arm: CheckedArm, config: RunConfig, traces: Traces, bench: Bench, baseline: nn.Module | None) -> None:
    """Fills in what is known of an arm. `baseline`: its model, as it is built; None where it cannot be. Raises nothing that a
    user's code raises; this process's generators end as they were.
    """
    started = time.perf_counter()
    with seeded(0):
        _check(arm, config, traces, bench, baseline)
    traces.forget()
    arm.seconds = time.perf_counter() - started


def _check(arm: CheckedArm, config: RunConfig, traces: Traces, bench: Bench, baseline: nn.Module | None) -> None:
    arm.batch_size = config.train.batch_size
    with arm.guarded("data"):
        arm.checked_images = bench.images_tried(config)
        arm.precision = bench.precision(config)
        bench.batches(config, 1)
    if arm.errors or (model := check_build(arm, config, bench)) is None:
        return
    arm.params = sum(parameter.numel() for parameter in model.parameters())
    if baseline is not None and not arm.is_baseline:
        arm.start = shared_start(model, baseline)
    if not check_forward(arm, config, bench) or not check_batch_sizes(arm, config, bench):
        return
    with arm.guarded("MACs"):
        arm.macs, arm.macs_incomplete = count(config.model).macs, uncounted_operators(config.model)
    if arm.macs_incomplete:
        arm.warn("MACs", f"they are incomplete: {', '.join(arm.macs_incomplete)} have no count")
    check_finite(arm, config, bench)
    if arm.finite.get("fp32") is False:  # NaN is equal to nothing, itself neither: all that compares would be wrong
        return
    if config.train.epochs > 0:
        check_gradients(arm, traces.of(config))
        check_memory(arm, config, bench)
        check_masks(arm, config, traces.baseline, bench)
    if check_finite_moved(arm, config, bench):
        _check_moved(arm, config, bench)
    if baseline is None and not arm.is_baseline:
        arm.warn("difference", "the baseline cannot be run, so that nothing is compared with it")
    elif not arm.is_baseline:
        check_effects(arm, config, traces)


def _check_moved(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """What weights show that have nothing special to them."""
    if config.train.epochs > 0:
        check_training_mode(arm, config, bench)
    check_input_is_read(arm, config, bench)
    check_position(arm, config, bench)
    check_state(arm, config, bench)
