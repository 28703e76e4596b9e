"""Do the marks of tests become the rows of docs/evidence.md? (That the page has these rows is in test_readme.py.)"""

from __future__ import annotations

import pytest

from tests.evidence import marks, table

MARKED = """
@pytest.mark.against({!r}, "logits", {})
@pytest.mark.parametrize("n", range(3))
def test_it(n): pass
"""


def test_equal_marks_are_one_row_with_links_sorted_by_peer(tmp_path):
    (tmp_path / "tests" / "models").mkdir(parents=True)
    (tmp_path / "tests" / "test_a.py").write_text(
        MARKED.format("timm", '"exact"') + MARKED.format("Big|small", "AGREEMENT")
    )
    (tmp_path / "tests" / "models" / "test_b.py").write_text(MARKED.format("timm", '"exact"'))
    assert table(tmp_path).splitlines()[2:] == [
        r"| Big\|small | logits | 1e-9, 1e-8 | [test_a.py](../tests/test_a.py) |",
        "| timm | logits | exact | [test_b.py](../tests/models/test_b.py), [test_a.py](../tests/test_a.py) |",
    ]


def test_a_mark_without_its_three_parts_is_refused():
    with pytest.raises(ValueError, match=r"line 2: give the mark against\(peer, what, bound\)"):
        list(marks(MARKED.format("timm", '"exact", bound="1e-9"')))
