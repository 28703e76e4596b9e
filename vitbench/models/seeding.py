"""From which seed is a parameter, or a part, drawn?"""

from __future__ import annotations

import hashlib


def key(seed: int, name: str) -> int:
    """A 63-bit integer from seed and name, alike on every platform."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") >> 1
