"""Which tests are checked against the code or numbers of others? Their marks are the table of docs/evidence.md.

A test says it with `@pytest.mark.against("timm", "logits of named models", "1e-9")`: whose code or numbers, what is
compared, how far apart it may be. `python -m tests.readme` writes the table; tests/test_readme.py compares it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.models.convert.agreement import AGREEMENT

NAMED_BOUNDS = {"AGREEMENT": AGREEMENT}


def marks(code: str) -> Iterator[tuple[str, str, str]]:
    """(peer, what, bound) of each mark in a test file's `code`. Raises ValueError for a mark without the three."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.against":
            if len(node.args) != 3 or node.keywords:
                raise ValueError(f"line {node.lineno}: give the mark against(peer, what, bound)")
            peer, what, bound = (
                NAMED_BOUNDS[argument.id] if isinstance(argument, ast.Name) else ast.literal_eval(argument)
                for argument in node.args
            )
            yield peer, what, bound


def table(root: Path) -> str:
    """Markdown: a row for each (peer, what, bound) in the tests below `root`, with links from docs/ to their files."""
    files: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for file in (root / "tests").rglob("test_*.py"):
        for mark in marks(file.read_text(encoding="utf-8")):
            files[mark].add(file.relative_to(root).as_posix())
    lines = ["| code or numbers of | what is compared | bound | tests |", "| --- | --- | --- | --- |"]
    for mark in sorted(files, key=lambda mark: [text.casefold() for text in mark]):
        links = ", ".join(f"[{Path(file).name}](../{file})" for file in sorted(files[mark]))
        cells = [*(text.replace("|", r"\|") for text in mark), links]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
