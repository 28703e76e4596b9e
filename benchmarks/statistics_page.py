"""How do the tables of docs/statistics-checked.md come about? From the simulations recorded in the JSON file beside it.

`python -m benchmarks.statistics_page` simulates all of them anew; with names of tables, these alone; `--studies N`: so many.
Then it writes the page. `python -m tests.readme` writes the page from what is recorded, without simulating.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from benchmarks.statistics_tables import TABLES

PAGE = Path(__file__).parents[1] / "docs" / "statistics-checked.md"
RECORDED = PAGE.with_suffix(".json")


class Result(TypedDict):
    """Of one table."""

    studies: int
    seconds: float
    """That it took: of one process, on a machine that had other work."""
    rows: list[str]
    values: list[list[float | None]]


def recorded() -> dict[str, Result]:
    """By name of table; of those that were simulated."""
    results: dict[str, Result] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    return results


def table(name: str) -> str:
    """What stands on the page. Raises ValueError for a table whose rows have changed since they were simulated."""
    result = recorded().get(name)
    if result is None or result["rows"] != row_names(name):
        raise ValueError(f"{name} was not simulated as it is now: python -m benchmarks.statistics_page {name!r}")
    number = f"{result['studies']:,} studies a row."
    return "\n".join([number, "", *TABLES[name].markdown(result["values"])])


def row_names(name: str) -> list[str]:
    return ["; ".join(labels) for labels in TABLES[name].rows]


def simulate(name: str, studies: int | None) -> Result:
    number, start = studies or TABLES[name].studies, time.perf_counter()
    values = [
        [value if value is None else round(float(value), 5) for value in row(number)]
        for row in TABLES[name].rows.values()
    ]
    seconds = round(time.perf_counter() - start, 1)
    return Result(studies=number, seconds=seconds, rows=row_names(name), values=values)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; default: all")
    parser.add_argument("--studies", type=int, help="default: each table's number")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.tables if name not in TABLES]:
        parser.error(f"{unknown[0]!r} is no table; give any of {', '.join(TABLES)}")
    if options.studies is not None and options.studies < 1:
        parser.error(f"studies {options.studies} must be 1 or more")
    for name in options.tables or TABLES:
        result = simulate(name, options.studies)
        by_name = recorded() | {name: result}
        ordered = {each: by_name[each] for each in TABLES if each in by_name}
        RECORDED.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: {result['studies']:,} studies a row, {result['seconds']:g} s", flush=True)
    from tests.readme import renewed

    if TABLES.keys() == recorded().keys():
        PAGE.write_text(renewed(PAGE.read_text()))


if __name__ == "__main__":
    main()
