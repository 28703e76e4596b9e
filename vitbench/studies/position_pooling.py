"""Do position embedding and pooling act by themselves, or does the best of one depend on the other?"""

from typing import Any

from vitbench.studies import Arm, Study

POSITIONS: dict[str, dict[str, Any]] = {
    "1-D": {"position": "learned_1d"},
    "none": {"position": "none"},
    "1-D, every layer": {"position": "learned_1d", "position_site": "every_layer"},
    "RoPE": {"position": "rope_2d", "position_site": "every_layer"},
}
POOLS = ("cls", "gap")

ARMS = [Arm(f"{position}, {pool}", pool=pool, **changes) for position, changes in POSITIONS.items() for pool in POOLS]

STUDY = Study(
    question="Does what a position embedding is worth depend on how tokens are pooled?",
    source="arXiv 2502.02919, which finds position embeddings at every layer in conflict with average pooling",
    baseline=ARMS[0],
    arms=ARMS[1:],
    factors={f"{position}, {pool}": {"position": position, "pool": pool} for position in POSITIONS for pool in POOLS},
)
