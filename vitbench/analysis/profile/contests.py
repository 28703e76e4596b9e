"""Who is faster, ours or a peer? Tables of each implementation at its best setting, and of every setting that was tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from vitbench.analysis.profile import notes
from vitbench.analysis.profile.profile import OURS, MeasuredContest, Profile, contests_of, identity_of
from vitbench.analysis.writing.table import Table
from vitbench.analysis.writing.words import ABSENT, interval_text, listed, significant
from vitbench.costs.macs import MFU_MEANS
from vitbench.profiling.timing import Interval

SETTINGS = ("fp32 eager", "fp32 compiled", "bf16 eager", "bf16 compiled")

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
        ours, best = contest.rows.get(OURS), contest.best_peer
        ratios = {name: contest.against(name) for name in names}
        rate = f"{significant(ours.images_per_second)} ({ours.setting})" if ours and ours.ran else ABSENT
        rows.append(
            {
                **contest.identity,
                "batch": str(contest.part.request["batch_size"]),
                "ours (images/s)": rate,
                "MFU": ours.mfu_text if ours else ABSENT,
                "against the best peer": _ratio_text(ratios[best] if best else None),
                **{name: _ratio_text(ratio) for name, ratio in ratios.items()},
            }
        )
        measured = {name: getattr(ours, name, None) for name in ("images_per_second", "mfu")}
        raw.append({**identity_of(contest.part), **measured, "best_peer": best})
        for name, ratio in ratios.items():
            raw[-1] |= _raw_ratio(f"{name}_step_over_ours", ratio)
    return Table(
        name="summary",
        title="Ours against peers, each at its best setting",
        rows=rows,
        raw=raw,
        texts=("model", "pooling", "mode"),
        conventions=_CONVENTIONS,
        notes=[
            *notes.failed_parts(profile, "peers"),
            *_failed_rows(contests),
            *_absent(contests),
            *_unsettled(contests),
            *notes.unread(profile, "peers"),
            *notes.warnings_of(profile, "peers"),
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
                    **contest.identity,
                    "implementation": name,
                    "best setting": row.setting,
                    "batch": str(row.batch_size),
                    "images/s [95 %]": row.rate_text,
                    "GFLOP/s": significant(row.flops_per_second and row.flops_per_second / 1e9),
                    "MFU": row.mfu_text,
                    "ours is … times as fast [95 %]": _ratio_text(ratio),
                    "rounds": row.rounds_text,
                }
            )
            raw.append({**identity_of(contest.part), **row.raw(), **_raw_ratio("step_over_ours", ratio)})
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
            *notes.warnings_of(profile, "peers"),
        ],
    )


def settings(profile: Profile) -> Table:
    """A row for each implementation of each contest: images/s of each setting in the qualifying rounds."""
    contests = contests_of(profile)
    rows, raw = [], []
    tried = dict.fromkeys([*SETTINGS, *(heat.setting for contest in contests for heat in contest.heats)])
    for contest in contests:
        rates: dict[str, dict[str, float | None]] = defaultdict(lambda: dict.fromkeys(tried))
        batch_size = contest.part.request["batch_size"]
        for heat in contest.heats:
            rates[heat.implementation][heat.setting] = batch_size / float(np.median(heat.samples)) if heat.ran else None
        for name, by_setting in rates.items():
            cells = {setting: significant(rate) for setting, rate in by_setting.items()}
            rows.append({**contest.identity, "implementation": name, **cells})
            by_name = {f"images_per_second_{text.replace(' ', '_')}": rate for text, rate in by_setting.items()}
            raw.append({**identity_of(contest.part), "implementation": name, **by_name})
    return Table(
        name="settings",
        title="Images/s of every setting, in the qualifying rounds",
        rows=rows,
        raw=raw,
        texts=("model", "pooling", "mode", "implementation"),
        conventions=["Medians of a few rounds, the settings of one implementation timed in turn: enough to choose by."],
        notes=_failed_heats(contests),
    )


def _ratio_text(ratio: tuple[float, Interval] | None) -> str:
    """`1.42 [1.40, 1.45]`."""
    return ABSENT if ratio is None else interval_text(ratio[0], *ratio[1])


def _raw_ratio(name: str, ratio: tuple[float, Interval] | None) -> dict[str, float | None]:
    middle, (low, high) = ratio or (None, (None, None))
    return {name: middle, f"{name}_ci95_low": low, f"{name}_ci95_high": high}


def _failed_rows(contests: Iterable[MeasuredContest]) -> Iterator[str]:
    for contest in contests:
        for name, row in contest.rows.items():
            if row.reason:
                yield f"{contest.name}: {name} {row.setting} in the final: {row.reason}."
            elif not row.took_turns:
                yield f"{contest.name}: {name} {row.setting} was timed alone, for want of memory: no ratio."


def _failed_heats(contests: Iterable[MeasuredContest]) -> list[str]:
    """One note for each reason, with everything that it kept from running."""
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for contest in contests:
        for heat in contest.heats:
            if heat.reason:
                places[heat.implementation, heat.reason].append(f"{contest.name}, {heat.setting}")
    return [f"{name} did not run ({'; '.join(where)}): {reason}." for (name, reason), where in places.items()]


def _absent(contests: Iterable[MeasuredContest]) -> Iterator[str]:
    for contest in contests:
        tried = dict.fromkeys(heat.implementation for heat in contest.heats)
        if missing := [name for name in tried if name not in contest.rows]:
            yield f"{contest.name}: no setting of {listed(missing)} ran."


def _unsettled(contests: Iterable[MeasuredContest]) -> Iterator[str]:
    names = {contest.name: [name for name, row in contest.rows.items() if row.is_noisy] for contest in contests}
    if noisy := [f"{contest} ({listed(rows)})" for contest, rows in names.items() if rows]:
        yield f"These rows are noisy (the 95 % interval of the median is wider than 2 %): {'; '.join(noisy)}."
