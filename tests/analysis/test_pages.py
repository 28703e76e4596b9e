"""Do the tables hold the right numbers, escape what must be, and come out the same from the same records?"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import sys

import pytest
from rich.console import Console

from tests.made_up_records import make_record
from vitbench.analysis.comparison.assessment import assess
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.pages import print_tables, write_tables
from vitbench.analysis.plots import write_plots
from vitbench.analysis.tables import captions, page
from vitbench.analysis.tables import cells as table_cells
from vitbench.analysis.writing.markup import escape_latex, escape_markdown
from vitbench.analysis.writing.words import count_text, significant
from vitbench.config import TrainConfig
from vitbench.records import Design, Faults, Outcome, Record, RecordStore

NASTY = r"50% & $x_1$ #2 {a} ~^ \cmd | [b] <c> *d*"


def two_arms() -> list[Record]:
    """Hand-computed: cls 90, 92 → 91.00 ± 1.41; gap 91, 95 → 93.00 ± 2.83; differences 1, 3 → 2.00 ± 12.706 × 1."""
    accuracies = {"cls": (0.90, 0.92), "gap": (0.91, 0.95)}
    macs = {"cls": 3_000_000, "gap": 3_300_000}
    return [
        make_record(arm, seed=seed, test=test, cost={"macs": macs[arm], "train_images_per_second": 1000.0 + 100 * seed})
        for arm, tests in accuracies.items()
        for seed, test in enumerate(tests)
    ]


def cells(comparison, arm_index):
    return dict(
        zip(table_cells.columns(assess(comparison)), table_cells.rows(assess(comparison))[arm_index], strict=True)
    )


def test_the_cells_are_those_computed_by_hand():
    (comparison,) = compare(two_arms())
    row = cells(comparison, 1)
    assert row["top-1 (%)"] == "93.00 ± 2.83 (n=2)"
    assert row["difference (points)"] == "+2.00 (n=2)"  # two seeds decide nothing; the CSV has their interval
    raw = table_cells.raw_rows(assess(comparison))[1]
    interval = raw["difference_ci95_low_points"], raw["difference_ci95_high_points"]
    assert interval == pytest.approx((-10.706, 14.706), abs=1e-3)
    assert row["MACs relative to baseline"] == "1.10×"
    assert row["GMACs"] == "0.00330"
    assert row["params"] == "201k"
    assert row["learning rate"] == "0.001 (fixed)"
    assert row["training (images/s)"] == "1,050"
    assert row["peak memory (MiB)"] == "100"
    assert row["completed runs"] == "2/2"
    assert cells(comparison, 0)["arm"] == "cls (baseline)"
    assert cells(comparison, 0)["difference (points)"] == "–"


def test_one_seed_has_no_deviation_and_no_interval():
    (comparison,) = compare([make_record("cls", test=0.9), make_record("gap", test=0.85)])
    row = cells(comparison, 1)
    assert row["top-1 (%)"] == "85.00 (n=1)"
    assert row["difference (points)"] == "−5.00 (n=1)"


def test_one_arm_alone_has_a_table(store_with):
    paths = write_tables(store_with(make_record("cls", seed=0), make_record("cls", seed=1)))
    assert "| cls (baseline) |" in paths[0].read_text(encoding="utf-8")


def test_diverged_and_failed_runs_are_counted_in_the_row():
    (comparison,) = compare(
        [
            make_record(seed=0),
            make_record(seed=1, outcome=Outcome.DIVERGED),
            make_record(seed=2, outcome=Outcome.FAILED),
        ]
    )
    assert cells(comparison, 0)["completed runs"] == "1/3 (1 failed, 1 diverged)"


def test_the_csv_has_full_precision_and_units_in_its_names():
    (comparison,) = compare([make_record("cls", test=1 / 3), make_record("gap", test=2 / 3)])
    first, second = csv.DictReader(io.StringIO(page.csv_text(assess(comparison))))
    assert float(first["test_top1_mean_percent"]) == 100 * (1 / 3)
    assert float(second["difference_mean_points"]) == 100 * (2 / 3 - 1 / 3)
    assert second["difference_ci95_low_points"] == ""
    assert (first["is_baseline"], second["is_baseline"]) == ("True", "False")
    assert second["peak_memory_bytes_max"] == str(100 * 2**20)


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


def test_latex_special_characters_are_escaped():
    assert escape_latex(NASTY) == (
        r"50\% \& \$x\_1\$ \#2 \{a\} \textasciitilde{}\textasciicircum{} \textbackslash{}cmd \textbar{} {[}b{]} "
        r"\textless{}c\textgreater{} *d*"
    )


def test_the_latex_table_has_booktabs_rules_and_the_six_main_columns_alone():
    (comparison,) = compare([make_record(NASTY), make_record("gap")])
    text = page.latex(assess(comparison))
    rules = [text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert rules == sorted(rules)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [line.replace(r"\&", "").count("&") for line in rows] == [5, 5, 5]
    assert rows[0].strip() == r"arm & params & GMACs & top-1 (\%) & \shortstack{difference \\ (points)} & verdict \\"
    assert "rrrrl}" in text and "resizebox" not in text
    assert (
        len(table_cells.columns(assess(comparison))) > 6 and len(table_cells.raw_rows(assess(comparison))[0]) > 30
    )  # all are in the CSV


def test_no_latex_table_has_more_columns_than_a_page_is_wide():
    records = [make_record(arm, seed=seed, test=0.8 + 0.01 * seed) for arm in ("cls", "gap") for seed in range(3)]
    (comparison,) = compare(records)
    assert "Verdicts" in page.further_tables(assess(comparison))
    rows = [line for line in page.latex(assess(comparison)).splitlines() if line.endswith(r"\\")]
    assert len(rows) > 4 and max(line.count("&") for line in rows) == 5


def test_the_number_of_seeds_is_said_once_where_it_is_the_same_for_all_and_in_every_cell_where_not():
    even = [make_record(arm, seed=seed, test=0.8 + 0.01 * seed) for arm in ("cls", "gap") for seed in range(3)]
    (comparison,) = compare(even)
    table = page.latex(assess(comparison)).partition(r"\end{table}")[0]
    assert "n = 3 everywhere." in table and "(n=" not in table and r"81.00 $\pm$ 1.00 &" in table
    (comparison,) = compare(even[:-1])
    table = page.latex(assess(comparison)).partition(r"\end{table}")[0]
    assert "everywhere" not in table and "(n=3)" in table and "(n=2)" in table


def test_markdown_cells_stay_in_their_row():
    assert escape_markdown("a|b\nc") == r"a\|b c"
    (comparison,) = compare([make_record(NASTY)])
    (row,) = [line for line in page.markdown(assess(comparison)).splitlines() if line.startswith("| 50%")]
    assert row.replace(r"\|", "").count("|") == len(table_cells.columns(assess(comparison))) + 1


def test_the_index_holds_every_table(store_with):
    root = store_with(make_record(study="pool"), make_record(study="pool", budget="smoke"), make_record(study="stem"))
    paths = write_tables(root)
    index = root / "tables" / "README.md"
    assert paths[-1] == index
    text = index.read_text(encoding="utf-8")
    for study, slug in (("pool", "quick-digits"), ("pool", "smoke-digits"), ("stem", "quick-digits")):
        assert f"({study}/{slug}.md)" in text
        assert all((root / "tables" / study / f"{slug}.{suffix}").exists() for suffix in ("md", "csv", "tex"))
    assert text.count("| cls (baseline) |") == 3


def test_equal_records_give_equal_bytes(store_with):
    root = store_with(*two_arms())
    first = {path: path.read_bytes() for path in write_tables(root)}
    shutil.rmtree(root / "tables")
    assert {path: path.read_bytes() for path in write_tables(root)} == first


def test_tables_of_comparisons_that_are_gone_are_removed_and_what_is_not_ours_stays(store_with):
    root = store_with(make_record(study="pool"), make_record(study="stem"))
    write_tables(root)
    ours = root / "tables" / "pool" / "notes.md"
    ours.write_text("mine\n", encoding="utf-8")
    (root / "records" / "pool.jsonl").unlink()
    (root / "records" / "stem.jsonl").unlink()
    write_tables(store_with(make_record(study="stem", budget="smoke")))
    left = sorted(path.relative_to(root / "tables").as_posix() for path in (root / "tables").rglob("*.*"))
    assert left == [
        "README.md",
        "pool/notes.md",
        "stem/smoke-digits.csv",
        "stem/smoke-digits.md",
        "stem/smoke-digits.tex",
    ]


def of_no_file(path):
    path.unlink()
    path.mkdir()


def of_damaged_lines(path):
    path.write_bytes(path.read_bytes().replace(b'"digest":"', b'"digest":"0'))


@pytest.mark.parametrize("damage", [of_no_file, of_damaged_lines])
def test_tables_and_plots_of_records_that_cannot_be_read_now_stay_and_are_named(store_with, damage):
    root = store_with(*two_arms(), make_record(study="stem"))
    written = [*write_tables(root), *write_plots(root)]
    damage(root / "records" / "pool.jsonl")
    said = Faults(say=lambda _: None)
    again = [*write_tables(root, faults=said), *write_plots(root, faults=said)]
    (kept,) = {path.parent.name for path in written if path not in again and path.parent.name != "tables"}
    assert kept == "pool" and all(path.exists() for path in written)
    assert "cannot be read now: pool/" in (root / "tables" / "README.md").read_text()


def test_an_empty_store_is_refused_in_one_line_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="run `vitbench run` first") as error:
        write_tables(tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_shows_main_columns_and_notes(store_with):
    root = store_with(
        make_record("[bold]cls", seed=0), make_record(study="stem", outcome=Outcome.FAILED, reason="no [memory]")
    )
    console = Console(file=io.StringIO(), width=100)
    print_tables(root, console=console)
    text = console.file.getvalue()
    assert "[bold]cls (baseline)" in text
    assert "no [memory]" in text


@pytest.mark.parametrize(
    ("value", "text"), [(17.58, "17.6"), (0.003124, "0.00312"), (1234.4, "1,234"), (None, "–"), (0.0, "0")]
)
def test_three_digits_are_shown_and_none_lost_before_the_point(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(("count", "text"), [(86_567_656, "86.6M"), (201_000, "201k"), (950, "950")])
def test_counts_are_shown_with_their_unit(count, text):
    assert count_text(count) == text


def test_where_rates_were_chosen_the_difference_at_the_baseline_s_rate_stands_beside(store_with):
    # cls is best at 1e-3 (0.90), gap at 1e-2 (0.95); at 1e-3 gap has 0.80: 10 points below, by each of two seeds.
    accuracies = {("cls", 1e-3): 0.90, ("cls", 1e-2): 0.70, ("gap", 1e-3): 0.80, ("gap", 1e-2): 0.95}
    records = [
        make_record(arm, seed=seed, learning_rate=rate, test=value)
        for (arm, rate), value in accuracies.items()
        for seed in (0, 1)
    ]
    (comparison,) = compare(records)
    row = cells(comparison, 1)
    assert row["difference (points)"].startswith("+5.00")
    assert row["difference at baseline's rate (points)"].startswith("−10.00")
    (fixed,) = compare(two_arms())
    assert "difference at baseline's rate (points)" not in table_cells.columns(assess(fixed))
    raw = table_cells.raw_rows(assess(fixed))[0]
    assert {"difference_at_baseline_rate_mean_points", "epochs", "training_tflop"} <= set(raw)


def tuned_comparison():
    design = Design(
        question="",
        source="",
        baseline="cls",
        arms=("cls",),
        learning_rates=(2e-3,),
        tuned={"weight_decay": (0.05, 0.2), "mixup": (0.0,)},
        tuning_seeds=1,
    )
    records = [
        make_record(learning_rate=2e-3, seed=seed, test=test, train={"weight_decay": wd}, design=design)
        for seed, wd, test in ((0, 0.05, 0.9), (0, 0.2, 0.8), (1, 0.05, 0.9))
    ]
    (comparison,) = compare(records)
    return comparison


def test_a_setting_of_several_fields_is_written_out_and_each_field_is_a_column_of_the_csv(store_with):
    comparison = tuned_comparison()
    row = cells(comparison, 0)
    assert row["setting"] == "lr 0.002, weight_decay 0.05, mixup 0 (edge)"
    assert "top-1 at baseline's setting (%)" in row and "learning rate" not in row
    (raw,) = csv.DictReader(io.StringIO(page.csv_text(assess(comparison))))
    assert (raw["learning_rate"], raw["weight_decay"], raw["weight_decay_edge"]) == ("0.002", "0.05", "lowest")
    sentence = captions.conventions(assess(comparison))[0]
    assert "at the setting with the best mean validation accuracy" in sentence
    assert "over those of seed 0 at which every setting has a result; the other seeds are held out" in sentence
    assert "mixup as tuned" in captions.facts(comparison)["Data"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("optimizer", "muon", "muon"),
        ("batch_size", 64, "batches of 64"),
        ("weight_decay", 0.3, "weight decay 0.3"),
        ("warmup_fraction", 0.2, "20 % warm-up"),
        ("schedule", "linear", "linear schedule"),
        ("clip_norm", 2.0, "clipped at 2"),
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
    said |= {"ema_decay", "layer_decay", "trainable"}
    elsewhere = {
        "epochs",
        "learning_rate",
        "precision",
        "compile",
    }  # the budget's line, a column, the environment's line
    assert said | elsewhere == set(TrainConfig.model_fields)


def test_what_was_made_equal_is_said_and_each_arm_has_its_epochs_and_training_flops():
    design = Design(
        question="",
        source="",
        baseline="cls",
        arms=("cls", "gap"),
        learning_rates=(1e-3,),
        match="flops",
        epochs={"cls": 20, "gap": 24.5},
        train_images=1280,
    )
    records = [make_record("cls", design=design), make_record("gap", train={"epochs": 24.5}, design=design)]
    (comparison,) = compare(records)
    assert [cells(comparison, index)["epochs"] for index in (0, 1)] == ["20", "24.5"]
    # Ten steps of 128 an epoch: 24.5 epochs are 245 steps.
    flops = [row["training_tflop"] * 1e12 for row in table_cells.raw_rows(assess(comparison))]
    assert flops[1] / flops[0] == pytest.approx(24.5 / 20)
    assert any(
        "Training FLOPs were made equal, not epochs" in text for text in captions.conventions(assess(comparison))
    )
    assert captions.facts(comparison)["Budget"] == "quick, 20 epochs of the baseline and equal training FLOPs"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no /dev/full")
def test_an_output_that_cannot_be_written_is_no_fault_of_the_records(tmp_path):
    store = RecordStore(tmp_path)
    for record in two_arms():
        store.append(record)
    faults = Faults()
    full = open("/dev/full", "w", buffering=1)  # noqa: PTH123, SIM115
    console = Console(file=full, width=140)
    with pytest.raises(OSError, match="No space left"):
        print_tables(tmp_path, console=console, faults=faults)
    with contextlib.suppress(OSError):
        full.close()
    assert not list(faults)
