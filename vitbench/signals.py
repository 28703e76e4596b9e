"""How does a process end when it is told to? At a safe point: after a training step, or after a record."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

ENDING = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if name in signal.Signals.__members__
)
"""Signals by which people, a closing terminal and cluster managers (one of the last three) ask a process to end."""

RECORDING_SECONDS = 10.0
"""So long does even a second Ctrl-C wait for a record that is being written: the `patience` of HeldSignals."""

_is_ending = False


class Ended(SystemExit):
    """A signal told this process to end; its code is 128 + the signal's number. Code that catches SystemExit lets it pass."""


@contextmanager
def obeyed() -> Iterator[None]:
    """While entered, a signal that asks this process to end raises Ended(128 + its number), a shell's status; Ctrl-C raises
    KeyboardInterrupt.

    While one of these travels, only Ctrl-C has an effect: who ends a group of processes sends several signals. Where it was
    swallowed, as in `__del__` or by a broad `except`, the next signal raises again. Signals that are ignored, as under nohup,
    or have other handlers stay so. Does nothing outside the main thread.
    """
    global _is_ending
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: handler for number in ENDING if (handler := signal.getsignal(number)) in _DEFAULTS}
    if before:
        _is_ending = False
    for number in before:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _is_ending = False


_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)


def _end(number: int, _: FrameType | None) -> None:
    global _is_ending
    _is_ending = True
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    error = sys.exception()
    while error is not None and not isinstance(error, Ended | KeyboardInterrupt):
        error = error.__context__
    if error is None:  # else the code that this signal interrupted cleans up after an earlier one
        raise Ended(128 + number)


def leave_to_parent(*, replacing: Collection[Any] = _DEFAULTS) -> None:
    """Has a worker ignore what ends a group of processes: its parent decides, and ends it by SIGTERM.

    Replaces the handlers of this module and those in `replacing`; signals that are ignored or have other handlers stay so.
    """
    for number in ENDING:
        handler = signal.getsignal(number)
        is_ours = handler is _end or getattr(handler, "__func__", None) is HeldSignals._hold
        if is_ours or handler in replacing:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: leave_to_parent(replacing=()))


class HeldSignals:
    """While entered, the first signal that asks to end waits for `release`, which lets it take effect.

    A second SIGINT takes effect once `patience` seconds have gone by since the first; a second signal of another kind has
    none. Ignored signals stay ignored. Python handles signals in its main thread, whichever thread they reach; entered in
    another thread, nothing is held.
    """

    def __init__(self, *, patience: float = 0.0) -> None:
        self.held: int | None = None
        """The signal that waits."""
        self.patience = patience
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # None: not Python's to handle
                    self._before[number] = before
                    signal.signal(number, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()
        if self.held is not None:  # came after the last step
            number, self.held = self.held, None
            signal.raise_signal(number)

    def release(self) -> None:
        """Lets the signal that waits, if one does, take effect: it ends the process, or raises what ends it."""
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
            self.held, self._since = number, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since >= self.patience:
            self.held = number
            self.release()


def outlive_terminal() -> None:
    """Replaces stdout and stderr by streams that lose what is written once their terminal is closed, and raise nothing."""
    if sys.platform == "win32":
        return
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            raw = io.BufferedWriter(_Outliving(stream.fileno(), "wb", closefd=False))
            options = ("encoding", "errors", "line_buffering", "write_through")
            setattr(sys, name, io.TextIOWrapper(raw, **{option: getattr(stream, option) for option in options}))


class _Outliving(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            # EIO: the terminal is gone. While the process ends, saving matters more than printing.
            if error.errno == errno.EIO or _is_ending:
                return len(memoryview(data).cast("B"))
            raise
