"""Do class token and global average pooling need different learning rates?

Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, appendix D.3 and Figure 9: pooling did much worse at first, and the
reason was neither it nor the lack of the extra token, but the learning rate. Simplified: AdamW, where the paper's Adam adds
its weight decay to the gradient.
"""

from vitbench.studies import Arm, Study

STUDY = Study(
    question="Do class token and global average pooling need different learning rates?",
    source="Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, appendix D.3, Figure 9",
    baseline=Arm("cls"),
    arms=[Arm("gap", pool="gap")],
    tuning="grid",
    train={"optimizer": "adamw"},
)
