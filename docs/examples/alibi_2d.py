"""Is it enough that patches far apart attend to each other less?

Press et al. 2022, Train Short, Test Long (ALiBi), section 3: head h of H has a fixed slope 2^(-8 h / H), and logits fall by
slope times distance. In two dimensions that is the patches' Euclidean distance, as in Fuller et al. 2023, CROMA. Simplified:
slopes follow that formula also where H is no power of two. The class token is at distance 0 from all.
"""

import torch
from torch import nn

from vitbench.studies import Arm, Study


class ALiBi2D(nn.Module):
    any_image_size = True  # nothing is learned

    def __init__(self, config):
        super().__init__()
        rows, columns = config.grid
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
        distance = nn.functional.pad(torch.cdist(places, places), (config.num_prefix_tokens, 0) * 2)
        slopes = 2.0 ** (-8 * torch.arange(1, config.num_heads + 1) / config.num_heads)
        self.register_buffer("bias", (-slopes[:, None, None] * distance).float(), persistent=False)

    def attention_bias(self, _q, _block):
        return self.bias


STUDY = Study(
    question="Is it enough that patches far apart attend to each other less?",
    source="Press et al. 2022, Train Short, Test Long; Fuller et al. 2023, CROMA",
    baseline=Arm("1-D table", position="learned_1d"),
    arms=[Arm("none", position="none"), Arm("ALiBi", position=ALiBi2D)],
)
