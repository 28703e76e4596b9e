"""Which numbers of epochs are there, and is one number always the same run?"""

from __future__ import annotations

import pytest

from vitbench.config import RunConfig, TrainConfig
from vitbench.refusals import one_line


def test_a_whole_number_of_epochs_is_the_same_run_however_it_is_written():
    whole = RunConfig(train=TrainConfig(epochs=2))
    for written in (2, 2.0, "2", "2.0", 2e0):
        other = RunConfig(train=TrainConfig(epochs=written))
        assert other.canonical_json() == whole.canonical_json() and '"epochs":2,' in other.canonical_json()
    assert TrainConfig(epochs="2.5").epochs == 2.5
    assert '"epochs":2.5,' in RunConfig(train=TrainConfig(epochs=2.5)).canonical_json()


@pytest.mark.parametrize("epochs", [-1, -0.5, float("nan"), float("inf"), "many", None])
def test_epochs_that_are_no_number_of_passes_are_refused_in_a_line(epochs):
    with pytest.raises(ValueError) as caught:
        TrainConfig(epochs=epochs)
    line = one_line(caught.value)
    assert line.startswith(f"epochs {epochs!r}: ") and "\n" not in line
