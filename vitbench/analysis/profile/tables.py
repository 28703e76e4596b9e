"""Which tables a device's profile comes to: ours against peers, throughput, where the time goes, counts.

Everything is computed from the profile's JSON alone; equal files give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitbench.analysis.profile.contests import peers, settings, summary
from vitbench.analysis.profile.profile import (
    Profile,
    load_profile,
    model_label,
    pixels,
    ran,
    setting_of,
    shares,
    variant_of,
)
from vitbench.analysis.profile.rows import (
    counts_of_timm,
    failed_parts,
    identity_of,
    left_out,
    parts_of_timm,
    rate_with_interval,
    raw_throughput,
    unread,
    warnings_of,
)
from vitbench.analysis.writing.files import MARK, remove_stale, write
from vitbench.analysis.writing.markup import ABSENT, count_text, escape_markdown, html_id, significant
from vitbench.analysis.writing.table import Table, csv_text, latex, markdown
from vitbench.costs.macs import FORWARDS, MFU_MEANS
from vitbench.profiling.profile_store import list_profiles
from vitbench.records import Faults


def write_profiles(store_root: str | Path, faults: Faults | None = None) -> list[Path]:
    """Writes `profiles/<device>/tables/*.{md,csv,tex}` and `README.md` of every device; returns the paths.

    A profile that is damaged is left as it is; `faults` are told, or stderr.
    """
    faults = Faults() if faults is None else faults
    written: list[Path] = []
    for directory in list_profiles(store_root):
        texts: dict[Path, str] = {}
        with faults.leaving_out(directory):
            texts = _pages(directory)
        if not texts:
            continue
        paths = [write(path, text) for path, text in texts.items()]
        remove_stale(directory, written=paths, suffixes=(".md", ".csv", ".tex"))
        written += paths
    return written


def _pages(directory: Path) -> dict[Path, str]:
    """What a device's tables and README hold."""
    profile = load_profile(directory)
    tables = tables_of(profile)
    texts = {
        directory / "tables" / f"{table.name}.{suffix}": text
        for table in tables
        for suffix, text in _texts(table, profile).items()
    }
    return {**texts, directory / "README.md": _page(profile, tables)}


def _texts(table: Table, profile: Profile) -> dict[str, str]:
    return {
        "md": markdown(table, where=profile.where, remarks=left_out(profile)),
        "csv": csv_text(table),
        "tex": latex(table, where=profile.where, label=html_id("profile", profile.directory.name, table.name)),
    }


def tables_of(profile: Profile) -> list[Table]:
    """All tables that have a row."""
    makers = (summary, peers, settings, throughput, by_kind, by_role, by_block, flops, ceilings)
    return [table for table in (maker(profile) for maker in makers) if table.rows]


def throughput(profile: Profile) -> Table:
    """Our models: images/s, latency, MFU and memory."""
    pairs = [(part, row) for part in profile.of("throughput") for row in part.facts["rows"]]
    rows = [
        [
            *(model_label(part), row["mode"], setting_of(row), str(row["batch_size"])),
            rate_with_interval(row),
            *(f"{row[f'latency_p{p}_ms']:,.2f}" if ran(row) else ABSENT for p in (50, 99)),
            f"{row['mfu']:.0%}" if ran(row) else ABSENT,
            significant(row["peak_memory_bytes"] / 2**20) if row["peak_memory_bytes"] else ABSENT,
            str(len(row["samples"])) + ("" if row["settled"] or not ran(row) else " *"),
        ]
        for part, row in pairs
    ]
    notes = [
        f"{model_label(part)}, {row['mode']}, {setting_of(row)}: {row['reason']}."
        for part, row in pairs
        if row["reason"]
    ]
    if any(ran(row) and not row["settled"] for _, row in pairs):
        notes.append(_STAR)
    return Table(
        name="throughput",
        title="Throughput, latency and memory",
        columns=(
            "model",
            "mode",
            "setting",
            "batch",
            "images/s [95 %]",
            "p50 (ms)",
            "p99 (ms)",
            "MFU",
            "peak memory (MiB)",
            "n",
        ),
        rows=rows,
        raw=[{**identity_of(part), **raw_throughput(row)} for part, row in pairs],
        texts=3,
        conventions=(
            "images/s is the batch over the median step, with the 95 % bootstrap interval; p50 and p99 are of a whole batch.",
            MFU_MEANS,
            "Peak memory: on CPU the rise of the resident size of a fresh process, on CUDA the allocator's peak.",
        ),
        notes=(
            *failed_parts(profile, "throughput"),
            *notes,
            *unread(profile, "throughput"),
            *warnings_of(profile, "throughput"),
        ),
    )


def by_kind(profile: Profile) -> Table:
    """Where a step's time goes, by kind of operation."""
    return _breakdown(profile, "kind", "by kind of operation")


def by_role(profile: Profile) -> Table:
    """Where a step's time goes, all blocks together: attention, MLP, norms, optimizer, …"""
    return _breakdown(profile, "role", "by role, all blocks together")


def by_block(profile: Profile) -> Table:
    """Where a step's time goes, block by block."""
    return _breakdown(profile, "block", "by block")


