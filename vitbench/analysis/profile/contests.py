"""Who is faster, ours or a peer? Tables of each implementation at its best setting, and of every setting that was tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vitbench.analysis.profile.profile import OURS, MeasuredContest, Profile, contests_of, ran, setting_text, took_turns
from vitbench.analysis.profile.rows import (
    failed_parts,
    identity_of,
    mfu_text,
    rate_with_interval,
    raw_throughput,
    rounds_text,
    unread,
    warnings_of,
)
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT, interval_text, listed, significant
from vitbench.costs.macs import FORWARDS, MFU_MEANS
from vitbench.profiling.timing import Interval

SETTINGS = {f"{p} {how}": (p, how == "compiled") for p in ("fp32", "bf16") for how in ("eager", "compiled")}

_CONVENTIONS = (
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
    contests = contests_of(profile)
    names = list(dict.fromkeys(name for contest in contests for name in contest.rows if name != OURS))
    rows, raw = [], []
    for contest in contests:
        ours, best = contest.rows.get(OURS, {}), contest.best_peer
        ratios = {name: contest.against(name) for name in names}
        rows.append(
            {
                **_identity(contest),
                "batch": str(contest.part.request["batch_size"]),
                "ours (images/s)": f"{significant(ours['images_per_second'])} ({setting_text(ours)})"
                if ran(ours)
                else ABSENT,
                "MFU": mfu_text(ours),
                "against the best peer": ratio_text(ratios[best] if best else None),
                **{name: ratio_text(ratio) for name, ratio in ratios.items()},
            }
        )
        raw_ratios: dict[str, float | None] = {}
        for name, ratio in ratios.items():
            raw_ratios |= _raw_ratio(f"{name}_step_over_ours", ratio)
        measured = {name: ours.get(name) for name in ("images_per_second", "mfu")}
        raw.append({**identity_of(contest.part), **measured, "best_peer": best, **raw_ratios})
    return Table(
        name="summary",
        title="Ours against peers, each at its best setting",
        rows=rows,
        raw=raw,
        texts=("model", "pooling", "mode"),
        conventions=_CONVENTIONS,
        notes=[
            *failed_parts(profile, "peers"),
            *_failed_rows(contests),
            *_absent(contests),
            *_unsettled(contests),
            *unread(profile, "peers"),
            *warnings_of(profile, "peers"),
        ],
    )


def peers(profile: Profile) -> Table:
    """A row for each implementation of each contest: its best setting, its speed, and ours against it."""
    contests = contests_of(profile)
    rows, raw = [], []
    for contest in contests:
        for name, row in contest.rows.items():
            ratio = contest.against(name)
            rows.append(
                {
                    **_identity(contest),
                    "implementation": name,
                    "best setting": setting_text(row),
                    "batch": str(row["batch_size"]),
                    "images/s [95 %]": rate_with_interval(row),
                    "GFLOP/s": significant(_flops_per_second(row) / 1e9) if ran(row) else ABSENT,
                    "MFU": mfu_text(row),
                    "ours is … times as fast [95 %]": ratio_text(ratio),
                    "rounds": rounds_text(row),
                }
            )
            raw.append({**identity_of(contest.part), **raw_throughput(row), **_raw_ratio("step_over_ours", ratio)})
    return Table(
        name="peers",
        title="Every implementation at its best setting",
        rows=rows,
        raw=raw,
        texts=("model", "pooling", "mode", "implementation", "best setting"),
        conventions=_CONVENTIONS,
        notes=[
            *_failed_rows(contests),
            *_failed_heats(contests),
            *_unsettled(contests),
            *_absent(contests),
            *warnings_of(profile, "peers"),
        ],
    )


def settings(profile: Profile) -> Table:
    """A row for each implementation of each contest: images/s of each setting in the qualifying rounds."""
    contests = contests_of(profile)
    rows, raw = [], []
    for contest in contests:
        heats: dict[str, dict[tuple[str, bool], Mapping[str, Any]]] = defaultdict(dict)
        for heat in contest.part.facts["heats"]:
            heats[heat["implementation"]][heat["precision"], heat["compiled"]] = heat
        batch_size = contest.part.request["batch_size"]
        for name, tried in heats.items():
            samples = {text: tried.get(setting, {}).get("samples") for text, setting in SETTINGS.items()}
            rates = {text: batch_size / float(np.median(some)) if some else None for text, some in samples.items()}
            rates_text = {text: significant(rate) for text, rate in rates.items()}
            rows.append({**_identity(contest), "implementation": name, **rates_text})
            by_name = {f"images_per_second_{text.replace(' ', '_')}": rate for text, rate in rates.items()}
            raw.append({**identity_of(contest.part), "implementation": name, **by_name})
    return Table(
        name="settings",
        title="Images/s of every setting, in the qualifying rounds",
        rows=rows,
        raw=raw,
        texts=("model", "pooling", "mode", "implementation"),
        conventions=[
            "Medians of a few rounds, the settings of one implementation timed in turn: enough to choose by.",
        ],
        notes=_failed_heats(contests),
    )


def ratio_text(ratio: tuple[float, Interval] | None) -> str:
    """`1.42 [1.40, 1.45]`."""
    return ABSENT if ratio is None else interval_text(ratio[0], *ratio[1])


def _identity(contest: MeasuredContest) -> dict[str, str]:
    return {"model": contest.label, "pooling": contest.pool, "mode": contest.mode}


def _flops_per_second(row: Mapping[str, Any]) -> float:
    return float(2 * row["macs"] * FORWARDS[row["mode"]] * row["images_per_second"])


def _raw_ratio(name: str, ratio: tuple[float, Interval] | None) -> dict[str, float | None]:
    middle, (low, high) = ratio or (None, (None, None))
    return {name: middle, f"{name}_ci95_low": low, f"{name}_ci95_high": high}


def _failed_rows(contests: Iterable[MeasuredContest]) -> Iterator[str]:
    for contest in contests:
        for name, row in contest.rows.items():
            if row["reason"]:
                yield f"{contest.name}: {name} {setting_text(row)} in the final: {row['reason']}."
            elif not took_turns(row):
                yield f"{contest.name}: {name} {setting_text(row)} was timed alone, for want of memory: no ratio."


def _failed_heats(contests: Iterable[MeasuredContest]) -> list[str]:
    """One note for each reason, with everything that it kept from running."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for contest in contests:
        for heat in contest.part.facts["heats"]:
            if heat["reason"]:
                places[heat["implementation"], heat["reason"]].append(f"{contest.name}, {setting_text(heat)}")
    return [f"{name} did not run ({'; '.join(where)}): {reason}." for (name, reason), where in places.items()]


def _absent(contests: Iterable[MeasuredContest]) -> Iterator[str]:
    for contest in contests:
        tried = dict.fromkeys(heat["implementation"] for heat in contest.part.facts["heats"])
        if missing := [name for name in tried if name not in contest.rows]:
            yield f"{contest.name}: no setting of {listed(missing)} ran."


def _unsettled(contests: Iterable[MeasuredContest]) -> Iterator[str]:
    noisy = [
        f"{contest.name} ({listed(names)})"
        for contest in contests
        if (names := [name for name, row in contest.rows.items() if ran(row) and not row["settled"]])
    ]
    if noisy:
        yield f"These rows are noisy, the 95 % interval of the median wider than 2 %: {'; '.join(noisy)}."
