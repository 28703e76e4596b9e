"""Studies with a known truth, and how often the analysis finds it.

The same checks run here at a reduced count and in benchmarks/test_statistics.py in full. They go through the functions
that tables are made from: `decide`, `PairedDifference`, `CrossedDifference`, `saturation`, power; where settings are
chosen, from records through `compare`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from tests.made_up_records import DESIGN, make_record
from vitbench.analysis.comparison.findings import saturation
from vitbench.analysis.comparison.load import compare
from vitbench.analysis.statistics.crossed import CrossedDifference
from vitbench.analysis.statistics.pairing import PairedDifference
from vitbench.analysis.statistics.verdicts import MARGIN, Verdict, decide

SD = 0.004
"""Of an arm's accuracy between seeds, of which half the variance is the seed's own, alike for all arms."""


def within(count: int, low: float, high: float | None = None, *, confidence: float = 0.99) -> tuple[float, float]:
    """Shares that so many studies give with this confidence, where the truth lies from `low` to `high`."""
    tail, high = (1 - confidence) / 2, low if high is None else high
    return binom.ppf(tail, count, low) / count, binom.ppf(1 - tail, count, high) / count


def simulate_study(random, *, effects, num_seeds, sd=SD, shared=0.5):
    """{arm: {seed: accuracy}} of a baseline at 80 % and arms that differ from it by `effects`.

    `shared`: the part of the variance between seeds that pairing takes away.
    """
    seed_effects = random.normal(0, sd * shared**0.5, num_seeds)
    own = random.normal(0, sd * (1 - shared) ** 0.5, (1 + len(effects), num_seeds))
    means = 0.8 + np.array([0.0, *effects])
    accuracies = means[:, np.newaxis] + seed_effects + own
    names = ["baseline", *(f"arm {i}" for i in range(len(effects)))]
    return {name: dict(enumerate(values.tolist())) for name, values in zip(names, accuracies, strict=True)}


def verdicts_on(study, *, margin=MARGIN):
    return decide(
        {arm: PairedDifference.of(values, study["baseline"]) for arm, values in study.items() if arm != "baseline"},
        margin=margin,
    )


def false_alarms(num_studies: int, *, num_arms=4, num_seeds=5) -> float:
    """Share of studies of equal arms in which any arm is called better or worse."""
    random = np.random.RandomState(1)
    alarms = 0
    for _ in range(num_studies):
        study = simulate_study(random, effects=[0.0] * num_arms, num_seeds=num_seeds)
        alarms += any(one.verdict in (Verdict.BETTER, Verdict.WORSE) for one in verdicts_on(study).values())
    return alarms / num_studies


def verdict_shares(num_studies: int, *, effect: float, num_seeds=5, sd=SD, margin=MARGIN) -> Counter[str]:
    """How often one arm that truly differs by `effect` gets each verdict; `within`: was shown to lie in the margin.

    sd: of the paired difference between seeds.
    """
    random = np.random.RandomState(2)
    found: Counter[str] = Counter()
    for _ in range(num_studies):
        study = simulate_study(random, effects=[effect], num_seeds=num_seeds, sd=sd, shared=0.5)
        (decision,) = verdicts_on(study, margin=margin).values()
        found[decision.verdict] += 1
        found["within"] += decision.within_margin
    return Counter({verdict: count / num_studies for verdict, count in found.items()})


@dataclass(frozen=True)
class World:
    """Networks that get an image right where a sum of normal effects is above 0; standard deviations of these effects.

    The last of them, the network's own luck on the image, has 1. Normal sums make all truths closed forms.
    """

    difficulty: float
    """Of an image, for every arm."""
    taste: float
    """Of an arm for an image: what a new test set would change."""
    seeds: float
    """Of an arm for a seed: what new seeds would change."""
    skill: float = 1.5

    def difference(self, gap: float) -> float:
        """True difference of accuracy, over all seeds and images, of an arm better by `gap`."""
        spread = (1 + self.difficulty**2 + self.taste**2 + self.seeds**2) ** 0.5
        return float(ndtr((self.skill + gap) / spread) - ndtr(self.skill / spread))

    def sample(self, random, *, gaps, num_seeds, num_images):
        """The baseline and an arm for each of `gaps`: what they get right, bool [1 + arms, seeds, images].

        And each one's true accuracy on just these images: [1 + arms].
        """
        latent = self.skill + np.array([0.0, *gaps])[:, np.newaxis] + random.normal(0, self.difficulty, num_images)
        latent = latent + random.normal(0, self.taste, (1 + len(gaps), num_images))
        of_seeds = random.normal(0, self.seeds, (1 + len(gaps), num_seeds, 1))
        luck = random.standard_normal((1 + len(gaps), num_seeds, num_images))
        correct = latent[:, np.newaxis] + of_seeds + luck > 0
        return correct, ndtr(latent / (1 + self.seeds**2) ** 0.5).mean(axis=1)


GAP = 0.1
WORLDS = {
    "seeds matter": World(difficulty=2.0, taste=0.2, seeds=0.3),
    "both matter": World(difficulty=2.0, taste=1.0, seeds=0.1),
    "images matter": World(difficulty=2.0, taste=1.5, seeds=0.0),
    "luck alone": World(difficulty=2.0, taste=0.0, seeds=0.0),
}
INTERVALS = ("seeds", "seeds and images")


def coverage(num_studies: int, world: World, *, num_seeds: int, num_images=1000) -> dict[str, float]:
    """Share of 95 % intervals that hold their truth: that on these images for `seeds`, else that over all images."""
    random = np.random.RandomState(3)
    held = dict.fromkeys(INTERVALS, 0)
    truth = world.difference(GAP)
    for _ in range(num_studies):
        (baseline, arm), accuracies = world.sample(random, gaps=[GAP], num_seeds=num_seeds, num_images=num_images)
        one = arm.astype(np.int8) - baseline
        by_seed = PairedDifference.of(accuracies_of(arm), accuracies_of(baseline))
        held["seeds"] += holds(by_seed.interval(), accuracies[1] - accuracies[0])
        held["seeds and images"] += holds(CrossedDifference.of(one).estimate.interval(), truth)
    return {name: count / num_studies for name, count in held.items()}


def accuracies_of(correct) -> dict[int, float]:
    """{seed: accuracy} from bool [seeds, images]."""
    return dict(enumerate(correct.mean(axis=1).tolist()))


def holds(interval, truth) -> bool:
    return interval is not None and interval.low <= truth <= interval.high


def false_alarms_on_images(num_studies: int, *, num_arms=4, num_seeds=5, num_images=1000) -> float:
    """As `false_alarms`, from test images that are right or wrong: accuracies are whole numbers of images."""
    random = np.random.RandomState(4)
    world = World(difficulty=2.0, taste=0.0, seeds=0.1)
    alarms = 0
    for _ in range(num_studies):
        correct, _ = world.sample(random, gaps=[0.0] * num_arms, num_seeds=num_seeds, num_images=num_images)
        baseline, *arms = map(accuracies_of, correct)
        decisions = decide({i: PairedDifference.of(arm, baseline) for i, arm in enumerate(arms)})
        alarms += any(one.verdict in (Verdict.BETTER, Verdict.WORSE) for one in decisions.values())
    return alarms / num_studies


def verdicts_on_images(correct, *, num_classes: int):
    """Decisions on arms, from what runs get right: bool [1 + arms, seeds, images], the baseline first."""
    baseline, *arms = correct
    differences, over_images, saturated = {}, {}, {}
    for i, arm in enumerate(arms):
        by_seed = PairedDifference.of(accuracies_of(arm), accuracies_of(baseline))
        differences[i] = by_seed
        if by_seed.sd * arm.shape[1] < 1:
            accuracies = [*arm.mean(axis=1), *baseline.mean(axis=1)]
            if verdict := saturation(accuracies, np.stack([arm, baseline]), 1 / num_classes):
                saturated[i] = verdict
            else:
                over_images[i] = CrossedDifference.of(arm.astype(np.int8) - baseline).estimate
    return decide(differences, over_images=over_images, saturated=saturated)


@cache
def _latent(accuracy: float, num_images: int) -> np.ndarray:
    """Of a network that gets so large a share of just these images right, [num_images]; their difficulties spread by 2."""
    difficulty = 2.0 * ndtri((np.arange(num_images) + 0.5) / num_images)
    return difficulty + brentq(lambda skill: ndtr(difficulty + skill).mean() - accuracy, -20, 40)


def false_verdicts(
    num_studies: int, *, accuracy: float, num_images: int, num_seeds: int, num_arms=4
) -> tuple[float, float]:
    """(share of studies that call any of equal arms better or worse, share of arms at the margin called equivalent).

    All at this true accuracy, or the margin below, on few test images: most differences are 0 or one image.
    """
    random = np.random.RandomState(6)
    equal, apart = (
        np.stack([_latent(one, num_images) for one in accuracies])[:, np.newaxis]
        for accuracies in ([accuracy] * (1 + num_arms), [accuracy] + [accuracy - MARGIN] * num_arms)
    )
    alarms = equivalent = 0
    for _ in range(num_studies):
        luck = random.standard_normal((1 + num_arms, num_seeds, num_images))
        decisions = verdicts_on_images(equal + luck > 0, num_classes=10).values()
        alarms += any(one.verdict in (Verdict.BETTER, Verdict.WORSE) for one in decisions)
        equivalent += sum(one.within_margin for one in verdicts_on_images(apart + luck > 0, num_classes=10).values())
    return alarms / num_studies, equivalent / num_studies / num_arms


RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)


def verdicts_after_a_choice(
    num_studies: int, *, tuning_seeds: int | None, num_rates=5, num_seeds=5, correlation=0.8
) -> Counter[tuple[str, str]]:
    """Share of (`own` or `baseline's` setting, verdict) for one arm that equals the baseline, each at its best of rates.

    All rates are worth the same, so that luck alone chooses. correlation: between a run's luck in validation, by which
    rates are chosen, and in test. `tuning_seeds` choose, or all (None).
    """
    random = np.random.RandomState(5)
    shape = (2, num_rates, num_seeds)
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(num_studies):
        of_seeds = random.normal(0, SD * 0.5**0.5, num_seeds)
        luck, other = random.normal(0, SD * 0.5**0.5, (2, *shape))
        validation = 0.8 + of_seeds + correlation * luck + (1 - correlation**2) ** 0.5 * other
        test = 0.8 + of_seeds + luck
        (one,) = compare(
            _run_of(*place, tuning_seeds).model_copy(
                update={"metrics": {"val_top1": float(validation[place]), "test_top1": float(test[place])}}
            )
            for place in np.ndindex(shape)
        )
        (arm,) = (arm for arm in one.arms if arm is not one.baseline)
        for where in ("own", "baseline's"):
            difference = one.difference(arm, at_baseline_setting=where == "baseline's")
            found[where, decide({"arm": difference})["arm"].verdict] += 1
    return Counter({key: count / num_studies for key, count in found.items()})


@cache
def _run_of(arm: int, rate: int, seed: int, tuning_seeds: int | None):
    """A record to be given its accuracies."""
    design = DESIGN.model_copy(update={"baseline": "baseline", "tuning_seeds": tuning_seeds})
    return make_record(("baseline", "arm")[arm], seed=seed, learning_rate=RATES[rate], design=design)
