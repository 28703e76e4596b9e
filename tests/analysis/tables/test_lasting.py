"""Does the page on short and long ablations say in words what the verdicts are, and is it there only where there are any?"""

from __future__ import annotations

import csv

import pytest

from tests.analysis.comparison.test_lasting import LONG, SHORT, WIDE, lasting, records
from vitbench.analysis.comparison.lasting import titles_of
from vitbench.analysis.pages import write_tables
from vitbench.analysis.tables.lasting import finding, page, sentences, tables

OF_FOUR = {"a": 0.02, "b": 0.01, "c": -0.02, "d": 0.03}
AFTER_LONG = {"a": 0.03, "b": 0.0, "c": 0.02, "d": 0.04}


def four():
    """Alike, differs, opposed, alike; of six pairs of arms, b and c alone are turned."""
    return *records(OF_FOUR, **SHORT), *records(AFTER_LONG, **LONG)


def test_a_row_is_what_was_computed_by_hand():
    """SD 0.079 points over 5 seeds: t(4) 2.776 × 0.0791 / √5 = 0.098 points either side, one arm alone."""
    (table,) = tables(lasting(*records({"gap": 0.02}, **SHORT), *records({"gap": -0.03}, **LONG)))
    assert table.title == "digits: Micro/2, 4 epochs, 20,000 images → Mini/2, 20 epochs, 45,000 images"
    (row,) = table.rows
    times = float(row.pop("× training FLOPs"))
    assert row == {
        "study": "Pool",
        "arm": "gap",
        "short": "+2.00 [+1.90, +2.10]: better",
        "long": "−3.00 [−3.10, −2.90]: worse",
        "together": "opposed",
    }
    assert times > 11.25  # of equal models, 20 × 45,000 / (4 × 20,000); here the long one is larger


def test_no_row_has_more_than_six_columns():
    assert len(tables(lasting(*four()))[0].columns) == 6


def test_sentences_count_verdicts_signs_and_pairs():
    (pair,) = lasting(*four())
    verdicts, signs, order = sentences(pair)
    assert verdicts == "Verdicts of 4 arms: alike for 2; opposed for 1; differs for 1; open for none."
    assert signs == "The difference has the same sign in both for 2 of 3 (95 % interval 9 % to 99 %)."  # b's is 0
    assert order.startswith(
        "Of two arms, the one ahead in the short ablation is ahead in the long one in 5 of 6 pairs: rank correlation +0.67 ["
    )
    assert order.endswith("], which so few arms cannot tell from chance.")


def test_one_sentence_says_it_all():
    text = finding(lasting(*four())[0])
    assert text.startswith("On digits, a long ablation (Mini/2, 20 epochs, 45,000 images; ")
    assert (
        "gives 2 of 4 arms the verdict of a short one (Micro/2, 4 epochs, 20,000 images) and 1 the opposite one; "
        "1 differs otherwise, and none are open in one of the two. Of two arms, the one ahead in the short ablation is ahead "
        "in the long one in 83 % of pairs (95 % interval "
    ) in text


def test_an_order_that_is_kept_by_eight_arms_is_more_than_chance_and_a_turned_one_is_said():
    rising = {letter: 0.01 * index for index, letter in enumerate("abcdefgh", start=-3)}
    falling = dict(zip(rising, reversed(rising.values()), strict=True))
    kept, turned = (lasting(*records(rising, **SHORT), *records(long, **LONG))[0] for long in (rising, falling))
    assert sentences(kept)[-1].endswith("in 28 of 28 pairs: rank correlation +1.00 [+0.71, +1.00], more than chance.")
    assert sentences(turned)[-1].endswith("[−1.00, −0.71], the order is turned, and not by chance.")


def test_of_an_open_arm_the_seeds_in_both_are_said():
    made = lasting(*records({"gap": 0.005}, wobble=(*WIDE, 0.0), **SHORT), *records({"gap": 0.02}, **LONG))
    assert tables(made)[0].rows[0]["together"] == "open: 6, 5 seeds"


