"""Is a table printed as people read it: words at the left, numbers at the right, and names as they are?"""

from __future__ import annotations

from vitbench.commands.terminal_table import print_table


def test_words_are_at_the_left_numbers_at_the_right_and_missing_cells_empty(capsys):
    print_table([{"part": "stem", "MACs": "1,234"}, {"part": "norm"}], texts=["part"], title="Costs")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "Costs",
        "part   MACs",
        "stem  1,234",
        "norm",
    ]


def test_brackets_in_a_name_are_no_markup(capsys):
    print_table([{"name": "[bold]timm[/bold]"}], texts=["name"])
    assert "[bold]timm[/bold]" in capsys.readouterr().out
