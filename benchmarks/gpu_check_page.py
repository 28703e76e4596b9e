"""How is what `gpu_check.py` saw shown to people? One page in Markdown. Imports nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Seen(Protocol):
    name: str
    outcome: str
    reason: str
    seconds: float
    facts: Any


def page(machine: Mapping[str, Any], outcomes: Sequence[Seen], *, gpu: bool, minutes: float) -> str:
    """What ran on which machine and what came of it, with a table for each kind of section."""
    where = machine["gpu"] if gpu else "the CPU"
    about = f"torch {machine['torch']}, Python {machine['python']}, {machine['cpu_cores']} CPU cores"
    lines = [
        "# GPU check",
        "",
        f"On {where}, {about}, within {minutes:g} minutes.",
    ]
    if not gpu:
        lines += [
            "",
            "**There is no GPU here: this is a rehearsal at small sizes. Its numbers say nothing about a GPU.**",
        ]
    total = sum(outcome.seconds for outcome in outcomes)
    rows = [[o.name, o.outcome, f"{o.seconds:.0f}", o.reason] for o in outcomes]
    lines += ["", *_table(["section", "outcome", "s", "reason"], rows), "", f"{total:.0f} s in all."]
    facts = {outcome.name: outcome.facts for outcome in outcomes if outcome.facts is not None}
    for title, table in (
        ("Checks", _checks(facts)),
        ("Throughput", _throughput(facts)),
        ("Attention kernels", _attention(facts)),
        ("Studies", _studies(outcomes)),
    ):
        if table:
            lines += ["", f"## {title}", "", *table]
    return "\n".join(lines) + "\n"


def _checks(facts: Mapping[str, Any]) -> list[str]:
    rows = [
        [check["name"], "right" if check["passed"] else "**wrong**", check["detail"]]
        for check in facts.get("checks", ())
    ]
    return _table(["check", "", "detail"], rows)


def _throughput(facts: Mapping[str, Any]) -> list[str]:
    measured = [row for name, rows in facts.items() if name.startswith(("eager", "compiled")) for row in rows]
    rows = []
    for row in measured:
        setting = "graphs" if row.get("cuda_graphs") else "compiled" if row["compiled"] else "eager"
        rate = f"{row['images_per_second']:,.0f}" if row["images_per_second"] else row["reason"]
        mfu = f"{row['mfu']:.1%}" if row["mfu"] else ""
        memory = f"{row['peak_memory_bytes'] / 2**20:,.0f}" if row["peak_memory_bytes"] else ""
        texts = [row[key] for key in ("variant", "implementation", "mode", "precision")]
        rows.append([*texts, setting, row["last_block"], str(row["batch_size"]), rate, mfu, memory, row["kernels"]])
    heads = [
        "model",
        "implementation",
        "mode",
        "precision",
        "",
        "last block",
        "batch",
        "images/s",
        "MFU",
        "MiB",
        "kernels",
    ]
    return _table(heads, rows)


def _attention(facts: Mapping[str, Any]) -> list[str]:
    rows = []
    for one in facts.get("attention", ()):
        reasons = "; ".join(f"{kernel}: {reason}" for kernel, reason in one["reasons"].items())
        rows.append([one["precision"], one["shape"], one["fastest"], one["ratios"], reasons])
    return _table(["precision", "shape", "taken", "time over the fastest", "not here"], rows)


def _studies(outcomes: Sequence[Seen]) -> list[str]:
    rows = [[o.name, o.outcome, f"{o.seconds:.0f}"] for o in outcomes if o.name.startswith("study")]
    return _table(["pooling at smoke", "outcome", "s, start of processes included"], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]
