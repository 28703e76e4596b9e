"""Which simulations does docs/statistics-checked.md show, of how many studies, and how are their results printed?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tests.analysis import simulated_studies as simulated
from tests.analysis.simulated_sequential import JUST_WITHIN, WORLDS, Design, equal_spreads, shares
from vitbench.analysis.statistics.power import power_of_difference, power_of_equivalence
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict

FEW, MANY = 2000, 20_000
"""Studies. Of 2,000, a true rate of 4.8 % gives more than 5 % one time in three."""


def percent(share: float | None) -> str:
    """A share of none, as of arms at the margin where no arm is, is a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


@dataclass(frozen=True)
class Table:
    """A table of simulated studies: a row for each of `rows`, which gives from a number of studies what `columns` show."""

    headings: tuple[str, ...]
    """Of the columns that name a row."""
    columns: Mapping[str, Callable[[float | None], str]]
    """Heading to how a value is printed."""
    rows: Mapping[tuple[str, ...], Callable[[int], Sequence[float | None]]]
    studies: int

    def markdown(self, values: Sequence[Sequence[float | None]]) -> list[str]:
        """Lines; `values`: [row][column]."""
        lines = [[*self.headings, *self.columns], ["---"] * len(self.headings) + ["---:"] * len(self.columns)]
        for labels, row in zip(self.rows, values, strict=True):
            lines.append([*labels, *(show(value) for show, value in zip(self.columns.values(), row, strict=True))])
        return ["| " + " | ".join(line) + " |" for line in lines]


def seeds_text(seeds: float | None) -> str:
    return f"{seeds:.1f}"


def points(share: float) -> str:
    return f"{100 * share:g}"


# Studies that add seeds

RULES = {
    "ordinary test, looked at once, at 18 seeds": (True, (18,)),
    "ordinary test, looked at after 5, 8, 12, 18, 27, 40": (True, (5, 8, 12, 18, 27, 40)),
    "`--until settled`, the same looks": (False, (5, 8, 12, 18, 27, 40)),
}
TRUE_DIFFERENCES = (0.0, 0.0025, MARGIN, 0.01, 0.02)
CLEAR = 0.1
INTERVALS = {
    ("1", "0", "5, 8, …, 40", "0.74"): equal_spreads([JUST_WITHIN]),
    ("1", "0", "40", "0.71"): Design([JUST_WITHIN], [0.005] * 2, looks=(40,)),
    ("12", "0", "5, 8, …, 40", "0.74"): equal_spreads([JUST_WITHIN] * 12),
    ("12", "11", "5, 8, …, 40", "0.74"): equal_spreads([CLEAR] * 11 + [JUST_WITHIN]),
    ("12", "11", "5, 8, …, 40", "0.99"): Design([CLEAR] * 11 + [JUST_WITHIN], [0.007] * 13),
    ("12", "11", "40", "0.83"): Design([CLEAR] * 11 + [JUST_WITHIN], [0.0059] * 13, looks=(40,)),
}
"""Arms, arms that are clear, looks, standard deviation: of the last arm, which lies just within the margin."""


def _looked_at(rule: str, studies: int) -> list[float]:
    by_fixed_rule, looks = RULES[rule]
    equal, apart = (
        shares(studies, equal_spreads([effect] * 10, looks=looks, by_fixed_rule=by_fixed_rule))
        for effect in (0.0, MARGIN)
    )
    return [equal.false_difference, apart.false_equivalent]


def _in_world(world: str, studies: int) -> list[float | None]:
    design = WORLDS[world]
    found, has_apart = shares(studies, design), any(abs(effect) >= MARGIN for effect in design.effects)
    return [
        found.false_difference,
        found.false_equivalent if has_apart else None,
        found.covered,
        found.settled,
        found.seeds,
    ]


def _ends(num_arms: int, effect: float, studies: int) -> list[float]:
    found = shares(studies, equal_spreads([effect] * num_arms))
    verdicts = (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.OPEN)
    return [*(found.verdicts.get(verdict, 0.0) for verdict in verdicts), found.seeds]


def _last_covered(design: Design, studies: int) -> list[float]:
    return [shares(studies, design).last_covered]


# Studies of a fixed number of seeds

EQUAL_ARMS = ((4, 5), (4, 3), (8, 5))
CHOICES = tuple((tuning, rates, luck) for tuning in (None, 2) for rates in (3, 5) for luck in (0.7, 0.9))
ACCURACIES, IMAGES, FEW_SEEDS = (0.5, 0.9, 0.97, 0.99, 0.9999), (36, 80, 300, 1000), (3, 5, 8)
COVERAGE_SEEDS = (3, 5, 10)
DIFFERENCES = ((0.010, 3), (0.008, 5), (0.004, 10), (0.003, 20))
EQUIVALENCES = ((0.0, 8), (0.001, 12), (0.002, 20))
WORLD_WORDS = {
    "seeds matter": "seeds, mostly",
    "both matter": "seeds and images",
    "images matter": "images, mostly",
    "luck alone": "luck alone",
}


