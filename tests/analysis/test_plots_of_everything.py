"""Can plots be drawn of whatever records hold, without a warning? pytest makes every warning an error."""

from __future__ import annotations

import pytest

from tests.made_up_profiles import make_row, make_throughput, make_trace
from tests.made_up_records import MODEL, make_record
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.plots import KINDS, render
from vitbench.config import TrainConfig
from vitbench.records import Design, Outcome

LONG = "a very long name of an arm that goes on and on, with commas, and then some more words " * 3
CURVE = (0.1, 0.5, 0.9)


def arms(*names: str, seeds: int = 3, rates=(1e-3, 3e-3), **fields):
    return [
        make_record(name, seed=seed, learning_rate=rate, curve=CURVE, model={"depth": 1 + index}, **fields)
        for index, name in enumerate(names)
        for seed in range(seeds)
        for rate in rates
    ]


def growing(test, *, seeds: int = 3, **fields):
    """A base and depths of it, each alone: a series that may follow a power law."""
    design = Design(question="", source="", baseline="base", arms=(), learning_rates=(1e-3,), train_images=256)
    return [
        make_record(
            "base" if depth == 4 else f"depth {depth}",
            **{"seed": seed, "test": test(depth), "model": {"depth": depth}, "design": design} | fields,
        )
        for depth in (1, 2, 4, 8)
        for seed in range(seeds)
    ]  # fmt: skip


def starting(test: float, *, seeds: int = 1):
    """Weights at another image size, as they are and fine-tuned."""
    names = {"8 px": (8, 20), "12 px": (12, 0), "12 px, fine-tuned": (12, 5)}
    design = Design(
        question="",
        source="",
        baseline="8 px",
        arms=tuple(names),
        learning_rates=(1e-3,),
        epochs={name: epochs for name, (_, epochs) in names.items()},
        starts={name: "8 px" for name in names if name != "8 px"},
    )
    records = []
    for name, (size, epochs) in names.items():
        for seed in range(seeds):
            record = make_record(name, seed=seed, test=test, design=design, model={"image_size": size})
            config = record.config.replace(train=TrainConfig(epochs=epochs or 20))
            if name != "8 px":
                first = config.replace(model=MODEL)
                config = config.replace(train=TrainConfig(epochs=epochs), pretraining=first, keep_head=True)
            records.append(record.model_copy(update={"config": config, "run_id": config.run_id}))
    return records


EVERYTHING = {
    "one arm": arms("cls"),
    "one arm, one seed, one rate": arms("cls", seeds=1, rates=(1e-3,)),
    "one seed": arms("cls", "gap", seeds=1),
    "all at 100 %": arms("cls", "gap", test=1.0),
    "all at 0 %": arms("cls", "gap", test=0.0),
    "failed only": arms("cls", "gap", outcome=Outcome.FAILED, reason="no"),
    "diverged only": arms("cls", "gap", outcome=Outcome.DIVERGED, reason="no"),
    "diverged beside completed": [
        *arms("cls", "gap"),
        *(make_record("gap", seed=seed, learning_rate=1e-2, outcome=Outcome.DIVERGED) for seed in range(3)),
    ],
    "forty arms of long names": arms(*(f"{i} {LONG}" for i in range(40)), seeds=1, rates=(1e-3,)),
    "thirteen arms": arms(*(f"arm {i}" for i in range(13)), seeds=1, rates=(1e-3,)),
    "long names": arms(LONG, f"x{LONG}"),
    "a word without end": arms("w" * 300, "v" * 300),
    "names of other scripts": arms("位置嵌入", "положение", "🦒", "$x$", "a\nb\tc", "\x07"),
    "no name": arms("", " "),
    "no accuracy": arms("cls", "gap", test=None),
    "no costs": arms("cls", "gap", cost={"macs": 0, "train_seconds": 0.0, "train_images_per_second": None}),
    "costs of ten orders": [
        make_record(f"arm {i}", model={"depth": 1 + i}, cost={"macs": 10**i, "train_seconds": 10.0**i}) for i in range(1, 11)
    ],
    "rates of ten orders": arms("cls", "gap", rates=tuple(10.0**-i for i in range(1, 11)), seeds=1),
    "a power law": growing(lambda depth: 1 - 0.5 / depth**0.2),
    "no power law": growing(lambda depth: 0.5 if depth == 1 else 0.9),
    "sizes without an error": growing(lambda depth: 1.0),
    "one size without an error": growing(lambda depth: 1.0 if depth == 8 else 0.5),
    "sizes of equal error": growing(lambda depth: 0.5),
    "sizes of one seed": growing(lambda depth: 0.5 + 0.01 * depth, seeds=1),
    "image sizes": starting(0.5, seeds=3),
    "image sizes of one seed": starting(1.0),
}  # fmt: skip


@pytest.mark.parametrize("records", EVERYTHING.values(), ids=EVERYTHING)
def test_no_plot_of_any_records_warns_of_anything(records, capfd):
    for comparison in compare(records):
        for kind in KINDS:
            render(comparison, kind)
    out, err = capfd.readouterr()
    # Which letters no installed font has is said in one line, once in a process: in whichever test is first.
    assert out == "" and all(line.startswith("vitbench: no installed font has ") for line in err.splitlines())


def test_a_series_without_errors_has_no_plot_and_no_legend_without_artists():
    (comparison,) = compare(EVERYTHING["sizes without an error"])
    assert render(comparison, "scaling") == {}
    (comparison,) = compare(EVERYTHING["one size without an error"])
    assert render(comparison, "scaling") == {}
    (comparison,) = compare(EVERYTHING["a power law"])
    assert render(comparison, "scaling") != {}


def test_the_command_writes_the_plots_of_all_of_them_at_once_without_a_warning(store_with, vitbench):
    few = ("one arm, one seed, one rate", "failed only", "sizes without an error")
    records = [
        record.model_copy(update={"study": f"study{i}"}) for i, name in enumerate(few) for record in EVERYTHING[name]
    ]
    root = store_with(*records)
    make_throughput(root, make_row("vitbench", [1.0, 1.1, 1.2]))
    make_trace(root, ("block", "0", "mlp", "linear", "forward", 0.5, 2, 10**9, 10**7))
    status, out, err = vitbench("plots", "--results", root)
    assert status == 0 and err == "" and "Warning" not in out
