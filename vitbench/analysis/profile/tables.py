"""Which tables does a device's profile have? Ours against peers, throughput, where the time goes, counts, ceilings.

Everything is computed from the profile's JSON alone; equal files give equal bytes.
"""

from __future__ import annotations

from pathlib import Path

from vitbench.analysis.profile import notes
from vitbench.analysis.profile.contests import peers, settings, summary
from vitbench.analysis.profile.profile import (
    Profile,
    identity_of,
    model_facts,
    model_label,
    rows_of,
    shares,
    write_of_each_profile,
)
from vitbench.analysis.writing.markup import escape_markdown, html_id
from vitbench.analysis.writing.table import Table, csv_text, latex, markdown, markdown_head, markdown_list
from vitbench.analysis.writing.words import ABSENT, count_text, filled, significant
from vitbench.costs.macs import FORWARDS, MFU_MEANS
from vitbench.records import Faults

STAR = "* after the number of rounds: the median's 95 % interval is still wider than 2 %; --seconds gives it more time."


def write_profiles(store_root: str | Path, faults: Faults | None = None) -> list[Path]:
    """Writes `profiles/<device>/tables/*.{md,csv,tex}` and `README.md` of every device, as `write_of_each_profile` does."""
    return write_of_each_profile(store_root, _pages, suffixes=(".md", ".csv", ".tex"), faults=faults)


def _pages(profile: Profile) -> dict[Path, str]:
    """What a device's tables hold, and its README: all of them on one page, with links to their files."""
    directory, where, remarks = profile.directory, profile.where, notes.left_out(profile)
    page = [*markdown_head(profile.device), f"{escape_markdown(where)}."]
    if (directory / "plots" / "roofline.png").exists():
        page += ["", "![Roofline](plots/roofline.png)"]
    kinds = dict.fromkeys(part.kind for part in profile.parts)
    page += markdown_list([note for kind in kinds for note in notes.failed_parts(profile, kind)])
    texts: dict[Path, str] = {}
    for table in tables_of(profile):
        stem, label = directory / "tables" / table.name, html_id("profile", directory.name, table.name)
        texts[stem.with_suffix(".md")] = markdown(table, where=where, remarks=remarks)
        texts[stem.with_suffix(".csv")] = csv_text(table.raw)
        texts[stem.with_suffix(".tex")] = latex(table, where=where, label=label)
        links = " · ".join(f"[{suffix}](tables/{table.name}.{suffix})" for suffix in ("md", "csv", "tex"))
        page += ["", markdown(table, where=where, remarks=remarks, level=2), links]
    return {**texts, directory / "README.md": "\n".join(page) + "\n"}


def tables_of(profile: Profile) -> list[Table]:
    """All tables that have a row."""
    breakdowns = (breakdown(profile, by) for by in BREAKDOWNS)
    tables = (summary(profile), peers(profile), settings(profile), throughput(profile), *breakdowns)
    return [table for table in (*tables, flops(profile), ceilings(profile)) if table]


def throughput(profile: Profile) -> Table:
    """Our models: images/s, latency, MFU and memory."""
    pairs = [(part, row) for part in profile.of("throughput") for row in rows_of(part)]
    has_both = any(part.request.get("full_tokens") for part, _ in pairs)
    rows = [
        {
            "model": model_label(part),
            "mode": row.mode,
            "setting": row.setting,
            **({"last block": row.last_block or ABSENT} if has_both else {}),
            "batch": str(row.batch_size),
            "images/s [95 %]": row.rate_text,
            "p50 (ms)": filled("{:,.2f}", row.latency_p50_ms),
            "p99 (ms)": filled("{:,.2f}", row.latency_p99_ms),
            "MFU": row.mfu_text,
            "peak memory (MiB)": significant(row.peak_memory_bytes / 2**20) if row.peak_memory_bytes else ABSENT,
            "n": row.rounds_text,
        }
        for part, row in pairs
    ]
    return Table(
        name="throughput",
        title="Throughput, latency and memory",
        rows=rows,
        raw=[
            {**identity_of(part), **row.raw(), **({"last_block": row.last_block} if has_both else {})}
            for part, row in pairs
        ],
        texts=("model", "mode", "setting", *(("last block",) if has_both else ())),
        conventions=(
            "images/s is the batch over the median step, with the 95 % bootstrap interval; p50 and p99 are of a whole batch.",
            MFU_MEANS,
            "Peak memory: on CPU the rise of the resident size of a fresh process, on CUDA the allocator's peak.",
        ),
        notes=[
            *notes.failed_parts(profile, "throughput"),
            *(f"{model_label(part)}, {row.mode}, {row.setting}: {row.reason}." for part, row in pairs if row.reason),
            *([STAR] if any(row.is_noisy for _, row in pairs) else []),
            *notes.unread(profile, "throughput"),
            *notes.warnings_of(profile, "throughput"),
        ],
    )


