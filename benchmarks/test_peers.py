"""How fast is ours beside timm, vit-pytorch, torchvision and transformers, each at its best setting, timed in turn?"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import product

import pytest

from benchmarks.candidates import MODES, candidate
from vitbench.profiling.candidates import OURS
from vitbench.profiling.peers import PEERS
from vitbench.profiling.throughput import Candidate, Result, measure
from vitbench.profiling.timing import ratio
from vitbench.variants import variant

# Whatever peers and torch's compiler warn of is theirs; a table of 20 compiled models takes its time.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(7200)]

SMALL = {"Micro/4 at 32 px, 2 blocks, batch 16": (variant("Micro/4", depth=2, num_classes=10), 16)}
LARGE = {
    "192 × 6 at 32 px, patch 4, batch 128": (variant("Small32/4", num_classes=10), 128),
    "S/16 at 224 px, batch 16": (variant("S/16"), 16),
}
SETTINGS = list(product(("fp32", "bf16"), (False, True)))
SECONDS = {False: 1.0, True: 20.0}
"""For each candidate at most, by `full`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("shape", [*SMALL, *(LARGE if metafunc.config.getoption("--full") else ())])


@pytest.mark.parametrize("mode", MODES)
def test_ours_beside_peers(benchmark, in_turn, device, full, shape, mode):
    config, batch_size = (SMALL | LARGE)[shape]
    installed = [peer for peer in PEERS if find_spec(peer.replace("-", "_"))]
    # Ten compilations a mode take minutes, and at the small shape win nothing.
    settings = [(precision, compiled) for precision, compiled in SETTINGS if full or not compiled]
    candidates = [
        candidate(
            shape,
            config,
            mode=mode,
            precision=precision,
            batch_size=batch_size,
            implementation=implementation,
            compiled=compiled,
        )
        for implementation, (precision, compiled) in product((OURS, *installed), settings)
    ]
    results: list[Result] = []

    def samples() -> dict[str, list[float]]:
        results[:] = measure(candidates, device=device, max_seconds=SECONDS[full])
        return {setting(result.candidate): list(result.timing.samples) for result in results if result.timing}

    in_turn(samples, group=f"peers, {mode}")
    print(f"\n{mode}, {shape}: {summary(results)}")
    reasons = {setting(result.candidate): result.reason for result in results if result.reason}
    benchmark.extra_info["reasons"] = reasons
    for name, reason in reasons.items():
        print(f"{name} could not be timed: {reason}")
    assert not any(name.startswith(OURS) for name in reasons), reasons


def setting(candidate: Candidate) -> str:
    return f"{candidate.implementation} {candidate.precision} {'compiled' if candidate.compiled else 'eager'}"


def summary(results: list[Result]) -> str:
    """Everyone's best setting, and how many times as fast as the best peer ours is, round by round."""
    best: dict[str, Result] = {}
    for result in results:
        name = result.candidate.implementation
        if result.timing and (name not in best or result.timing.median < best[name].timing.median):
            best[name] = result
    rates = [f"{setting(result.candidate)} {result.images_per_second:,.0f}" for result in best.values()]
    text = f"images/s {', '.join(rates)}"
    peers = [result for name, result in best.items() if name != OURS]
    if OURS not in best or not peers:
        return text
    fastest = min(peers, key=lambda result: result.timing.median)
    value, (low, high) = ratio(fastest.timing, best[OURS].timing)
    return f"{text}; ours is {value:.2f} × ({low:.2f} to {high:.2f}) the best peer, {fastest.candidate.implementation}"
