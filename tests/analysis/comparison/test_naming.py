"""Are no two comparisons called alike, and is what differs in their titles?"""

from __future__ import annotations

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.comparison.naming import data_words, distinct_names, study_words, title_on_data
from vitbench.studies.library import STUDIES


def test_what_sets_two_comparisons_apart_is_in_their_titles():
    here, there = make_record(), make_record(environment={"machine": "ffffffff"}, harness_version=2)
    titles = {one.title for one in compare([here, there])}
    assert titles == {
        "Pool on digits: quick budget, Micro/2 (machine 0123abcd, harness version 1)",
        "Pool on digits: quick budget, Micro/2 (machine ffffffff, harness version 2)",
    }


def test_the_version_of_timm_alone_is_named_in_titles():
    assert {one.title for one in compare([make_record(), make_record(environment={"timm": "1.0.30"})])} == {
        "Pool on digits: quick budget, Micro/2 (timm 1.0.31)",
        "Pool on digits: quick budget, Micro/2 (timm 1.0.30)",
    }


def test_a_slug_is_short_and_gets_a_hash_only_where_two_would_clash():
    alone = compare([make_record(data={"dataset": "torch/cifar10"}, budget="quick"), make_record(budget="smoke")])
    assert [one.slug for one in alone] == ["quick-torch-cifar10", "smoke-digits"]
    records = [make_record(), make_record(environment={"precision": "bf16"})]
    clashing = [one.slug for one in compare(records)]
    assert all(len(slug) == len("quick-digits-012345") for slug in clashing)
    assert clashing == [one.slug for one in compare(records[::-1])]


def test_single_runs_are_told_apart_by_their_variant_and_epochs():
    asked = [("Micro/2", 20), ("Mini/2", 20), ("Mini/2", 0.5)]
    records = [
        make_record(study="train", budget="custom", variant=variant, train={"epochs": epochs})
        for variant, epochs in asked
    ]
    assert sorted(one.slug for one in compare(records)) == [
        "custom-digits-micro-2-20-epochs",
        "custom-digits-mini-2-0.5-epochs",
        "custom-digits-mini-2-20-epochs",
    ]


def test_the_same_runs_in_plans_of_another_kind_are_told_apart():
    design = DESIGN.model_copy(update={"baseline": "cls", "arms": ("cls",)})
    on_fractions = design.model_copy(update={"fractions": {"cls": 1.0}})
    compared = compare([make_record(design=design), make_record(design=on_fractions, seed=1)])
    assert len(compared) == len({one.slug for one in compared}) == len({one.title for one in compared}) == 2
    assert all("plan " in one.title for one in compared)


def test_studies_and_data_sets_are_called_in_words():
    assert {name: study_words(name) for name in ("position", "my_study", "ViT-vs-MLP", "_")} == {
        "position": "Position embeddings",
        "my_study": "My study",
        "ViT-vs-MLP": "ViT vs MLP",
        "_": "_",
    }
    names = (
        "cifar10@c637c7f8",
        "torch/cifar100",
        "torch/fashion_mnist",
        "shapes/majority",
        "flowers@1a2b3c4d",
        "digits",
    )
    assert [data_words(name) for name in names] == [
        "CIFAR-10", "CIFAR-100", "Fashion-MNIST", "shapes (majority)", "flowers", "digits",
    ]  # fmt: skip
    two = distinct_names(["cifar10@c637c7f8", "torch/cifar10", "digits"])
    assert two == {"cifar10@c637c7f8": "cifar10@c637c7f8", "torch/cifar10": "torch/cifar10", "digits": "digits"}


def test_every_shipped_study_has_words_of_its_own_and_no_title_has_an_underscore():
    words = [study_words(name) for name in (*STUDIES, "train")]
    assert len({*words}) == len(words) and not any("_" in text for text in words)
    (one,) = compare([make_record(study="patch_size", data={"dataset": "torch/fashion_mnist"})])
    assert one.title == "Patch sizes on Fashion-MNIST: quick budget, Micro/2"
    assert title_on_data(one) == "Fashion-MNIST: quick budget, Micro/2"


def test_two_data_sets_of_one_name_have_titles_of_their_own():
    titles = {
        one.title for one in compare([make_record(data={"dataset": d}) for d in ("cifar10@c637c7f8", "torch/cifar10")])
    }
    assert titles == {
        f"Pool on CIFAR-10: quick budget, Micro/2 (dataset {d})" for d in ("cifar10@c637c7f8", "torch/cifar10")
    }
