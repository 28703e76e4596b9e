"""How do runs on other machines tell how far they are? An actor keeps the last word of each until the driver takes it.

Runs do not wait for it: where it is gone, they go on, and the display stands still.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from vitbench.execution.job import Report

TAKE_SECONDS = 2.0
"""How long the driver's question waits in the actor for news."""
GATHER_SECONDS = 0.5
"""How long the first of them waits for others, so that many runs cost no more than one."""
MOST_CALLS = 10_000
"""That may be under way at a time."""


@dataclass(frozen=True)
class Letter:
    """On which node a run is, and how far."""

    node: str
    report: Report | None


class _Mailbox:
    def __init__(self) -> None:
        self._letters: dict[str, Letter] = {}
        self._news = asyncio.Event()

    async def put(self, run_id: str, letter: Letter) -> None:
        self._letters[run_id] = letter
        self._news.set()

    async def take(self) -> dict[str, Letter]:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), TAKE_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)
        self._news.clear()
        letters, self._letters = self._letters, {}
        return letters


class Mailbox:
    """The driver's end. The actor is on the driver's node, which it cannot outlive."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        on_this_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_concurrency=MOST_CALLS)(_Mailbox)
        self.actor = actor.options(scheduling_strategy=on_this_node).remote()
        self.asked: Any = self.actor.take.remote()
        """The answer under way, to wait for; None once the actor is gone for good."""

    def take(self) -> dict[str, Letter]:
        """run_id → its last letter, where the answer is there; asks again."""
        try:
            letters: dict[str, Letter] = self._ray.get(self.asked)
        except self._ray.exceptions.ActorUnavailableError:  # it is being started again
            letters = {}
        except self._ray.exceptions.RayError:
            self.asked = None
            return {}
        self.asked = self.actor.take.remote()
        return letters


def sender(actor: Any, run_id: str, node: str) -> Callable[[Report | None], None]:
    """Of a run, its way to the mailbox, for reports and, as None, where it is; never waits, never raises."""

    def send(report: Report | None) -> None:
        with suppress(Exception):  # whatever has become of the actor, the run goes on
            actor.put.remote(run_id, Letter(node, report))

    return send
