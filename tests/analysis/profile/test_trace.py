"""Do the tables of a traced step hold the breakdown's numbers?"""

from __future__ import annotations

import pytest

from vitbench.analysis.profile.trace import by_kind, by_phase, operators
from vitbench.profiling.breakdown import Breakdown, Operator, Row, block_name, role_name

STEP = Breakdown(
    rows=(
        Row("blocks.0.attention", "linear", "forward", 0.001, 2, 4_000_000, 2**20),
        Row("blocks.0.attention", "linear", "backward", 0.002, 4, 8_000_000, 2**20),
        Row("blocks.1.mlp", "activation", "forward", 0.003, 1, 0, 0),
        Row("optimizer", "optimizer", "update", 0.004, 1, 0, 0),
    ),
    step_seconds=0.01,
    steps=5,
)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        (role_name, ["attention", "mlp", "optimizer"]),
        (block_name, ["blocks.0", "blocks.1", "optimizer"]),
    ],
)
def test_rows_sum_to_the_step_in_each_phase_and_in_all(name, groups):
    table = by_phase(STEP, "Heading", "part", lambda row: name(row.part))
    assert table.columns == ("part", "forward", "backward", "update", "ms", "%")
    assert [list(row.values()) for row in table.rows] == [
        [groups[0], "1.000", "2.000", "", "3.000", "30.0"],
        [groups[1], "3.000", "", "", "3.000", "30.0"],
        [groups[2], "", "", "4.000", "4.000", "40.0"],
        ["step", "4.000", "2.000", "4.000", "10.000", "100.0"],
    ]


def test_kinds_have_rates_where_they_have_flops():
    kinds = {row["kind"]: row for row in by_kind(STEP).rows}
    assert list(kinds) == ["optimizer", "linear", "activation"]
    # 12 MFLOP of 2 MiB in 3 ms.
    assert list(kinds["linear"].values())[1:] == ["3.000", "30.0", "6", "0.012", "4.0", "2.00", "5.7"]
    assert kinds["activation"]["GFLOP/s"] == kinds["activation"]["FLOP/byte"] == ""


def test_the_first_operators_are_listed_and_their_number_is_told():
    many = tuple(Operator(f"aten::op{i}", "linear", 1.0, 0.001, 0.002, 0.003, 0) for i in range(13))
    table = operators(many, is_cuda=True)
    assert table.title == "Operators, the first 12 of 13" and len(table.rows) == 12
    assert table.rows[0]["device ms"] == "3.000" and "device ms" not in operators(many, is_cuda=False).columns
