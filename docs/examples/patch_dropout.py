"""Does a ViT learn as well from half of the patches?

Liu et al. 2022, PatchDropout, section 3: in training, some of each image's patches are kept, after positions were added.
Simplified: the others are hidden from attention instead of left out. The class token gets the same, but nothing is saved.
"""

import torch
from torch import nn

from vitbench.models.positions import Learned1D
from vitbench.studies import Arm, Study


class PatchDropout(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.tables = nn.ModuleList([Learned1D(config)])  # named as the built-in table, so that both start equal
        self.prefix = config.num_prefix_tokens

    def forward(self, tokens, block):
        if block > 0:
            return tokens
        patches = tokens[:, self.prefix :, 0]
        order = torch.rand_like(patches).argsort(dim=1) if self.training else torch.full_like(patches, torch.inf)
        hidden = nn.functional.pad(order < order.shape[1] / 2, (self.prefix, 0))
        self.bias = torch.where(hidden, -torch.inf, 0.0)[:, None, None]
        return tokens + self.tables[0]()

    def attention_bias(self, _q, _block):
        return self.bias


STUDY = Study(
    question="Does a ViT learn as well from half of the patches?",
    source="Liu et al. 2022, PatchDropout: Economizing Vision Transformers Using Patch Dropout",
    baseline=Arm("all", position="learned_1d", pool="cls"),
    arms=[Arm("half", position=PatchDropout, pool="cls")],
)
