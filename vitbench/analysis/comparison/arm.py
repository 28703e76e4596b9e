"""What came of an arm? At which setting it is reported, what it reached at it, and what that cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

from vitbench.analysis.statistics.summary import Summary
from vitbench.analysis.statistics.verdicts import FEWEST_SEEDS
from vitbench.config import ModelConfig, RunConfig, ViTConfig, user_names
from vitbench.costs.macs import count
from vitbench.records import Outcome, Record
from vitbench.studies.choice import Choice, Scores, choose, outcome_of, scores_of
from vitbench.studies.match import training_images
from vitbench.studies.settings import RATE, Setting, setting_text


@dataclass(frozen=True)
class ArmResult:
    """All runs of one arm in one comparison. A setting has a value of each of `fields`, the learning rate first."""

    label: str
    """The name; with `#` and a hash where several models, or initial weights, have it."""
    name: str
    model: ModelConfig
    """With its first run's values of tuned fields, which mean nothing here."""
    runs: Mapping[tuple[Setting, int], Record]
    """The run that counts, by (setting, seed)."""
    fields: tuple[str, ...] = (RATE,)
    init: str | None = None
    """The weights that they started from; None for the seed's."""
    planned: tuple[Setting, ...] = ()
    tuning_seeds: int | None = None
    """The setting is chosen on the seeds below this alone; None: on all."""
    chosen_with: ArmResult | None = None
    """The arm whose setting is taken: of weights that are evaluated as they are, the one that trained them."""
    retried: int = 0
    """Records set aside because the same run was recorded again."""
    changes: Mapping[str, Any] | None = None
    """The fields of model, recipe and data in which it differs from the base, as JSON has them; None where no record tells."""
    recorded_macs: Mapping[ModelConfig, int] = field(default_factory=dict)
    """MACs of an image, as counted on the models of the comparison when they ran."""

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that was tried, ascending."""
        return tuple(sorted({setting for setting, _ in self.runs}))

    @cached_property
    def grid(self) -> tuple[Setting, ...]:
        """Every setting that was planned or tried, ascending."""
        return tuple(sorted({*self.planned, *self.settings}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for _, seed in self.runs}))

    @cached_property
    def outcomes(self) -> dict[Outcome, int]:
        """How many runs ended in which way."""
        counts = Counter(map(outcome_of, self.runs.values()))
        return {outcome: counts[outcome] for outcome in Outcome}

    @cached_property
    def _completed(self) -> dict[Setting, dict[int, Record]]:
        completed: dict[Setting, dict[int, Record]] = defaultdict(dict)
        for (setting, seed), record in sorted(self.runs.items()):
            if outcome_of(record) is Outcome.COMPLETED:
                completed[setting][seed] = record
        return dict(completed)

    def completed(self, setting: Setting | None) -> dict[int, Record]:
        """Completed runs at a setting, by seed, ascending."""
        return {} if setting is None else self._completed.get(setting, {})

    def diverged(self, setting: Setting | None) -> int:
        """How many runs diverged at a setting."""
        runs = (record for (run_setting, _), record in self.runs.items() if run_setting == setting)
        return sum(outcome_of(record) is Outcome.DIVERGED for record in runs)

    def metric(self, name: str, setting: Setting | None) -> dict[int, float]:
        """A final metric of the completed runs at a setting that have it, by seed: older records lack some."""
        completed = self.completed(setting).items()
        return {seed: record.metrics[name] for seed, record in completed if name in record.metrics}

    @cached_property
    def _scores(self) -> Scores:
        return scores_of(self.runs)

    @cached_property
    def choice(self) -> Choice:
        """The setting that is reported, and the seeds that settings were compared on."""
        if self.chosen_with is not None:
            return self.chosen_with.choice
        return choose(self._scores, self.grid, tuning_seeds=self.tuning_seeds)

    @property
    def setting(self) -> Setting | None:
        """The setting with the highest mean val_top1 (`studies.choice`). None where nothing that counts completed."""
        return self.choice.setting

    @property
    def learning_rate(self) -> float | None:
        """That of the chosen setting."""
        return None if self.setting is None else self.setting[0]

    @property
    def is_fixed(self) -> bool:
        """Whether there was no choice: a grid of one setting."""
        return len(self.grid) == 1

    def values(self, field: str) -> tuple[float, ...]:
        """The values of a tuned field of which a run says something, completed or diverged, ascending."""
        index = self.fields.index(field)
        return tuple(sorted({setting[index] for setting in self._scores}))

    @cached_property
    def edges(self) -> dict[str, str]:
        """`lowest` or `highest` for each field of which nothing is known beyond the chosen value on that side."""
        if self.setting is None:
            return {}
        edges = {}
        for index, name in enumerate(self.fields):
            value, values = self.setting[index], self.values(name)
            if len({setting[index] for setting in self.grid}) > 1 and value in (values[0], values[-1]):
                edges[name] = "highest" if value == values[-1] else "lowest"
        return edges

    def text(self, setting: Setting) -> str:
        """`0.002`, or `lr 0.002, weight_decay 0.05`."""
        return setting_text(self.fields, setting)

    @property
    def noun(self) -> str:
        """What was tuned, in words."""
        return "learning rate" if len(self.fields) == 1 else "setting"

    @property
    def held_out_seeds(self) -> tuple[int, ...]:
        """Seeds that completed at the chosen setting and were not used to choose it; empty below three, too few for a verdict.

        At the setting that was best for the arm on some seeds, by luck too, these same seeds make every other arm look worse
        than it is. Empty too where nothing was chosen, or on all seeds.
        """
        if self.is_fixed or self.tuning_seeds is None:
            return ()
        seeds = tuple(seed for seed in self.completed(self.setting) if seed >= self.tuning_seeds)
        return seeds if len(seeds) >= FEWEST_SEEDS else ()

    @property
    def top1_by_seed(self) -> dict[int, float]:
        """test_top1 at the chosen setting, of every seed that completed there, ascending."""
        return self.metric("test_top1", self.setting)

    @property
    def test_top1(self) -> Summary | None:
        """The number reported: over `top1_by_seed`."""
        return Summary.of(self.top1_by_seed.values())

    @cached_property
    def _costed(self) -> Record:
        counted = (*self.completed(self.setting).values(),) or (*self.runs.values(),)
        return max(counted, key=lambda record: (outcome_of(record) is Outcome.COMPLETED, record.cost.macs))

    @property
    def params(self) -> int:
        return self._costed.cost.params

    @property
    def macs(self) -> int:
        """Per image, forward; 0 where no run got as far as counting them."""
        return self._costed.cost.macs

    @property
    def macs_incomplete(self) -> tuple[str, ...]:
        """Operators of a user's code that are not among the MACs."""
        return self._costed.cost.macs_incomplete

    @property
    def self_initialised(self) -> tuple[str, ...]:
        """Which of a user's code decides itself what it starts as."""
        return self._costed.self_initialised

    @property
    def config(self) -> RunConfig:
        """That of a run at the chosen setting, or where there is none, of any."""
        return self._costed.config

    @property
    def epochs(self) -> float:
        return self.config.train.epochs

    @property
    def training_flops(self) -> int | None:
        """Of one run and its pretraining, by 6 × MACs an image; None where its record does not say how many images an epoch
        trains on, or no run of such a model was counted.
        """
        flops, config = 0, self.config
        while True:
            train_images, macs = (
                config.data.train_images or self._costed.design.train_images,
                self._macs_of(config.model),
            )
            if train_images is None or macs is None:
                return None
            flops += 6 * macs * training_images(config.train, train_images=train_images)
            if config.pretraining is None:
                return flops
            config = config.pretraining

    def _macs_of(self, model: ModelConfig) -> int | None:
        """By closed form, or of a model that is not all ours, as its runs have counted it: it may not be installed here."""
        if isinstance(model, ViTConfig) and not user_names(model):
            return count(model).macs
        return (self.macs if model == self.config.model else self.recorded_macs.get(model)) or None

    @property
    def days(self) -> tuple[str, ...]:
        """The days, in UTC, on which the runs behind the images/s began, ascending."""
        return tuple(sorted({record.started[:10] for record in self._timed}))

    @property
    def loads(self) -> tuple[tuple[int, int], ...]:
        """The different (workers, threads) of the runs behind the images/s, ascending."""
        return tuple(sorted({(record.environment.workers, record.environment.threads) for record in self._timed}))

    @property
    def _timed(self) -> list[Record]:
        return [
            record
            for record in self.completed(self.setting).values()
            if (record.cost.train_images_per_second, record.cost.infer_images_per_second) != (None, None)
        ]

    def costs(self, name: str) -> list[float]:
        """A field of `Cost` over the completed runs at the chosen setting, where it was measured."""
        values = (getattr(record.cost, name) for record in self.completed(self.setting).values())
        return [value for value in values if value is not None]

    def median_cost(self, name: str) -> float | None:
        values = self.costs(name)
        return median(values) if values else None
