"""What does a forward pass, and a training step, of every named variant and of every value of every factor cost?"""

from __future__ import annotations

import pytest
import torch

from benchmarks.candidates import MODES, batch_for, candidate, fits_in_memory
from benchmarks.factors import factors
from vitbench.costs.macs import count
from vitbench.profiling.throughput import prepare
from vitbench.variants import variant, variant_names

MACS = {"small": 0.3e9, "full cpu": 20e9, "full cuda": 2000e9}
"""MACs of a batch, forward."""
MAX_PARAMS = 25e6
"""Of the variants timed without --full, whose images are also no more than `MAX_MACS` each."""
MAX_MACS = 1.5e9
FACTOR_BATCH = 16


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.function.__name__ != "test_variant":
        return
    full = metafunc.config.getoption("--full")
    on_cpu = metafunc.config.getoption("--device") == "cpu" or not torch.cuda.is_available()
    macs = MACS["small" if not full else "full cpu" if on_cpu else "full cuda"]
    cases = []
    for name in variant_names():
        config, cost = variant(name), count(variant(name))
        if full or (cost.params <= MAX_PARAMS and cost.macs <= MAX_MACS):
            batch_size = batch_for(config, macs=macs)
            cases.append(pytest.param(name, batch_size, id=f"{name} batch {batch_size}"))
    metafunc.parametrize(("name", "batch_size"), cases)


@pytest.mark.parametrize("mode", MODES)
def test_variant(timed, device, precision, name, batch_size, mode):
    config = variant(name)
    if device.torch_device.type == "cpu" and not fits_in_memory(config, batch_size=batch_size):
        pytest.skip(f"a training step of {name} needs more memory than this machine has")
    work = prepare(candidate(name, config, mode=mode, precision=precision, batch_size=batch_size), device)
    timed(work, group=f"variants, {mode}", label=f"{name} batch {batch_size}", items=batch_size, unit="images")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("factor", factors())
def test_factor(timed, device, precision, factor, mode):
    config = factors()[factor]
    work = prepare(candidate(factor, config, mode=mode, precision=precision, batch_size=FACTOR_BATCH), device)
    timed(work, group=f"factors, {mode}", label=factor, items=FACTOR_BATCH, unit="images")
