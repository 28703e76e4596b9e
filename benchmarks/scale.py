"""How do loading, `plan`, `tables` and `report` grow with the number of records? Made-up stores of up to 200,000.

`python -m benchmarks.scale` measures all of `SIZES` in both shapes, and writes docs/scale-store.json and, from it, the tables
between `<!-- store -->` and `<!-- /store -->` of docs/scale.md. Each step is a process of its own: CPU seconds of it and of
workers that it waited for, as cores may be shared, and the largest resident size of any of them. `--records N`, `--shape`,
`--step` measure some; `--checkout FOLDER` measures the code in another folder and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

HERE = Path(__file__).parents[1]
PAGE = HERE / "docs" / "scale.md"
RECORDED = HERE / "docs" / "scale-store.json"
START, END = "<!-- store -->", "<!-- /store -->"
SIZES = (25_000, 50_000, 100_000, 200_000)
STEPS: dict[str, tuple[str, ...]] = {
    "one_study": ("load", "plan", "tables", "report"),
    "many_comparisons": ("load", "tables"),
}
"""By shape. Figures of 2,000 comparisons would take an hour by themselves."""
TITLES = {
    "one_study": "One study: 40 arms, 5 data sets, 10 learning rates, up to 100 seeds; 10,000 test images, 20 epochs.",
    "many_comparisons": "One study with a comparison for every 100 records: 5 arms, 2 learning rates, 10 seeds.",
}


class Measured(TypedDict):
    cpu_seconds: float
    seconds: float
    peak_bytes: int


Results = dict[str, dict[str, dict[str, Measured]]]
"""By shape, number of records and step."""


def measure(command: Sequence[str], *, checkout: Path) -> Measured:
    """Runs a command to its end. Raises RuntimeError where it fails: a status of 1 tells of faults in records."""
    # Not from the working directory, which may be another checkout.
    environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(sys.executable, [sys.executable, *command], environment, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    kibibyte = 1 if sys.platform == "darwin" else 1024
    return Measured(
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 1),
        seconds=round(time.perf_counter() - start, 1),
        peak_bytes=usage.ru_maxrss * kibibyte,
    )


def command_of(step: str, root: Path, records: int) -> list[str]:
    """What a step runs, as Python's arguments."""
    if step == "load":
        code = "import sys; from vitbench.records import RecordStore; n = len(RecordStore(sys.argv[1]).read('many')); "
        return ["-c", code + f"assert n == {records}, n", str(root)]
    command = ["-m", "vitbench", step]
    if step == "plan":
        from benchmarks.made_up_store import plan_options

        command += [str(root / "many.py"), *plan_options(records), "--data-root", str(root)]
    return [*command, "--results", str(root)]


def measure_all(shapes: Sequence[str], sizes: Sequence[int], steps: Sequence[str], *, checkout: Path) -> Results:
    results: Results = {}
    for shape in shapes:
        for records in sizes:
            with tempfile.TemporaryDirectory() as folder:
                # In a process of its own: what this one holds would count as the peak of all that it starts.
                make = "import sys; from pathlib import Path; from benchmarks.made_up_store import make_store; "
                make += "make_store(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))"
                measure(["-c", make, folder, shape, str(records)], checkout=HERE)
                for step in (step for step in STEPS[shape] if step in steps):
                    measured = measure(command_of(step, Path(folder), records), checkout=checkout)
                    print(f"{shape}, {records:,} records, {step}: {measured}", flush=True)
                    results.setdefault(shape, {}).setdefault(str(records), {})[step] = measured
    return results


def page_section(results: Mapping[str, Mapping[str, Mapping[str, Measured]]]) -> str:
    """The tables as Markdown: CPU seconds and GB of each step, a row for each number of records."""
    lines = []
    for shape, by_size in results.items():
        steps = [step for step in STEPS[shape] if any(step in of_size for of_size in by_size.values())]
        lines += ["", TITLES[shape], "", f"| records | {' | '.join(steps)} |", f"|---:|{'---:|' * len(steps)}"]
        for records, of_size in by_size.items():
            cells = (
                f"{m['cpu_seconds']:.0f} s, {m['peak_bytes'] / 1e9:.1f} GB" if m else "–"
                for m in map(of_size.get, steps)
            )
            lines.append(f"| {int(records):,} | {' | '.join(cells)} |")
    return "\n".join([*lines[1:], ""])


def with_section(page: str, section: str) -> str:
    """The page with the section between its two marks. Raises ValueError where it lacks them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{PAGE.name} lacks the lines {START} and {END}")
    return f"{before}{START}\n{section}{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=SIZES)
    parser.add_argument("--shape", choices=[*STEPS], nargs="+", default=[*STEPS])
    every = [*dict.fromkeys(step for steps in STEPS.values() for step in steps)]
    parser.add_argument("--step", choices=every, nargs="+", default=every)
    parser.add_argument("--checkout", type=Path, help="another folder with the package `vitbench`; nothing is written")
    options = parser.parse_args(arguments)
    if min(options.records) < 100:
        parser.error(f"records {min(options.records)} must be 100 or more")
    measured = measure_all(options.shape, options.records, options.step, checkout=options.checkout or HERE)
    if options.checkout is None:
        RECORDED.write_text(json.dumps(merged(recorded(), measured), indent=1) + "\n")
        PAGE.write_text(with_section(PAGE.read_text(), page_section(recorded())))


def recorded() -> Results:
    results: Results = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    return results


def merged(before: Results, measured: Results) -> Results:
    """What was measured now goes before what was measured earlier; shapes, sizes and steps in their order."""
    results: Results = {}
    for shape, steps in STEPS.items():
        of_shape = {**before.get(shape, {}), **measured.get(shape, {})}
        for records in sorted(of_shape, key=int):
            both = before.get(shape, {}).get(records, {}) | measured.get(shape, {}).get(records, {})
            results.setdefault(shape, {})[records] = {step: both[step] for step in steps if step in both}
    return results


if __name__ == "__main__":
    main()
