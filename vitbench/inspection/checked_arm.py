"""What does `vitbench check` tell of an arm? Facts that need no training, and what is wrong with it, check by check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from vitbench.models import PartError
from vitbench.refusals import one_line
from vitbench.user_code import reason_of

NAMED = 4
"""Parameters, modules or rows that a line names, at most."""


@dataclass(frozen=True)
class Problem:
    """What one check has against an arm, and what to do about it."""

    check: str
    text: str


@dataclass(frozen=True)
class SharedStart:
    """How an arm's parameters start beside the baseline's, by name, before the first step."""

    equal: tuple[str, ...]
    other_values: tuple[str, ...]
    """Of one name, but other values or another shape."""
    only_here: tuple[str, ...]
    only_in_baseline: tuple[str, ...]


@dataclass
class CheckedArm:
    """Facts are None, or empty, where no check came so far."""

    arm: str
    dataset: str
    changes: dict[str, Any]
    """Fields in which it differs from the study's base, as its records will say."""
    is_baseline: bool
    params: int | None = None
    macs: int | None = None
    macs_incomplete: tuple[str, ...] = ()
    """Operators without a count."""
    batch_size: int = 0
    precision: str = ""
    """What the arm's precision comes to on this device."""
    checked_images: int = 0
    """Images of each batch that the checks take: the whole batch, unless it costs too much here."""
    peak_memory_bytes: int | None = None
    """Of one training step, as records have it."""
    peak_memory_is_estimated: bool = False
    """Whether it is extended from smaller batches."""
    start: SharedStart | None = None
    effects: dict[str, str] = field(default_factory=dict)
    """Field in which it differs from the baseline → the first thing that differs with it; empty where nothing does."""
    finite: dict[str, bool] = field(default_factory=dict)
    """Precision → whether loss and gradients are finite."""
    gradient_later: tuple[str, ...] = ()
    """Parameters without gradient in the first step that have one in the next: they start behind a factor of zero."""
    no_gradient: tuple[str, ...] = ()
    position_matters: bool | None = None
    training_differs_by: tuple[str, ...] = ()
    """Modules by which training computes otherwise than evaluation."""
    batch_norms: tuple[str, ...] = ()
    """Modules in which, in training, an image's logits depend on the other images of its batch."""
    other_masks_from: str = ""
    """The first module from which on dropout and drop path leave out other values than in the baseline, as draws of a user's
    part come before it; empty where there is none."""
    deterministic: bool | None = None
    seconds: float = 0.0
    """That the checks took."""
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def error(self, check: str, text: str) -> None:
        """Notes what is wrong, once."""
        _add(self.errors, Problem(check, text))

    def warn(self, check: str, text: str) -> None:
        """Notes what may be meant so, once."""
        _add(self.warnings, Problem(check, text))

    @contextmanager
    def guarded(self, check: str) -> Iterator[None]:
        """Whatever a user's code raises within is an error of this check, in one line; the checks after it go on."""
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError):
            self.error(check, "out of memory; give a smaller --batch-size or --variant")
        except PartError as error:
            self.error(check, str(error))
        except ValueError as error:
            self.error(check, one_line(error))
        except Exception as error:  # a user's code raises what it likes
            self.error(check, reason_of(error))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def named(names: Sequence[str]) -> str:
    """The first few, and how many more."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _add(problems: list[Problem], problem: Problem) -> None:
    if problem not in problems:
        problems.append(problem)
