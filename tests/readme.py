"""The tables that README.md quotes: taken from the files that `vitbench tables` writes, never typed.

`python tests/readme.py` writes them anew; the test beside it fails where they differ.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_BLOCK = re.compile(r"<!-- table: (?P<path>\S+)\ncolumns: (?P<columns>.*?) -->\n.*?<!-- end of table -->", re.DOTALL)


def renewed(text: str) -> str:
    """`text` with each marked block filled from the file that its marker names."""
    return _BLOCK.sub(_fill, text)


def _fill(match: re.Match[str]) -> str:
    lines = [line for line in (ROOT / match["path"]).read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] if i != 1 else [] for i, line in enumerate(lines)]
    rows[1] = lines[1].strip("|").split("|")
    wanted = [rows[0].index(name.strip()) for name in match["columns"].split(";")]
    table = "\n".join("| " + " | ".join(row[i] for i in wanted) + " |" for row in rows)
    return f"<!-- table: {match['path']}\ncolumns: {match['columns']} -->\n\n{table}\n\n<!-- end of table -->"


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))
