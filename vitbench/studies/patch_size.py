"""How large a patch?"""

from collections.abc import Sequence

from vitbench.config import ViTConfig, divisors, size_text
from vitbench.studies import Arm, Study


def arms(base: ViTConfig) -> Sequence[Arm]:
    """The next smaller and the two next larger patches that divide the image; at least 2 × 2 patches, at most 1,024."""
    height, width = base.image_hw
    base_patch = min(base.patch_hw)
    sizes = [p for p in divisors(min(height, width)) if max(height, width) % p == 0]
    sizes = [p for p in sizes if p <= min(height, width) // 2 and (height // p) * (width // p) <= 1024]
    smaller, larger = [p for p in sizes if p < base_patch][-1:], [p for p in sizes if p > base_patch][:2]
    return [Arm(f"{p} px", patch_size=p) for p in [*smaller, *larger]]


STUDY = Study(
    question="What does a smaller patch buy, and what does it cost?",
    source="Dosovitskiy et al. 2021, Table 5 and Figure 8",
    baseline=lambda base: Arm(f"{size_text(base.patch_size)} px", patch_size=base.patch_size),
    arms=arms,
)
