"""The command line: `vitbench list`, `plan`, `run`, `train`, `probe`, `figures`, `tables`, ….

Importing this file imports no torch; commands that compute import it when they start.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitbench import __version__
from vitbench.commands.arguments import (
    LOCAL_RESULTS,
    Again,
    AsJson,
    BatchSize,
    BudgetName,
    BudgetOption,
    CompileOption,
    Data,
    DataRoot,
    DeviceName,
    Download,
    Epochs,
    ExecutorName,
    Extend,
    FeatureBatch,
    FeaturePrecision,
    Images,
    Jobs,
    KeepWeights,
    Match,
    ModelKwargs,
    PrecisionOption,
    Rates,
    Results,
    Seeds,
    Studies,
    Threads,
    TrainImages,
    TrunkName,
    Tune,
    TuneSeeds,
    Variant,
    at_home,
)
from vitbench.commands.options import given_fields, model_kwargs, with_config_options
from vitbench.config import DataConfig, TrainConfig, ViTConfig, one_line

if TYPE_CHECKING:
    from vitbench.commands.features import TrunkRequest
    from vitbench.commands.request import Request

app = typer.Typer(
    help="Ablations and benchmarks of Vision Transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
INTERRUPTED_SAYS = "vitbench: interrupted; what was finished is recorded, the same command goes on"


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Variants, studies, data sets, budgets."""
    from vitbench.commands.show import list_everything

    list_everything(as_json=as_json)


