"""Calibration errors of cases that are counted by hand: edges, equal confidences, fewer images than bins."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vitbench.evaluation.calibration import binned_error, binned_error_of_equal_mass


def arrays(confidences: list[float], right: list[int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return np.array(confidences, np.float32), np.array(right, bool)


def test_a_confidence_at_an_edge_is_in_the_bin_below() -> None:
    # With 5 bins, 0.2 and 0.15 share one: |(1 − 0.2) + (0 − 0.15)| / 2; apart they would give (0.8 + 0.15) / 2.
    assert binned_error(*arrays([0.2, 0.15], [1, 0]), num_bins=5) == pytest.approx(0.65 / 2)
    assert binned_error(*arrays([0.2, 0.25], [1, 0]), num_bins=5) == pytest.approx((0.8 + 0.25) / 2)


@pytest.mark.parametrize("numerator", range(1, 16))
def test_every_edge_is_found_in_the_precision_of_confidences(numerator: int) -> None:
    at, below = np.float32(numerator / 15), np.float32((numerator - 0.5) / 15)
    together = abs(1 - float(at) - float(below)) / 2
    assert binned_error(*arrays([at, below], [1, 0])) == pytest.approx(together)


def test_confidences_of_0_and_1_are_in_the_first_and_last_bin() -> None:
    assert binned_error(*arrays([0.0, 1.0], [0, 1])) == 0.0
    assert binned_error(*arrays([0.0, 1.0], [1, 0])) == 1.0


def test_equal_mass_of_fewer_images_than_bins_takes_each_by_itself() -> None:
    assert binned_error_of_equal_mass(*arrays([0.9, 0.6, 0.7], [1, 0, 1])) == pytest.approx((0.1 + 0.6 + 0.3) / 3)


def test_equal_mass_puts_the_odd_images_in_the_first_bins() -> None:
    # Five images in two bins: {0.1, 0.2, 0.3} and {0.6, 0.7}.
    confidences, right = arrays([0.6, 0.1, 0.3, 0.2, 0.7], [1, 0, 1, 0, 0])
    expected = (abs(1 - 0.6) + abs(1 - 1.3)) / 5
    assert binned_error_of_equal_mass(confidences, right, num_bins=2) == pytest.approx(expected)


@pytest.mark.parametrize("right", [[1] * 15 + [0] * 15, [0, 1] * 15, [0] * 15 + [1] * 15])
def test_images_of_equal_confidence_may_come_in_any_order(right: list[int]) -> None:
    error = binned_error_of_equal_mass(*arrays([0.8] * 30, right))
    assert error == pytest.approx(0.3)
    assert error == pytest.approx(binned_error(*arrays([0.8] * 30, right)))


def test_many_images_that_are_as_sure_as_they_are_right_have_no_error() -> None:
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0.1, 1, 200_000).astype(np.float32)
    right = generator.uniform(size=200_000) < confidences
    assert binned_error(confidences, right) < 0.005
    assert binned_error_of_equal_mass(confidences, right) < 0.005
    assert binned_error(confidences, generator.uniform(size=200_000) < confidences - 0.1) == pytest.approx(
        0.1, abs=0.005
    )
