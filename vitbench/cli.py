"""The command line: `vitbench list`, `plan`, `run`, `train`, `probe`, `figures`, `tables`, ….

Importing this file imports no torch; commands that compute import it when they start.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TextIO

import typer

from vitbench import __version__
from vitbench.commands.arguments import DONE, FAILED, WRONG
from vitbench.commands.check import check
from vitbench.commands.doctor import doctor
from vitbench.commands.features import features
from vitbench.commands.figures import figures
from vitbench.commands.flops import flops
from vitbench.commands.listing import list_
from vitbench.commands.plan import plan
from vitbench.commands.probe import probe
from vitbench.commands.profile import profile
from vitbench.commands.records import records
from vitbench.commands.results import plots, report, tables
from vitbench.commands.run import run
from vitbench.commands.throughput import throughput
from vitbench.commands.trace import trace
from vitbench.commands.train import train
from vitbench.files import FULL
from vitbench.refusals import TRACEBACK, one_line
from vitbench.signals import ENDING, obeyed, outlive_terminal

app = typer.Typer(
    help="Ablations and benchmarks of Vision Transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
_USERS_TO_MEND = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
ENDED = {128 + number: number.name for number in ENDING}
"""Exit statuses of a command that a signal ended."""


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


COMMANDS: tuple[Callable[..., None], ...] = (
    *(list_, plan, check, run, train),
    *(flops, throughput, trace, profile),
    *(features, probe, figures),
    *(tables, plots, report, doctor),
)
for command in COMMANDS:
    app.command(command.__name__.rstrip("_"))(command)
app.add_typer(records, name="records")


def main() -> None:
    """Entry point, and the one place where an error becomes a line and an exit status.

    A ValueError is the user's to mend (2), and so is a file that is not there or not theirs to open. A machine that has no
    more memory or space has failed (1). Any other exception is a bug of ours, and keeps its traceback; with TRACEBACK set,
    all do.
    """
    _open_streams()
    outlive_terminal()
    with obeyed():
        status, line = _outcome()
    if (lost := _flush(sys.stdout)) is not None:
        status, line = status or FAILED, lost
    if line:
        with suppress(OSError):
            print(line, file=sys.stderr)
    _flush(sys.stderr)
    sys.exit(status)


def _open_streams() -> None:
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream is None:  # closed by whoever started this process; the next file opened must not become the output
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 – as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            # A pipe on Windows has no × and no −, and a file's name need not be UTF-8.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _outcome() -> tuple[int, str]:
    """(exit status, line for stderr) of the command line."""
    try:
        Path.cwd()
    except FileNotFoundError:  # MKL ends a process that is nowhere
        return WRONG, "vitbench: the working directory is gone; change to one that exists"
    try:
        app()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else DONE
        return status, _line_of_signal(status) if status in ENDED else ""  # typer's answer to Ctrl-C is silent
    except KeyboardInterrupt:
        return INTERRUPTED, _line_of_signal(INTERRUPTED)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        status, line = _ending_of(error)
        if not line or os.environ.get(TRACEBACK):
            raise
        return status, f"vitbench: {line}"
    return DONE, ""


def _line_of_signal(status: int) -> str:
    how = "interrupted" if status == INTERRUPTED else f"ended by {ENDED[status]}"
    return f"vitbench: {how}; what was finished is recorded, the same command goes on"


def _ending_of(error: Exception) -> tuple[int, str]:
    """(exit status, one line); the line is empty for a bug."""
    if isinstance(error, ValueError):
        return WRONG, one_line(error)
    if isinstance(error, OSError):
        if error.filename is None and error.errno in FULL:
            return FAILED, _output_is_lost(error)  # files of ours say themselves that they cannot be written
        reason = error.strerror or str(error) or type(error).__name__
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)!r}: "
        if isinstance(error, PermissionError):
            return WRONG, f"{where}{reason}; make it readable and writable for you, or give another"
        status = WRONG if isinstance(error, _USERS_TO_MEND) else FAILED
        return status, f"{where}{reason}; {TRACEBACK}=1 shows where it happened"
    from vitbench.device import is_out_of_memory

    if is_out_of_memory(error):
        reason = str(error).partition("\n")[0] or "MemoryError"
        return FAILED, f"out of memory ({reason}); give a smaller model, batch or image"
    return FAILED, ""


def _flush(stream: TextIO) -> str | None:
    """Writes what is left. Returns None where that worked, else a line; the line is empty where the reader has gone."""
    try:
        stream.flush()
    except OSError as error:
        # Without this, the interpreter would try again when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return "" if error.errno == errno.EPIPE else f"vitbench: {_output_is_lost(error)}"
    return None


def _output_is_lost(error: OSError) -> str:
    return f"output cannot be written ({error.strerror}); free space there"