@app.command()
def plan(
    studies: Studies = None,
    budget: BudgetOption = BudgetName.quick,
    data: Data = None,
    data_root: DataRoot = None,
    seeds: Seeds = None,
    variant: Variant = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    train_images: TrainImages = None,
    learning_rates: Rates = None,
    tune: Tune = None,
    tune_seeds: TuneSeeds = None,
    extend: Extend = None,
    match: Match = "epochs",
    precision: PrecisionOption = None,
    compile: CompileOption = None,
    again: Again = False,
    jobs: Jobs = "auto",
    results: Results = LOCAL_RESULTS,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """The runs that studies need, their FLOPs and estimated hours on this machine, and which are done."""
    request = _request(**locals())
    from vitbench.commands.show import show_plan

    show_plan(request, jobs=jobs, as_json=as_json)


@app.command()
def run(
    studies: Studies = None,
    budget: BudgetOption = BudgetName.quick,
    data: Data = None,
    data_root: DataRoot = None,
    seeds: Seeds = None,
    variant: Variant = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    train_images: TrainImages = None,
    learning_rates: Rates = None,
    tune: Tune = None,
    tune_seeds: TuneSeeds = None,
    extend: Extend = None,
    match: Match = "epochs",
    precision: PrecisionOption = None,
    compile: CompileOption = None,
    again: Again = False,
    device: DeviceName = "auto",
    executor: ExecutorName = ExecutorName.local,
    jobs: Jobs = "auto",
    threads: Threads = None,
    keep_weights: KeepWeights = False,
    results: Results = LOCAL_RESULTS,
    download: Download = False,
) -> None:
    """Run what is not yet recorded in --results. Interrupt it whenever you like; the next call goes on."""
    request = _request(**locals())
    from vitbench.commands.run import run_studies

    failed = run_studies(
        request, device=device, executor=executor.value, jobs=jobs, threads=threads, keep_weights=keep_weights
    )
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
@with_config_options(ViTConfig, skip=())
@with_config_options(TrainConfig, skip=())
@with_config_options(DataConfig, skip=("dataset",))
def train(
    context: typer.Context,
    variant: Annotated[
        str | None, typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Weights to start from: a RUN of --results, a file (.safetensors, .npz), or timm:NAME."),
    ] = None,
    keep_head: Annotated[
        bool, typer.Option("--keep-head", help="Take the head over too; with --epochs 0, to evaluate it as it is.")
    ] = False,
    kwargs: ModelKwargs = None,
    recipe: Annotated[BudgetName | None, typer.Option(help="Train as this budget does, but for what is given.")] = None,
    data: Annotated[str, typer.Option(help="Data set: a name or a folder.")] = "digits",
    data_root: DataRoot = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: DeviceName = "auto",
    threads: Threads = None,
    keep_weights: KeepWeights = True,
    results: Results = LOCAL_RESULTS,
    download: Download = False,
    as_json: AsJson = False,
) -> None:
    """One run, any field of the model, the recipe and the data as an option."""
    from vitbench.commands.train import train_one

    record = train_one(
        variant,
        init=init,
        keep_head=keep_head,
        model={**given_fields(context, ViTConfig), **model_kwargs(kwargs)},
        train=given_fields(context, TrainConfig),
        data=given_fields(context, DataConfig),
        recipe=recipe.value if recipe else None,
        dataset=data,
        data_root=data_root,
        download=download,
        seed=seed,
        device=device,
        threads=threads,
        keep_weights=keep_weights,
        results=results,
        as_json=as_json,
    )
    raise typer.Exit(FAILED if record.outcome == "failed" else DONE)


@app.command()
@with_config_options(ViTConfig, skip=())
def flops(
    context: typer.Context,
    variant: Annotated[str, typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")],
    kwargs: ModelKwargs = None,
    batch_size: Annotated[int, typer.Option(help="Images in the batch whose FLOPs are told.")] = 1,
    mode: Annotated[str, typer.Option(help="infer (forward) or train (3 × forward).")] = "infer",
    device: Annotated[str, typer.Option(help="meta (shapes, no arithmetic), or auto, cpu, cuda, cuda:N.")] = "meta",
    as_json: AsJson = False,
) -> None:
    """Parameters, MACs and activations per block, counted three ways that must agree; any field of the model."""
    from vitbench.commands.flops import show_flops
    from vitbench.profiling.agreement import CountMismatchError

    model = {**given_fields(context, ViTConfig), **model_kwargs(kwargs)}
    try:
        show_flops(variant, model=model, batch_size=batch_size, mode=mode, device=device, as_json=as_json)
    except CountMismatchError as error:
        typer.echo(f"vitbench: {error}", err=True)
        raise typer.Exit(FAILED) from error


@app.command()
@with_config_options(ViTConfig, skip=())
def throughput(
    context: typer.Context,
    variants: Annotated[
        list[str], typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")
    ],
    kwargs: ModelKwargs = None,
    mode: Annotated[list[str] | None, typer.Option(help="infer or train; both by default.")] = None,
    precision: Annotated[list[str] | None, typer.Option(help="auto, fp32 or bf16; may be given again.")] = None,
    compile: Annotated[list[str] | None, typer.Option(help="torch.compile: off or on; may be given again.")] = None,
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
        model={**given_fields(context, ViTConfig), **model_kwargs(kwargs)},
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
@with_config_options(ViTConfig, skip=())
def trace(
    context: typer.Context,
    variant: Annotated[str, typer.Argument(help="Micro/2, Ti/16, R50+B/16, … (see `vitbench list`), or timm:NAME.")],
    kwargs: ModelKwargs = None,
    mode: Annotated[list[str] | None, typer.Option(help="infer or train; both by default.")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    compile: Annotated[str, typer.Option(help="torch.compile: off or on.")] = "off",
    batch_size: Annotated[int, typer.Option(help="Images.")] = 64,
    peer: Annotated[
        str | None, typer.Option(help="timm, vit-pytorch, torchvision or transformers in place of ours.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps that are recorded, after warm-up.")] = 5,
    device: DeviceName = "auto",
    threads: Threads = None,
    out: Annotated[Path, typer.Option(callback=at_home, help="Folder; each trace gets one of its own within.")] = Path(
        "results/local/traces"
    ),
    as_json: AsJson = False,
) -> None:
    """Where the time of a step goes, by block, kind of operation and operator; traces for Perfetto and TensorBoard."""
    from vitbench.commands.trace import show_trace

    failed = show_trace(
        variant,
        model={**given_fields(context, ViTConfig), **model_kwargs(kwargs)},
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
@with_config_options(ViTConfig, skip=())
def profile(
    context: typer.Context,
    variants: Annotated[
        list[str] | None,
        typer.Argument(help="Micro/2, B/16, … or timm:NAME; by default a set that suits the device."),
    ] = None,
    kwargs: ModelKwargs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images, of the variants named.")] = None,
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
        model={**given_fields(context, ViTConfig), **model_kwargs(kwargs)},
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
    out: Annotated[Path, typer.Option(callback=at_home, help="FILE.npz or FILE.parquet.")],
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
    from vitbench.commands.probe import probe_features

    probe_features(_trunk_request(**locals()), methods=method.split(","), shots=shots, again=again, as_json=as_json)


@app.command()
def figures(
    run: Annotated[
        str, typer.Argument(help="A run of --results whose weights are kept, its .safetensors, timm:NAME or FILE.npz.")
    ],
    with_run: Annotated[
        str | None, typer.Option("--with", help="Another such model: CKA between the layers of both.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set; that of the run where not given; others have none.")
    ] = None,
    data_root: DataRoot = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="filters, position, distance, rollout, class-token, cka, confusion; with commas, or again."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Test images whose attention and layers are looked at.")] = 128,
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


@app.command()
def tables(results: Results = LOCAL_RESULTS) -> None:
    """Every table again, as Markdown, CSV and LaTeX, from the records in --results alone."""
    from vitbench.analysis.tables import print_tables, write_tables

    paths = write_tables(results)
    print_tables(results)
    _print_paths(paths)


@app.command()
def plots(results: Results = LOCAL_RESULTS) -> None:
    """Every plot again, as SVG and PNG, from the records in --results alone."""
    from vitbench.analysis.plots import write_plots

    _print_paths(write_plots(results))


@app.command()
def report(results: Results = LOCAL_RESULTS) -> None:
    """One HTML page with all tables and plots, from the records in --results alone."""
    from vitbench.analysis.report import write_report

    _print_paths([write_report(results)])


@app.command()
def doctor(data_root: DataRoot = None, as_json: AsJson = False) -> None:
    """What this machine can do: device, speed per precision, compiler, data; what is missing and how to get it."""
    from vitbench.commands.doctor import examine

    examine(data_root=data_root, as_json=as_json)


def _request(**options: Any) -> Request:
    """What `plan` and `run` share: their options, as the request that both make of them."""
    from vitbench.commands.request import Request
    from vitbench.studies.tunable import parse_tune

    recipe = ("epochs", "batch_size", "precision", "compile")
    return Request(
        studies=options["studies"] or ["all"],
        budget=options["budget"].value,
        datasets=options["data"] or [],
        data_root=options["data_root"],
        download=options["download"],
        seeds=options["seeds"],
        variant=options["variant"],
        train={name: options[name] for name in recipe if options[name] is not None},
        train_images=options["train_images"],
        learning_rates=tuple(options["learning_rates"] or ()),
        tuning_seeds=options["tune_seeds"],
        extend=options["extend"],
        tune=parse_tune(options["tune"] or ()),
        match=options["match"],
        again=options["again"],
        results=options["results"],
    )


def _trunk_request(**options: Any) -> TrunkRequest:
    """What `features` and `probe` share, likewise."""
    from vitbench.commands.features import TrunkRequest

    own = ("data_root", "download", "batch_size", "device", "precision", "threads", "results")
    return TrunkRequest(name=options["run"], dataset=options["data"], **{name: options[name] for name in own})


def _print_paths(paths: list[Path]) -> None:
    for path in paths:
        typer.echo(os.path.relpath(path))


def main() -> None:
    """Entry point: a ValueError is the user's to mend, in one line, with exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # a pipe on Windows has no × and no −
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's answer to Ctrl-C, which is silent
            print(INTERRUPTED_SAYS, file=sys.stderr)
        raise
    except ValueError as error:
        print(f"vitbench: {one_line(error)}", file=sys.stderr)
        sys.exit(WRONG)
    except KeyboardInterrupt:
        print(INTERRUPTED_SAYS, file=sys.stderr)
        sys.exit(INTERRUPTED)