def test_what_differs_between_short_and_long_is_said_and_equal_studies_share_a_line():
    changed = {"learning_rates": (1e-3, 2e-3), "tuning_seeds": 2}
    made = []
    for study in ("pool", "other", "third"):
        made += [records({"gap": 0.02}, **SHORT, study=study), records({"gap": 0.02}, **LONG, study=study)]
    made[-1] = [
        record
        for rate in changed["learning_rates"]
        for record in records({"gap": 0.02}, **LONG, study="third", design=changed, learning_rate=rate)
    ]
    (table,) = tables(made_lasting(made))
    short, long, of_third, environment = table.notes
    assert short == (
        "Short: Micro/2, 4 epochs, 20,000 images; quick budget; learning rate 0.001; 5 seeds; 1 arm tested together; "
        "operators: torch."
    )
    assert long.startswith("Long (Other, Pool): Mini/2, 20 epochs, 45,000 images; custom budget; learning rate 0.001;")
    assert of_third.startswith("Long (Third): ") and "learning rates 0.001, 0.002, chosen on 2 seeds" in of_third
    assert environment == "Both on cpu: Example CPU, fp32, eager, torch 2.14.0, harness version 1."


def made_lasting(groups):
    from vitbench.analysis.comparison.assessment import assess
    from vitbench.analysis.comparison.lasting import lasting_of
    from vitbench.analysis.comparison.load import compare

    return lasting_of(assess(each) for group in groups for each in compare(group))


def test_titles_tell_pairs_of_other_environments_apart():
    both = [{"environment": {"torch": torch}} for torch in ("2.14.0", "2.15.0")]
    made = lasting(
        *(record for other in both for each in (SHORT, LONG) for record in records({"a": 0.02}, **each, **other))
    )
    assert len({*titles_of(made)}) == 2


def test_without_a_pair_there_is_no_page():
    assert page([]) == {} and page(lasting(*records({"gap": 0.02}, **SHORT))) == {}


def test_the_page_is_written_linked_and_removed_once_one_of_the_two_is_left(store_with):
    root = store_with(*four())
    write_tables(root)
    text = (root / "tables" / "lasting.md").read_text(encoding="utf-8")
    assert "# What does a short ablation say of a longer one?" in text and "| Pool | c |" in text
    assert "(lasting.md)" in (root / "tables" / "README.md").read_text(encoding="utf-8")
    with (root / "tables" / "lasting.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["short_verdict"], row["long_verdict"], row["together"]) for row in rows] == [
        ("a", "better", "better", "alike"),
        ("b", "better", "equivalent", "differs"),
        ("c", "worse", "better", "opposed"),
        ("d", "better", "better", "alike"),
    ]
    assert float(rows[2]["long_difference_points"]) == pytest.approx(2.0)
    (root / "records" / "pool.jsonl").unlink()
    write_tables(store_with(*records(OF_FOUR, **SHORT)))
    assert not (root / "tables" / "lasting.md").exists() and not (root / "tables" / "lasting.csv").exists()


def test_names_of_arms_are_text_on_the_page():
    made = lasting(*records({"a|b*": 0.02}, **SHORT), *records({"a|b*": 0.02}, **LONG))
    assert r"| a\|b\* |" in page(made)["md"]


def test_verdicts_by_loss_are_a_table_of_their_own_with_their_unit():
    design = {"metric": "loss"}
    made = [*records({"a": 0.1}, **SHORT, design=design), *records({"a": -0.1}, **LONG, design=design)]
    by_loss = [
        record.model_copy(
            update={"study": "loss", "metrics": {**record.metrics, "test_loss": record.metrics["test_top1"]}}
        )
        for record in made
    ]
    by_top1 = [*records({"a": 0.1}, **SHORT), *records({"a": 0.1}, **LONG)]
    both = made_lasting([by_top1, by_loss])
    first, second = titles_of(both)
    assert {second.removeprefix(first), first.removeprefix(second)} >= {", by loss"}
    text = page(both)
    assert "nats: worse" in text["md"]
    heading, of_loss, _ = text["csv"].splitlines()
    assert "short_difference_nats" in heading and "short_difference_points" in heading
    assert len(of_loss.split(",")) == len(heading.split(","))
