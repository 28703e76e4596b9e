"""How a run that is told to end gets to the end of its step first: SIGINT and SIGTERM, held back for a while."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

HELD = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """While it is entered, the first SIGINT or SIGTERM waits for `release`, which gives it the effect that it would have had.

    A second SIGINT has its effect at once; a second SIGTERM does not, since whoever ends a group of processes sends it to
    workers and their parent, which sends it to them again. What is ignored stays ignored. Only the main thread may handle
    signals: in another, nothing is held.
    """

    def __init__(self) -> None:
        self.held: int | None = None
        """The signal that waits."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # None: not Python's to handle
                    self._before[number] = before
                    signal.signal(number, self._hold)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()
        if self.held is not None:  # it came after the last step
            number, self.held = self.held, None
            signal.raise_signal(number)

    def release(self) -> None:
        """Lets the signal that waits, if one does, take effect: it ends the process, or raises KeyboardInterrupt."""
        if self.held is None:
            return
        number, self.held = self.held, None
        signal.signal(number, self._before[number])
        try:
            signal.raise_signal(number)
        finally:
            signal.signal(number, self._hold)

    def _hold(self, number: int, _: FrameType | None) -> None:
        if self.held is None:
            self.held = number
        elif number == signal.SIGINT:
            self.held = number
            self.release()
