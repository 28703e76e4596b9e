"""Which planned runs do the records settle already, and which are of other images or of another environment?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from vitbench.execution.content import Content
from vitbench.execution.current_environment import PARTS, CurrentEnvironment
from vitbench.execution.preparation import Planned
from vitbench.execution.request import Request, RunKeys
from vitbench.records import Record
from vitbench.studies.looks import LookedAt
from vitbench.studies.plan import Later, recorded
from vitbench.studies.redefined import Redefined, redefined
from vitbench.text import agreeing, counted


class RecordedElsewhere(NamedTuple):
    """Runs that are done, but in another environment, and a line on them where there are any."""

    runs: int
    lines: list[str]


@dataclass(frozen=True)
class Standing:
    """A request's planned runs, the records that are there, and which runs these settle."""

    planned: list[Planned]
    records: list[Record]
    """Of the images that the data sets have now, as far as that is known."""
    done: set[tuple[str, str]]
    of_other_images: int
    """Runs that are recorded, but of other images under the same names, and so are not done."""
    unknown_images: Mapping[str, str]
    """Data sets whose images could not be held against their records, and why."""
    later: Later | None
    """At most so many runs follow, which the results of pending ones decide; None where no run does."""
    expected: Later | None
    """How many of `later` are likely, as far as that is known: where seeds are added until arms are settled."""
    looked_at: list[tuple[str, str, LookedAt]]
    """(study, data set, what its judge has seen), of such studies."""
    epochs_are_estimates: bool
    """Whether `run` will measure images/s first, and arms will have other epochs than these."""

    @classmethod
    def of(
        cls, request: Request, content: Content, failed: RunKeys = (), current: CurrentEnvironment | None = None
    ) -> Standing:
        """`failed`: what is not tried again. `current` counts where runs are asked for `again`."""
        store = request.store
        stored = {name: store.read(name) for name in dict.fromkeys(study.name for study, _, _ in request.asked)}
        of_these_images = {name: [r for r in records if content.agrees(r)] for name, records in stored.items()}
        counting = of_these_images
        if request.again:
            current = current or CurrentEnvironment()
            counting = {name: [r for r in records if not current.differs(r)] for name, records in counting.items()}
        plans = request.plans(counting, failed)
        planned = [(name, run) for name, plan in plans for run in plan.runs]
        done = {
            (study, run_id)
            for study, records in counting.items()
            for run_id in recorded((run for _, run in planned if run.study == study), records)
        }
        of_other_images = {
            record.key for record in chain(*stored.values()) if record.is_done and not content.agrees(record)
        }
        is_known = all(plan.expected or not plan.later for _, plan in plans)
        return cls(
            planned=planned,
            records=list(chain(*of_these_images.values())),
            done=done,
            of_other_images=len(of_other_images & {run.key for _, run in planned} - done),
            unknown_images=content.unknown,
            later=_together(plan.later for _, plan in plans),
            expected=_together(plan.expected for _, plan in plans) if is_known else None,
            looked_at=[
                (plan.runs[0].study, plan.runs[0].config.data.dataset, plan.looked_at)
                for _, plan in plans
                if plan.looked_at is not None
            ],
            epochs_are_estimates=any(plan.epochs_are_estimates for _, plan in plans),
        )

    def pending(self, leaving_out: RunKeys = ()) -> list[Planned]:
        """What is left to run in this call: planned, not done, not left out."""
        over = {*self.done, *leaving_out}
        return [(name, run) for name, run in self.planned if run.key not in over]

    def redefined(self) -> list[Redefined]:
        """The arms with something pending that are recorded as something else."""
        unfinished = {
            (run.study, run.config.data.dataset, run.arm) for _, run in self.planned if run.key not in self.done
        }
        arms = redefined((run for _, run in self.planned), self.records)
        return [arm for arm in arms if (arm.study, arm.dataset, arm.arm) in unfinished]

    def about_metrics(self) -> list[str]:
        """A line on each study that declares another metric now than some of its recorded runs did."""
        planned = {(run.study, run.run_id): run.design.metric for _, run in self.planned}
        others: Counter[tuple[str, str, str]] = Counter()
        for record in {record.key: record for record in self.records}.values():
            if (metric := planned.get(record.key, record.design.metric)) != record.design.metric:
                others[record.study, record.design.metric, metric] += 1
        return [
            f"{study}: {counted(number, 'recorded run')} declared {before} as what arms are judged by, and {metric} is "
            "asked for now: a metric that is chosen after results were seen proves less. Runs to come will declare it, and "
            f"tables say so; where none is to come, `vitbench tables --metric {metric}`"
            for (study, before, metric), number in others.items()
        ]

    def about_images(self) -> list[str]:
        """A line on runs that are recorded of other images, and on each data set of which that is not known."""
        lines = [
            f"whether {name} still has the images of its records is not known: {why}"
            for name, why in self.unknown_images.items()
        ]
        if number := self.of_other_images:
            are, they = agreeing(number, "is", "are"), agreeing(number, "it is", "they are")
            runs = counted(number, "recorded run")
            lines.append(f"{runs} {are} of other images under the same file names: {they} not done")
        return lines

    def recorded_elsewhere(self, current: CurrentEnvironment) -> RecordedElsewhere:
        """Of the studies and data sets with something pending, how many runs are done, but in no environment like this; and,
        where there are such, a line on them, with the parts in which their environments differ from `current`.
        """
        places = {run.key: (run.study, run.config.data.dataset) for _, run in self.planned}
        unfinished = {place for key, place in places.items() if key not in self.done}
        differing: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
        for record in self.records:
            if record.key in self.done and record.is_done and places[record.key] in unfinished:
                differing[record.key].append(current.differs(record))
        elsewhere = [differences for differences in differing.values() if all(differences)]
        names = set(chain(*chain(*elsewhere)))
        number, parts = len(elsewhere), ", ".join(name for name in PARTS if name in names)
        come, they = agreeing(number, "comes", "come"), agreeing(number, "it counts", "they count")
        line = (
            f"{number} of the recorded runs {come} from another environment ({parts}): {they} as done and settings are "
            "chosen on them, but new runs will stand in a table of their own; for all of them in one table, run those too "
            "with --again, or give another --results"
        )
        return RecordedElsewhere(number, [line] if number else [])


def _together(parts: Iterable[Later | None]) -> Later | None:
    """Of several studies; None where none has anything."""
    some = [part for part in parts if part is not None]
    return Later(sum(p.runs for p in some), sum(p.training_flops for p in some)) if some else None
