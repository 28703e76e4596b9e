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
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from vitbench import __version__
from vitbench.commands.arguments import (
    DONE,
    FAILED,
    LOCAL_RESULTS,
    WRONG,
    AsJson,
    CompileName,
    CompileNames,
    DataRoot,
    DeviceName,
    Download,
    FeatureBatch,
    FeaturePrecision,
    Images,
    Mode,
    Modes,
    Out,
    PrecisionName,
    PrecisionNames,
    Results,
    Threads,
    TraceOut,
    TrunkName,
    expanded_name,
)
from vitbench.commands.doctor import doctor
from vitbench.commands.listing import list_
from vitbench.commands.options import ModelFields, with_options
from vitbench.commands.pages import plots, report, tables
from vitbench.commands.plan import plan
from vitbench.commands.records import records
from vitbench.commands.run import run
from vitbench.commands.train import train
from vitbench.config import MOST, TRACEBACK, one_line
from vitbench.files import FULL
from vitbench.signals import ENDING, obeyed, outlive_terminal

if TYPE_CHECKING:
    from vitbench.commands.features import TrunkRequest

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


FIRST: tuple[Callable[..., None], ...] = (list_, plan, run, train)
LAST: tuple[Callable[..., None], ...] = (tables, plots, report, doctor)
for command in FIRST:
    app.command(command.__name__.rstrip("_"))(command)


