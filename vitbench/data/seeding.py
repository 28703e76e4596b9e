"""Which random numbers does a purpose get? A stream keyed by its name and integers, independent of all others.

So a draw depends on (purpose, seed, step) alone, never on what was drawn before it.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager

import numpy as np


def seed_words(purpose: str, *key: int) -> list[int]:
    """32-bit words that seed one stream; each integer of the key keeps its low 64 bits."""
    tag = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return [tag, *(word for part in key for word in (part & 0xFFFFFFFF, (part >> 32) & 0xFFFFFFFF))]


def random_state(purpose: str, *key: int) -> np.random.RandomState:
    """The stream of (purpose, key).

    RandomState, not Generator: only its stream is promised never to change between numpy versions (NEP 19), and
    splits, batches and generated images must stay what they are.
    """
    return np.random.RandomState(seed_words(purpose, *key))


def draws(purpose: str, *key: int) -> AbstractContextManager[None]:
    """Within, the global generators draw the stream of (purpose, key): timm's and torchvision's transforms draw from them."""
    from vitbench.generators import seeded  # torch, which splits and generated images do not need

    words = seed_words(purpose, *key)
    number = int.from_bytes(hashlib.sha256(np.array(words, dtype="<u4").tobytes()).digest()[:8], "little")
    return seeded(number, numpy_seed=words)
