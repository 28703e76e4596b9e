"""What is each part of the standard recipe worth?"""

from vitbench.studies import Arm, Study

STUDY = Study(
    question="What is each part of the standard recipe worth, taken away or added by itself?",
    source="Touvron et al. 2021 (DeiT), Table 8; Steiner et al. 2022 for how little of it small data may need",
    baseline=Arm("recipe"),
    arms=[
        Arm("no label smoothing", label_smoothing=0.0),
        Arm("no warm-up", warmup_fraction=0.0),
        Arm("no clipping", clip_norm=None),
        Arm("no weight decay", weight_decay=0.0),
        Arm("mixup", mixup=0.2),
        Arm("cutmix", cutmix=1.0),
        # Without colour jitter, where a published recipe has it: timm takes one or the other.
        Arm("RandAugment", auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.0),
        Arm("random erasing", random_erasing=0.25),
        # It reaches back over 100 steps: an epoch or so of the budgets, whose runs are short.
        Arm("averaged weights", ema_decay=0.99),
        Arm("drop path", drop_path=0.1),
    ],
    train={"label_smoothing": 0.1, "warmup_fraction": 0.1, "clip_norm": 1.0, "weight_decay": 0.05},
)