BREAKDOWNS = {"kind": "by kind of operation", "role": "by role, all blocks together", "block": "by block"}


def breakdown(profile: Profile, by: str) -> Table:
    """Where a step's time goes, by one of BREAKDOWNS."""
    rows, raw = [], []
    for part in profile.of("traces"):
        sums = shares(part, by)
        step_seconds = sum(share.seconds for share in sums.values())
        for name, share in sums.items():
            of_step = share.seconds / step_seconds if step_seconds else None
            rows.append(
                {
                    "model": model_label(part),
                    "mode": part.request["mode"],
                    by: name,
                    "ms a step": f"{1e3 * share.seconds:,.2f}",
                    "share": filled("{:.1%}", of_step),
                    "calls": f"{share.calls:,}",
                    "GFLOP/s": significant(share.flops_per_second and share.flops_per_second / 1e9),
                    "FLOP/byte": significant(share.intensity),
                }
            )
            raw.append({**identity_of(part), by: name, "seconds": share.seconds, "share_of_step": of_step})
            raw[-1] |= {"calls": share.calls, "flops": share.flops, "bytes": share.bytes}
    return Table(
        name=f"time-by-{by}",
        title=f"Where the time of a step goes, {BREAKDOWNS[by]}",
        rows=rows,
        raw=raw,
        texts=("model", "mode", by),
        conventions=(
            "Of a step under the profiler, which is slower than one that is timed; rows sum to the step.",
            "FLOPs: 2 × MACs of matrix products, convolutions and attention. Bytes: operators' inputs and outputs, each once.",
        ),
        notes=[*notes.failed_parts(profile, "traces"), *(notes.parts_of_timm(profile) if by != "kind" else ())],
    )


def flops(profile: Profile) -> Table:
    """Parameters, MACs and activations of each model."""
    rows, raw = [], []
    for part in profile.of("flops"):
        counts = {name: part.facts[name] for name in ("params", "macs", "activations")}
        gflops = 2 * counts["macs"] / 1e9
        rows.append(
            {
                "model": model_label(part),
                "params": count_text(counts["params"]),
                "GMACs": significant(counts["macs"] / 1e9),
                "activations (M)": significant(counts["activations"] / 1e6),
                **{f"GFLOPs to {mode}": significant(gflops * forwards) for mode, forwards in FORWARDS.items()},
            }
        )
        raw.append({**model_facts(part), **counts})
    return Table(
        name="flops",
        title="Parameters, MACs and activations",
        rows=rows,
        raw=raw,
        texts=("model",),
        conventions=[
            "Of one image. 1 MAC = 2 FLOPs; norms, nonlinearities and softmax are not counted; three counters agree."
        ],
        notes=[*notes.failed_parts(profile, "flops"), *notes.counts_of_timm(profile)],
    )


def ceilings(profile: Profile) -> Table:
    """What the device does at best, in every part that measured it."""
    measured = {part.name: ceiling for part in profile.parts if (ceiling := part.facts.get("ceilings"))}
    precisions = list(dict.fromkeys(p for ceiling in measured.values() for p in ceiling["flops_per_second"]))
    rows, raw = [], []
    for name, ceiling in measured.items():
        rates, copy = ceiling["flops_per_second"], ceiling["bytes_per_second"]
        cells = {f"{p} (GFLOP/s)": significant(rates[p] / 1e9) for p in precisions}
        rows.append({"measured with": name, **cells, "copy (GB/s)": significant(copy / 1e9)})
        raw.append({"part": name, **{f"{p}_flops_per_second": rates[p] for p in precisions}})
        raw[-1] |= {"copy_bytes_per_second": copy}
    return Table(
        name="ceilings",
        title="Matrix products and copying at their best",
        rows=rows,
        raw=raw,
        texts=("measured with",),
        conventions=(
            "Square matrices, the fastest size counts; bytes are read and written, each once. MFU is over what was measured "
            "in the same run, so that a machine that drifts does not change it.",
        ),
        notes=list(notes.failed_parts(profile, "ceilings")),
    )
