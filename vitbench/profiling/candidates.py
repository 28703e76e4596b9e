"""Which module, ours or a peer's, is timed or traced for a configuration?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from vitbench.config import ModelConfig, TimmConfig, ViTConfig, block_width, user_names
from vitbench.costs.macs import count
from vitbench.kernels import install
from vitbench.models import build_model
from vitbench.profiling.peers import build_peer, check_peer
from vitbench.profiling.throughput import Candidate
from vitbench.user_code import Carried, carried

OURS = "vitbench"
"""The implementation that is no peer's."""


def candidate_of(
    config: ModelConfig,
    name: str,
    *,
    implementation: str = OURS,
    mode: str,
    precision: str,
    compiled: bool,
    batch_size: int | str,
) -> Candidate:
    """What to measure of a model that is called `name`. `batch_size`: images, or how to search for it.

    Raises ValueError for a model that the peer named in `implementation` does not have.
    """
    if implementation != OURS:
        if not isinstance(config, ViTConfig):
            whose = "timm's own" if isinstance(config, TimmConfig) else "a user's own"
            raise ValueError(f"peer {implementation!r} has no {name}, which is {whose}; leave it out")
        check_peer(implementation, config)
    return Candidate(
        variant=name,
        implementation=implementation,
        build=partial(build, implementation, config, carried(user_names(config))),
        image_shape=(config.in_channels, *config.image_hw),
        num_classes=config.num_classes,
        macs=count(config).macs,
        mode=mode,
        precision=precision,
        compiled=compiled,
        batch_size=1 if isinstance(batch_size, str) else batch_size,
        search=batch_size if isinstance(batch_size, str) else "",
        width=block_width(config),
    )


def is_compiled(compile: str, device: torch.device) -> bool:
    """Whether a step at this value of `TrainConfig.compile` is compiled. `auto`: on all devices but CPU, where it depends on
    the length of a run.
    """
    return compile == "on" or (compile == "auto" and device.type != "cpu")


def build(implementation: str, config: ModelConfig, code: Iterable[Carried] = ()) -> nn.Module:
    """A model of ours, from seed 0 and with native blocks where they can be, or a peer's of the same configuration.

    `code`: the user's that it needs, for a process that has not loaded it.
    """
    for part in code:
        part.load()
    if implementation == OURS:
        return install(build_model(config))
    assert isinstance(config, ViTConfig), implementation
    return build_peer(implementation, config)
