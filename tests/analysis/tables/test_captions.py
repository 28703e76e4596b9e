"""Do the lines around a table say what its numbers share, and only what was so?"""

from __future__ import annotations

import pytest

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.pages import write_tables
from vitbench.analysis.tables import captions
from vitbench.config import TrainConfig
from vitbench.records import Design


def test_the_header_says_what_the_numbers_share(store_with):
    design = Design(
        question="Does it?", source="A paper, Table 8", baseline="cls", arms=("cls",), learning_rates=(1e-3,)
    )
    text = write_tables(store_with(make_record(design=design)))[0].read_text(encoding="utf-8")
    for expected in (
        "**Question:** Does it?",
        "**Source:** A paper, Table 8",
        "**Budget:** quick, 20 epochs",
        "**Recipe:** adamw, batches of 128, weight decay 0.05, cosine schedule, 10 % warm-up, gradients clipped at 1",
        "machine 0123abcd, fp32, eager, torch 2.14.0, 2 threads",
        "**Harness version:** 1",
        "8 × 8 × 1 pixels, 10 classes",
        "1 MAC = 2 FLOPs",
        "tensors alive at once",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("rates", "present", "absent"),
    [
        (
            {"cls": [1e-3], "gap": [1e-3]},
            "at one fixed learning rate, 0.001, for every arm, without tuning.",
            "validation",
        ),
        ({"cls": [1e-3], "gap": [1e-2]}, "one fixed learning rate per arm, not the same for all", "validation"),
        ({"cls": [1e-3, 1e-2], "gap": [1e-3, 1e-2]}, "best mean validation accuracy", "fixed"),
        ({"cls": [1e-3, 1e-2], "gap": [1e-3]}, "; that of gap was fixed, without tuning.", "of cls was"),
    ],
)
def test_only_what_was_chosen_is_said_to_be_chosen(rates, present, absent):
    (comparison,) = compare([make_record(arm, learning_rate=rate) for arm, tried in rates.items() for rate in tried])
    sentence = captions.conventions(assess(comparison))[0]
    assert present in sentence and absent not in sentence


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("optimizer", "muon", "muon"),
        ("betas", (0.9, 0.98), "β 0.9 and 0.98"),
        ("eps", 1e-6, "ε 1e-6"),
        ("batch_size", 64, "batches of 64"),
        ("weight_decay", 0.3, "weight decay 0.3"),
        ("warmup_fraction", 0.2, "20 % warm-up"),
        ("schedule", "linear", "linear schedule"),
        ("min_learning_rate", 1e-5, "down to 1e-5"),
        ("clip_norm", 2.0, "clipped at 2"),
        ("loss", "binary_cross_entropy", "binary cross entropy"),
        ("label_smoothing", 0.1, "label smoothing 0.1"),
        ("ema_decay", 0.99, "averaged (decay 0.99)"),
        ("layer_decay", 0.75, "layer decay 0.75"),
        ("trainable", "attention", "attention and head trained alone"),
    ],
)
def test_every_field_of_the_recipe_is_in_its_line(field, value, says):
    init = "timm:vit_tiny_patch16_224@00000000"  # without weights to go on from, not all may be trained in part
    (plain,), (other,) = compare([make_record(init=init)]), compare([make_record(init=init, train={field: value})])
    assert says in captions.facts(other)["Recipe"] and says not in captions.facts(plain)["Recipe"]


def test_no_field_of_the_recipe_is_forgotten():
    said = {"optimizer", "batch_size", "weight_decay", "warmup_fraction", "schedule", "clip_norm", "label_smoothing"}
    said |= {"betas", "momentum", "eps", "min_learning_rate", "loss", "ema_decay", "layer_decay", "trainable"}
    elsewhere = {
        "epochs",
        "learning_rate",
        "precision",
        "compile",
    }  # the budget's line, a column, the environment's line
    assert said | elsewhere == set(TrainConfig.model_fields)


@pytest.mark.parametrize(("padding", "says"), [(4, "none that all arms share"), (0, "none")])
def test_augmentation_that_some_arms_change_is_not_said_to_be_none(padding, says):
    design = Design(
        question="?",
        source="?",
        baseline="cls",
        arms=("cls", "other crop"),
        learning_rates=(1e-3,),
        changes={"other crop": {"crop_padding": 2}},
        base={"crop_padding": padding},
    )
    arms = {"cls": padding, "other crop": 2}
    (comparison,) = compare([make_record(arm, data={"crop_padding": n}, design=design) for arm, n in arms.items()])
    facts = captions.facts(comparison)
    assert (
        facts["Data"].endswith(f"augmentation: {says}") and f"crop_padding (else {padding})" in facts["Changed by arms"]
    )


@pytest.mark.parametrize(
    ("threads", "words"), [((1,), "torch 2.14.0, 1 thread\n"), ((1, 2), "torch 2.14.0, 1, 2 threads\n")]
)
def test_one_thread_is_not_called_threads(store_with, threads, words):
    records = [make_record(seed=seed, environment={"threads": number}) for seed, number in enumerate(threads)]
    assert words in write_tables(store_with(*records))[0].read_text(encoding="utf-8")