def _false_alarms(num_arms: int, num_seeds: int, studies: int) -> list[float]:
    return [simulated.false_alarms(studies, num_arms=num_arms, num_seeds=num_seeds)]


def _after_choice(tuning_seeds: int | None, num_rates: int, correlation: float, studies: int) -> list[float]:
    found = simulated.verdicts_after_a_choice(
        studies, tuning_seeds=tuning_seeds, num_rates=num_rates, correlation=correlation
    )
    return [found[where, verdict] for where in ("own", "baseline's") for verdict in (Verdict.BETTER, Verdict.WORSE)]


def _on_few_images(accuracy: float, num_images: int, studies: int) -> list[float]:
    by_seeds = [
        simulated.false_verdicts(studies, accuracy=accuracy, num_images=num_images, num_seeds=seeds)
        for seeds in FEW_SEEDS
    ]
    return [alarms for alarms, _ in by_seeds] + [equivalent for _, equivalent in by_seeds]


def _coverage(world: str, num_seeds: int, studies: int) -> list[float]:
    return [*simulated.coverage(studies, simulated.WORLDS[world], num_seeds=num_seeds).values()]


def predicted_power(effect: float, num_seeds: int, *, of_equivalence: bool) -> float:
    power = power_of_equivalence if of_equivalence else power_of_difference
    return float(power(effect, simulated.SD, np.array([num_seeds]))[0])


def _power(of_equivalence: bool, effect: float, num_seeds: int, studies: int) -> list[float]:
    found = simulated.verdict_shares(studies, effect=effect, num_seeds=num_seeds)
    share = found["within"] if of_equivalence else found[Verdict.BETTER]
    return [share, predicted_power(effect, num_seeds, of_equivalence=of_equivalence)]


TABLES = {
    "looking again": Table(
        ("rule",),
        {"any of 10 equal arms better or worse": percent, "arms at the margin equivalent": percent},
        {(rule,): partial(_looked_at, rule) for rule in RULES},
        MANY,
    ),
    "worlds": Table(
        ("study",),
        {
            "false better or worse": percent,
            "false equivalent": percent,
            "interval holds": percent,
            "settled": percent,
            "seeds": seeds_text,
        },
        {(world,): partial(_in_world, world) for world in WORLDS},
        MANY,
    ),
    "true differences": Table(
        ("arms", "true difference (points)"),
        {"better": percent, "worse": percent, "equivalent": percent, "open": percent, "seeds": seeds_text},
        {(str(arms), points(effect)): partial(_ends, arms, effect) for arms in (1, 10) for effect in TRUE_DIFFERENCES},
        MANY,
    ),
    "printed intervals": Table(
        ("arms", "of these clear", "looks", "SD (points)"),
        {"interval holds": percent},
        {labels: partial(_last_covered, design) for labels, design in INTERVALS.items()},
        MANY,
    ),
    "equal arms": Table(
        ("arms", "seeds", "accuracies"),
        {"false better or worse": percent},
        {(str(arms), str(seeds), "normal"): partial(_false_alarms, arms, seeds) for arms, seeds in EQUAL_ARMS}
        | {("4", "5", "from 300 test images"): lambda n: [simulated.false_alarms_on_images(n, num_images=300)]},
        MANY,
    ),
    "a choice": Table(
        ("chosen on", "rates", "correlation"),
        dict.fromkeys(("own: better", "own: worse", "baseline's rate: better", "baseline's rate: worse"), percent),
        {
            (f"{tuning or 'all'} {'of ' if tuning else ''}5 seeds", str(rates), f"{luck:g}"): partial(
                _after_choice, tuning, rates, luck
            )
            for tuning, rates, luck in CHOICES
        },
        MANY,
    ),
    "at the margin": Table(
        ("arms",),
        {"false equivalent": percent},
        {("at the margin, 5 seeds",): lambda n: [simulated.verdict_shares(n, effect=MARGIN, sd=0.002)["within"]]},
        MANY,
    ),
    "few images": Table(
        ("accuracy", "test images"),
        dict.fromkeys(
            [f"false {what}: {seeds} seeds" for what in ("better or worse", "equivalent") for seeds in FEW_SEEDS],
            percent,
        ),
        {
            (f"{100 * accuracy:g} %", f"{images:,}"): partial(_on_few_images, accuracy, images)
            for accuracy in ACCURACIES
            for images in IMAGES
        },
        FEW,
    ),
    "coverage": Table(
        ("what makes the difference uncertain", "seeds"),
        {"over seeds": percent, "seeds and images": percent},
        {
            (words, str(seeds)): partial(_coverage, world, seeds)
            for world, words in WORLD_WORDS.items()
            for seeds in COVERAGE_SEEDS
        },
        FEW,
    ),
    "power": Table(
        ("true difference (points)", "what is to be shown", "seeds"),
        {"shown": percent, "predicted": percent},
        {
            (points(effect), what, str(seeds)): partial(_power, of_equivalence, effect, seeds)
            for what, of_equivalence, cases in (
                ("better", False, DIFFERENCES),
                ("equivalent within 0.5", True, EQUIVALENCES),
            )
            for effect, seeds in cases
        },
        FEW,
    ),
}
