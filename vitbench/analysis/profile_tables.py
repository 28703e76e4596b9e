"""Which tables a device's profile comes to: ours against peers, throughput, where the time goes, counts.

Everything is computed from the profile's JSON alone; equal files give equal bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.analysis.markup import ABSENT, count_text, escape_markdown, significant
from vitbench.analysis.notes import listed
from vitbench.analysis.output import MARK, remove_stale, write
from vitbench.analysis.profiles import (
    OURS,
    Comparison,
    Profile,
    comparisons,
    load_profile,
    model_label,
    pixels,
    ran,
    setting_of,
    shares,
    took_turns,
)
from vitbench.analysis.rendering import Table, csv_text, latex, markdown
from vitbench.profiling.macs import FORWARDS, MFU_MEANS
from vitbench.profiling.profile_store import Part, list_profiles
from vitbench.profiling.timing import Interval

SETTINGS = {f"{p} {how}": (p, how == "compiled") for p in ("fp32", "bf16") for how in ("eager", "compiled")}


def write_profiles(store_root: str | Path) -> list[Path]:
    """Writes `profiles/<device>/tables/*.{md,csv,tex}` and `README.md` of every device; returns the paths."""
    written: list[Path] = []
    for directory in list_profiles(store_root):
        profile = load_profile(directory)
        tables = tables_of(profile)
        paths = [
            write(directory / "tables" / f"{table.name}.{suffix}", text)
            for table in tables
            for suffix, text in _texts(table, profile).items()
        ]
        remove_stale(directory, written=paths, suffixes=(".md", ".csv", ".tex"))
        written += [*paths, write(directory / "README.md", _page(profile, tables))]
    return written


def _texts(table: Table, profile: Profile) -> dict[str, str]:
    return {
        "md": markdown(table, where=profile.where, remarks=left_out(profile)),
        "csv": csv_text(table),
        "tex": latex(table, where=profile.where, label=f"profile-{profile.directory.name}-{table.name}"),
    }


def tables_of(profile: Profile) -> list[Table]:
    """All tables that have a row."""
    makers = (summary, peers, settings, throughput, by_kind, by_role, by_block, flops, ceilings)
    return [table for table in (maker(profile) for maker in makers) if table.rows]


def summary(profile: Profile) -> Table:
    """A row for each contest: ours, and how many times as fast as each peer at its best."""
    contests = comparisons(profile)
    names = list(dict.fromkeys(name for contest in contests for name in contest.rows if name != OURS))
    columns = ("model", "pooling", "mode", "batch", "ours (images/s)", "MFU", "against the best peer", *names)
    rows, raw = [], []
    for contest in contests:
        ours = contest.rows.get(OURS, {})
        ratios = {name: contest.against(name) for name in names}
        best = contest.best_peer
        rows.append(
            [
                *(contest.label, contest.pool, contest.mode, str(contest.part.request["batch_size"])),
                f"{significant(ours['images_per_second'])} ({setting_of(ours)})" if ran(ours) else ABSENT,
                f"{ours['mfu']:.0%}" if ran(ours) else ABSENT,
                ratio_text(ratios[best] if best else None),
                *(ratio_text(ratios[name]) for name in names),
            ]
        )
        raw.append(
            {
                **_identity(contest.part),
                "images_per_second": ours.get("images_per_second"),
                "mfu": ours.get("mfu"),
                "best_peer": best,
                **{
                    key: value
                    for name in names
                    for key, value in _raw_ratio(f"{name}_step_over_ours", ratios[name]).items()
                },
            }
        )
    return Table(
        name="summary",
        title="Ours against peers, each at its best setting",
        columns=columns,
        rows=rows,
        raw=raw,
        texts=3,
        conventions=_CONTEST_CONVENTIONS,
        notes=(
            *_failed_parts(profile, "peers"),
            *_failed_rows(contests),
            *_absent(contests),
            *_unsettled(contests),
            *_warnings(profile, "peers"),
        ),
    )


_CONTEST_CONVENTIONS = (
    "A ratio is the peer's step over ours, median of the rounds [95 % bootstrap interval]: above 1, ours is faster. All of "
    "one model, pooling and mode were timed in turn, in one run.",
    "Each implementation runs at the fastest of its settings, eager or compiled, fp32 or bf16, found in a few rounds before.",
    "The same model and batch for all: random images, already on the device. Training is forward, backward, clipping and "
    "AdamW.",
    "With cls only the class token is read, and an implementation may leave out what it does not need; with gap every token "
    "counts.",
    MFU_MEANS,
)


def peers(profile: Profile) -> Table:
    """A row for each implementation of each contest: its best setting, its speed, and ours against it."""
    contests = comparisons(profile)
    rows, raw = [], []
    for contest in contests:
        for name, row in contest.rows.items():
            against = contest.against(name)
            rows.append(
                [
                    *(contest.label, contest.pool, contest.mode, name, setting_of(row)),
                    str(row["batch_size"]),
                    _rate_with_interval(row),
                    significant(_flops_per_second(row) / 1e9) if ran(row) else ABSENT,
                    f"{row['mfu']:.0%}" if ran(row) else ABSENT,
                    ratio_text(against),
                    str(len(row["samples"])) + ("" if row["settled"] or not ran(row) else " *"),
                ]
            )
            raw.append({**_identity(contest.part), **_raw_throughput(row), **_raw_ratio("step_over_ours", against)})
    return Table(
        name="peers",
        title="Every implementation at its best setting",
        columns=(
            *(
                "model",
                "pooling",
                "mode",
                "implementation",
                "best setting",
                "batch",
                "images/s [95 %]",
                "GFLOP/s",
                "MFU",
            ),
            *("ours is … times as fast [95 %]", "rounds"),
        ),
        rows=rows,
        raw=raw,
        texts=5,
        conventions=_CONTEST_CONVENTIONS,
        notes=(
            *_failed_rows(contests),
            *_failed_heats(contests),
            *_unsettled(contests),
            *_absent(contests),
            *_warnings(profile, "peers"),
        ),
    )


def settings(profile: Profile) -> Table:
    """A row for each implementation of each contest: images/s of each setting in the qualifying rounds."""
    contests = comparisons(profile)
    rows, raw = [], []
    for contest in contests:
        heats: dict[str, dict[tuple[str, bool], Mapping[str, Any]]] = defaultdict(dict)
        for heat in contest.part.facts["heats"]:
            heats[heat["implementation"]][heat["precision"], heat["compiled"]] = heat
        batch_size = contest.part.request["batch_size"]
        for name, tried in heats.items():
            rates = {
                words: batch_size / float(np.median(heat["samples"])) if heat and heat["samples"] else None
                for words, heat in ((words, tried.get(setting)) for words, setting in SETTINGS.items())
            }
            rows.append([contest.label, contest.pool, contest.mode, name, *map(significant, rates.values())])
            by_name = {f"images_per_second_{words.replace(' ', '_')}": rate for words, rate in rates.items()}
            raw.append({**_identity(contest.part), "implementation": name, **by_name})
    return Table(
        name="settings",
        title="Images/s of every setting, in the qualifying rounds",
        columns=("model", "pooling", "mode", "implementation", *SETTINGS),
        rows=rows,
        raw=raw,
        texts=4,
        conventions=(
            "Medians of a few rounds, the settings of one implementation timed in turn: enough to choose by.",
        ),
        notes=_failed_heats(contests),
    )


def throughput(profile: Profile) -> Table:
    """Our models: images/s, latency, MFU and memory."""
    pairs = [(part, row) for part in profile.of("throughput") for row in part.facts["rows"]]
    rows = [
        [
            *(model_label(part), row["mode"], setting_of(row), str(row["batch_size"])),
            _rate_with_interval(row),
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
        raw=[{**_identity(part), **_raw_throughput(row)} for part, row in pairs],
        texts=3,
        conventions=(
            "images/s is the batch over the median step, with the 95 % bootstrap interval; p50 and p99 are of a whole batch.",
            _CONTEST_CONVENTIONS[-1],
            "Peak memory: on CPU the rise of the resident size of a fresh process, on CUDA the allocator's peak.",
        ),
        notes=(*_failed_parts(profile, "throughput"), *notes, *_warnings(profile, "throughput")),
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
                    **_identity(part),
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
        notes=tuple(_failed_parts(profile, "traces")),
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
            {"variant": part.request["variant"], "image_size": pixels(part), **{k: part.facts[k] for k in _COUNTS}}
            for part in parts
        ],
        texts=1,
        conventions=(
            "Of one image. 1 MAC = 2 FLOPs; norms, nonlinearities and softmax are not counted; three counters agree.",
        ),
        notes=tuple(_failed_parts(profile, "flops")),
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
        notes=tuple(_failed_parts(profile, "ceilings")),
    )


def ratio_text(found: tuple[float, Interval] | None) -> str:
    """`1.42 [1.40, 1.45]`."""
    if found is None:
        return ABSENT
    middle, (low, high) = found
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _page(profile: Profile, tables: Sequence[Table]) -> str:
    """All Markdown tables of a device on one page, with links to their files."""
    lines = [f"# {escape_markdown(profile.device)}", "", f"<!-- {MARK}; do not edit -->", "", f"{profile.where}."]
    if (profile.directory / "plots" / "roofline.png").exists():
        lines += ["", "![Roofline](plots/roofline.png)"]
    failed = [
        note for kind in dict.fromkeys(part.kind for part in profile.parts) for note in _failed_parts(profile, kind)
    ]
    lines += ["", *(f"- {escape_markdown(note)}" for note in failed)] if failed else []
    for table in tables:
        files = " · ".join(f"[{suffix}](tables/{table.name}.{suffix})" for suffix in ("md", "csv", "tex"))
        lines += ["", markdown(table, where=profile.where, remarks=left_out(profile), level=2), files]
    return "\n".join(lines) + "\n"


_STAR = (
    "* after the number of rounds: the median's 95 % interval is still wider than 2 %; --seconds gives it more time."
)


def _flops_per_second(row: Mapping[str, Any]) -> float:
    done: float = 2 * row["macs"] * FORWARDS[row["mode"]] * row["images_per_second"]
    return done


def _rate_with_interval(row: Mapping[str, Any]) -> str:
    if not ran(row):
        return ABSENT
    low, high = row["images_per_second_interval"]
    return f"{significant(row['images_per_second'])} [{significant(low)}, {significant(high)}]"


def _identity(part: Part) -> dict[str, Any]:
    environment, request = part.environment, part.request
    return {
        "device": environment["device"],
        "torch": environment["torch"],
        "threads": environment["threads"],
        "variant": request["variant"],
        "image_size": pixels(part),
        "pool": request["model"]["pool"],
        "mode": request["mode"],
        "batch_size": request["batch_size"],
    }


def _raw_throughput(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's numbers, one to a column, without its samples."""
    low, high = row["images_per_second_interval"] or (None, None)
    names = ("latency_p50_ms", "latency_p99_ms", "macs", "mfu", "peak_memory_bytes", "settled")
    return {
        **{name: row[name] for name in ("implementation", "precision", "compiled", "images_per_second")},
        "images_per_second_ci95_low": low,
        "images_per_second_ci95_high": high,
        **{name: row[name] for name in names},
        "rounds": len(row["samples"]),
        "reason": row["reason"],
    }


