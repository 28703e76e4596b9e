"""Does every metric have one name, one key, and a range that records are checked for?"""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.test_accuracy import evaluated
from vitbench.records.metrics import METRICS, metric_named
from vitbench.records.schema import _limits


def test_the_metrics_are_those_that_an_evaluation_gives() -> None:
    given = evaluated(torch.randn(8, 7), torch.arange(8) % 7).metrics
    assert {f"test_{name}" for name in given} == {metric.key for metric in METRICS.values()}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_bounded_below_and_a_margin_lies_within_its_range(name: str) -> None:
    low, high = _limits(METRICS[name].key)
    assert low == 0.0 and 0 < METRICS[name].margin < high


def test_a_metric_on_distorted_images_has_the_range_of_the_plain_one() -> None:
    assert _limits("shift_4/test_top1") == _limits("test_top1") == (0.0, 1.0)


def test_a_typing_error_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="metric 'los' is none; did you mean loss"):
        metric_named("los")
    with pytest.raises(ValueError, match="take one of top1, top5, balanced, loss"):
        metric_named("zzz")
