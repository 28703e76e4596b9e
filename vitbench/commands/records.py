"""What `vitbench records` prints: what is wrong with a store, what was set aside, what was taken over."""

from __future__ import annotations

import json
from pathlib import Path

from vitbench.records import Faults, upkeep
from vitbench.text import counted, printable


def check_records(results: Path, *, as_json: bool) -> bool:
    """Prints all damage and conflicts; whether there are any."""
    faults = _quiet()
    files, records = upkeep.check(results, faults)
    if as_json:
        facts = {"files": files, "records": records, "faults": [fault.to_dict() for fault in faults]}
        print(json.dumps(facts))
        return bool(faults)
    _print_all(faults)
    print(
        f"{counted(records, 'record')} in {counted(files, 'file')} {'is' if records == 1 else 'are'} sound"
        + (f"; {counted(len(faults), 'fault')}" if faults else "")
    )
    return bool(faults)


def repair_records(results: Path, *, conflicts: bool) -> bool:
    """Sets damaged lines aside and prints which; whether anything is wrong still."""
    faults = _quiet()
    moved = upkeep.repair(results, faults, conflicts=conflicts)
    for path, wrong in moved.items():
        for fault in wrong:
            print(printable(f"{path} line {fault.line}: {fault.what}"))
        print(printable(f"{counted(len(wrong), 'line')} of {path} moved to {path.with_suffix(upkeep.SIDE_FILE)}"))
    if not moved:
        print("no damaged line")
    _print_all(faults)
    return bool(faults)


def merge_records(into: Path, source: Path) -> bool:
    """Takes records over and prints how many; whether something was left out. Raises ValueError where `into` is no folder."""
    if not into.is_dir():
        raise ValueError(
            f"results {str(into)!r} is no folder that records could go into; make it first, or give another"
        )
    faults = _quiet()
    for path, count in upkeep.merge(into, source, faults).items():
        print(printable(f"{counted(count, 'record')} added to {path}"))
    _print_all(faults)
    return bool(faults)


def _quiet() -> Faults:
    """All are printed here, however many there are."""
    return Faults(say=lambda _: None)


def _print_all(faults: Faults) -> None:
    for fault in faults:
        print(printable(str(fault)))
