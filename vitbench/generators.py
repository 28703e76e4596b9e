"""How do other libraries' draws from the global generators become those of a seed, and leave no trace?"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, *, numpy_seed: Sequence[int] | None = None) -> Iterator[None]:
    """While entered, Python's, numpy's and torch's generators are at the seed; afterwards they are as they were.

    `numpy_seed`: 32-bit words for numpy, in place of the lowest of `seed`. Of torch's generators, that of the CPU: nothing
    here would bring CUDA's back.
    """
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32 if numpy_seed is None else numpy_seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