def _breakdown(profile: Profile, by: str, words: str) -> Table:
    rows, raw = [], []
    for part in profile.of("traces"):
        sums = shares(part, by)
        whole = sum(share.seconds for share in sums.values())
        for what, share in sums.items():
            rows.append(
                [
                    *(model_label(part), part.request["mode"], what),
                    f"{1e3 * share.seconds:,.2f}",
                    f"{share.seconds / whole:.1%}" if whole else ABSENT,
                    f"{share.calls:,}",
                    significant(share.flops / share.seconds / 1e9) if share.flops and share.seconds else ABSENT,
                    significant(share.flops / share.bytes) if share.flops and share.bytes else ABSENT,
                ]
            )
            raw.append(
                {
                    **identity_of(part),
                    by: what,
                    "seconds": share.seconds,
                    "share_of_step": share.seconds / whole if whole else None,
                    "calls": share.calls,
                    "flops": share.flops,
                    "bytes": share.bytes,
                }
            )
    return Table(
        name=f"time-by-{by}",
        title=f"Where the time of a step goes, {words}",
        columns=("model", "mode", by, "ms a step", "share", "calls", "GFLOP/s", "FLOP/byte"),
        rows=rows,
        raw=raw,
        texts=3,
        conventions=(
            "Of a step under the profiler, which is slower than one that is timed; rows sum to the step.",
            "FLOPs: 2 × MACs of matrix products, convolutions and attention. Bytes: operators' inputs and outputs, each once.",
        ),
        notes=(*failed_parts(profile, "traces"), *(parts_of_timm(profile) if by != "kind" else ())),
    )


def flops(profile: Profile) -> Table:
    """Parameters, MACs and activations of each model."""
    parts = profile.of("flops")
    return Table(
        name="flops",
        title="Parameters, MACs and activations",
        columns=("model", "params", "GMACs", "activations (M)", "GFLOPs to infer", "GFLOPs to train"),
        rows=[
            [
                model_label(part),
                count_text(part.facts["params"]),
                significant(part.facts["macs"] / 1e9),
                significant(part.facts["activations"] / 1e6),
                *(significant(2 * part.facts["macs"] * forwards / 1e9) for forwards in FORWARDS.values()),
            ]
            for part in parts
        ],
        raw=[
            {"variant": variant_of(part), "image_size": pixels(part), **{k: part.facts[k] for k in _COUNTS}}
            for part in parts
        ],
        texts=1,
        conventions=(
            "Of one image. 1 MAC = 2 FLOPs; norms, nonlinearities and softmax are not counted; three counters agree.",
        ),
        notes=(*failed_parts(profile, "flops"), *counts_of_timm(profile)),
    )


_COUNTS = ("params", "macs", "activations")


def ceilings(profile: Profile) -> Table:
    """What the device does at best, in every part that measured it."""
    found = [(part.name, ceiling) for part in profile.parts if (ceiling := part.facts.get("ceilings"))]
    precisions = list(dict.fromkeys(p for _, ceiling in found for p in ceiling["flops_per_second"]))
    return Table(
        name="ceilings",
        title="Matrix products and copying at their best",
        columns=("measured with", *(f"{p} (GFLOP/s)" for p in precisions), "copy (GB/s)"),
        rows=[
            [
                name,
                *(significant(ceiling["flops_per_second"][p] / 1e9) for p in precisions),
                significant(ceiling["bytes_per_second"] / 1e9),
            ]
            for name, ceiling in found
        ],
        raw=[
            {
                "part": name,
                **{f"{p}_flops_per_second": ceiling["flops_per_second"][p] for p in precisions},
                "copy_bytes_per_second": ceiling["bytes_per_second"],
            }
            for name, ceiling in found
        ],
        texts=1,
        conventions=(
            "Square matrices, the fastest size counts; bytes are read and written, each once. MFU is over what was measured "
            "in the same run, so that a machine that drifts does not change it.",
        ),
        notes=tuple(failed_parts(profile, "ceilings")),
    )


def _page(profile: Profile, tables: Sequence[Table]) -> str:
    """All Markdown tables of a device on one page, with links to their files."""
    lines = [
        f"# {escape_markdown(profile.device)}",
        "",
        f"<!-- {MARK}; do not edit -->",
        "",
        f"{escape_markdown(profile.where)}.",
    ]
    if (profile.directory / "plots" / "roofline.png").exists():
        lines += ["", "![Roofline](plots/roofline.png)"]
    failed = [
        note for kind in dict.fromkeys(part.kind for part in profile.parts) for note in failed_parts(profile, kind)
    ]
    lines += ["", *(f"- {escape_markdown(note)}" for note in failed)] if failed else []
    for table in tables:
        files = " · ".join(f"[{suffix}](tables/{table.name}.{suffix})" for suffix in ("md", "csv", "tex"))
        lines += ["", markdown(table, where=profile.where, remarks=left_out(profile), level=2), files]
    return "\n".join(lines) + "\n"


_STAR = (
    "* after the number of rounds: the median's 95 % interval is still wider than 2 %; --seconds gives it more time."
)
