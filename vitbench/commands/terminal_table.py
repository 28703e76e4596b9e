"""How is a table printed in a terminal?"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

PIPE_WIDTH = 160
"""Characters, where there is no terminal to be as wide as."""


def print_table(
    rows: Sequence[Mapping[str, str]], *, texts: Collection[str], title: str = "", last_is_total: bool = False
) -> None:
    """Rows by the headings of the first, numbers at the right, those of `texts` at the left; a cell may be missing."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    headings = list(rows[0]) if rows else []
    for heading in headings:
        table.add_column(heading, justify="left" if heading in texts else "right")
    for row in rows:
        is_total = last_is_total and row is rows[-1]
        table.add_row(*(escape(row.get(heading, "")) for heading in headings), style="bold" if is_total else None)
    Console(width=None if os.isatty(1) else PIPE_WIDTH).print(table)
