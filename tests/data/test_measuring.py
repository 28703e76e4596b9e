"""Are mean, standard deviation and hash those of float64 over all training images at once?"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from vitbench.data.measuring import Measure


@pytest.mark.parametrize("chunk", [1, 7, 50])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_integers_are_measured_exactly_whatever_the_chunks(dtype, chunk):
    largest = np.iinfo(dtype).max
    images = np.random.default_rng(0).integers(largest + 1, size=(50, 2, 4, 4)).astype(dtype)
    measure = Measure(2, dtype)
    for start in range(0, len(images), chunk):
        measure.add(images[start : start + chunk], train=True)
    whole = Measure(2, dtype)
    whole.add(images, train=True)
    assert measure.result() == whole.result()
    shares = images.astype(np.float64) / largest
    assert np.allclose(whole.result()["mean"], shares.mean(axis=(0, 2, 3)), rtol=1e-13)
    assert np.allclose(whole.result()["std"], shares.std(axis=(0, 2, 3)), rtol=1e-12)
    assert whole.result()["sha256"] == hashlib.sha256(images.tobytes()).hexdigest()


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e6])
def test_floats_far_from_zero_keep_their_deviation(offset):
    images = (np.random.default_rng(0).normal(size=(300, 3, 5, 5)) * 100 + offset).astype(np.float32)
    measure = Measure(3, "float32")
    for start in range(0, len(images), 64):
        measure.add(images[start : start + 64], train=True)
    measure.add(images + 1, train=False)  # of test no statistics are taken
    double = images.astype(np.float64)
    assert np.allclose(measure.result()["mean"], double.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(measure.result()["std"], double.std(axis=(0, 2, 3)), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_channel_of_one_value_has_no_deviation_at_all(dtype):
    for level in range(0, 256, 5):
        measure = Measure(1, dtype)
        for count in (256, 256, 37):
            measure.add(np.full((count, 1, 4, 4), level, dtype), train=True)
        assert measure.result()["std"] == [0.0], level