def _raw_ratio(name: str, found: tuple[float, Interval] | None) -> dict[str, float | None]:
    middle, (low, high) = found or (None, (None, None))
    return {name: middle, f"{name}_ci95_low": low, f"{name}_ci95_high": high}


def _name(contest: Comparison) -> str:
    return f"{contest.label}, {contest.pool}, {contest.mode}"


def _failed_rows(contests: Iterable[Comparison]) -> Iterator[str]:
    for contest in contests:
        for name, row in contest.rows.items():
            if row["reason"]:
                yield f"{_name(contest)}: {name} {setting_of(row)} in the final: {row['reason']}."
            elif not took_turns(row):
                yield f"{_name(contest)}: {name} {setting_of(row)} was timed alone, for want of memory: no ratio."


def _failed_heats(contests: Iterable[Comparison]) -> tuple[str, ...]:
    """One note for each reason, with everything that it kept from running."""
    where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for contest in contests:
        for heat in contest.part.facts["heats"]:
            if heat["reason"]:
                where[heat["implementation"], heat["reason"]].append(f"{_name(contest)}, {setting_of(heat)}")
    return tuple(f"{name} did not run ({'; '.join(places)}): {reason}." for (name, reason), places in where.items())


def _absent(contests: Iterable[Comparison]) -> Iterator[str]:
    for contest in contests:
        tried = dict.fromkeys(heat["implementation"] for heat in contest.part.facts["heats"])
        missing = [name for name in tried if name not in contest.rows]
        if missing:
            yield f"{_name(contest)}: no setting of {listed(missing)} ran."


