"""Which tables the contests with peers come to: ours against each at its best, and every setting that was tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vitbench.analysis.comparison.notes import listed
from vitbench.analysis.profile.profile import OURS, Comparison, Profile, comparisons, ran, setting_of, took_turns
from vitbench.analysis.profile.rows import (
    failed_parts,
    identity_of,
    rate_with_interval,
    raw_throughput,
    unread,
    warnings_of,
)
from vitbench.analysis.writing.markup import ABSENT, significant
from vitbench.analysis.writing.table import Table
from vitbench.costs.macs import FORWARDS, MFU_MEANS
from vitbench.profiling.timing import Interval

SETTINGS = {f"{p} {how}": (p, how == "compiled") for p in ("fp32", "bf16") for how in ("eager", "compiled")}

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
                **identity_of(contest.part),
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
            *failed_parts(profile, "peers"),
            *_failed_rows(contests),
            *_absent(contests),
            *_unsettled(contests),
            *unread(profile, "peers"),
            *warnings_of(profile, "peers"),
        ),
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
                    rate_with_interval(row),
                    significant(_flops_per_second(row) / 1e9) if ran(row) else ABSENT,
                    f"{row['mfu']:.0%}" if ran(row) else ABSENT,
                    ratio_text(against),
                    str(len(row["samples"])) + ("" if row["settled"] or not ran(row) else " *"),
                ]
            )
            raw.append({**identity_of(contest.part), **raw_throughput(row), **_raw_ratio("step_over_ours", against)})
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
            *warnings_of(profile, "peers"),
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
            raw.append({**identity_of(contest.part), "implementation": name, **by_name})
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


def ratio_text(found: tuple[float, Interval] | None) -> str:
    """`1.42 [1.40, 1.45]`."""
    if found is None:
        return ABSENT
    middle, (low, high) = found
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _flops_per_second(row: Mapping[str, Any]) -> float:
    done: float = 2 * row["macs"] * FORWARDS[row["mode"]] * row["images_per_second"]
    return done


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
