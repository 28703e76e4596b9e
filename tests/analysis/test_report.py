"""Is the report one page that holds everything and needs nothing?"""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.made_up_records import make_record
from tests.made_up_transfer import make_transfer
from vitbench.analysis.report import write_report
from vitbench.records import Outcome
from vitbench.records.transfer import TransferStore


def test_the_report_is_one_file_that_fetches_nothing_and_runs_no_script(store_with):
    root = store_with(make_record("cls", curve=[0.1, 0.4, 0.5]), make_record("gap"), make_record(study="stem"))
    path = write_report(root)
    html = path.read_text(encoding="utf-8")
    assert path == root / "report.html"
    assert html.count("<article") == 2
    assert html.count("<svg") == 4 + 1  # no grid, so no learning-rate plot; stem has one arm and no curve
    assert html.index("Differences and verdicts: ") < html.index("<table") < html.index("Accuracy: ")
    assert "prefers-color-scheme: dark" in html
    assert "<script" not in html and "<link" not in html and "@import" not in html
    assert not re.findall(r'(?:src|href)="(?!#)', html)


def test_no_id_is_used_twice_and_every_reference_has_its_target(store_with):
    html = write_report(store_with(make_record("cls"), make_record("gap"), make_record(budget="smoke"))).read_text(
        encoding="utf-8"
    )
    ids = Counter(re.findall(r'\bid="([^"]+)"', html))
    assert [name for name, count in ids.items() if count > 1] == []
    references = re.findall(r'href="#([^"]+)"', html) + re.findall(r"url\(#([^)]+)\)", html)
    assert references and set(references) <= set(ids)


def test_text_from_records_is_escaped(store_with):
    records = [make_record("<b>cls</b>"), make_record("gap", outcome=Outcome.FAILED, reason='<img src="x">')]
    html = write_report(store_with(*records)).read_text(encoding="utf-8")
    assert "<b>" not in html and "<img" not in html
    assert "&lt;b&gt;cls&lt;/b&gt;" in html


def test_equal_records_give_equal_bytes(store_with):
    root = store_with(make_record("cls", curve=[0.1, 0.4, 0.5]), make_record("gap"))
    assert write_report(root).read_bytes() == write_report(root).read_bytes()


def test_an_empty_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no records under"):
        write_report(tmp_path)


def test_several_data_sets_and_frozen_features_have_a_section_each(store_with):
    records = [
        make_record(arm, seed=seed, test=test + seed / 1000, data={"dataset": data})
        for data, gap in (("digits", 0.95), ("shapes", 0.96))
        for arm, test in (("cls", 0.9), ("gap", gap))
        for seed in range(3)
    ]
    root = store_with(*records)
    TransferStore(root).append(make_transfer("linear", {"linear": [0.875]}))
    html = write_report(root).read_text(encoding="utf-8")
    for part in (
        "#across",
        "#transfer",
        'id="across"',
        'id="transfer"',
        "on frozen features",
        "on two data sets or more",
        "87.50",
    ):
        assert part in html
