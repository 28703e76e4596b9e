"""Which records differ in their seed and numbers alone? What follows from all else is worked out once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from vitbench.config import RunConfig
from vitbench.records.schema import Record

Result = TypeVar("Result")


def place_of(record: Record) -> tuple[Hashable, ...]:
    """Equal for records of one arm, setting and environment whose parts are the same objects, as `RecordReader` makes them.

    Parts that are equal, but other objects, give other places: more work, and the same results. It means something while these
    objects are there.
    """
    names = record.study, record.arm, record.budget, record.variant
    return (*names, id(record.design), id(record.environment), *_parts_of(record.config))


def _parts_of(config: RunConfig) -> tuple[Hashable, ...]:
    before = config.pretraining and _parts_of(config.pretraining)
    others = config.init, before, config.keep_head, config.evaluate, config.harness_version
    return id(config.model), id(config.data), id(config.train), *others


def by_place(records: Iterable[Record]) -> list[list[Record]]:
    """The records of each place, both in their order."""
    places: dict[Hashable, list[Record]] = {}
    for record in records:
        places.setdefault(place_of(record), []).append(record)
    return [*places.values()]


class OncePerPlace(Generic[Result]):
    """A function of a record that looks at neither its seed nor anything that was measured: called once for each place."""

    def __init__(self, work: Callable[[Record], Result]) -> None:
        self._work = work
        self._done: dict[Hashable, tuple[Record, Result]] = {}
        """With the record, so that what its place is made of stays."""

    def __call__(self, record: Record) -> Result:
        place = place_of(record)
        done = self._done.get(place)
        if done is None:
            done = self._done[place] = record, self._work(record)
        return done[1]