def _unsettled(contests: Iterable[Comparison]) -> Iterator[str]:
    wide = [
        f"{_name(contest)} ({listed(names)})"
        for contest in contests
        if (names := [name for name, row in contest.rows.items() if ran(row) and not row["settled"]])
    ]
    if wide:
        yield f"The time was spent before every median's 95 % interval was narrower than 2 %: {'; '.join(wide)}."


def _warnings(profile: Profile, kind: str) -> Iterator[str]:
    """What else the device was busy with meanwhile."""
    where: dict[str, list[str]] = defaultdict(list)
    for part in profile.of(kind):
        found = {state["warning"] for row in part.facts["rows"] if (state := row.get("device_state"))}
        for warning in sorted(found - {""}):
            where[warning].append(part.name)
    for warning, names in where.items():
        yield f"While {listed(names)} was measured: {warning}."


def _failed_parts(profile: Profile, kind: str) -> Iterator[str]:
    for part in profile.parts:
        if part.kind == kind and part.reason:
            yield f"{part.name} was not measured: {part.reason}."


def left_out(profile: Profile) -> list[str]:
    """What lies in the same folder and must not stand beside the rest."""
    others: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for part in profile.left_out:
        others[part.environment["torch"], part.environment["threads"], part.environment["machine"]].append(part.name)
    return [
        f"Left out, measured with torch {torch} and {threads} threads on machine {machine}: {listed(names)}."
        for (torch, threads, machine), names in others.items()
    ]