@app.command()
@with_options
def flops(
    model: ModelFields,
    variant: Annotated[str, typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")],
    batch_size: Annotated[int, typer.Option(max=MOST, help="Images in the batch whose FLOPs are told.")] = 1,
    mode: Mode = "infer",
    device: Annotated[str, typer.Option(help="meta (shapes, no arithmetic), or auto, cpu, cuda, cuda:N.")] = "meta",
    as_json: AsJson = False,
) -> None:
    """Parameters, MACs and activations per block, counted three ways that must agree; any field of the model."""
    from vitbench.commands.flops import show_flops
    from vitbench.costs.agreement import CountMismatchError

    try:
        show_flops(variant, model=model, batch_size=batch_size, mode=mode, device=device, as_json=as_json)
    except CountMismatchError as error:
        typer.echo(f"vitbench: {error}", err=True)
        raise typer.Exit(FAILED) from error


@app.command()
@with_options
def throughput(
    model: ModelFields,
    variants: Annotated[
        list[str], typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")
    ],
    mode: Modes = None,
    precision: PrecisionNames = None,
    compile: CompileNames = None,
    batch_size: Annotated[
        list[str] | None,
        typer.Option(help="Images, or best or max, searched for each row; may be given again; 64 by default."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="timm, vit-pytorch, torchvision or transformers beside it; may be given again."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time to measure each row in, at most.")] = 5.0,
    memory: Annotated[bool, typer.Option(help="Measure peak memory too; on CPU in a new process for each row.")] = True,
    device: DeviceName = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Images/s, latency and MFU of models, and of peers beside them, timed in turn. Any field of the model is an option."""
    from vitbench.commands.throughput import show_throughput

    failed = show_throughput(
        variants,
        model=model,
        modes=mode or ["infer", "train"],
        precisions=precision or ["auto"],
        compiles=compile or ["off"],
        batch_sizes=batch_size or ["64"],
        peers=peer or [],
        device=device,
        threads=threads,
        seconds=seconds,
        memory=memory,
        as_json=as_json,
    )
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
@with_options
def trace(
    model: ModelFields,
    variant: Annotated[str, typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")],
    mode: Modes = None,
    precision: PrecisionName = "auto",
    compile: CompileName = "off",
    batch_size: Annotated[int, typer.Option(max=MOST, help="Images.")] = 64,
    peer: Annotated[
        str | None, typer.Option(help="timm, vit-pytorch, torchvision or transformers in place of ours.")
    ] = None,
    steps: Annotated[int, typer.Option(max=10_000, help="Steps that are recorded, after warm-up.")] = 5,
    device: DeviceName = "auto",
    threads: Threads = None,
    out: TraceOut = LOCAL_RESULTS / "traces",
    as_json: AsJson = False,
) -> None:
    """Where the time of a step goes, by block, kind of operation and operator; traces for Perfetto and TensorBoard."""
    from vitbench.commands.trace import show_trace

    failed = show_trace(
        variant,
        model=model,
        modes=mode or ["infer", "train"],
        precision=precision,
        compile=compile,
        batch_size=batch_size,
        peer=peer,
        steps=steps,
        device=device,
        threads=threads,
        out=out,
        as_json=as_json,
    )
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
@with_options
def profile(
    model: ModelFields,
    variants: Annotated[
        list[str] | None,
        typer.Argument(help="Micro/2, B/16, … or timm:NAME; by default a set that suits the device."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(max=MOST, help="Images, of the variants named.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="ceilings, flops, throughput, traces or peers, or one part of these; may be given again."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is there already.")] = False,
    seconds: Annotated[float, typer.Option(help="Time to measure each row in, at most.")] = 5.0,
    device: DeviceName = "auto",
    threads: Threads = None,
    results: Results = LOCAL_RESULTS,
) -> None:
    """Throughput, peers at their best, FLOPs, traces and roofline of this device, into --results' profiles/<device>/.

    Interrupt it whenever you like; the next call goes on. Any field of the model is an option, with VARIANTs.
    """
    from vitbench.commands.profile import show_profile

    failed = show_profile(
        variants or [],
        model=model,
        batch_size=batch_size,
        results=results,
        only=only or [],
        fresh=fresh,
        device=device,
        threads=threads,
        seconds=seconds,
    )
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
def features(
    run: TrunkName,
    data: Images,
    out: Out,
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    data_root: DataRoot = None,
    batch_size: FeatureBatch = 256,
    precision: FeaturePrecision = "fp32",
    device: DeviceName = "auto",
    threads: Threads = None,
    results: Results = LOCAL_RESULTS,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """What a trained model makes of images: its pre-logits, with ids and labels, in a file."""
    from vitbench.commands.features import export_features

    export_features(_trunk_request(**locals()), out=out, split=split, as_json=as_json)


@app.command()
def probe(
    run: TrunkName,
    data: Images,
    method: Annotated[str, typer.Option(help="Some of these, with commas between.")] = "linear,few-shot,knn",
    shots: Annotated[str, typer.Option(help="Training images of each class, few-shot.")] = "1,5,10,25",
    again: Annotated[bool, typer.Option("--again", help="Measure again what is recorded.")] = False,
    data_root: DataRoot = None,
    batch_size: FeatureBatch = 256,
    precision: FeaturePrecision = "fp32",
    device: DeviceName = "auto",
    threads: Threads = None,
    results: Results = LOCAL_RESULTS,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """How good a trained model's frozen features are: linear probe, few-shot and nearest neighbours, recorded."""
    request = _trunk_request(**locals())
    from vitbench.commands.probe import probe_features
    from vitbench.records import Faults

    faults = Faults()
    probe_features(request, methods=method.split(","), shots=shots, again=again, as_json=as_json, faults=faults)
    raise typer.Exit(FAILED if faults else DONE)


@app.command()
def figures(
    run: Annotated[
        str, typer.Argument(help="A run of --results whose weights are kept, its .safetensors, timm:NAME or FILE.npz.")
    ],
    with_run: Annotated[
        str | None,
        typer.Option("--with", callback=expanded_name, help="Another such model: CKA between the layers of both."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set; that of the run where not given; others have none.")
    ] = None,
    data_root: DataRoot = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="filters, position, distance, rollout, class-token, cka, confusion; with commas, or again."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST,
            help="Test images whose attention and layers are looked at; 128, or all where they are fewer.",
        ),
    ] = None,
    device: DeviceName = "auto",
    results: Results = LOCAL_RESULTS,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """What a trained model looks like inside, as SVG and PNG in --results' figures/RUN_ID/, with the numbers behind."""
    from vitbench.commands.figures import draw_figures

    draw_figures(
        run,
        other=with_run,
        data=data,
        data_root=data_root,
        download=download,
        only=only or [],
        images=images,
        device=device,
        results=results,
        as_json=as_json,
    )


for command in LAST:
    app.command()(command)
app.add_typer(records, name="records")


def _trunk_request(**options: Any) -> TrunkRequest:
    """What `features` and `probe` share, likewise."""
    from vitbench.commands.features import TrunkRequest

    own = ("data_root", "download", "batch_size", "device", "precision", "threads", "results")
    return TrunkRequest(name=options["run"], dataset=options["data"], **{name: options[name] for name in own})


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
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
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
        return _ending_of_system(error)
    from vitbench.device import is_out_of_memory

    if is_out_of_memory(error):
        reason = str(error).partition("\n")[0] or "MemoryError"
        return FAILED, f"out of memory ({reason}); give a smaller model, batch or image"
    return FAILED, ""


def _ending_of_system(error: OSError) -> tuple[int, str]:
    if error.filename is None and error.errno in FULL:
        return FAILED, _output_is_lost(error)  # files of ours say themselves that they cannot be written
    reason = error.strerror or str(error) or type(error).__name__
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)!r}: "
    if isinstance(error, PermissionError):
        return WRONG, f"{where}{reason}; make it readable and writable for you, or give another"
    status = WRONG if isinstance(error, _USERS_TO_MEND) else FAILED
    return status, f"{where}{reason}; {TRACEBACK}=1 shows where it happened"


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
