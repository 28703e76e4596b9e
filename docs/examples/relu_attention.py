"""Does attention need softmax?

Wortsman et al. 2023, Replacing softmax with ReLU in Vision Transformers, section 3: a weight is the ReLU of its logit, divided
by the number of tokens. Simplified: weights do not drop out. Norms of queries and keys are arms of their own.
"""

from vitbench.models import Attention
from vitbench.studies import Arm, Study


class ReLUAttention(Attention):
    def mix(self, q, k, v, bias):
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        logits = logits if bias is None else logits + bias
        return (logits.relu() / k.shape[-2]) @ v


STUDY = Study(
    question="Does attention need softmax?",
    source="Wortsman et al. 2023, Replacing softmax with ReLU in Vision Transformers",
    baseline=Arm("softmax"),
    arms=[
        Arm("ReLU", attention=ReLUAttention),
        Arm("softmax, qk norm", qk_norm=True),
        Arm("ReLU, qk norm", attention=ReLUAttention, qk_norm=True),
    ],
)
