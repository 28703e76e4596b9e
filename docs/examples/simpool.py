"""Is the mean of the patches a better query than a learned token?

Psomas et al. 2023, Keep It SimPool, equations 12 to 17: the mean of the patches is the query of one attention over them.
Values are the patches less their smallest value, and their weighted mean is one of powers. Simplified: the smallest value is
each image's. In their code it is the batch's, so that images depend on each other. As there, 1e-6 keeps roots finite.
"""

from torch import nn

from vitbench.studies import Arm, Study

GAMMA = 1.25  # their power for transformers


class SimPool(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.prefix = config.num_prefix_tokens
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)

    def forward(self, tokens):
        patches = tokens[:, self.prefix :]
        values = self.norm(patches)
        query, keys = self.query(patches.mean(dim=1, keepdim=True)), self.key(values)
        weights = (query @ keys.transpose(1, 2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        positive = values - values.amin(dim=(1, 2), keepdim=True) + 1e-6
        return (weights @ positive**GAMMA).squeeze(1) ** (1 / GAMMA)


STUDY = Study(
    question="Is the mean of the patches a better query than a learned token?",
    source="Psomas et al. 2023, Keep It SimPool, equations 12 to 17",
    baseline=Arm("class token", pool="cls"),
    arms=[Arm("average", pool="gap"), Arm("learned query", pool="map"), Arm("SimPool", pool=SimPool)],
)
