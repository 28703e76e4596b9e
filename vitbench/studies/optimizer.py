"""Which optimizer, each with learning rates of its own?"""

from vitbench.studies import Arm, Study

# Rates are around the best of short trials on CIFAR-10. SGD and Lion have s times the learning rate and about 1/s of the
# weight decay, so that a step shrinks weights alike (Chen et al. 2023 for Lion). SGD's decay is part of the gradient, which
# momentum of 0.9 adds up ten times.
STUDY = Study(
    question="Which optimizer trains a small ViT best, once each has its own learning rates?",
    source="Jordan et al. 2024 (Muon), Chen et al. 2023 (Lion); Dosovitskiy et al. 2021, appendix D.1 for SGD against Adam",
    baseline=Arm("AdamW", optimizer="adamw"),
    arms=[
        Arm("Muon", optimizer="muon", learning_rate_scale=2.0),
        Arm("SGD with momentum", optimizer="sgd", momentum=0.9, weight_decay=5e-5, learning_rate_scale=100.0),
        Arm("Lion", optimizer="lion", weight_decay=0.15, learning_rate_scale=0.3),
    ],
    tuning="grid",
    train={"weight_decay": 0.05},
)
