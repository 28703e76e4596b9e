"""Does a convolution between the blocks tell a ViT where its patches are?

Chu et al. 2021, Conditional Positional Encodings for Vision Transformers, sections 3.2 and 3.3: a depth-wise 3 × 3 convolution
with zero padding, after the first block, is added to the patches; the class token passes by. Simplified: one such layer,
where the paper's largest gain has several.
"""

import torch
from torch import nn

from vitbench.studies import Arm, Study


class ConditionalPosition(nn.Module):
    any_image_size = True  # a convolution means the same on any grid

    def __init__(self, config):
        super().__init__()
        self.grid, self.prefix = config.grid, config.num_prefix_tokens
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1, groups=config.width)

    def forward(self, tokens, block):
        if block != 1:
            return tokens
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        image = patches.transpose(1, 2).unflatten(2, self.grid)
        return torch.cat([prefix, patches + self.conv(image).flatten(2).transpose(1, 2)], dim=1)


STUDY = Study(
    question="Does a convolution between the blocks tell a ViT where its patches are?",
    source="Chu et al. 2021, Conditional Positional Encodings for Vision Transformers",
    baseline=Arm("1-D table", position="learned_1d"),
    arms=[Arm("none", position="none"), Arm("conditional", position=ConditionalPosition)],
)
